use std::{net::Ipv6Addr, time::Duration};

use proptest::prelude::*;
use sextant_proto::{Epoch, Incarnation, Peer, PeerClaim, Pool, Revision};

use super::*;
use crate::{
    cluster::{Verdict, Verdicts, View},
    routes::{
        Infrastructure,
        fixture::{SETTINGS, incarnation, known, pool, uplink, uplink_with, view},
        random_states,
    },
    settings::{Direct, Mark, OffLink, Topology},
    uplinks::{Gateways, LocalUplink},
};

fn peer(n: u16, hop: &str) -> Peer {
    Peer {
        name: format!("host{n}").parse().unwrap(),
        claims: vec![PeerClaim::current(
            format!("2001:db8:8000:{n:x}::/64").parse().unwrap(),
            "main".parse().unwrap(),
            Revision(n.into()),
            NodeState::Ready,
        )],
        next_hops: vec![hop.parse().unwrap()],
        session: true,
        drain_timeout: Duration::ZERO,
    }
}

fn claim() -> Claim {
    let epoch = Epoch { incarnation: incarnation(), revision: Revision(1) };
    Claim { prefix: "2001:db8:8000:1::/64".parse().unwrap(), epoch, pool: pool() }
}

fn uplinks() -> Vec<LocalUplink> {
    vec![uplink(2, "2001:db8::1")]
}

fn text(withdrawn: bool, controllers: &[Ipv6Addr], view: &View) -> Vec<String> {
    text_with(withdrawn, controllers, &Verdicts::default(), view)
}

fn text_with(withdrawn: bool, controllers: &[Ipv6Addr], verdicts: &Verdicts, view: &View) -> Vec<String> {
    let (claims, uplinks) = ([claim()], uplinks());
    lines(&Known { claims: &claims, uplinks: &uplinks, controllers, withdrawn, verdicts, ..known(view) })
}

fn lines(known: &Known<'_>) -> Vec<String> {
    let line = |(key, target): (&RouteKey, &RouteTarget)| match target {
        RouteTarget::Via(hops) => {
            let hop = hops.iter().next().unwrap();
            format!("{} via {} dev {} metric {}", key.destination, hop.gateway.unwrap(), hop.link, key.metric)
        }
        _ => format!("unreachable {}", key.destination),
    };
    desired(known).routes.iter().map(line).collect()
}

const OWN: &str = "unreachable 2001:db8:8000:1::/64";
const AGGREGATE: &str = "unreachable 2001:db8:8000::/40";
const TO_HOST2: &str = "2001:db8:8000:2::/64 via 2001:db8::2 dev 2 metric 512";

#[test]
fn peers_directly_and_the_rest_refused() {
    let view = view(vec![pool()], vec![peer(1, "2001:db8::1"), peer(2, "2001:db8::2")]);
    assert_eq!(text(false, &[], &view), [AGGREGATE, OWN, TO_HOST2]);
}

#[test]
fn before_any_controller_answers_the_own_prefix_and_pool_are_refused() {
    assert_eq!(text(false, &[], &View::default()), [AGGREGATE, OWN]);
}

#[test]
fn only_announced_peers_are_routed() {
    for state in [NodeState::Joining, NodeState::Draining, NodeState::Drained] {
        let view = view(vec![pool()], vec![peer(2, "2001:db8::2").in_state(state)]);
        assert_eq!(text(false, &[], &view), [AGGREGATE, OWN], "{state}");
    }
}

#[test]
fn a_drained_host_routes_to_nobody() {
    let view = view(vec![pool()], vec![peer(2, "2001:db8::2")]);
    assert_eq!(text(true, &[], &view), [AGGREGATE, OWN]);
}

#[test]
fn i14_a_peer_that_is_not_on_link_is_refused_alone() {
    for hops in [&["2001:db8:7::3"][..], &["2001:db8:8000:3::9"], &["2001:db8:8000:2::9"], &["fe80::3"], &[]]
    {
        let hops = hops.iter().map(|hop| hop.parse().unwrap()).collect();
        let other = Peer { next_hops: hops, ..peer(3, "::") };
        let view = view(vec![pool()], vec![peer(2, "2001:db8::2"), other.clone()]);
        assert_eq!(text(false, &[], &view), [AGGREGATE, OWN, TO_HOST2], "{other:?}");
    }
}

