//! The drain of this node: it covers all its claims. Pure.

use sextant_proto::NodeState;

/// The progress of a drain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Drain {
    #[default]
    None,
    Settling,
    /// The peers have withdrawn, except these in time.
    Settled(Vec<String>),
    Reported,
}

impl Drain {
    /// The node enters a state. Returns whether a drain begins.
    pub(super) fn enter(&mut self, state: NodeState) -> bool {
        let begins = state == NodeState::Draining;
        *self = if begins { Self::Settling } else { Self::None };
        begins
    }

    /// The peers have withdrawn their routes to this node, or the timeout has passed.
    pub(super) fn settled(&mut self, laggards: Vec<String>) {
        if *self == Self::Settling {
            *self = Self::Settled(laggards);
        }
    }

    /// Whether the peers have withdrawn.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self, Self::Settled(_) | Self::Reported)
    }

    /// The host has removed its routes. Returns the peers that had not in time, if that is to be reported as the end of a drain.
    pub(super) fn report(&mut self) -> Option<Vec<String>> {
        let Self::Settled(laggards) = self else { return None };
        let laggards = std::mem::take(laggards);
        *self = Self::Reported;
        Some(laggards)
    }
}
