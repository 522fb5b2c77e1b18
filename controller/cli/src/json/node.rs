//! Nodes, and the reports of their agents.

use std::net::Ipv6Addr;

use serde::Serialize;
use sextant_proto::{
    ClaimPhase, Incarnation, InterfaceAddress, NodeId, NodeName, NodeState, PeerClaim, PoolName, Prefix,
    Revision,
};

use super::{filled, known, ndp::Ndp};
use crate::answer::{self, ClaimDetails, Cluster, Liveness};

/// A node.
#[derive(Debug, Serialize)]
pub(crate) struct Node<'a> {
    name: &'a NodeName,
    node_id: Option<NodeId>,
    state: NodeState,
    down: Option<bool>,
    connected: Option<bool>,
    liveness: Liveness,
    liveness_since_unix_ms: Option<u64>,
    claims: Vec<Claim<'a>>,
    pool: Option<&'a PoolName>,
    prefix: Option<Prefix>,
    container_prefix: Option<Prefix>,
    epoch: Option<Epoch>,
    next_hops: &'a [Ipv6Addr],
    uplinks: Vec<Uplink<'a>>,
    claimed_unix_ms: Option<u64>,
    since_unix_ms: u64,
    applied: Option<Applied<'a>>,
    behind: Option<u64>,
    laggards: &'a [NodeName],
    revoked: bool,
    superseded: u32,
    duplicate_from: Option<&'a str>,
    stopped_unix_ms: Option<u64>,
    ndp: Option<Ndp<'a>>,
    ndp_error: Option<&'a str>,
}

/// A claim of a node.
#[derive(Debug, Serialize)]
struct Claim<'a> {
    pool: &'a PoolName,
    primary: bool,
    host_prefix: Prefix,
    container_prefixes: &'a [Prefix],
    claim_state: NodeState,
    phase: ClaimPhase,
    epoch: Option<Epoch>,
    claimed_unix_ms: u64,
}

/// The epoch of a claim.
#[derive(Debug, Clone, Copy, Serialize)]
struct Epoch {
    incarnation: Incarnation,
    revision: Revision,
}

/// An interface towards the other hosts.
#[derive(Debug, Serialize)]
struct Uplink<'a> {
    interface: &'a str,
    addresses: Vec<String>,
}

/// An agent's report of its kernel and host.
#[derive(Debug, Serialize)]
pub(super) struct Applied<'a> {
    revision: Revision,
    version: &'a str,
    failed: Vec<FailedRoute<'a>>,
    conflicts: Vec<Conflict<'a>>,
    held: u32,
    problems: Vec<Problem<'a>>,
}

/// A route that the kernel refuses.
#[derive(Debug, Serialize)]
struct FailedRoute<'a> {
    destination: Prefix,
    error: &'a str,
}

/// A route of another process that takes packets of an agent's route, or would without it.
#[derive(Debug, Serialize)]
struct Conflict<'a> {
    destination: Prefix,
    protocol: &'a str,
    metric: u32,
    ours_wins: bool,
    ours: Option<Prefix>,
    leads: Option<&'a str>,
}

/// A problem of a host or of a controller.
#[derive(Debug, Serialize)]
pub(super) struct Problem<'a> {
    what: &'a str,
    saw: &'a str,
    fix: Option<&'a str>,
    since_unix_ms: u64,
}

/// An agent that routes to all nodes and holds no prefix.
#[derive(Debug, Serialize)]
pub(super) struct Router<'a> {
    name: &'a NodeName,
    applied: Option<Applied<'a>>,
    behind: Option<u64>,
}

/// A BGP neighbour of a node.
#[derive(Debug, Serialize)]
pub(crate) struct BgpNeighbour<'a> {
    node: &'a NodeName,
    neighbour: String,
    remote_as: u32,
    state: &'a str,
    since_unix_ms: u64,
    sent: u64,
    received: u64,
    error: Option<&'a str>,
    bfd: Option<&'a str>,
    imported: u64,
}