/// The routes of a host with this gateway for all others, whose routers know all prefixes by a setting.
fn through_gateway(topology: Topology, peers: Vec<Peer>) -> Vec<String> {
    let (lookups, routes) =
        crate::uplinks::read(&["::/0 via fe80::1 dev 2", "2001:db8:7::/64 via 2001:db8::fe dev 2"]);
    let gateways = Gateways::of(&lookups, &routes, true);
    let settings = RouteSettings { off_link: OffLink::Gateway, topology, ..SETTINGS };
    let view = view(vec![pool()], peers);
    let (claims, uplinks) = ([claim()], uplinks());
    lines(&Known {
        claims: &claims,
        uplinks: &uplinks,
        gateways: &gateways,
        settings: &settings,
        ..known(&view)
    })
}

#[test]
fn where_routers_know_the_prefixes_a_peer_has_a_route_through_the_gateway_that_leads_to_it() {
    let peers = || {
        vec![
            peer(2, "2001:db8::2"),
            peer(3, "2001:db8:7::3"),
            peer(4, "2001:db8:8::4"),
            peer(5, "2001:db8::1"),
        ]
    };
    let expected = [
        AGGREGATE,
        OWN,
        TO_HOST2,
        "2001:db8:8000:3::/64 via 2001:db8::fe dev 2 metric 512",
        "2001:db8:8000:4::/64 via fe80::1 dev 2 metric 512",
    ];
    assert_eq!(
        through_gateway(Topology::Switched, peers()),
        expected,
        "but for one with this host's own address"
    );
    assert_eq!(through_gateway(Topology::Routed, peers()), [OWN, TO_HOST2], "the rest is left to them");
}

#[test]
fn the_first_off_link_nodes_are_named_and_the_others_counted() {
    let uplinks = uplinks();
    let listed = |far: std::ops::Range<u16>| {
        let near = peer(2, "2001:db8::2");
        let far = far.map(|n| peer(n, "2001:db8:f::1"));
        let view = view(vec![pool()], std::iter::once(near).chain(far).collect());
        let known = Known { uplinks: &uplinks, ..known(&view) };
        let found = crate::routes::findings(&known, &desired(&known));
        found.first().map(|found| found.saw.rsplit_once(": ").unwrap().1.to_owned())
    };
    assert_eq!(listed(3..3), None);
    assert_eq!(listed(3..5).as_deref(), Some("host3, host4"));
    assert_eq!(listed(3..9).as_deref(), Some("host3, host4, host5 and 3 more"));
}

#[test]
fn a_peer_whose_next_hop_another_process_leads_elsewhere_is_reported_with_that_route() {
    let routes = ["2001:db8::/64 dev 2", "blackhole 2001:db8::2/128"];
    let own = ["2001:db8::1".parse().unwrap()];
    let on_link = crate::uplinks::on_link_by(2, own, &routes).into();
    let uplinks = [LocalUplink { on_link, ..uplink(2, "2001:db8::1") }];
    let view = view(vec![pool()], vec![peer(2, "2001:db8::2"), peer(3, "2001:db8::3")]);
    let known = Known { uplinks: &uplinks, ..known(&view) };
    let found = crate::routes::findings(&known, &desired(&known));
    let [found] = &found[..] else { panic!("{found:?}") };
    assert!(found.saw.contains("2001:db8::2 of node host2") && found.saw.contains("to 2001:db8::2/128"));
    assert!(found.fix.contains("`ip -6 route show table all to match 2001:db8::2`"), "{found:?}");
}

