//! The pending changes of a node's routes.

use serde::Serialize;
use sextant_proto::{NodeName, Prefix, Revision};

use super::filled;
use crate::answer;

/// The changes that a node's agent would make in its kernel now.
#[derive(Debug, Serialize)]
pub(crate) struct Plan<'a> {
    node: &'a NodeName,
    revision: Revision,
    paused: bool,
    changes: Vec<Change<'a>>,
    more: u64,
}

/// A change of a route.
#[derive(Debug, Serialize)]
struct Change<'a> {
    action: &'static str,
    destination: Prefix,
    route: &'a str,
    why: &'a str,
    waits: Option<&'a str>,
}

impl<'a> From<&'a answer::Plan> for Plan<'a> {
    fn from(plan: &'a answer::Plan) -> Self {
        Self {
            node: &plan.node,
            revision: plan.revision,
            paused: plan.paused,
            changes: plan.changes.iter().map(Change::from).collect(),
            more: plan.more,
        }
    }
}

impl<'a> From<&'a answer::Planned> for Change<'a> {
    fn from(change: &'a answer::Planned) -> Self {
        let answer::Planned { action, destination, route, why, waits } = change;
        Self { action, destination: *destination, route, why, waits: filled(waits) }
    }
}
