//! The changes that a node's agent would make in its kernel now.

use sextant_proto::{
    NodeName, Prefix, Revision,
    convert::{MessageError, all, required},
    v1::{self, planned_change::Action},
};

/// The plan of a node's agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) node: NodeName,
    pub(crate) revision: Revision,
    pub(crate) paused: bool,
    pub(crate) changes: Vec<Planned>,
    /// The number of changes that are not listed.
    pub(crate) more: u64,
}

/// A pending change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    /// "add", "replace" or "delete".
    pub(crate) action: &'static str,
    pub(crate) destination: Prefix,
    /// As `ip -6 route` shows it.
    pub(crate) route: String,
    pub(crate) why: String,
    /// The reason for a delay; empty: none.
    pub(crate) waits: String,
}

impl Plan {
    /// From the answer of this node's agent.
    pub(crate) fn new(node: &NodeName, plan: v1::Plan) -> Result<Self, MessageError> {
        Ok(Self {
            node: node.clone(),
            revision: Revision(plan.revision),
            paused: plan.paused,
            changes: all("changes", plan.changes)?,
            more: plan.more,
        })
    }

    /// The number of changes, listed or not.
    pub(crate) fn count(&self) -> u64 {
        self.changes.len() as u64 + self.more
    }
}

impl TryFrom<v1::PlannedChange> for Planned {
    type Error = MessageError;

    fn try_from(change: v1::PlannedChange) -> Result<Self, MessageError> {
        let action = match change.action() {
            Action::Add => "add",
            Action::Replace => "replace",
            Action::Delete => "delete",
            Action::Unspecified => "change",
        };
        Ok(Self {
            action,
            destination: required("destination", change.destination)?,
            route: change.route,
            why: change.why,
            waits: change.waits,
        })
    }
}