#[test]
fn no_route_takes_what_the_host_stands_on() {
    let mut wide = peer(3, "2001:db8::3");
    wide.claims[0].prefix = "2001:db8::/64".parse().unwrap();
    let mut part = peer(4, "2001:db8::4");
    part.claims[0].prefix = "2001:db8::c0/122".parse().unwrap();
    let router = "2001:db8::fe".parse().unwrap();
    let view = view(vec![pool()], vec![peer(2, "2001:db8::2"), wide, part]);
    let uplinks = uplinks();
    let infrastructure = Infrastructure::of(&uplinks, &Gateways::default(), &[router]);
    let known = Known { uplinks: &uplinks, infrastructure: &infrastructure, ..known(&view) };
    assert_eq!(lines(&known), [AGGREGATE, TO_HOST2]);
    let found = crate::routes::findings(&known, &desired(&known));
    let [found] = &found[..] else { panic!("{found:?}") };
    assert!(found.saw.contains("host prefix 2001:db8::/64 of node host3 contains 2001:db8::"), "{found:?}");
    let own = [Claim { prefix: "2001:db8::/64".parse().unwrap(), ..claim() }];
    assert_eq!(lines(&Known { claims: &own, ..known }), [AGGREGATE, TO_HOST2], "nor by the own prefix");
}

/// The routes of a host whose kernel has these `routes` of uplink 2.
fn by(routes: &[&str], works: bool, peers: Vec<Peer>) -> Vec<String> {
    let uplinks = [LocalUplink { works, ..uplink_with(2, "2001:db8::1", routes) }];
    let view = view(vec![pool()], peers);
    let routes = desired(&Known { uplinks: &uplinks, ..known(&view) }).routes;
    routes.keys().map(|key| key.destination.to_string()).collect()
}

#[test]
fn a_host_without_neighbours_leaves_everything_to_its_router() {
    let peers = || vec![peer(2, "2001:db8::2")];
    let router = "::/0 via fe80::1 dev 2";
    let (pool, to_peer) = ("2001:db8:8000::/40", "2001:db8:8000:2::/64");
    assert_eq!(by(&[router], true, peers()), [""; 0], "the address's length says nothing");
    assert_eq!(by(&[router], true, vec![]), [""; 0], "whatever peers announce");
    assert_eq!(by(&[router, "2001:db8::/64 dev 2"], true, peers()), [pool, to_peer]);
    assert_eq!(
        by(&[router, "2001:db8::2/128 dev 2"], true, peers()),
        [pool, to_peer],
        "static, and it alone"
    );
    assert_eq!(by(&[router, "fd00::/64 dev 2"], true, vec![]), [pool], "it has neighbours");
    assert_eq!(by(&[], false, vec![]), [pool], "a link that is down says nothing");
}

#[test]
fn a_peer_with_an_address_of_this_host_is_no_routers_and_is_refused() {
    let routes = ["2001:db8::/64 dev 2"];
    assert_eq!(by(&routes, true, vec![peer(2, "2001:db8::1")]), ["2001:db8:8000::/40"]);
}

#[test]
fn a_dead_host_is_refused_until_its_session_is_back() {
    let seen = [("host2", Verdict::Dead), ("host3", Verdict::Forwarding), ("host4", Verdict::Dead)];
    let verdicts = Verdicts::from(seen.map(|(node, seen)| (node.parse().unwrap(), seen)));
    let lost = |n| Peer { session: false, ..peer(n, &format!("2001:db8::{n}")) };
    let peers = vec![lost(2), lost(3), Peer { session: true, ..lost(4) }];
    assert_eq!(
        text_with(false, &[], &verdicts, &view(vec![pool()], peers)),
        [
            AGGREGATE,
            OWN,
            "unreachable 2001:db8:8000:2::/64",
            "2001:db8:8000:3::/64 via 2001:db8::3 dev 2 metric 512",
            "2001:db8:8000:4::/64 via 2001:db8::4 dev 2 metric 512",
        ]
    );
}

#[test]
fn an_aggregate_never_takes_what_hosts_talk_through() {
    let of = |prefix: &str| view(vec![Pool { prefix: prefix.parse().unwrap(), ..pool() }], vec![]);
    for (pool, refused) in [
        ("2001:db8::/40", true),        // The longer route of the link comes first.
        ("2001:db8::/64", true),        // It comes first by its metric.
        ("2001:db8:0:0:8::/80", false), // Other hosts may be in it.
        ("2001:db9::/40", true),
    ] {
        let expected =
            if refused { vec![format!("unreachable {pool}"), OWN.into()] } else { vec![OWN.into()] };
        let mut found = text(false, &[], &of(pool));
        found.sort_by_key(|line| line == OWN);
        assert_eq!(found, expected, "{pool}");
    }
    let far = "2001:db8:8000:ffff::1".parse().unwrap();
    assert_eq!(text(false, &[far], &view(vec![pool()], vec![])), [OWN], "a controller behind a router");
    let near = "2001:db8::c".parse().unwrap();
    assert_eq!(text(false, &[near], &of("2001:db8::/40")).len(), 2, "a controller on the link");
}

