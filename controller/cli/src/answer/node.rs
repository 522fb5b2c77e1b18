//! A node as an operator sees it.

use std::net::Ipv6Addr;

use serde::Serialize;
use sextant_proto::{
    Applied, NodeId, NodeName, NodeState, Peer, PeerClaim, Prefix, Revision, Uplink,
    convert::{MessageError, all, id, required},
    ndp::NdpProxy,
    v1,
};

use super::names;

/// A node as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) peer: Peer,
    /// `None`: it is not shown to a viewer.
    pub(crate) node_id: Option<NodeId>,
    pub(crate) uplinks: Vec<Uplink>,
    /// What the peer does not report for each of its claims, in the same order.
    pub(crate) details: Vec<ClaimDetails>,
    /// It was announced, and has no session.
    pub(crate) down: bool,
    pub(crate) liveness: Liveness,
    /// When its peers first observed this liveness; 0 if none has.
    pub(crate) liveness_since_unix_ms: u64,
    /// When it entered its state.
    pub(crate) since_unix_ms: u64,
    /// The last report of its agent; `None` while it is not connected.
    pub(crate) applied: Option<Applied>,
    /// The peers that had not withdrawn when it drained.
    pub(crate) laggards: Vec<NodeName>,
    /// How often agents with its node id superseded each other recently.
    pub(crate) superseded: u32,
    /// The address of a refused agent with the same node id; empty: none.
    pub(crate) duplicate_from: String,
    /// When its agent was stopped on request; 0 if it was not.
    pub(crate) stopped_unix_ms: u64,
    /// It is unknown whether its agent is connected; `down` and `liveness` are not valid then.
    pub(crate) unknown: bool,
    /// Its streams and calls are refused.
    pub(crate) revoked: bool,
    /// How its host answers neighbour solicitations for its containers, or why that is not known; `None` if it was not asked.
    pub(crate) ndp: Option<Result<NdpProxy, String>>,
}

/// What only operators see of a claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClaimDetails {
    pub(crate) container_prefixes: Vec<Prefix>,
    pub(crate) claimed_unix_ms: u64,
}

/// The state of a node's agent and host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Liveness {
    /// Its agent is connected.
    Up,
    /// Its agent is not connected, but its host answers its peers.
    #[serde(rename = "forwarding_without_agent")]
    Forwarding,
    /// Its agent is not connected, and its host answers no peer.
    Dead,
    /// Its agent is not connected, and no peer has reported the state of its host.
    Unknown,
}

impl Node {
    /// Its agent is connected, and has not announced its prefixes: it waits for something on its host.
    pub(crate) fn waits(&self) -> bool {
        !self.peer.session && !self.down && !self.unknown && self.applied.is_some()
    }

    /// Whether its host answers neighbour solicitations for its containers.
    pub(crate) fn is_ndp_proxy(&self) -> bool {
        self.applied.as_ref().is_some_and(|applied| applied.ack.ndp_proxy)
    }

    /// How many revisions its kernel is behind `newest`; `None` if it has not reported.
    pub(crate) fn behind(&self, newest: Revision) -> Option<u64> {
        self.applied.as_ref().map(|applied| applied.ack.behind(newest))
    }

    pub(crate) fn name(&self) -> &NodeName {
        &self.peer.name
    }

    pub(crate) fn state(&self) -> NodeState {
        self.peer.state()
    }

    /// Its claims, the primary one first.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (&PeerClaim, &ClaimDetails)> {
        self.peer.claims.iter().zip(&self.details)
    }

    /// Its claim that contains the address; else the primary one.
    pub(crate) fn claim_of(&self, address: Ipv6Addr) -> Option<(&PeerClaim, &ClaimDetails)> {
        self.claims().find(|(claim, _)| claim.prefix.contains(address)).or_else(|| self.claims().next())
    }
}

/// The octets of a value that viewers do not get.
fn hidden(octets: &[u8]) -> Option<&[u8]> {
    (!octets.is_empty()).then_some(octets)
}

impl TryFrom<v1::Node> for Node {
    type Error = MessageError;

    fn try_from(message: v1::Node) -> Result<Self, MessageError> {
        let (peer, liveness): (Peer, _) = (required("peer", message.peer.clone())?, message.liveness());
        let details = match message.claims.is_empty() {
            true => vec![only_claim(message.container_prefix, message.claimed_unix_ms)?],
            false => message.claims.into_iter().map(ClaimDetails::try_from).collect::<Result<_, _>>()?,
        };
        Ok(Self {
            liveness: liveness_of(liveness, &peer),
            liveness_since_unix_ms: message.liveness_since_unix_ms,
            peer,
            node_id: hidden(&message.node_id).map(|octets| id("node_id", octets)).transpose()?,
            uplinks: all("uplinks", message.uplinks)?,
            details,
            down: message.down,
            superseded: message.superseded,
            duplicate_from: message.duplicate_from,
            stopped_unix_ms: message.stopped_unix_ms,
            unknown: message.unknown,
            revoked: message.revoked,
            since_unix_ms: message.since_unix_ms,
            applied: message.applied.map(Applied::try_from).transpose()?,
            laggards: names(&message.laggards)?,
            ndp: None,
        })
    }
}

/// An older controller knows of one claim.
fn only_claim(
    container_prefix: Option<v1::Prefix>,
    claimed_unix_ms: u64,
) -> Result<ClaimDetails, MessageError> {
    let container_prefixes = container_prefix.into_iter().collect();
    ClaimDetails::try_from(v1::NodeClaim { container_prefixes, claimed_unix_ms })
}

impl TryFrom<v1::NodeClaim> for ClaimDetails {
    type Error = MessageError;

    fn try_from(message: v1::NodeClaim) -> Result<Self, MessageError> {
        Ok(Self {
            container_prefixes: all("container_prefixes", message.container_prefixes)?,
            claimed_unix_ms: message.claimed_unix_ms,
        })
    }
}

/// An older controller does not report the liveness.
fn liveness_of(liveness: v1::Liveness, peer: &Peer) -> Liveness {
    match liveness {
        v1::Liveness::Up => Liveness::Up,
        v1::Liveness::ForwardingWithoutAgent => Liveness::Forwarding,
        v1::Liveness::Dead => Liveness::Dead,
        v1::Liveness::Unspecified if peer.session => Liveness::Up,
        v1::Liveness::Unspecified | v1::Liveness::Unknown => Liveness::Unknown,
    }
}
