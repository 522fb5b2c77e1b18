//! The routes that the kernel has, as it said.

use sextant_proto::{Conflict, Prefix};

use super::{Desired, RouteMap, reading::Foreign};
use crate::kernel::{Change, Route, RouteKey, RouteProtocol};

/// What the kernel said of our routes, and of others' for the same destinations.
///
/// Filled by dumps, kept by what the kernel acknowledged; what anybody else does makes it be read anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actual {
    /// Ours.
    pub ours: RouteMap,
    /// Others', of the table that ours are in.
    pub foreign: Foreign,
}

impl Actual {
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

    /// The kernel has acknowledged changes.
    pub fn acknowledged(&mut self, changes: Vec<Change>) {
        let left = |change| match change {
            Change::Add(route) | Change::Replace(route) => (route.key, Some(route.target)),
            Change::Delete(route) => (route.key, None),
        };
        self.ours.change(changes.into_iter().map(left).collect());
    }

    /// Lets what is and what should be share their memory where they are the same.
    pub fn share_with(&mut self, desired: &Desired) {
        if self.ours == desired.routes {
            self.ours = desired.routes.clone();
        }
    }

    /// Whether a route of ours leads to the destination of `key`, whatever its metric.
    pub fn stands(&self, key: &RouteKey) -> bool {
        self.ours.deciding(key).is_some()
    }

    /// Others' routes for the destinations of `desired`, and who wins. The kernel's own routes for the on-link prefixes
    /// of `bridges` are none: containers are reached by them.
    pub fn conflicts(&self, desired: &Desired, bridges: &[Prefix]) -> Vec<Conflict> {
        let mut conflicts = Vec::new();
        for (key, protocols) in &self.foreign {
            let Some((ours, _)) = desired.routes.deciding(key) else {
                continue;
            };
            for protocol in protocols {
                if *protocol == RouteProtocol::KERNEL && bridges.contains(&key.destination) {
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