#[test]
fn a_peer_that_is_not_on_link_is_refused_where_its_pool_is_not() {
    let controller = "2001:db8:8000:ffff::1".parse().unwrap();
    let view = view(vec![pool()], vec![peer(2, "2001:db8::2"), peer(3, "2001:db8:7::3")]);
    assert_eq!(text(false, &[controller], &view), [OWN, TO_HOST2, "unreachable 2001:db8:8000:3::/64"]);
}

#[test]
fn a_host_without_uplinks_continues_to_refuse() {
    let view = view(vec![pool()], vec![peer(2, "2001:db8::2")]);
    let routes = desired(&Known { claims: &[claim()], ..known(&view) }).routes;
    assert_eq!(routes.len(), 2, "own prefix and pool: {routes:?}");
}

/// The links of the next hops of host2, which is on two uplinks.
fn used(balance: bool, works: [bool; 2]) -> Vec<u32> {
    let uplink = |(n, works)| LocalUplink { works, ..uplink(n, &format!("2001:db8:0:{n}::1")) };
    let uplinks: Vec<_> = [2, 3].into_iter().zip(works).map(uplink).collect();
    let next_hops = ["2001:db8:0:3::2", "2001:db8:0:2::2"].map(|hop| hop.parse().unwrap()).to_vec();
    let view = view(vec![], vec![Peer { next_hops, ..peer(2, "2001:db8::2") }]);
    let settings = RouteSettings { balance, ..SETTINGS };
    let known = Known { uplinks: &uplinks, settings: &settings, ..known(&view) };
    match desired(&known).routes.iter().next() {
        Some((_, RouteTarget::Via(hops))) => hops.iter().map(|hop| hop.link).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_uplink_that_works_is_used_or_all_that_do() {
    for (works, first, all) in [
        ([true, true], vec![2], vec![3, 2]),
        ([false, true], vec![3], vec![3]),
        ([true, false], vec![2], vec![2]),
        ([false, false], vec![2], vec![3, 2]),
    ] {
        assert_eq!(used(false, works), first, "{works:?}");
        let (mut balanced, mut all) = (used(true, works), all);
        balanced.sort_unstable();
        all.sort_unstable();
        assert_eq!(balanced, all, "{works:?}");
    }
}

#[test]
fn behind_a_router_the_rest_of_the_pool_is_left_to_it() {
    let view = view(vec![pool()], vec![peer(2, "2001:db8::2")]);
    let of = |settings: RouteSettings| {
        let (claims, uplinks) = ([claim()], uplinks());
        let known = Known { claims: &claims, uplinks: &uplinks, settings: &settings, ..known(&view) };
        let routes = desired(&known).routes;
        routes.keys().map(|key| key.destination.to_string()).collect::<Vec<_>>()
    };
    let routed = RouteSettings { topology: Topology::Routed, ..SETTINGS };
    assert_eq!(of(routed), ["2001:db8:8000:1::/64", "2001:db8:8000:2::/64"]);
    let indirect = RouteSettings { direct: Direct::Never, ..SETTINGS };
    assert_eq!(of(indirect), ["2001:db8:8000:1::/64"], "a private VLAN: peers are the router's too");
}

#[test]
fn the_own_prefix_is_marked_while_it_is_announced() {
    let settings = RouteSettings { mark: Some(Mark { table: 66, metric: 7 }), ..SETTINGS };
    let marked = |own: Peer, withdrawn: bool| {
        let (claims, uplinks, view) = ([claim()], uplinks(), view(vec![pool()], vec![own]));
        let settings = &settings;
        let known = Known { claims: &claims, uplinks: &uplinks, withdrawn, settings, ..known(&view) };
        let key = RouteKey { table: 66, destination: claims[0].prefix, metric: 7 };
        desired(&known).routes.contains_key(&key)
    };
    let own = peer(1, "2001:db8::1");
    assert!(marked(own.clone(), false));
    assert!(!marked(own.clone(), true));
    assert!(
        !marked(own.clone().with_each_claim(|claim| claim.claimed = Revision(9)), false),
        "it is another's by now"
    );
    for state in [NodeState::Joining, NodeState::Draining, NodeState::Drained] {
        assert!(!marked(own.clone().in_state(state), false), "{state}");
    }
}

#[test]
fn each_own_prefix_is_marked_for_itself() {
    let settings = RouteSettings { mark: Some(Mark { table: 66, metric: 7 }), ..SETTINGS };
    let other: PeerClaim = PeerClaim::current(
        "fd00:0:0:1::/64".parse().unwrap(),
        "ula".parse().unwrap(),
        Revision(1),
        NodeState::Joining,
    );
    let claims = [
        claim(),
        Claim { prefix: other.prefix, pool: Pool { name: other.pool.clone(), ..pool() }, ..claim() },
    ];
    let marked = |state| {
        let mut own = peer(1, "2001:db8::1");
        own.claims.push(PeerClaim { state, ..other.clone() });
        let (uplinks, view) = (uplinks(), view(vec![pool()], vec![own]));
        let known = Known { claims: &claims, uplinks: &uplinks, settings: &settings, ..known(&view) };
        let routes = desired(&known).routes;
        let marks = routes.keys().filter(|key| key.table == 66);
        marks.map(|key| key.destination.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(marked(NodeState::Joining), ["2001:db8:8000:1::/64"]);
    assert_eq!(marked(NodeState::Ready), ["2001:db8:8000:1::/64", "fd00:0:0:1::/64"]);
}

#[test]
fn the_view_of_an_earlier_store_counts_until_the_snapshot_of_the_new_one() {
    let (node, held) = ("host1".parse().unwrap(), claim());
    let view = view(vec![pool()], vec![peer(1, "2001:db8::1")]);
    let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(7) };
    let registered = Claim { epoch, ..held.clone() };
    let is_announced = |claim: &Claim| own_state(&node, claim, &view) == Some(NodeState::Ready);
    assert!(is_announced(&held) && is_announced(&registered));
    let elsewhere = Claim { prefix: "2001:db8:8000:9::/64".parse().unwrap(), ..registered };
    assert!(!is_announced(&elsewhere), "what it holds now was never announced");
    let anew = Epoch { revision: Revision(7), ..held.epoch };
    assert!(!is_announced(&Claim { epoch: anew, ..held }), "an earlier claim of this store");
}

#[test]
fn a_removed_pool_is_no_longer_refused() {
    assert_eq!(text(false, &[], &view(vec![], vec![])), [OWN]);
}

proptest! {
    /// The whole is the sum of its destinations, so that a change of one peer asks for its own alone.
    #[test]
    fn the_desired_routes_are_those_of_all_destinations(
        state in random_states::state(), uplinks in random_states::uplinks(), settings in random_states::settings(),
    ) {
        let known = state.known(&uplinks, &settings);
        let (context, subjects) = (Context::of(&known), Subjects::of(&known));
        let one_by_one: RouteMap =
            subjects.destinations().flat_map(|it| desired_at(&known, &context, &subjects, it)).collect();
        prop_assert_eq!(desired(&known).routes, one_by_one);
        prop_assert!(desired_at(&known, &context, &subjects, "2001:db8:beef::/48".parse().unwrap()).is_empty());
    }
}

#[test]
fn a_node_is_routed_by_each_claim_that_is_ready() {
    let mut two = peer(2, "2001:db8::2");
    let ula = |n: u8, state| {
        let prefix = format!("fd00:0:0:{n}::/64").parse().unwrap();
        PeerClaim::current(prefix, "ula".parse().unwrap(), Revision(1), state)
    };
    two.claims.push(ula(2, NodeState::Ready));
    two.claims.push(PeerClaim { pool: "third".parse().unwrap(), ..ula(3, NodeState::Joining) });
    let (uplinks, view) = (uplinks(), view(vec![], vec![two]));
    let known = Known { uplinks: &uplinks, ..known(&view) };
    let desired = desired(&known);
    let destinations: Vec<_> = desired.routes.iter().map(|(key, _)| key.destination.to_string()).collect();
    assert_eq!(destinations, ["2001:db8:8000:2::/64", "fd00:0:0:2::/64"]);
}
