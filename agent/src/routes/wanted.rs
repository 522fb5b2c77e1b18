//! The routes that were desired by this process before. Pure.

use super::{Actual, Desired};
use crate::kernel::{RouteKey, RouteTarget};

/// The desired routes as they were computed last, and those that were once and still stand.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    desired: Desired,
    /// Desired by this process once, and no longer: these were taken back, and may go. In ascending order.
    formerly: Vec<RouteKey>,
}

impl Wanted {
    /// The routes that were desired last.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// These are desired from now on.
    pub fn want(&mut self, desired: Desired) {
        let before = std::mem::replace(&mut self.desired, desired);
        self.formerly.extend(before.routes.without(&self.desired.routes).map(|(key, _)| *key));
        self.formerly.sort();
        self.formerly.dedup();
    }

    /// Whether this process wants it, or has wanted it as long as it stands.
    pub fn knows(&self, key: &RouteKey) -> bool {
        self.formerly.binary_search(key).is_ok() || self.desired.routes.contains_key(key)
    }

    /// Whether an unreachable route is wanted there.
    pub fn refuses(&self, key: &RouteKey) -> bool {
        self.desired.routes.get(key) == Some(&RouteTarget::Unreachable)
    }

    /// Forgets what does not stand any more.
    pub fn forget_gone(&mut self, actual: &Actual) {
        let desired = &self.desired.routes;
        self.formerly.retain(|key| actual.ours.contains_key(key) && !desired.contains_key(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> RouteKey {
        RouteKey { table: 254, destination: format!("2001:db8:{n}::/48").parse().unwrap(), metric: 512 }
    }

    fn desired(keys: &[u8]) -> Desired {
        let routes = keys.iter().map(|n| (key(*n), RouteTarget::Unreachable)).collect();
        Desired { routes, ..Desired::default() }
    }

    fn knows(wanted: &Wanted) -> Vec<u8> {
        (0..10).filter(|n| wanted.knows(&key(*n))).collect()
    }

    #[test]
    fn a_desired_route_is_known_while_it_is_in_the_kernel() {
        let mut wanted = Wanted::default();
        wanted.want(desired(&[1, 2, 3]));
        wanted.want(desired(&[3, 4]));
        assert_eq!(knows(&wanted), [1, 2, 3, 4]);
        wanted.forget_gone(&Actual { ours: desired(&[1, 3]).routes, ..Actual::default() });
        assert_eq!(knows(&wanted), [1, 3, 4]);
        wanted.want(desired(&[1]));
        assert_eq!(knows(&wanted), [1, 3, 4]);
        wanted.forget_gone(&Actual::default());
        assert_eq!(knows(&wanted), [1]);
    }
}
