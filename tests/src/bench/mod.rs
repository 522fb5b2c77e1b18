//! The benchmarks, by name (`tests/bench --list`). They measure and compare, and never fail because of a result.

pub mod bgp;
pub mod claims;
pub mod docker;
pub mod idle;
pub mod join;
pub mod ndp;
mod numbers;
mod reference;
pub mod routes;
