//! Docker's IPAM driver: prefixes of the host prefix for networks, and addresses for containers.
//!
//! [`leases`] decides which prefixes and addresses are whose, and is pure. [`protocol`] is the engine's requests and answers as
//! text. [`keeper`] is the one owner of the leases: each is stored before its answer. [`server`] is the edge to the engine.

pub mod keeper;
pub mod leases;
pub mod protocol;
pub mod server;
pub mod subnet;
