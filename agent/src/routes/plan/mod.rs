//! From the routes that are to those that should be.

use std::collections::BTreeMap;

use super::{
    Entry, Facts, Hold, Planned, Step,
    decide::{put, remove},
};
use crate::kernel::{Change, RouteKey, RouteProtocol};

/// The changes that lead from the actual to the desired routes, in their order, with those that are held back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// All of them.
    pub changes: Vec<Planned>,
}

/// Decides on all keys. Only those count that are in one of the desired and the actual routes, or differ.
pub fn plan(facts: &Facts<'_>) -> Plan {
    let (desired, ours) = (&facts.desired.routes, &facts.actual.ours);
    let wanting = desired.unlike(ours);
    let put = wanting.map(|((key, target), standing)| put(facts, key, target, standing.is_some()));
    let gone: Vec<&Entry> = ours.without(desired).collect();
    let gone = gone.into_iter().rev().map(|(key, standing)| remove(facts, key, standing));
    let mut steps: BTreeMap<Step, Vec<Planned>> = BTreeMap::new();
    for planned in put.chain(gone) {
        steps.entry(planned.step).or_default().push(planned);
    }
    // The larger one stays where it is in memory.
    let in_order = steps.into_values().reduce(|mut all, mut step| {
        if step.len() > all.len() {
            step.splice(..0, all);
            return step;
        }
        all.append(&mut step);
        all
    });
    Plan { changes: in_order.unwrap_or_default() }
}

impl Plan {
    /// The changes that are to be made now.
    pub fn due(self) -> Vec<Change> {
        let due = self.changes.into_iter().filter(|planned| planned.hold.is_none());
        due.map(|planned| planned.change).collect()
    }

    /// Routes that cannot be: another process's route has their place.
    pub fn blocked(&self) -> impl Iterator<Item = (RouteKey, RouteProtocol)> {
        self.changes.iter().filter_map(|planned| match planned.hold {
            Some(Hold::Blocked(protocol)) => Some((planned.change.route().key, protocol)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests;
