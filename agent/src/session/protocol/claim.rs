//! A claim of this node on a stream: whether it has ended, and its state in the view. Pure.

use sextant_proto::{Claim, Epoch, NodeName, NodeState, PeerClaim, PoolName, Prefix, Revision};

use super::{Lost, LostClaim};
use crate::cluster::View;

/// A claim that this node holds.
#[derive(Debug)]
pub(super) struct OwnClaim {
    pub(super) epoch: Epoch,
    prefix: Prefix,
    pool: PoolName,
    /// Its state, and the revision since which it is in this state, as far as this stream has reported.
    state: Option<(NodeState, Revision)>,
}

impl OwnClaim {
    pub(super) fn new(claim: &Claim) -> Self {
        Self { epoch: claim.epoch, prefix: claim.prefix, pool: claim.pool.name.clone(), state: None }
    }

    /// The claim, with the reason why it has ended, if the view shows that. A view that is older than the claim shows nothing: it has
    /// an earlier claim of the node, which ended while the agent was disconnected.
    pub(super) fn lost(&self, node: &NodeName, view: &View) -> Option<LostClaim> {
        let why = self.why_lost(node, view)?;
        Some(LostClaim { prefix: self.prefix, pool: self.pool.clone(), epoch: self.epoch, why })
    }

    fn why_lost(&self, node: &NodeName, view: &View) -> Option<Lost> {
        if view.incarnation()? != self.epoch.incarnation {
            return Some(Lost::StoreReplaced);
        }
        if !view.reaches(self.epoch) {
            return None;
        }
        match self.in_view(node, view) {
            Some(own) if own.claimed < self.epoch.revision => Some(Lost::OtherHistory),
            Some(own) if own.claimed > self.epoch.revision => Some(Lost::NewerClaim),
            None if view.is_complete() || self.state.is_some() => Some(Lost::NotInStore),
            _ => None,
        }
    }

    /// Enters the state that the view shows. Returns it if it is a new one.
    pub(super) fn enter(&mut self, node: &NodeName, view: &View) -> Option<NodeState> {
        let state = self.in_view(node, view).filter(|_| view.reaches(self.epoch))?.state;
        if self.state.is_some_and(|(before, _)| before == state) {
            return None;
        }
        self.state = Some((state, view.revision()));
        Some(state)
    }

    /// Whether the claim was in its present state at the revision `applied`.
    pub(super) fn entered_by(&self, applied: Revision) -> bool {
        self.state.is_some_and(|(_, since)| applied >= since)
    }

    /// Its state, once the view has shown it.
    pub(super) fn state(&self) -> Option<NodeState> {
        self.state.map(|(state, _)| state)
    }

    fn in_view<'a>(&self, node: &NodeName, view: &'a View) -> Option<&'a PeerClaim> {
        view.peer(node)?.claim_in(&self.pool)
    }
}
