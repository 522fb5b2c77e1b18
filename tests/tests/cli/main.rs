//! Queries of agents, `sextant plan` and `sextant trace`; completions and manual pages.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod completions;
mod plan;
mod trace;

use sextant_tests::cluster;
