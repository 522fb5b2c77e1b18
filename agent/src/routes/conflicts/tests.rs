use proptest::prelude::*;
use sextant_proto::{Epoch, Incarnation, Revision};

use super::*;
use crate::{
    kernel::{MAIN_TABLE, Rule, RuleAction},
    routes::{
        RouteMap,
        fixture::{pool, uplink},
        networks,
    },
    uplinks::{looked_up_before, route},
};

/// The pool, this host's own prefix, that of a peer and that of a dead one.
const OURS: [&str; 4] = [
    "unreachable 2001:db8:8000::/40 metric 4000000000",
    "unreachable 2001:db8:8000::/64 metric 4000000000",
    "2001:db8:8001::/64 via 2001:db8::2 dev 2 metric 512",
    "unreachable 2001:db8:8002::/64 metric 512",
];

fn rule(priority: u32, table: u32) -> Rule {
    Rule { priority, action: RuleAction::Table(table), ..Rule::default() }
}

fn ours(table: u32) -> Desired {
    let of_table = |text: &&str| {
        let route = route(text);
        (RouteKey { table, ..route.key }, route.target)
    };
    Desired { routes: OURS.iter().map(of_table).collect(), ..Desired::default() }
}

fn own() -> Vec<Claim> {
    let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(1) };
    vec![Claim { prefix: "2001:db8:8000::/64".parse().unwrap(), epoch, pool: pool() }]
}

/// The conflicts that these routes of others make, with ours in `table`.
fn conflicts(rules: &[Rule], table: u32, others: &[&str]) -> Vec<String> {
    let mut actual = Actual::default();
    others.iter().for_each(|other| actual.saw(&route(other)));
    let (desired, before, claims) = (ours(table), looked_up_before(rules, table), own());
    let inside = BTreeSet::from([7]);
    let networks = networks(&actual.foreign, &claims, &inside);
    let ground = Ground {
        inside: &inside,
        networks: &networks,
        desired: &desired,
        table,
        before: &before,
        pools: &[pool().prefix],
        claims: &claims,
        imports: &Imports::default(),
        uplinks: &[uplink(2, "2001:db8::1")],
    };
    let text = |it: &Capture<'_>| {
        let wins = if it.ours_wins { "ours" } else { "theirs" };
        format!("{} {wins} {}", it.key.destination, it.ours)
    };
    ground.captures(&actual).iter().map(text).collect()
}

fn in_main(others: &[&str]) -> Vec<String> {
    conflicts(&[rule(32766, MAIN_TABLE)], MAIN_TABLE, others)
}

#[test]
fn a_route_inside_of_a_peers_prefix_takes_its_packets() {
    for other in [
        "2001:db8:8001:0:5::/80 dev 7 proto 2 metric 256",
        "2001:db8:8001:0:5::/80 via fe80::9 dev 2 proto 4",
        "2001:db8:8001:0:5::/80 via fe80::9 dev 2 proto 9",
        "2001:db8:8001:0:5::/80 dev 2 proto 12 metric 5000",
        "blackhole 2001:db8:8001:0:5::/80 proto 4",
        "unreachable 2001:db8:8001:0:5::/80 proto 3",
        "2001:db8:8001:0:5::/80 dev 1 proto 2",
    ] {
        assert_eq!(in_main(&[other]), ["2001:db8:8001:0:5::/80 theirs 2001:db8:8001::/64"], "{other}");
    }
    let dead = in_main(&["2001:db8:8002::7/128 via fe80::9 dev 2"]);
    assert_eq!(dead, ["2001:db8:8002::7/128 theirs 2001:db8:8002::/64"]);
}

