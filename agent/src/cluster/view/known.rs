//! What is known of one pool or one node: from the present store, or only from an earlier one. Pure.

use std::sync::Arc;

use sextant_proto::{NodeState, Peer, PeerClaim, Pool, Prefix};

/// A pool, and whether the present incarnation of the store has sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownPool {
    pub(super) it: Arc<Pool>,
    pub(super) confirmed: bool,
}

/// A node. The present incarnation of the store has sent all its claims, except the earlier ones.
///
/// Shared, since each change of the view makes a copy of it for the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KnownPeer {
    it: Arc<Peer>,
    /// Empty, except while a store that replaces another one recovers.
    earlier: Vec<Earlier>,
}

/// A claim of an earlier store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Earlier {
    prefix: Prefix,
    /// The node has registered it again. Its previous announcement is kept until the node announces itself or the recovery
    /// window closes.
    registered: bool,
}

impl KnownPeer {
    /// A node as the present store has it.
    pub(super) fn new(peer: Peer) -> Self {
        Self { it: Arc::new(peer), earlier: Vec::new() }
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.it
    }

    /// Whether the present store has sent all of it.
    pub(super) fn is_confirmed(&self) -> bool {
        self.earlier.is_empty()
    }

    /// The store is another one: it has sent nothing yet.
    pub(super) fn doubt(&mut self) {
        let earlier = |claim: &PeerClaim| Earlier { prefix: claim.prefix, registered: false };
        self.earlier = self.it.claims.iter().map(earlier).collect();
    }

    /// Another snapshot tells what is registered.
    pub(super) fn forget_registrations(&mut self) {
        self.earlier.iter_mut().for_each(|earlier| earlier.registered = false);
    }

    /// The present store does not have the node: only earlier claims are left. Returns whether there are any.
    pub(super) fn keep_earlier(&mut self) -> bool {
        let earlier = self.earlier.clone();
        self.retain(|claim| earlier.iter().any(|it| it.prefix == claim.prefix))
    }

    /// The present store has explicitly ended the claims that it had of the node, but for `left`. What was registered there is no
    /// earlier claim any more.
    pub(super) fn end_registered(&mut self, left: &[PeerClaim]) {
        let is_left = |prefix: Prefix| left.iter().any(|claim| claim.prefix == prefix);
        self.earlier.retain(|it| !it.registered || is_left(it.prefix));
    }

    /// Takes the present store's record of the node. A claim that is registered again is on its way to be announced: until then
    /// it is routed as it was. An earlier claim that the node may still register is kept, also beside another one in its pool: a
    /// store that was taken back to an earlier state has the claim that the node had before.
    pub(super) fn take(&mut self, peer: Peer) {
        let (mut claims, mut earlier) = (Vec::with_capacity(peer.claims.len()), Vec::new());
        for claim in peer.claims {
            let before = self.earlier_claim(claim.prefix).filter(|_| claim.state == NodeState::Joining);
            earlier.extend(before.map(|_| Earlier { prefix: claim.prefix, registered: true }));
            let state = before.map_or(claim.state, |before| before.state);
            claims.push(PeerClaim { state, ..claim });
        }
        for it in &self.earlier {
            let replaced =
                |before: &PeerClaim| claims.iter().any(|claim| claim.prefix.overlaps(before.prefix));
            if let Some(before) = self.it.claim_of(it.prefix).filter(|before| !replaced(before)) {
                claims.push(before.clone());
                earlier.push(Earlier { prefix: it.prefix, registered: false });
            }
        }
        let announced = earlier.is_empty() || !peer.next_hops.is_empty();
        let next_hops = if announced { peer.next_hops } else { self.it.next_hops.clone() };
        self.it = Arc::new(Peer { claims, next_hops, ..peer });
        self.earlier = earlier;
    }

    /// The recovery window has closed: what is not registered is gone, and what is registered and not announced is joining.
    /// Returns whether a claim is left.
    pub(super) fn close_window(&mut self) -> bool {
        let earlier = std::mem::take(&mut self.earlier);
        if earlier.is_empty() {
            return true;
        }
        let mut peer = self.it.as_ref().clone();
        peer.claims.retain_mut(|claim| match earlier.iter().find(|it| it.prefix == claim.prefix) {
            None => true,
            Some(Earlier { registered, .. }) => {
                claim.state = NodeState::Joining;
                *registered
            }
        });
        if peer.state() == NodeState::Joining {
            peer.next_hops.clear();
        }
        self.it = Arc::new(peer);
        !self.it.claims.is_empty()
    }

    /// Drops the earlier claims that overlap `confirmed` prefixes: the present store gave them to another node. Returns whether
    /// a claim is left.
    pub(super) fn drop_superseded(&mut self, confirmed: &[Prefix]) -> bool {
        let superseded = |it: &Earlier| confirmed.iter().any(|prefix| prefix.overlaps(it.prefix));
        let gone: Vec<_> = self.earlier.iter().copied().filter(superseded).collect();
        if gone.is_empty() {
            return true;
        }
        self.earlier.retain(|it| !gone.contains(it));
        self.retain(|claim| !gone.iter().any(|it| it.prefix == claim.prefix))
    }

    /// The prefixes of the claims that the present store has sent.
    pub(super) fn confirmed_prefixes(&self) -> impl Iterator<Item = Prefix> {
        let confirmed = |prefix: &Prefix| self.earlier.iter().all(|it| it.prefix != *prefix);
        self.it.claims.iter().map(|claim| claim.prefix).filter(confirmed)
    }

    fn earlier_claim(&self, prefix: Prefix) -> Option<&PeerClaim> {
        self.earlier.iter().find(|it| it.prefix == prefix).and_then(|it| self.it.claim_of(it.prefix))
    }

    /// Keeps some claims. Returns whether one is left.
    fn retain(&mut self, keep: impl Fn(&PeerClaim) -> bool) -> bool {
        if !self.it.claims.iter().all(&keep) {
            let mut peer = self.it.as_ref().clone();
            peer.claims.retain(keep);
            self.it = Arc::new(peer);
        }
        !self.it.claims.is_empty()
    }
}
