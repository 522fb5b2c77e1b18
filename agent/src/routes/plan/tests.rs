use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use proptest::prelude::*;
use sextant_proto::Prefix;
use tokio::time::Instant;

use super::*;
use crate::{
    cluster::View,
    kernel::{NextHop, Route, RouteTarget},
    routes::{
        Actual, Desired, Memory, RouteMap, Subjects, decide,
        fixture::{known, view},
    },
};

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
        NextHop { gateway, link, onlink: false }
    });
    let via = proptest::collection::vec(hop, 1..3);
    let via = via.prop_map(|hops| RouteTarget::Via(hops.into_iter().collect()));
    prop_oneof![2 => via, 1 => Just(RouteTarget::Unreachable)]
}

fn routes() -> impl Strategy<Value = RouteMap> {
    proptest::collection::vec((key(), target()), 0..10).prop_map(RouteMap::from)
}

/// As the agent's own: what is led on has no other prefix inside, what is refused may have.
fn nested() -> impl Strategy<Value = RouteMap> {
    let refused_if_wide = |(key, target): (&RouteKey, &RouteTarget)| {
        let wide = key.destination.len() < 64;
        (*key, if wide { RouteTarget::Unreachable } else { target.clone() })
    };
    routes().prop_map(move |routes| routes.iter().map(refused_if_wide).collect())
}

fn foreign() -> impl Strategy<Value = BTreeSet<RouteKey>> {
    proptest::collection::btree_set(key(), 0..3)
}

fn actual(mut ours: RouteMap, foreign: &BTreeSet<RouteKey>) -> Actual {
    ours.change(foreign.iter().map(|key| (*key, None)).collect());
    let mut actual = Actual { ours, ..Actual::default() };
    for &key in foreign {
        actual.saw(&Route { mtu: None, key, protocol: RouteProtocol(4), target: RouteTarget::Unreachable });
    }
    actual
}

fn desired(routes: RouteMap) -> Desired {
    Desired { routes, ..Desired::default() }
}

