//! The benchmarks, each run by its name (see `tests/bench --list`). They measure and compare; they do not judge.

pub mod bgp;
pub mod claims;
pub mod idle;
pub mod join;
mod numbers;
mod reference;
pub mod routes;
