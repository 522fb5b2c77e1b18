//! The peers that are ready, and that this host has no path to all the same. Pure.

use sextant_proto::{NodeName, Peer, PeerClaim, PoolName, Prefix};

use super::{Assessment, PeerState};

/// So many nodes are listed.
const LISTED: usize = 3;

/// Those peers, as the desired routes were computed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unreached {
    /// The first of those that are not on-link.
    off_link: Vec<NodeName>,
    /// How many more there are.
    more: usize,
    /// The first claim whose prefix has an address that this host depends on.
    pub(super) infrastructure: Option<(NodeName, PoolName, Prefix)>,
}

impl Unreached {
    /// Takes a peer in.
    pub(super) fn assessed(&mut self, peer: &Peer, assessment: &Assessment) {
        if assessment.state != PeerState::OffLink {
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
