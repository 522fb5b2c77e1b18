//! Claims and their duration: failures known from other systems, exhausted pools, reservations, hosts that stay down, and
//! duplicate node ids.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod claimed;
mod cluster;
mod duplicate_ids;
mod ends;
mod named;
mod pools;
mod renamed;
mod silent;