impl<'a> Node<'a> {
    /// A node of this cluster.
    pub(crate) fn new(node: &'a answer::Node, cluster: &Cluster) -> Self {
        let peer = &node.peer;
        let is_primary = |claim: &PeerClaim| peer.primary() == Some(claim);
        let claim = |it: (&'a PeerClaim, _)| Claim::new(it, is_primary(it.0), cluster.incarnation);
        let claims: Vec<_> = node.claims().map(claim).collect();
        let primary = claims.first();
        Self {
            name: &peer.name,
            node_id: node.node_id,
            state: node.state(),
            down: (!node.unknown).then_some(node.down),
            connected: (!node.unknown).then_some(peer.session || node.waits()),
            liveness: node.liveness,
            liveness_since_unix_ms: known(node.liveness_since_unix_ms),
            pool: primary.map(|claim| claim.pool),
            prefix: primary.map(|claim| claim.host_prefix),
            container_prefix: primary.and_then(|claim| claim.container_prefixes.first().copied()),
            epoch: primary.and_then(|claim| claim.epoch),
            next_hops: &peer.next_hops,
            uplinks: node.uplinks.iter().map(Uplink::from).collect(),
            claimed_unix_ms: primary.map(|claim| claim.claimed_unix_ms),
            claims,
            since_unix_ms: node.since_unix_ms,
            applied: node.applied.as_ref().map(Applied::from),
            behind: node.behind(cluster.revision),
            laggards: &node.laggards,
            revoked: node.revoked,
            superseded: node.superseded,
            duplicate_from: filled(&node.duplicate_from),
            stopped_unix_ms: known(node.stopped_unix_ms),
            ndp: node.ndp.as_ref().and_then(|ndp| ndp.as_ref().ok()).map(Ndp::from),
            ndp_error: node.ndp.as_ref().and_then(|ndp| ndp.as_ref().err()).map(String::as_str),
        }
    }
}

impl<'a> Claim<'a> {
    fn new(
        (claim, details): (&'a PeerClaim, &'a ClaimDetails),
        primary: bool,
        incarnation: Incarnation,
    ) -> Self {
        Self {
            pool: &claim.pool,
            primary,
            host_prefix: claim.prefix,
            container_prefixes: &details.container_prefixes,
            claim_state: claim.state,
            phase: claim.phase,
            epoch: (claim.claimed > Revision::ZERO).then_some(Epoch { incarnation, revision: claim.claimed }),
            claimed_unix_ms: details.claimed_unix_ms,
        }
    }
}

impl<'a> Router<'a> {
    /// A router of this cluster.
    pub(super) fn new(router: &'a answer::Router, cluster: &Cluster) -> Self {
        let applied = router.applied.as_ref();
        Self {
            name: &router.name,
            applied: applied.map(Applied::from),
            behind: applied.map(|applied| applied.ack.behind(cluster.revision)),
        }
    }
}

impl<'a> BgpNeighbour<'a> {
    /// A neighbour of this node.
    pub(crate) fn new(node: &'a NodeName, it: &'a sextant_proto::BgpNeighbour) -> Self {
        Self {
            node,
            neighbour: it.name(),
            remote_as: it.remote_as,
            state: &it.state,
            since_unix_ms: it.since_unix_ms,
            sent: it.sent,
            received: it.received,
            error: filled(&it.error),
            bfd: filled(&it.bfd),
            imported: it.imported,
        }
    }
}

impl<'a> From<&'a sextant_proto::Uplink> for Uplink<'a> {
    fn from(uplink: &'a sextant_proto::Uplink) -> Self {
        let address = |it: &InterfaceAddress| format!("{}/{}", it.addr, it.on_link.len());
        Self { interface: &uplink.interface, addresses: uplink.addresses.iter().map(address).collect() }
    }
}

impl<'a> From<&'a sextant_proto::Applied> for Applied<'a> {
    fn from(applied: &'a sextant_proto::Applied) -> Self {
        Self {
            revision: applied.ack.revision,
            version: &applied.version,
            failed: applied.ack.failed.iter().map(FailedRoute::from).collect(),
            conflicts: applied.ack.conflicts.iter().map(Conflict::from).collect(),
            held: applied.ack.held,
            problems: applied.ack.problems.iter().map(Problem::from).collect(),
        }
    }
}

impl<'a> From<&'a sextant_proto::FailedRoute> for FailedRoute<'a> {
    fn from(route: &'a sextant_proto::FailedRoute) -> Self {
        Self { destination: route.destination, error: &route.error }
    }
}

impl<'a> From<&'a sextant_proto::Conflict> for Conflict<'a> {
    fn from(conflict: &'a sextant_proto::Conflict) -> Self {
        let sextant_proto::Conflict { destination, protocol, metric, ours_wins, ours, leads } = conflict;
        Self {
            destination: *destination,
            protocol,
            metric: *metric,
            ours_wins: *ours_wins,
            ours: *ours,
            leads: filled(leads),
        }
    }
}

impl<'a> From<&'a sextant_proto::Problem> for Problem<'a> {
    fn from(problem: &'a sextant_proto::Problem) -> Self {
        let sextant_proto::Problem { what, saw, fix, since_unix_ms } = problem;
        Self { what, saw, fix: filled(fix), since_unix_ms: *since_unix_ms }
    }
}
