//! The use of an address, and the nodes that route to it.

use std::net::Ipv6Addr;

use sextant_proto::{NodeName, NodeState, Prefix, v1};

use super::{Services, routes, show};
use crate::{
    index::{State, View},
    records::NodeRecord,
};

/// The use of `address`.
pub(super) fn explain(services: &Services, address: Ipv6Addr) -> v1::ExplainResponse {
    services.index.read(|state| {
        let pool = state.pools().values().map(|pool| &pool.record).find(|pool| pool.prefix.contains(address));
        let reservation = state.holdings().reservation_of(address);
        let (owner, place) = place(state, address, pool.is_some(), reservation.is_some());
        let (prefix, reserved) = reservation.unzip();
        let freed = state.holdings().freed_of(address).filter(|_| owner.is_none());
        let routes = owner.as_ref().filter(|_| place != v1::Place::Uplink);
        let claim = |owner: &NodeName| {
            let peer = state.peers().get(owner)?;
            peer.ready_claims().find(|claim| claim.prefix.contains(address)).map(|claim| claim.prefix)
        };
        v1::ExplainResponse {
            pool: pool.map(Into::into),
            reservation: prefix.map(Into::into),
            reserved_for: reserved
                .and_then(|it| it.node.as_ref())
                .map(ToString::to_string)
                .unwrap_or_default(),
            reservation_reason: reserved.map(|it| it.reason.clone()).unwrap_or_default(),
            freed_by: freed.map(|it| it.node.to_string()).unwrap_or_default(),
            freed_unix_ms: freed.map(|it| it.freed_unix_ms).unwrap_or_default(),
            node: owner.as_ref().and_then(|name| show::node(services, state, name)),
            place: place.into(),
            container: String::new(),
            container_network: String::new(),
            ndp: None,
            ndp_uplinks: Vec::new(),
            routes: routes
                .and_then(|owner| Some(towards(services, state, owner, claim(owner)?)))
                .unwrap_or_default(),
        }
    })
}

/// The node whose agent may know a container with the address.
pub(super) fn asked(it: &v1::ExplainResponse) -> Option<NodeName> {
    let of_containers = matches!(it.place(), v1::Place::ContainerPrefix | v1::Place::HostPrefix);
    let peer = it.node.as_ref().filter(|_| of_containers)?.peer.as_ref()?;
    peer.name.parse().ok()
}

/// The node of an address, and the kind of the address.
fn place(state: &State, address: Ipv6Addr, in_pool: bool, reserved: bool) -> (Option<NodeName>, v1::Place) {
    // Host prefixes do not overlap: only the last one that begins before the address can contain it.
    let all = Prefix::containing(address, 128);
    let claim = all.and_then(|all| state.claims().range(..=all).next_back());
    if let Some((prefix, claim)) = claim.filter(|(prefix, _)| prefix.contains(address)) {
        let node = state.nodes().get(&claim.record.node);
        let of_node = |node: &View<NodeRecord>| show::container_prefixes(state, &node.record, *prefix);
        let containers = node.map(of_node).unwrap_or_default();
        let inside = containers.iter().any(|container| container.contains(address));
        let place = if inside { v1::Place::ContainerPrefix } else { v1::Place::HostPrefix };
        return (Some(claim.record.node.clone()), place);
    }
    let of_uplink = state.peers().values().find(|peer| peer.next_hops.contains(&address));
    match of_uplink {
        Some(peer) => (Some(peer.name.clone()), v1::Place::Uplink),
        None if reserved => (None, v1::Place::Reserved),
        None if in_pool => (None, v1::Place::Unclaimed),
        None => (None, v1::Place::Nowhere),
    }
}

/// The state of each agent's route to `prefix` of `owner`.
fn towards(services: &Services, state: &State, owner: &NodeName, prefix: Prefix) -> Vec<v1::RouteAt> {
    let others =
        state.peers().values().filter(|other| other.name != *owner && other.state() != NodeState::Drained);
    let at = |other: &sextant_proto::Peer| {
        let ack = services.acks.of(&other.name).map(|applied| applied.ack);
        let (state, error) = routes::applied(ack.as_ref(), state, prefix);
        v1::RouteAt { node: other.name.to_string(), state: state.into(), error }
    };
    others.map(at).collect()
}
