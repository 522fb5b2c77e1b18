//! The containers of a host, as its agent sees them.

use std::net::Ipv6Addr;

/// The containers of a host's engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Containers {
    /// The engine with its version; empty if the agent watches none, or that has not answered yet.
    pub engine: String,
    /// Running containers with IPv6 addresses.
    pub containers: Vec<Container>,
    /// The number of those that are not listed.
    pub more: u64,
}

/// A running container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its IPv6 addresses, each with the name of its network.
    pub addresses: Vec<(String, Ipv6Addr)>,
}
