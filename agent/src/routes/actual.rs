//! The routes that the kernel has, as it said.

use super::{
    Desired, RouteMap,
    reading::{Foreign, take_foreign},
};
use crate::kernel::{Change, Route, RouteKey, RouteProtocol};

/// What the kernel said of our routes, and of others' for the same destinations.
///
/// Filled by dumps, kept by what the kernel acknowledged; what anybody else does makes it be read anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actual {
    /// Ours.
    pub ours: RouteMap,
    /// Others', of the table that ours are in, and of those in which the kernel looks before it.
    pub foreign: Foreign,
}

impl Actual {
    /// Somebody else has put a route. But for the kernel, which adds one for each link, it is in place of that of its protocol.
    pub fn saw(&mut self, route: &Route) {
        if let Some(known) =
            self.foreign.get_mut(&route.key).filter(|_| route.protocol != RouteProtocol::KERNEL)
        {
            known.retain(|(protocol, _)| *protocol != route.protocol);
        }
        take_foreign(&mut self.foreign, route.clone());
    }

    /// Whether the place of `route` was known to be that of a foreign route of another protocol.
    pub fn is_anothers(&self, route: &Route) -> bool {
        let known = self.foreign.get(&route.key);
        known.is_some_and(|known| known.iter().any(|(protocol, _)| *protocol != route.protocol))
    }

    /// Somebody else's route is gone.
    pub fn lost(&mut self, route: &Route) {
        let Some(known) = self.foreign.get_mut(&route.key) else { return };
        let gone = (route.protocol, route.target.clone());
        match known.binary_search(&gone) {
            Ok(at) => drop(known.remove(at)),
            Err(_) => known.retain(|(protocol, _)| *protocol != route.protocol),
        }
        if known.is_empty() {
            self.foreign.remove(&route.key);
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
}
