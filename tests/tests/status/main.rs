//! The output of `sextant status` during and after problems.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod awaited;
mod descriptors;
mod disk;
mod fixes;
mod problems;
mod store;

use sextant_tests::cluster;
