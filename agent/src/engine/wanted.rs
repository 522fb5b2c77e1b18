//! What should be, kept until what it depends on changes; and what was wanted before. Pure.

use std::{collections::HashSet, net::Ipv6Addr, sync::Arc};

use sextant_proto::Claim;

use crate::{
    cluster::{Verdicts, View},
    kernel::{RouteKey, RouteTarget},
    routes::{Actual, Desired, Imports},
    uplinks::LocalUplink,
};

/// All that the desired routes depend on, but for the settings.
#[derive(Debug, Clone, Default)]
pub(super) struct Basis {
    pub(super) claim: Option<Claim>,
    pub(super) view: Arc<View>,
    pub(super) withdrawn: bool,
    pub(super) controllers: Vec<Ipv6Addr>,
    pub(super) verdicts: Arc<Verdicts>,
    pub(super) imports: Arc<Imports>,
    pub(super) uplinks: Vec<LocalUplink>,
}

impl Basis {
    fn is(&self, other: &Self) -> bool {
        // What is one in memory is the same; to compare all of it would take as long as to compute anew.
        Arc::ptr_eq(&self.view, &other.view)
            && Arc::ptr_eq(&self.verdicts, &other.verdicts)
            && Arc::ptr_eq(&self.imports, &other.imports)
            && self.claim == other.claim
            && self.withdrawn == other.withdrawn
            && self.controllers == other.controllers
            && self.uplinks == other.uplinks
    }
}

/// The desired routes as they were computed last, and those that were once and still stand.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    basis: Option<Basis>,
    desired: Desired,
    /// Wanted by this process once, and no longer: these were taken back, and may go.
    formerly: HashSet<RouteKey>,
}

impl Wanted {
    /// The desired routes, by `compute` if their basis has changed.
    pub(super) fn on(&mut self, basis: Basis, compute: impl FnOnce() -> Desired) -> Desired {
        if !self.basis.as_ref().is_some_and(|before| before.is(&basis)) {
            let before = std::mem::replace(&mut self.desired, compute());
            self.formerly.extend(before.routes.without(&self.desired.routes).map(|(key, _)| *key));
            self.basis = Some(basis);
        }
        self.desired.clone()
    }

    /// Whether this process wants it, or has wanted it as long as it stands.
    pub(super) fn knows(&self, key: &RouteKey) -> bool {
        self.desired.routes.contains_key(key) || self.formerly.contains(key)
    }

    /// Whether an unreachable is wanted there.
    pub(super) fn refuses(&self, key: &RouteKey) -> bool {
        self.desired.routes.get(key) == Some(&RouteTarget::Unreachable)
    }

    /// Forgets what does not stand any more.
    pub(super) fn forget_gone(&mut self, actual: &Actual) {
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
        Desired { routes: keys.iter().map(|n| (key(*n), RouteTarget::Unreachable)).collect() }
    }

    fn knows(wanted: &Wanted) -> Vec<u8> {
        (0..10).filter(|n| wanted.knows(&key(*n))).collect()
    }

    #[test]
    fn it_is_computed_when_something_has_changed() {
        let (mut wanted, first) = (Wanted::default(), Basis::default());
        assert_eq!(wanted.on(first.clone(), || desired(&[1])), desired(&[1]));
        assert_eq!(wanted.on(first.clone(), || panic!("for nothing")), desired(&[1]));
        let changed = [
            Basis { withdrawn: true, ..first.clone() },
            Basis { controllers: vec![Ipv6Addr::LOCALHOST], ..first.clone() },
            Basis { view: Arc::default(), ..first.clone() },
            Basis { verdicts: Arc::default(), ..first.clone() },
            Basis { imports: Arc::default(), ..first.clone() },
            first,
        ];
        for (n, basis) in (2..).zip(changed) {
            assert_eq!(wanted.on(basis, || desired(&[n])), desired(&[n]));
        }
    }

    #[test]
    fn what_was_wanted_is_known_while_it_stands() {
        let mut wanted = Wanted::default();
        let want = |wanted: &mut Wanted, keys: &[u8]| {
            wanted.on(Basis::default(), || desired(keys));
        };
        want(&mut wanted, &[1, 2, 3]);
        want(&mut wanted, &[3, 4]);
        assert_eq!(knows(&wanted), [1, 2, 3, 4]);
        wanted.forget_gone(&Actual { ours: desired(&[1, 3]).routes, ..Actual::default() });
        assert_eq!(knows(&wanted), [1, 3, 4]);
        want(&mut wanted, &[1]);
        assert_eq!(knows(&wanted), [1, 3, 4]);
        wanted.forget_gone(&Actual::default());
        assert_eq!(knows(&wanted), [1]);
    }
}
