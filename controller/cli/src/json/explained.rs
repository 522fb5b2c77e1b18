//! The use of an address.

use std::net::Ipv6Addr;

use serde::Serialize;
use sextant_proto::{NodeName, NodeState, PoolName, Prefix, Revision};

use super::{filled, ndp::NdpAddress};
use crate::answer::{self, Place, RouteState};

/// The use of an address.
#[derive(Debug, Serialize)]
pub(crate) struct Explained<'a> {
    address: Ipv6Addr,
    place: Place,
    pool: Option<&'a PoolName>,
    pool_prefix: Option<Prefix>,
    reservation: Option<Prefix>,
    reserved_for: Option<&'a str>,
    reason: Option<&'a str>,
    freed_by: Option<&'a str>,
    freed_unix_ms: Option<u64>,
    node: Option<&'a NodeName>,
    state: Option<NodeState>,
    host_prefix: Option<Prefix>,
    claim_state: Option<NodeState>,
    container_prefix: Option<Prefix>,
    container: Option<&'a str>,
    network: Option<&'a str>,
    ndp: Option<NdpAddress<'a>>,
    ndp_interfaces: Vec<&'a str>,
    next_hops: Option<&'a [Ipv6Addr]>,
    claimed_unix_ms: Option<u64>,
    claimed: Option<Revision>,
    applied: Vec<NodeName>,
    pending: Vec<NodeName>,
    unknown: Vec<NodeName>,
    failed: Vec<String>,
}

impl<'a> From<&'a answer::Explained> for Explained<'a> {
    fn from(it: &'a answer::Explained) -> Self {
        let node = it.node.as_ref();
        let claim = node.and_then(|node| node.claim_of(it.address));
        let containers = claim.map(|(_, details)| details.container_prefixes.as_slice()).unwrap_or_default();
        let contains = |prefix: &&Prefix| prefix.contains(it.address);
        Self {
            address: it.address,
            place: it.place,
            pool: it.pool.as_ref().map(|pool| &pool.name),
            pool_prefix: it.pool.as_ref().map(|pool| pool.prefix),
            reservation: it.reservation,
            reserved_for: filled(&it.reserved_for),
            reason: filled(&it.reason),
            freed_by: it.freed.as_ref().map(|(node, _)| node.as_str()),
            freed_unix_ms: it.freed.as_ref().map(|(_, since)| *since),
            node: node.map(answer::Node::name),
            state: node.map(answer::Node::state),
            host_prefix: claim.map(|(claim, _)| claim.prefix),
            claim_state: claim.map(|(claim, _)| claim.state),
            container_prefix: containers.iter().find(contains).or(containers.first()).copied(),
            container: it.container.as_ref().map(|(name, _)| name.as_str()),
            network: it.container.as_ref().map(|(_, network)| network.as_str()),
            ndp: it.ndp.as_ref().map(|(ndp, _)| NdpAddress::from(ndp)),
            ndp_interfaces: it.ndp.iter().flat_map(|(_, on)| on).map(|on| on.interface.as_str()).collect(),
            next_hops: node.map(|node| node.peer.next_hops.as_slice()),
            claimed_unix_ms: claim.map(|(_, details)| details.claimed_unix_ms),
            claimed: claim.map(|(claim, _)| claim.claimed).filter(|claimed| *claimed > Revision::ZERO),
            applied: it.at(RouteState::Applied),
            pending: it.at(RouteState::Pending),
            unknown: it.at(RouteState::Unknown),
            failed: it.failed(),
        }
    }
}
