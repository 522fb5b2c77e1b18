//! The containers of a node.

use std::net::Ipv6Addr;

use serde::Serialize;
use sextant_proto::NodeName;

use super::filled;

/// The containers of a node, as its agent sees them.
#[derive(Debug, Serialize)]
pub(crate) struct Containers<'a> {
    node: &'a NodeName,
    engine: Option<&'a str>,
    containers: Vec<Container<'a>>,
    more: u64,
}

/// A running container.
#[derive(Debug, Serialize)]
struct Container<'a> {
    name: &'a str,
    addresses: Vec<ContainerAddress<'a>>,
}

/// An address of a container.
#[derive(Debug, Serialize)]
struct ContainerAddress<'a> {
    network: &'a str,
    address: Ipv6Addr,
}

impl<'a> Containers<'a> {
    /// Those of this node.
    pub(crate) fn new(node: &'a NodeName, found: &'a sextant_proto::Containers) -> Self {
        let container = |it: &'a sextant_proto::Container| Container {
            name: &it.name,
            addresses: it
                .addresses
                .iter()
                .map(|(network, address)| ContainerAddress { network, address: *address })
                .collect(),
        };
        let containers = found.containers.iter().map(container).collect();
        Self { node, engine: filled(&found.engine), containers, more: found.more }
    }
}