#[test]
fn a_route_that_is_right_or_leads_the_same_way_is_none() {
    for other in [
        "2001:db8:8001:0:5::/80 via 2001:db8::2 dev 2 proto 4",
        "prohibit 2001:db8:8002:0:5::/80 proto 4",
        "unreachable 2001:db8:8005::/64 proto 4",
        // The own prefix, its bridge and those of engines.
        "2001:db8:8000::/64 dev 7 proto 2 metric 256",
        "2001:db8:8000::/80 dev 7 proto 2 metric 256",
        "2001:db8:8000::5/128 dev 9 proto 3",
        // The host's links and addresses in the pool.
        "2001:db8:8005::/64 dev 2 proto 2 metric 256",
        "2001:db8:8005::5/128 dev 1 proto 2 metric 256",
        "local 2001:db8:8005::5/128 proto 2 metric 0 table 255",
        // Around ours, and elsewhere.
        "2001:db8::/32 via fe80::9 dev 2",
        "::/0 via fe80::9 dev 2",
        "2001:db9::/64 dev 7 proto 2 metric 256",
        // No rule leads there.
        "2001:db8:8001:0:5::/80 dev 7 table 77",
    ] {
        assert_eq!(in_main(&[other]), [""; 0], "{other}");
    }
}

#[test]
fn a_route_inside_of_the_pool_takes_what_is_refused() {
    for other in [
        "2001:db8:8005::/64 dev 7 proto 2 metric 256",
        "2001:db8:8005::/64 via fe80::9 dev 2 proto 4",
        "blackhole 2001:db8:8005::/64 proto 4",
    ] {
        assert_eq!(in_main(&[other]), ["2001:db8:8005::/64 theirs 2001:db8:8000::/40"], "{other}");
    }
}

#[test]
fn for_one_destination_the_metric_decides() {
    let (better, worse) = ("2001:db8:8001::/64 dev 7 metric 256", "2001:db8:8001::/64 dev 7 metric 1024");
    assert_eq!(in_main(&[better]), ["2001:db8:8001::/64 theirs 2001:db8:8001::/64"]);
    assert_eq!(in_main(&[worse]), ["2001:db8:8001::/64 ours 2001:db8:8001::/64"]);
}

#[test]
fn an_address_is_one_conflict() {
    let local = "local 2001:db8:8001::5/128 proto 2 metric 0 table 255";
    let all = [
        "2001:db8:8001::/80 dev 7 proto 2 metric 256",
        local,
        "anycast 2001:db8:8001::/128 proto 2 metric 0 table 255",
    ];
    assert_eq!(in_main(&all), ["2001:db8:8001::/80 theirs 2001:db8:8001::/64"]);
    // Without a route for its link (noprefixroute).
    assert_eq!(in_main(&[local]), ["2001:db8:8001::5/128 theirs 2001:db8:8001::/64"]);
}

#[test]
fn a_table_that_the_kernel_looks_into_first_takes_all() {
    let suppressed = Rule { suppress_prefix_len: Some(0), ..rule(999, MAIN_TABLE) };
    let first = [suppressed, rule(1000, 100), rule(32766, MAIN_TABLE)];
    for (others, expected) in [
        ("::/0 via fe80::9 dev 2", None),
        ("2001:db8::/32 via fe80::9 dev 2", Some("2001:db8::/32 theirs 2001:db8:8000::/40")),
        ("2001:db8:8001::/64 dev 7 metric 1024", Some("2001:db8:8001::/64 theirs 2001:db8:8001::/64")),
        ("2001:db8:8001::/80 dev 7 metric 1024", Some("2001:db8:8001::/80 theirs 2001:db8:8001::/64")),
    ] {
        assert_eq!(conflicts(&first, 100, &[others]), Vec::from_iter(expected), "{others}");
    }
    // Ours is looked up first, by no rule, or only for some sources.
    let behind = [rule(1000, 100), rule(32766, MAIN_TABLE)];
    let some = Rule { from: Some(Prefix::EVERYWHERE), ..rule(5, 100) };
    for rules in [&behind[..], &behind[1..], &[some, rule(32766, MAIN_TABLE)]] {
        assert_eq!(conflicts(rules, 100, &["2001:db8:8001::/80 dev 7"]), [""; 0]);
    }
}

