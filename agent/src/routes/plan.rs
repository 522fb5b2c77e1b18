//! From what is to what should be.

use crate::kernel::{Change, OwnRoute, RouteKey, RouteProtocol, RouteTarget};

use super::{Actual, Desired};

/// What to tell the kernel, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Unreachables where nothing stands first, then what is added or replaced, then what goes (DESIGN I7).
    pub changes: Vec<Change>,
    /// Routes that cannot be: another's route has their place, and stays (DESIGN I4).
    pub blocked: Vec<(RouteKey, RouteProtocol)>,
}

/// What leads from `actual` to `desired`. A route of ours that is not desired goes only if `may_delete` (DESIGN I6).
///
/// A destination may have several routes of different metrics, of which the kernel uses the lowest. So what is made is made
/// from the lowest metric up, and what goes goes from the highest down: whatever of the order has been done, packets to a
/// destination that was led on before and is after are led on.
pub fn plan(desired: &Desired, actual: &Actual, may_delete: impl Fn(&RouteKey) -> bool) -> Plan {
    let mut plan = Plan::default();
    let refuses_anew =
        |key: &RouteKey, target: &RouteTarget| *target == RouteTarget::Unreachable && !actual.stands(key);
    let (refusing, leading): (Vec<_>, Vec<_>) =
        desired.routes.iter().partition(|(key, target)| refuses_anew(key, target));
    for (key, target) in refusing.into_iter().chain(leading) {
        plan.make(actual, *key, target);
    }
    for (key, target) in actual.ours.iter().rev() {
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
    use std::{
        collections::{BTreeMap, BTreeSet},
        net::Ipv6Addr,
    };

    use proptest::prelude::*;
    use sextant_proto::Prefix;

    use super::*;
    use crate::kernel::{NextHop, Route};

    /// Few enough to meet: as the kernel tells routes apart, by table, destination and metric.
    fn key() -> impl Strategy<Value = RouteKey> {
        let metric = prop_oneof![Just(256), Just(512), Just(1024)];
        let table = prop_oneof![3 => Just(254), 1 => Just(100)];
        (table, 0u128..4, 63u8..=64, metric).prop_map(|(table, n, len, metric)| {
            let addr = Ipv6Addr::from_bits((0x2001_0db8_0001 << 80) | (n << 65));
            RouteKey { table, destination: Prefix::new(addr, len).unwrap(), metric }
        })
    }

    fn target() -> impl Strategy<Value = RouteTarget> {
        let hop = (1u16..4, 2u32..4).prop_map(|(n, link)| {
            let gateway = Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n));
            NextHop { gateway, link }
        });
        let via = proptest::collection::btree_set(hop, 1..3).prop_map(RouteTarget::Via);
        prop_oneof![2 => via, 1 => Just(RouteTarget::Unreachable)]
    }

    fn routes() -> impl Strategy<Value = BTreeMap<RouteKey, RouteTarget>> {
        proptest::collection::btree_map(key(), target(), 0..10)
    }

    fn foreign() -> impl Strategy<Value = BTreeSet<RouteKey>> {
        proptest::collection::btree_set(key(), 0..3)
    }

    fn actual(ours: BTreeMap<RouteKey, RouteTarget>, foreign: &BTreeSet<RouteKey>) -> Actual {
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

    /// What has a route of ours at all.
    fn routed(actual: &Actual) -> BTreeSet<(u32, Prefix)> {
        actual.ours.keys().map(|key| (key.table, key.destination)).collect()
    }

    /// What is led on, not refused: the lowest metric decides, and the keys are in its order.
    fn led_on(actual: &Actual) -> BTreeSet<(u32, Prefix)> {
        let mut deciding = BTreeMap::new();
        for (key, target) in &actual.ours {
            deciding.entry((key.table, key.destination)).or_insert(target);
        }
        let led = deciding.into_iter().filter(|(_, target)| matches!(target, RouteTarget::Via(_)));
        led.map(|(destination, _)| destination).collect()
    }

    /// An addition where a route is, and a replacement or removal where none is, would be refused.
    fn take_in_as_the_kernel_does(actual: &mut Actual, change: &Change) {
        let stands = actual.ours.contains_key(&change.route().key);
        assert_eq!(stands, !matches!(change, Change::Add(_)), "{change:?}");
        actual.acknowledged(change);
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
        fn nothing_is_to_be_done_where_all_is_as_desired(wanted in routes()) {
            let actual = Actual { ours: wanted.clone(), ..Actual::default() };
            prop_assert_eq!(plan(&Desired { routes: wanted }, &actual, |_| true), Plan::default());
        }

        #[test]
        fn what_was_routed_and_will_be_is_routed_between(wanted in routes(), ours in routes()) {
            let (desired, before) = (Desired { routes: wanted }, actual(ours, &BTreeSet::new()));
            let plan = plan(&desired, &before, |_| true);
            let after = apply(&plan, before.clone());
            let mut now = before.clone();
            for change in &plan.changes {
                take_in_as_the_kernel_does(&mut now, change);
                let (was, is, will) = (led_on(&before), led_on(&now), led_on(&after));
                let kept: BTreeSet<_> = was.intersection(&will).collect();
                prop_assert!(kept.iter().all(|it| is.contains(it)), "{kept:?} but {is:?} after {change:?}");
                let (was, is, will) = (routed(&before), routed(&now), routed(&after));
                prop_assert!(was.intersection(&will).all(|it| is.contains(it)));
            }
            prop_assert_eq!(now, after);
        }

        #[test]
        fn a_foreign_route_is_never_touched(wanted in routes(), ours in routes(), foreign in foreign()) {
            let (desired, before) = (Desired { routes: wanted }, actual(ours, &foreign));
            let plan = plan(&desired, &before, |_| true);
            prop_assert!(plan.changes.iter().all(|change| !foreign.contains(&change.route().key)));
        }
    }
}
