//! Who holds what, and for how long: failures that other systems are known for, pools at their ends, reservations, hosts
//! that are down for good, and two hosts of one id.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod cluster;
mod duplicate_ids;
mod ends;
mod named;
mod pools;
mod silent;
