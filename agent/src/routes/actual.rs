//! The routes that the kernel has, as it said.

use std::collections::{BTreeMap, BTreeSet};

use sextant_proto::{Conflict, Prefix};

use super::Desired;
use crate::kernel::{Change, Route, RouteKey, RouteProtocol, RouteTarget};

/// What the kernel said of our routes, and of others' for the same destinations.
///
/// Filled by dumps, kept by what the kernel acknowledged; what anybody else does makes it be read anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actual {
    /// Ours.
    pub ours: BTreeMap<RouteKey, RouteTarget>,
    /// Others', of the table that ours are in.
    pub foreign: BTreeMap<RouteKey, BTreeSet<RouteProtocol>>,
}

impl Actual {
    /// Takes a dump of our routes in, in place of what was known of them.
    pub fn read_ours(&mut self, routes: Vec<Route>) {
        let ours = routes.into_iter().filter(|route| route.protocol == RouteProtocol::OURS);
        self.ours = ours.map(|route| (route.key, route.target)).collect();
    }

    /// Takes a dump of all routes of a table in, in place of what was known of others'.
    pub fn read_foreign(&mut self, routes: Vec<Route>) {
        self.foreign.clear();
        for route in routes {
            self.saw(&route);
        }
    }

    /// Somebody else has put a route.
    pub fn saw(&mut self, route: &Route) {
        if route.protocol != RouteProtocol::OURS {
            self.foreign.entry(route.key).or_default().insert(route.protocol);
        }
    }

    /// Whether the place of `route` was known to be that of a foreign route of another protocol.
    pub fn is_anothers(&self, route: &Route) -> bool {
        let known = self.foreign.get(&route.key);
        known.is_some_and(|protocols| protocols.iter().any(|protocol| *protocol != route.protocol))
    }

    /// Somebody else's route is gone.
    pub fn lost(&mut self, route: &Route) {
        if let Some(protocols) = self.foreign.get_mut(&route.key) {
            protocols.remove(&route.protocol);
            if protocols.is_empty() {
                self.foreign.remove(&route.key);
            }
        }
    }

    /// The kernel has acknowledged a change.
    pub fn acknowledged(&mut self, change: &Change) {
        match change {
            Change::Add(route) | Change::Replace(route) => self.ours.insert(route.key, route.target.clone()),
            Change::Delete(route) => self.ours.remove(&route.key),
        };
    }

    /// Whether a route of ours leads to the destination of `key`, whatever its metric.
    pub fn stands(&self, key: &RouteKey) -> bool {
        let first = self.ours.range(RouteKey { metric: 0, ..*key }..).next();
        first.is_some_and(|(first, _)| (first.table, first.destination) == (key.table, key.destination))
    }

    /// Others' routes for the destinations of `desired`, and who wins. The kernel's own routes for the on-link prefix
    /// `bridge` are none: containers are reached by them.
    pub fn conflicts(&self, desired: &Desired, bridge: Option<Prefix>) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        for (key, protocols) in &self.foreign {
            let Some(ours) = for_destination(desired, key) else {
                continue;
            };
            for protocol in protocols {
                if *protocol == RouteProtocol::KERNEL && Some(key.destination) == bridge {
                    continue;
                }
                conflicts.push(Conflict {
                    destination: key.destination,
                    protocol: protocol.to_string(),
                    metric: key.metric,
                    ours_wins: ours.metric < key.metric,
                });
            }
        }
        conflicts
    }
}

/// The desired route for the destination of `key`: the one with the lowest metric.
fn for_destination<'a>(desired: &'a Desired, key: &RouteKey) -> Option<&'a RouteKey> {
    let (first, _) = desired.routes.range(RouteKey { metric: 0, ..*key }..).next()?;
    (first.table == key.table && first.destination == key.destination).then_some(first)
}
