//! From what is to what should be.

use crate::kernel::{Change, OwnRoute, RouteKey, RouteProtocol, RouteTarget};

use super::{Actual, Desired};

/// What to tell the kernel, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Unreachables first, then what is added or replaced, then what goes (DESIGN I7).
    pub changes: Vec<Change>,
    /// Routes that cannot be: another's route has their place, and stays (DESIGN I4).
    pub blocked: Vec<(RouteKey, RouteProtocol)>,
}

/// What leads from `actual` to `desired`. A route of ours that is not desired goes only if `may_delete` (DESIGN I6).
pub fn plan(desired: &Desired, actual: &Actual, may_delete: impl Fn(&RouteKey) -> bool) -> Plan {
    let mut plan = Plan::default();
    let (refusing, leading): (Vec<_>, Vec<_>) =
        desired.routes.iter().partition(|(_, target)| matches!(target, RouteTarget::Unreachable));
    for (key, target) in refusing.into_iter().chain(leading) {
        plan.make(actual, *key, target);
    }
    for (key, target) in &actual.ours {
        if !desired.routes.contains_key(key) && may_delete(key) {
            plan.changes.push(Change::Delete(OwnRoute { key: *key, target: target.clone() }));
        }
    }
    plan
}

impl Plan {
    fn make(&mut self, actual: &Actual, key: RouteKey, target: &RouteTarget) {
        let standing = actual.ours.get(&key);
        if standing == Some(target) {
            return;
        }
        let foreign = actual.foreign.get(&key).and_then(|protocols| protocols.first());
        if let Some(protocol) = foreign {
            self.blocked.push((key, *protocol));
            return;
        }
        let route = OwnRoute { key, target: target.clone() };
        self.changes.push(if standing.is_some() { Change::Replace(route) } else { Change::Add(route) });
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, net::Ipv6Addr};

    use proptest::prelude::*;
    use sextant_proto::Prefix;

    use super::*;
    use crate::kernel::{NextHop, Route};

    fn key() -> impl Strategy<Value = RouteKey> {
        let metric = prop_oneof![Just(512), Just(1024)];
        (0u128..6, metric).prop_map(|(n, metric)| {
            let addr = Ipv6Addr::from_bits((0x2001_0db8_0001 << 80) | (n << 64));
            RouteKey { table: 254, destination: Prefix::new(addr, 64).unwrap(), metric }
        })
    }

    fn target() -> impl Strategy<Value = RouteTarget> {
        let via = (1u16..4).prop_map(|n| {
            let gateway = Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n));
            RouteTarget::Via(BTreeSet::from([NextHop { gateway, link: 2 }]))
        });
        prop_oneof![via, Just(RouteTarget::Unreachable)]
    }

    fn routes() -> impl Strategy<Value = std::collections::BTreeMap<RouteKey, RouteTarget>> {
        proptest::collection::btree_map(key(), target(), 0..10)
    }

    fn foreign() -> impl Strategy<Value = BTreeSet<RouteKey>> {
        proptest::collection::btree_set(key(), 0..3)
    }

    fn actual(
        ours: std::collections::BTreeMap<RouteKey, RouteTarget>,
        foreign: &BTreeSet<RouteKey>,
    ) -> Actual {
        let mut actual = Actual { ours, ..Actual::default() };
        for &key in foreign {
            actual.ours.remove(&key);
            actual.saw(&Route { key, protocol: RouteProtocol(4), target: RouteTarget::Unreachable });
        }
        actual
    }

    fn apply(plan: &Plan, mut actual: Actual) -> Actual {
        plan.changes.iter().for_each(|change| actual.acknowledged(change));
        actual
    }

    proptest! {
        #[test]
        fn the_plan_leads_to_the_desired(wanted in routes(), ours in routes(), foreign in foreign()) {
            let (desired, before) = (Desired { routes: wanted }, actual(ours, &foreign));
            let after = apply(&plan(&desired, &before, |_| true), before);
            let mut possible = desired.routes.clone();
            possible.retain(|key, _| !foreign.contains(key));
            prop_assert_eq!(&after.ours, &possible);
            prop_assert!(plan(&desired, &after, |_| true).changes.is_empty());
        }

        #[test]
        fn nothing_goes_without_leave(wanted in routes(), ours in routes()) {
            let (desired, before) = (Desired { routes: wanted }, actual(ours, &BTreeSet::new()));
            let after = apply(&plan(&desired, &before, |_| false), before.clone());
            prop_assert!(before.ours.keys().all(|key| after.ours.contains_key(key)));
        }

        #[test]
        fn what_was_routed_and_will_be_is_routed_between(wanted in routes(), ours in routes()) {
            let (desired, before) = (Desired { routes: wanted }, actual(ours, &BTreeSet::new()));
            let plan = plan(&desired, &before, |_| true);
            let routed = |actual: &Actual| actual.ours.keys().map(|key| key.destination).collect::<BTreeSet<_>>();
            let (first, last) = (routed(&before), routed(&apply(&plan, before.clone())));
            let kept: BTreeSet<_> = first.intersection(&last).copied().collect();
            let mut now = before;
            for change in &plan.changes {
                now.acknowledged(change);
                prop_assert!(kept.is_subset(&routed(&now)));
            }
        }

        #[test]
        fn a_foreign_route_is_never_touched(wanted in routes(), ours in routes(), foreign in foreign()) {
            let (desired, before) = (Desired { routes: wanted }, actual(ours, &foreign));
            let plan = plan(&desired, &before, |_| true);
            prop_assert!(plan.changes.iter().all(|change| !foreign.contains(&change.route().key)));
        }
    }
}
