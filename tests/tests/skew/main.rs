//! Agents, controllers and `sextant` of an earlier version and of this one: in one cluster, in upgrades and in downgrades.
//!
//! `tests/run` builds the earlier version's binaries by `tests/previous`, which selects it.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod commands;
mod downgrades;
mod fleet;
mod several_pools;
mod together;
mod upgrades;
