//! The peers that are ready, and that this host has no path to all the same. Pure.

use std::net::Ipv6Addr;

use sextant_proto::{NodeName, Peer, PeerClaim, PoolName, Prefix};

use super::{Assessment, Known, PeerState};

/// So many nodes are listed.
const LISTED: usize = 3;

/// The next hop of a peer that another process's route leads away from the uplinks, and the destination of that.
fn diverted(known: &Known<'_>, peer: &Peer) -> Option<(Ipv6Addr, Prefix)> {
    let by = |hop: &Ipv6Addr| known.uplinks.iter().find_map(|local| local.on_link.diverted_by(*hop));
    peer.next_hops.iter().find_map(|hop| Some((*hop, by(hop)?)))
}

/// Those peers, as the desired routes were computed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unreached {
    /// The first of those that are not on-link.
    off_link: Vec<NodeName>,
    /// How many more there are.
    more: usize,
    /// The first of those whose next hop is inside of an on-link prefix, but has a route elsewhere; with the next hop, and the
    /// destination of that route.
    pub(super) diverted: Option<(NodeName, Ipv6Addr, Prefix)>,
    /// The first claim whose prefix has an address that this host depends on.
    pub(super) infrastructure: Option<(NodeName, PoolName, Prefix)>,
}

impl Unreached {
    /// Takes a peer in.
    pub(super) fn assessed(&mut self, known: &Known<'_>, peer: &Peer, assessment: &Assessment) {
        if assessment.state != PeerState::OffLink {
        } else if let Some((hop, by)) = diverted(known, peer) {
            self.diverted.get_or_insert((peer.name.clone(), hop, by));
        } else if self.off_link.len() < LISTED {
            self.off_link.push(peer.name.clone());
        } else {
            self.more += 1;
        }
    }

    /// Takes the state of a peer's claim in.
    pub(super) fn claim_assessed(&mut self, peer: &Peer, claim: &PeerClaim, state: PeerState) {
        if state == PeerState::Infrastructure && self.infrastructure.is_none() {
            self.infrastructure = Some((peer.name.clone(), claim.pool.clone(), claim.prefix));
        }
    }

    /// The nodes that are not on-link, if there are any.
    pub(super) fn off_link(&self) -> Option<String> {
        let first: Vec<_> = self.off_link.iter().map(NodeName::as_str).collect();
        match (first.as_slice(), self.more) {
            ([], _) => None,
            (first, 0) => Some(first.join(", ")),
            (first, more) => Some(format!("{} and {more} more", first.join(", "))),
        }
    }
}
