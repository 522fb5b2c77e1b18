//! The main job, end to end: hosts claim prefixes, and their containers reach each other.
//!
//! One file for each thing that must be true; the tests' names say what it is, with the invariant (DESIGN §4) where there
//! is one.
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
mod self_heal;

use sextant_tests::cluster;
