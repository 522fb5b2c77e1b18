//! [`sextant_agent::kernel::NetlinkKernel`] with the real kernel. Each test creates a network namespace; without root it fails.

#![allow(clippy::unwrap_used)]

mod batches;
mod events;
mod fake;
mod links;
mod lookups;
mod namespace;
mod neighbours;
mod routes;
