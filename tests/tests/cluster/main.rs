//! End-to-end tests: hosts claim prefixes, and their containers reach each other.
//!
//! Each test's name states the expected behaviour, with the number of its invariant (DESIGN §4) if there is one.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod bad_input;
mod brake;
mod fail_static;
mod lengths;
mod life;
mod links;
mod membership;
mod probes;
mod reachability;
mod reassign;
mod self_heal;

use sextant_tests::cluster;
