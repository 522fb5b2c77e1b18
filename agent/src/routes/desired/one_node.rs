//! DESIGN I14: what one node announces changes no route outside of its own prefixes.

use std::{net::Ipv6Addr, time::Duration};

use proptest::prelude::*;
use sextant_proto::{NodeState, Peer, PeerClaim, Prefix, Revision};

use crate::{
    kernel::{RouteKey, RouteTarget},
    routes::{
        Infrastructure, Known, desired, findings,
        fixture::{SETTINGS, known, pool, uplink, view},
    },
    settings::{Direct, OffLink, RouteSettings, Topology},
    uplinks::{Gateways, read},
};

/// The host prefix of node `n`.
fn prefix(n: u16) -> Prefix {
    format!("2001:db8:8000:{n:x}::/64").parse().unwrap()
}

fn peer(n: u16, next_hops: Vec<Ipv6Addr>) -> Peer {
    let claim = PeerClaim::current(prefix(n), pool().name, Revision(n.into()), NodeState::Ready);
    Peer {
        name: format!("host{n}").parse().unwrap(),
        claims: vec![claim],
        next_hops,
        session: true,
        drain_timeout: Duration::ZERO,
    }
}

/// Addresses that matter to others, and any.
fn address() -> impl Strategy<Value = Ipv6Addr> {
    let known = [
        "2001:db8::1",        // this host's
        "2001:db8::2",        // another host's
        "2001:db8::c",        // a controller's
        "2001:db8::fe",       // the router's
        "2001:db8::66",       // on the link, unused
        "2001:db8::",         // the link itself
        "2001:db8:8000:2::5", // in another node's prefix
        "2001:db8:8000:9::5", // in its own
        "2001:db8:80ff::1",   // in the pool
        "2001:db8:8000::",    // the pool itself
        "2001:db8:77::1",     // behind the router
        "fe80::1",
        "::",
        "::1",
        "ff02::1",
        "::ffff:192.0.2.1",
    ];
    let known = proptest::sample::select(known.map(|text| text.parse().unwrap()).to_vec());
    prop_oneof![4 => known, 1 => any::<u128>().prop_map(Ipv6Addr::from_bits)]
}

fn settings() -> impl Strategy<Value = RouteSettings> {
    let off_link = prop_oneof![Just(OffLink::Refuse), Just(OffLink::Gateway)];
    let topology = prop_oneof![3 => Just(Topology::Switched), 1 => Just(Topology::Routed)];
    let direct = prop_oneof![3 => Just(Direct::OnLink), 1 => Just(Direct::Never)];
    (off_link, topology, direct, any::<bool>()).prop_map(|(off_link, topology, direct, balance)| {
        RouteSettings { off_link, topology, direct, balance, ..SETTINGS }
    })
}

fn state() -> impl Strategy<Value = NodeState> {
    let all = [NodeState::Joining, NodeState::Ready, NodeState::Draining, NodeState::Drained];
    proptest::sample::select(all.to_vec())
}

/// The routes of a host with these peers, but for those to `prefix`.
fn routes_but(known: &Known<'_>, prefix: Prefix) -> Vec<(RouteKey, RouteTarget)> {
    let routes = desired(known).routes;
    let others = routes.iter().filter(|(key, _)| !prefix.covers(key.destination));
    others.map(|(key, target)| (*key, target.clone())).collect()
}

proptest! {
    #[test]
    fn i14_no_announcement_changes_a_route_outside_of_the_nodes_own_prefix(
        hops in proptest::collection::vec(address(), 0..6),
        state in state(),
        session in any::<bool>(),
        settings in settings(),
    ) {
        let uplinks = [uplink(2, "2001:db8::1")];
        let (lookups, routes) = read(&["::/0 via 2001:db8::fe dev 2"]);
        let gateways = Gateways::of(&lookups, &routes, true);
        let controllers = ["2001:db8::c".parse().unwrap()];
        let infrastructure = Infrastructure::of(&uplinks, &gateways, &controllers);
        let others = || vec![
            peer(2, vec!["2001:db8::2".parse().unwrap()]),
            peer(3, vec!["2001:db8:77::3".parse().unwrap()]),
        ];
        let hostile = Peer { session, ..peer(9, hops) }.in_state(state);
        let with = view(vec![pool()], others().into_iter().chain([hostile]).collect());
        let without = view(vec![pool()], others());
        let known = |view| Known {
            uplinks: &uplinks,
            gateways: &gateways,
            controllers: &controllers,
            infrastructure: &infrastructure,
            settings: &settings,
            ..known(view)
        };
        let (seen, expected) = (known(&with), known(&without));
        prop_assert_eq!(routes_but(&seen, prefix(9)), routes_but(&expected, prefix(9)));
        findings(&seen, &desired(&seen));
    }
}
