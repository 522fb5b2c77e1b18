//! A claim of this node on a stream: whether it has ended, its state in the view, and its drain. Pure.

use sextant_proto::{Epoch, NodeName, NodeState, Peer, Revision};

use super::Lost;
use crate::cluster::View;

/// A claim that this node holds.
#[derive(Debug)]
pub(super) struct OwnClaim {
    pub(super) epoch: Epoch,
    /// Its state, and the revision since which it is in this state, as far as this stream has reported.
    state: Option<(NodeState, Revision)>,
    drain: Drain,
}

/// The progress of a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Drain {
    None,
    Settling,
    /// The peers have withdrawn, except these in time.
    Settled(Vec<String>),
    Reported,
}

impl OwnClaim {
    pub(super) fn new(epoch: Epoch) -> Self {
        Self { epoch, state: None, drain: Drain::None }
    }

    /// The reason why the claim has ended, if the view shows that. A view that is older than the claim shows nothing: it has
    /// an earlier claim of the node, which ended while the agent was disconnected.
    pub(super) fn lost(&self, node: &NodeName, view: &View) -> Option<Lost> {
        if view.incarnation()? != self.epoch.incarnation {
            return Some(Lost::StoreReplaced);
        }
        if !view.reaches(self.epoch) {
            return None;
        }
        match view.peer(node).and_then(Peer::primary) {
            Some(own) if own.claimed < self.epoch.revision => Some(Lost::OtherHistory),
            Some(own) if own.claimed > self.epoch.revision => Some(Lost::NewerClaim),
            None if view.is_complete() || self.state.is_some() => Some(Lost::NotInStore),
            _ => None,
        }
    }

    /// Enters the state that the view shows. Returns this node in the view, if that is a new state.
    pub(super) fn enter<'a>(&mut self, node: &NodeName, view: &'a View) -> Option<&'a Peer> {
        let own = view.peer(node).filter(|_| view.reaches(self.epoch))?;
        if self.state() == Some(own.state()) {
            return None;
        }
        self.state = Some((own.state(), view.revision()));
        self.drain = if own.state() == NodeState::Draining { Drain::Settling } else { Drain::None };
        Some(own)
    }

    /// Whether the claim was in its present state at the revision `applied`.
    pub(super) fn entered_by(&self, applied: Revision) -> bool {
        self.state.is_some_and(|(_, since)| applied >= since)
    }

    /// Whether this node should have no routes to peers.
    pub(super) fn withdrawn(&self) -> bool {
        self.state() == Some(NodeState::Drained) || matches!(self.drain, Drain::Settled(_) | Drain::Reported)
    }

    /// The peers have withdrawn their routes to this node, or the timeout has passed.
    pub(super) fn settled(&mut self, laggards: Vec<String>) {
        if self.drain == Drain::Settling {
            self.drain = Drain::Settled(laggards);
        }
    }

    /// The host has removed its routes. Returns the peers that had not in time, if that is to be reported as the end of a drain.
    pub(super) fn report_drain(&mut self) -> Option<Vec<String>> {
        let Drain::Settled(laggards) = &mut self.drain else { return None };
        let laggards = std::mem::take(laggards);
        self.drain = Drain::Reported;
        Some(laggards)
    }

    fn state(&self) -> Option<NodeState> {
        self.state.map(|(state, _)| state)
    }
}