#[test]
fn a_throw_route_of_an_earlier_table_leaves_packets_to_ours() {
    let rules = [rule(1000, 100), rule(32766, MAIN_TABLE)];
    let all = |others: &[&str]| conflicts(&rules, MAIN_TABLE, others);
    let (around, thrown) =
        ("2001:db8::/32 via fe80::9 dev 2 table 100", "throw 2001:db8:8000::/36 table 100");
    assert_eq!(all(&[around]).len(), 1);
    assert_eq!(all(&[around, thrown]), [""; 0]);
    assert_eq!(all(&[around, "throw 2001:db8:8001::/64 table 100"]).len(), 1, "the rest is taken");
    let inside = "2001:db8:8001::/80 via fe80::9 dev 2 table 100";
    assert_eq!(all(&[thrown, inside]), ["2001:db8:8001::/80 theirs 2001:db8:8001::/64"], "a longer one");
    assert_eq!(all(&["throw 2001:db8:8001::/64 metric 1"]).len(), 1, "of our own table");
}

/// The address space is that of eight bits, so that all of it can be looked up.
fn any_prefix() -> impl Strategy<Value = Prefix> {
    (any::<u8>(), 9u8..=16).prop_map(|(bits, len)| Prefix::containing(address(bits), len).unwrap())
}

fn address(bits: u8) -> std::net::Ipv6Addr {
    std::net::Ipv6Addr::from_bits(0x20 << 120 | u128::from(bits) << 112)
}

fn any_target() -> impl Strategy<Value = RouteTarget> {
    (0usize..4).prop_map(|kind| {
        let via =
            |link| RouteTarget::Via(crate::kernel::NextHop { gateway: None, link, onlink: false }.into());
        [via(7), via(8), RouteTarget::Unreachable, RouteTarget::BLACKHOLE][kind].clone()
    })
}

fn any_route(table: impl Strategy<Value = u32>) -> impl Strategy<Value = Entry> {
    (table, any_prefix(), 1u32..3, any_target())
        .prop_map(|(table, destination, metric, target)| (RouteKey { table, destination, metric }, target))
}

/// The route that the kernel takes, of the tables 1 and 2 in this order.
fn taken<'a>(routes: &[&'a Entry], to: std::net::Ipv6Addr) -> Option<&'a Entry> {
    let of = |table| {
        let to = routes.iter().filter(move |(key, _)| key.table == table && key.destination.contains(to));
        to.max_by_key(|(key, _)| (key.destination.len(), std::cmp::Reverse(key.metric)))
    };
    of(1).or_else(|| of(2)).copied()
}

