//! The alerts in `deploy/prometheus`: by Prometheus' own tests of rules, and by a real Prometheus beside a cluster.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod lab;
mod prometheus;
mod rules;

use sextant_tests::cluster;
