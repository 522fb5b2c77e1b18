//! The fake kernel against the real one: the same changes have the same results, and lead to the same tables.

use rand::{Rng, SeedableRng, rngs::StdRng};
use sextant_agent::kernel::{
    Change, Kernel, NetlinkKernel, NextHop, OwnRoute, Route, RouteKey, RouteProtocol, RouteTarget, Scope,
    fake::FakeKernel,
};

use crate::namespace::{MAIN, errnos, try_ip, with_uplink};

const SEQUENCES: u64 = 12;
const STEPS: usize = 80;
const STATIC: RouteProtocol = RouteProtocol(4);

#[derive(Debug)]
enum Step {
    Ours(Change),
    ForeignAdd(Route),
    ForeignReplace(Route),
    ForeignAppend(Route),
    ForeignRemove(RouteKey),
}

#[test]
fn the_fake_kernel_behaves_like_the_real_one() {
    with_uplink(async |kernel, up0| {
        for seed in 0..SEQUENCES {
            let fake = FakeKernel::with_uplink("up0", "2001:db8::1/64");
            assert_eq!(fake.links().await.unwrap().last().unwrap().index, 2);
            let mut random = StdRng::seed_from_u64(seed);
            for number in 0..STEPS {
                let step = any_step(&mut random, &fake);
                let context = format!("seed {seed}, step {number}: {step:?}");
                let real = apply_to_real(&kernel, up0, &step).await;
                assert_eq!(apply_to_fake(&fake, &step).await, real, "{context} (left: fake, right: kernel)");
                assert_eq!(
                    tables(&fake, 2).await,
                    tables(&kernel, up0).await,
                    "after {context} (left: fake)"
                );
            }
            for route in fake.all_routes().iter().filter(|route| is_test_route(route)) {
                try_ip(&format!("route del {}", selector(route.key))).unwrap();
            }
        }
    });
}

/// Applies a step; returns the errno, or 0. A failure of `ip` is 1.
async fn apply_to_real(kernel: &NetlinkKernel, up0: u32, step: &Step) -> i32 {
    let ip = |command: &str, text: String| try_ip(&format!("route {command} {text}")).is_err().into();
    match step {
        Step::Ours(change) => errnos(kernel, &[renumbered(change, up0)]).await[0],
        Step::ForeignAdd(route) => ip("add", as_text(route)),
        Step::ForeignReplace(route) => ip("replace", as_text(route)),
        Step::ForeignAppend(route) => ip("append", as_text(route)),
        Step::ForeignRemove(key) => ip("del", selector(*key)),
    }
}

async fn apply_to_fake(fake: &FakeKernel, step: &Step) -> i32 {
    match step {
        Step::Ours(change) => errnos(fake, std::slice::from_ref(change)).await[0],
        Step::ForeignAdd(route) => fake.foreign_add(route.clone()).is_err().into(),
        Step::ForeignReplace(route) => fake.foreign_replace(route.clone()).is_err().into(),
        Step::ForeignAppend(route) => fake.foreign_append(route.clone()).is_err().into(),
        Step::ForeignRemove(key) => fake.foreign_remove(*key).is_err().into(),
    }
}

/// The routes of the steps, with the uplink as link 2.
async fn tables(kernel: &dyn Kernel, up0: u32) -> Vec<Route> {
    let mut routes = kernel.routes(Scope::Table(MAIN)).await.unwrap();
    routes.extend(kernel.routes(Scope::Table(1000)).await.unwrap());
    routes.retain(is_test_route);
    for route in &mut routes {
        route.target = relinked(&route.target, up0, 2);
    }
    routes.sort_by_key(|route| route.key);
    routes
}

fn is_test_route(route: &Route) -> bool {
    [512, 600].contains(&route.key.metric)
}

fn any_step(random: &mut StdRng, fake: &FakeKernel) -> Step {
    let key = RouteKey {
        table: [MAIN, 1000][random.random_range(0..2)],
        destination: ["2001:db8:1::/64", "2001:db8:1::/80", "2001:db8:2::/64"][random.random_range(0..3)]
            .parse()
            .unwrap(),
        metric: [512, 512, 600][random.random_range(0..3)],
    };
    let target = any_target(random);
    let own = OwnRoute { key, target: target.clone() };
    let route = Route { mtu: None, key, protocol: STATIC, target };
    let only_via = |route: &Route| matches!(route.target, RouteTarget::Via(_));
    let appends = only_via(&route) && fake.route(key).is_none_or(|existing| only_via(&existing));
    match random.random_range(0..10) {
        0..3 => Step::Ours(Change::Add(own)),
        3..5 => Step::Ours(Change::Replace(own)),
        5..7 => Step::Ours(Change::Delete(own)),
        7 => Step::ForeignAdd(route),
        8 if appends => Step::ForeignAppend(route),
        8 => Step::ForeignReplace(route),
        _ => Step::ForeignRemove(key),
    }
}

/// Mostly valid targets; the invalid ones: a gateway that is not on-link, an own address, a missing link.
fn any_target(random: &mut StdRng) -> RouteTarget {
    let valid = ["2001:db8::2", "2001:db8::3", "2001:db8::4", "fe80::5"];
    let hop = |gateway: &str, link| NextHop { gateway: Some(gateway.parse().unwrap()), link, onlink: false };
    match random.random_range(0..12) {
        0 => RouteTarget::Via([hop("2001:db8:ffff::1", 2)].into()),
        1 => RouteTarget::Via([hop("2001:db8::1", 2)].into()),
        2 => RouteTarget::Via([hop("2001:db8::2", 99)].into()),
        3 | 4 => RouteTarget::Unreachable,
        _ => {
            let count = random.random_range(1..=3);
            RouteTarget::Via((0..count).map(|_| hop(valid[random.random_range(0..4)], 2)).collect())
        }
    }
}

fn renumbered(change: &Change, up0: u32) -> Change {
    let route = change.route();
    let route = OwnRoute { key: route.key, target: relinked(&route.target, 2, up0) };
    match change {
        Change::Add(_) => Change::Add(route),
        Change::Replace(_) => Change::Replace(route),
        Change::Delete(_) => Change::Delete(route),
    }
}

fn relinked(target: &RouteTarget, from: u32, to: u32) -> RouteTarget {
    match target {
        RouteTarget::Via(hops) => RouteTarget::Via(
            hops.iter()
                .map(|hop| NextHop { link: if hop.link == from { to } else { hop.link }, ..*hop })
                .collect(),
        ),
        other => other.clone(),
    }
}

fn selector(key: RouteKey) -> String {
    format!("{} metric {} table {}", key.destination, key.metric, key.table)
}

/// A route in the syntax of `ip`.
fn as_text(route: &Route) -> String {
    let key = selector(route.key);
    match &route.target {
        RouteTarget::Via(hops) => {
            let word = if hops.len() > 1 { "nexthop" } else { "" };
            let hop = |hop: &NextHop| {
                let link = if hop.link == 2 { "up0" } else { "missing" };
                format!(" {word} via {} dev {link}", hop.gateway.unwrap())
            };
            format!("{key} proto static{}", hops.iter().map(hop).collect::<String>())
        }
        RouteTarget::Unreachable => format!("unreachable {key} proto static"),
        RouteTarget::Other(kind) => panic!("no step has route type {kind}"),
    }
}