proptest! {
    /// What the kernel does with each address is what counts.
    #[test]
    fn a_route_captures_ours_if_any_address_fares_otherwise(
        routes in proptest::collection::vec(any_route(Just(2)), 0..6), other in any_route(1u32..3),
    ) {
        let desired = Desired { routes: RouteMap::from(routes), ..Desired::default() };
        prop_assume!(!desired.routes.contains_key(&other.0));
        let before = looked_up_before(&[rule(1, 1), rule(2, 2)], 2);
        let ground = Ground {
            inside: &BTreeSet::new(),
            networks: &[],
            desired: &desired, table: 2, before: &before, pools: &[], claims: &[], imports: &Imports::default(), uplinks: &[],
        };
        let mut actual = Actual::default();
        let foreign = Route { mtu: None, key: other.0, protocol: RouteProtocol(4), target: other.1.clone() };
        actual.saw(&foreign);
        let captures = ground.captures(&actual);
        prop_assert_eq!(ground.is_capturing(&foreign), !captures.is_empty());
        let reported = captures.iter().any(|it| !it.ours_wins);

        let (alone, both) = (Vec::from_iter(desired.routes.as_slice()), Vec::from_iter(desired.routes.as_slice().iter().chain([&other])));
        let all = || (0..=u8::MAX).map(address);
        let lost = |to: &std::net::Ipv6Addr| {
            let (before, now) = (taken(&alone, *to), taken(&both, *to));
            let loses = now == Some(&other) && before.is_some_and(|(_, target)| !leads_alike(target, &other.1));
            loses.then_some(before)
        };
        let losers: BTreeSet<_> = all().filter_map(|to| lost(&to)).flatten().map(|(key, _)| key.destination).collect();
        if !losers.is_empty() {
            prop_assert!(reported, "{losers:?}");
        }
        // Those inside of it may leave it nothing, or what fares the same; then it is reported all the same.
        let around = other.0.table == 1 && desired.routes.inside(&RouteKey { table: 2, ..other.0 }).next().is_some();
        let covered = desired.routes.inside(&RouteKey { table: 2, ..other.0 }).next().is_some();
        if reported && !around && !covered {
            prop_assert_eq!(losers, BTreeSet::from([captures[0].ours]));
        }
    }

    #[test]
    fn the_longest_route_around_a_destination_is_found(
        routes in proptest::collection::vec(any_route(1u32..3), 0..12), table in 1u32..3, destination in any_prefix(),
    ) {
        let routes = RouteMap::from(routes);
        let key = RouteKey { table, destination, metric: 7 };
        let around = |(it, _): &&Entry| {
            it.table == table && it.destination != destination && it.destination.covers(destination)
        };
        let longest = |(it, _): &&Entry| (it.destination.len(), std::cmp::Reverse(it.metric));
        prop_assert_eq!(routes.around(&key), routes.as_slice().iter().filter(around).max_by_key(longest));
    }
}

/// Link 7 is the containers' bridge.
#[test]
fn a_route_inside_of_a_network_of_containers_takes_their_packets() {
    let network = "2001:db8:8000::/80 dev 7 proto 2 metric 256";
    for other in [
        "blackhole 2001:db8:8000::5:0/112 proto 4",
        "unreachable 2001:db8:8000::5/128 proto 4",
        "prohibit 2001:db8:8000::5:0/112 proto 4",
        "throw 2001:db8:8000::5:0/112 proto 4",
        "2001:db8:8000::5:0/112 dev 9 proto 3",
        "2001:db8:8000::5:0/112 via fe80::9 dev 2 proto 9",
        "2001:db8:8000::5/128 via fe80::9 dev 9 proto 3",
        "2001:db8:8000::5/128 dev 2 proto 3",
        "2001:db8:8000::/80 dev 9 proto 3 metric 100",
        "blackhole 2001:db8:8000::/80 proto 3 metric 100",
    ] {
        let found = in_main(&[network, other]);
        assert!(found.len() == 1 && found[0].ends_with(" theirs 2001:db8:8000::/80"), "{other}: {found:?}");
    }
    let back = in_main(&["2001:db8:8000:0:1::/80 via fe80::9 dev 2 proto 9"]);
    assert_eq!(back, ["2001:db8:8000:0:1::/80 theirs 2001:db8:8000::/64"]);
    let beside = in_main(&[network, "blackhole 2001:db8:8000::/80 proto 3"]);
    assert_eq!(beside, ["2001:db8:8000::/80 ours 2001:db8:8000::/80"]);
    for right in [
        // Another engine's network, with an address of its link; a container's own link; a route by a container.
        "2001:db8:8000::5:0/112 dev 9 proto 2 metric 256",
        "2001:db8:8000::5/128 dev 9 proto 3",
        "2001:db8:8000::5:0/112 dev 7 proto 3",
        "2001:db8:8000::5:0/112 via 2001:db8:8000::9 dev 7 proto 4",
        "local 2001:db8:8000::1/128 proto 2 metric 0 table 255",
        "anycast 2001:db8:8000::/128 proto 2 metric 0 table 255",
        // Around it, and beside it.
        "::/0 via fe80::9 dev 2",
        "2001:db8:8000:0:1::/80 dev 9 proto 3",
    ] {
        assert_eq!(in_main(&[network, right]), [""; 0], "{right}");
    }
}
