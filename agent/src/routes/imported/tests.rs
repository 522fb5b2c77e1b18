use std::sync::Arc;

use sextant_proto::{Claim, Epoch, Revision};

use super::*;
use crate::{
    routes::{
        Imports, ReceivedPath,
        fixture::{SETTINGS, incarnation, known, pool, uplink, view},
    },
    settings::{RouteSettings, Topology},
};

fn hop(global: Option<&str>, link_local: Option<&str>, interface: Option<&str>) -> Hop {
    Hop {
        global: global.map(|it| it.parse().unwrap()),
        link_local: link_local.map(|it| it.parse().unwrap()),
        router: "2001:db8::fe:1".parse().unwrap(),
        interface: interface.map(Arc::from),
    }
}

fn imports(routes: &[(&str, Hop)]) -> Imports {
    let path = |hop: &Hop| {
        let (origin, external, med) = (0, true, 0);
        let (local_pref, as_path_len, neighbour_as) = (100, 1, 65000);
        Arc::new(ReceivedPath {
            hop: hop.clone(),
            local_pref,
            as_path_len,
            origin,
            external,
            neighbour_as,
            med,
        })
    };
    let routes = routes.iter().map(|(prefix, hop)| (prefix.parse().unwrap(), path(hop))).collect();
    Imports { routes, metric: 768, complete: true }
}

/// What comes of `routes`, each as "prefix via gateway link", and how many have no usable next hop.
fn imported(topology: Topology, routes: &[(&str, Hop)]) -> (Vec<String>, usize) {
    let epoch = Epoch { incarnation: incarnation(), revision: Revision(1) };
    let claim = Claim { prefix: "2001:db8:8000:1::/64".parse().unwrap(), epoch, pool: pool() };
    let view = view(vec![pool()], vec![]);
    let known = Known {
        claims: &[claim],
        imports: &imports(routes),
        uplinks: &[uplink(2, "2001:db8::1"), uplink(3, "2001:db8:0:3::1")],
        settings: &RouteSettings { topology, ..SETTINGS },
        ..known(&view)
    };
    let desired = crate::routes::desired(&known);
    let line = |(key, target): (&RouteKey, &RouteTarget)| match target {
        RouteTarget::Via(hops) => {
            let hop = hops.as_slice()[0];
            assert_eq!((key.metric, key.table), (768, 254));
            format!("{} via {} {}", key.destination, hop.gateway.unwrap(), hop.link)
        }
        other => panic!("{other:?}"),
    };
    let imported = desired.routes.iter().filter(|(key, _)| key.metric == 768);
    (imported.map(line).collect(), desired.unresolved)
}

#[test]
fn next_hops_are_global_on_an_uplink_or_on_the_sessions_link() {
    for (hop, expected) in [
        (hop(Some("2001:db8::fe:1"), None, None), Some("2001:db8::fe:1 2")),
        (hop(Some("2001:db8::fe:1"), Some("fe80::1"), None), Some("2001:db8::fe:1 2")),
        (hop(Some("2001:db8:0:3::9"), None, None), Some("2001:db8:0:3::9 3")),
        (hop(None, Some("fe80::1"), None), Some("fe80::1 2")),
        (hop(None, Some("fe80::1"), Some("eth3")), Some("fe80::1 3")),
        (hop(Some("2001:db8:7::1"), Some("fe80::1"), Some("eth3")), Some("fe80::1 3")),
        (hop(None, Some("fe80::1"), Some("eth9")), None),
        (hop(Some("2001:db8:7::1"), None, None), None),
        (hop(Some("2001:db8::1"), None, None), None),
    ] {
        let expected = expected.map(|hop| format!("::/0 via {hop}"));
        let unresolved = usize::from(expected.is_none());
        let found = imported(Topology::Switched, &[("::/0", hop.clone())]);
        assert_eq!(found, (expected.into_iter().collect(), unresolved), "{hop:?}");
    }
}

#[test]
fn nothing_takes_traffic_for_the_host_its_peers_or_its_link_away() {
    let all = [
        "::/0",
        "2001:db8::/32",
        "2001:db8:8000::/40",
        "2001:db8:8000::/48",
        "2001:db8:8000:1::/64",
        "2001:db8:8000:1:8000::/80",
        "2001:db8:8000:2::/64",
        "2001:db8:8000:2:8000::/80",
        "2001:db8::/64",
        "2001:db8::2/128",
        "2001:db8:9000::/48",
    ];
    let routes = all.map(|it| (it, hop(Some("2001:db8::fe:1"), None, None)));
    let of = |topology| {
        let taken = imported(topology, &routes).0;
        taken.into_iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(of(Topology::Switched), ["::/0", "2001:db8::/32", "2001:db8:9000::/48"]);
    assert_eq!(
        of(Topology::Routed),
        [
            "::/0",
            "2001:db8::/32",
            "2001:db8:8000::/40",
            "2001:db8:8000::/48",
            "2001:db8:8000:2::/64",
            "2001:db8:9000::/48"
        ]
    );
}

#[test]
fn a_route_that_a_router_may_announce_stays_until_that_is_known() {
    let view = view(vec![pool()], vec![]);
    let key = |prefix: &str, metric, table| RouteKey { destination: prefix.parse().unwrap(), metric, table };
    let all = imports(&[]);
    let known = Known { imports: &all, ..known(&view) };
    let incomplete = Imports { complete: false, ..imports(&[]) };
    let mut desired = Desired::default();
    let there = RouteTarget::Via(NextHop { gateway: None, link: 1, onlink: false }.into());
    desired.routes.change(vec![(key("2001:db8:f000::/36", 768, 254), Some(there))]);
    for (name, key, may) in [
        ("an import", key("2001:db8:f100::/40", 768, 254), false),
        ("one of an earlier metric", key("2001:db8:f100::/40", 700, 254), false),
        ("one of an earlier metric and table", key("::/0", 700, 100), false),
        ("one of an earlier metric that is replaced", key("2001:db8:f000::/36", 700, 254), true),
        ("one of an earlier table that is replaced", key("2001:db8:f000::/36", 768, 100), true),
        ("a peer's", key("2001:db8:8000:1::/64", 512, 254), true),
        ("a peer's of an earlier metric", key("2001:db8:8000:1::/64", 400, 254), true),
        ("a peer's of a pool that is gone", key("2001:db8:9000:1::/64", 512, 254), true),
        ("the pool's", key("2001:db8:8000::/40", 4_000_000_000, 254), true),
    ] {
        assert_eq!(is_none(&key, &Known { imports: &incomplete, ..known }, &desired), may, "{name}");
        assert!(is_none(&key, &known, &desired), "{name}: all is known");
    }
}
