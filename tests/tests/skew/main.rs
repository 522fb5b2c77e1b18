//! Agents, controllers and `sextant` of the previous commit and of this one: in one cluster, and in upgrades.
//!
//! `tests/run` builds the previous commit's binaries by `tests/previous`.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod fleet;
mod together;
mod upgrades;
