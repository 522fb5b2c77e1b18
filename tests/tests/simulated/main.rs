//! Faults chosen at random, in simulated time: real controllers and agents over a store, kernels and a network in memory.
//!
//! Each schedule runs in its own process, with all randomness and time from its seed, so that a seed gives the same run.
//! `SEXTANT_SCHEDULES=1000` runs as many; `SEXTANT_SIMULATED_SEED=N` runs one and shows its log.
#![allow(clippy::unwrap_used)] // Clippy does not see that a test's own functions are of a test.

mod determinism;
mod faults;
mod host;
mod invariants;
mod log;
mod network;
mod parts;
mod process;
mod run;
mod schedule;
mod schedules;
mod world;
