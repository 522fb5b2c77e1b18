//! The real kernel through [`sextant_agent::kernel::NetlinkKernel`]. Needs root, and fails without: each test makes a network
//! namespace of its own.

#![allow(clippy::unwrap_used)]

mod batches;
mod events;
mod links;
mod lookups;
mod namespace;
mod neighbours;
mod routes;
mod twin;