/// What `use_facts` makes of a process without memory that knows all, or nothing: then nothing may go.
fn with_facts<T>(
    desired: &Desired,
    actual: &Actual,
    complete: bool,
    use_facts: impl FnOnce(&Facts<'_>) -> T,
) -> T {
    let view = if complete { view(vec![], vec![]) } else { View::default() };
    let (known, memory) = (known(&view), Memory::new(Instant::now()));
    use_facts(&Facts { known: &known, desired, actual, memory: &memory, now: Instant::now() })
}

fn plan(desired: &Desired, actual: &Actual, may_delete: bool) -> Plan {
    with_facts(desired, actual, may_delete, super::plan)
}

fn apply(plan: &Plan, mut actual: Actual) -> Actual {
    actual.acknowledged(plan.clone().due());
    actual
}

/// What has a route of ours at all.
fn routed(actual: &Actual) -> BTreeSet<(u32, Prefix)> {
    actual.ours.keys().map(|key| (key.table, key.destination)).collect()
}

/// What is led on, not refused: the lowest metric decides, and the keys are in its order.
fn led_on(actual: &Actual) -> BTreeSet<(u32, Prefix)> {
    let mut deciding = BTreeMap::new();
    for (key, target) in actual.ours.iter() {
        deciding.entry((key.table, key.destination)).or_insert(target);
    }
    let led = deciding.into_iter().filter(|(_, target)| matches!(target, RouteTarget::Via(_)));
    led.map(|(destination, _)| destination).collect()
}

/// Where packets are led on by our routes, if the kernel looks into the tables in this order: the longest prefix counts,
/// then the lowest metric.
fn led_on_by(actual: &Actual, tables: [u32; 2]) -> BTreeSet<Ipv6Addr> {
    let leads_on = |addr: &Ipv6Addr| {
        let best = |table: u32| {
            let matching =
                actual.ours.iter().filter(|(key, _)| key.table == table && key.destination.contains(*addr));
            matching
                .min_by_key(|(key, _)| (Reverse(key.destination.len()), key.metric))
                .map(|(_, target)| target)
        };
        tables.into_iter().find_map(best).is_some_and(|target| matches!(target, RouteTarget::Via(_)))
    };
    (0..8).map(|n| Ipv6Addr::from_bits((0x2001_0db8_0001 << 80) | (n << 64))).filter(leads_on).collect()
}

/// An addition where a route is, and a replacement or removal where none is, would be refused.
fn take_in_as_the_kernel_does(actual: &mut Actual, change: &Change) {
    let stands = actual.ours.contains_key(&change.route().key);
    assert_eq!(stands, !matches!(change, Change::Add(_)), "{change:?}");
    actual.acknowledged(vec![change.clone()]);
}

proptest! {
    #[test]
    fn the_plan_leads_to_the_desired(wanted in routes(), ours in routes(), foreign in foreign()) {
        let (desired, before) = (desired(wanted), actual(ours, &foreign));
        let after = apply(&plan(&desired, &before, true), before);
        let possible = desired.routes.iter().filter(|(key, _)| !foreign.contains(key));
        let possible = possible.map(|(key, target)| (*key, target.clone())).collect();
        prop_assert_eq!(&after.ours, &possible);
        prop_assert!(plan(&desired, &after, true).due().is_empty());
    }

    #[test]
    fn nothing_goes_without_leave(wanted in routes(), ours in routes()) {
        let (desired, before) = (desired(wanted), actual(ours, &BTreeSet::new()));
        let after = apply(&plan(&desired, &before, false), before.clone());
        prop_assert!(before.ours.keys().all(|key| after.ours.contains_key(key)));
    }

    #[test]
    fn nothing_is_to_be_done_where_all_is_as_desired(wanted in routes()) {
        let actual = Actual { ours: wanted.clone(), ..Actual::default() };
        prop_assert_eq!(plan(&desired(wanted), &actual, true), Plan::default());
    }

    #[test]
    fn a_prefix_routed_before_and_after_is_routed_in_between(wanted in routes(), ours in routes()) {
        let (desired, before) = (desired(wanted), actual(ours, &BTreeSet::new()));
        let plan = plan(&desired, &before, true);
        let after = apply(&plan, before.clone());
        let mut now = before.clone();
        for change in &plan.clone().due() {
            take_in_as_the_kernel_does(&mut now, change);
            let (was, is, will) = (led_on(&before), led_on(&now), led_on(&after));
            let kept: BTreeSet<_> = was.intersection(&will).collect();
            prop_assert!(kept.iter().all(|it| is.contains(it)), "{kept:?} but {is:?} after {change:?}");
            let (was, is, will) = (routed(&before), routed(&now), routed(&after));
            prop_assert!(was.intersection(&will).all(|it| is.contains(it)));
        }
        prop_assert_eq!(now, after);
    }

    /// Whichever table rules prefer, and whether or not all is known already.
    #[test]
    fn a_prefix_that_any_table_forwards_is_forwarded_in_between(wanted in nested(), ours in nested(), may in any::<bool>()) {
        let (desired, before) = (desired(wanted), actual(ours, &BTreeSet::new()));
        let plan = plan(&desired, &before, may);
        prop_assert!(!may || !plan.changes.iter().any(|it| it.hold == Some(Hold::Premature)));
        let after = apply(&plan, before.clone());
        for tables in [[254, 100], [100, 254]] {
            let mut now = before.clone();
            let (was, will) = (led_on_by(&before, tables), led_on_by(&after, tables));
            for change in &plan.clone().due() {
                now.acknowledged(vec![change.clone()]);
                let is = led_on_by(&now, tables);
                let mut kept = was.intersection(&will);
                prop_assert!(kept.all(|it| is.contains(it)), "{was:?} and {will:?} but {is:?} after {change:?}");
            }
        }
    }

    #[test]
    fn a_foreign_route_is_never_touched(wanted in routes(), ours in routes(), foreign in foreign()) {
        let (desired, before) = (desired(wanted), actual(ours, &foreign));
        let plan = plan(&desired, &before, true);
        prop_assert!(plan.due().iter().all(|change| !foreign.contains(&change.route().key)));
    }

    /// A key that no route has is decided on too: nothing is to be done.
    #[test]
    fn the_plan_is_the_sum_of_the_decisions_on_all_keys(
        wanted in routes(), ours in routes(), foreign in foreign(), other in key(), may in any::<bool>(),
    ) {
        let (desired, actual) = (desired(wanted), actual(ours, &foreign));
        let keys: BTreeSet<RouteKey> =
            desired.routes.keys().chain(actual.ours.keys()).chain([&other]).copied().collect();
        let one_by_one = |facts: &Facts<'_>| {
            let (put, gone): (Vec<_>, Vec<_>) = keys
                .iter()
                .filter_map(|key| Some(decide(facts, &Subjects::of(facts.known), key).change?.0))
                .partition(|planned| !matches!(planned.change, Change::Delete(_)));
            let mut all: Vec<_> = put.into_iter().chain(gone.into_iter().rev()).collect();
            all.sort_by_key(|planned| planned.step);
            (all, super::plan(facts).changes)
        };
        let (one_by_one, whole) = with_facts(&desired, &actual, may, one_by_one);
        prop_assert_eq!(one_by_one, whole);
    }
}
