//! The routes that each node should have, and their states.

use sextant_proto::{Ack, NodeName, NodeState, Peer, Prefix, convert::octets, direct_next_hop, v1};
use tonic::Status;

use super::Services;
use crate::{index::State, records::NodeRecord};

/// The routes of `only`, or of all announced nodes.
pub(super) fn list(services: &Services, only: Option<&NodeName>) -> Result<Vec<v1::Route>, Status> {
    services.index.read(|state| {
        if let Some(name) = only.filter(|name| !state.nodes().contains_key(name)) {
            return Err(Status::not_found(format!(
                "node \"{name}\" does not exist; see `sextant node list`"
            )));
        }
        let nodes = state.nodes().iter().filter(|(name, _)| only.is_none_or(|only| only == *name));
        Ok(nodes.flat_map(|(name, node)| of_node(services, state, name, &node.record)).collect())
    })
}

fn of_node(services: &Services, state: &State, name: &NodeName, node: &NodeRecord) -> Vec<v1::Route> {
    let ack = services.acks.of(name).map(|applied| applied.ack);
    let route = |destination: Prefix, target, interface: &str, why: String| {
        let (state, error) = applied(ack.as_ref(), state, destination);
        v1::Route {
            node: name.to_string(),
            destination: Some(destination.into()),
            target: Some(target),
            interface: interface.to_owned(),
            why,
            state: state.into(),
            error,
        }
    };
    let own = |prefix| route(prefix, v1::route::Target::Unreachable(true), "", "own prefix".into());
    let mut routes: Vec<_> = node.prefixes().into_iter().map(own).collect();
    // Whether its host refuses a pool depends on its links and settings, which its agent knows.
    let refused = |prefix: &Prefix| {
        let mut pools = state.pools().values().map(|pool| &pool.record);
        let name = pools.find(|pool| pool.prefix == *prefix).map(|pool| format!(" {}", pool.name));
        let why = format!("pool{}", name.unwrap_or_default());
        route(*prefix, v1::route::Target::Unreachable(true), "", why)
    };
    routes.extend(ack.iter().flat_map(|ack| &ack.refused_pools).map(refused));
    if matches!(node.state, NodeState::Joining | NodeState::Ready) {
        let peers = state.peers().values().filter(|peer| peer.name != *name);
        let claims = peers.flat_map(|peer| peer.ready_claims().map(move |claim| (peer, claim.prefix)));
        routes.extend(claims.map(|(peer, prefix)| {
            if sees_dead(ack.as_ref(), peer) {
                let why = format!("peer {} (dead)", peer.name);
                return route(prefix, v1::route::Target::Unreachable(true), "", why);
            }
            let (target, interface) = towards(node, peer);
            route(prefix, target, interface, format!("peer {}", peer.name))
        }));
    }
    routes
}

/// Whether the node itself reports the peer's host as dead: each observer has its own verdict.
fn sees_dead(ack: Option<&Ack>, peer: &Peer) -> bool {
    let verdicts = ack.map(|ack| ack.verdicts.as_slice()).unwrap_or_default();
    !peer.session && verdicts.iter().any(|verdict| verdict.node == peer.name && !verdict.forwarding)
}

fn towards<'a>(node: &'a NodeRecord, peer: &Peer) -> (v1::route::Target, &'a str) {
    match direct_next_hop(&node.uplinks, &peer.next_hops) {
        Some((uplink, hop)) => (v1::route::Target::NextHop(octets(hop)), &uplink.interface),
        None => (v1::route::Target::LeftToRouter(true), ""),
    }
}

pub(super) fn applied(ack: Option<&Ack>, state: &State, destination: Prefix) -> (v1::RouteState, String) {
    let Some(ack) = ack else {
        return (v1::RouteState::Unknown, String::new());
    };
    if let Some(failed) = ack.failed.iter().find(|failed| failed.destination == destination) {
        return (v1::RouteState::Failed, failed.error.clone());
    }
    let behind = ack.revision < state.published();
    (if behind { v1::RouteState::Pending } else { v1::RouteState::Applied }, String::new())
}
