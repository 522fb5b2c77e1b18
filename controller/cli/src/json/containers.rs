//! The containers of a node.

use std::net::Ipv6Addr;

use serde::Serialize;
use sextant_proto::NodeName;

use super::{filled, ndp::NdpAddress};

/// The containers of a node, as its agent sees them.
#[derive(Debug, Serialize)]
pub(crate) struct Containers<'a> {
    node: &'a NodeName,
    engine: Option<&'a str>,
    containers: Vec<Container<'a>>,
    more: u64,
    answered_for: Vec<NdpAddress<'a>>,
    answered_for_more: u64,
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
    /// Those of this node; and the addresses that its host answers neighbour solicitations for, if it does that.
    pub(crate) fn new(
        node: &'a NodeName,
        found: &'a sextant_proto::Containers,
        ndp: Option<&'a sextant_proto::ndp::NdpProxy>,
    ) -> Self {
        let container = |it: &'a sextant_proto::Container| Container {
            name: &it.name,
            addresses: it
                .addresses
                .iter()
                .map(|(network, address)| ContainerAddress { network, address: *address })
                .collect(),
        };
        let containers = found.containers.iter().map(container).collect();
        let answered_for = ndp.into_iter().flat_map(|ndp| &ndp.addresses).map(NdpAddress::from).collect();
        let answered_for_more = ndp.map(|ndp| ndp.more).unwrap_or_default();
        let (engine, more) = (filled(&found.engine), found.more);
        Self { node, engine, containers, more, answered_for, answered_for_more }
    }
}
