use sextant_proto::Revision;

use super::*;
use crate::{
    engine::Pending,
    kernel::{Change, MAIN_TABLE, NextHop, OwnRoute, RouteKey, RuleAction},
};

const ETH0: u32 = 2;

fn link() -> Link {
    let (name, mac) = ("eth0".to_owned(), Vec::new());
    Link { index: ETH0, name, up: true, carrier: true, mac, ..Link::default() }
}

fn via(gateway: &str) -> RouteTarget {
    RouteTarget::Via(
        [NextHop { gateway: gateway.parse().ok(), link: ETH0, onlink: false }].into_iter().collect(),
    )
}

fn route(destination: &str, metric: u32, protocol: u8, target: RouteTarget) -> Route {
    let key = RouteKey { table: MAIN_TABLE, destination: destination.parse().unwrap(), metric };
    Route { key, protocol: RouteProtocol(protocol), target, mtu: None }
}

fn ours() -> Route {
    route("2001:db8:8000:2::/64", 512, 66, via("2001:db8::2"))
}

fn refusal() -> Result<Route, Errno> {
    Err(Errno { code: nix::libc::EHOSTUNREACH, detail: String::new() })
}

fn decides(route: Route) -> Option<Decides> {
    let rule = Rule { priority: 32766, action: RuleAction::Table(route.key.table), ..Rule::default() };
    Some(Decides { rule, route: Some(route) })
}

fn pending(waits: Option<&str>) -> Vec<Pending> {
    let Route { key, target, .. } = ours();
    let change = Change::Add(OwnRoute { key, target });
    vec![Pending { change, route: String::new(), why: String::new(), waits: waits.map(str::to_owned) }]
}

/// The checks of a healthy path with a change.
fn checks_with(change: impl FnOnce(&mut Observed<'_>)) -> Vec<Check> {
    let (here, peer) = ("h1".parse().unwrap(), "h2".parse().unwrap());
    let addr = "2001:db8::2".parse().unwrap();
    let (state, mac) = (NeighbourState::Reachable, Some([2, 0, 0, 0, 0, 2]));
    let mut seen = Observed {
        here: &here,
        peer: &peer,
        towards: Towards {
            state: Some(PeerState::Direct),
            prefixes: vec!["2001:db8:8000:2::/64".parse().unwrap()],
            wanted: Some(via("2001:db8::2")),
            pending: vec![],
            paused: false,
            revision: Revision(7),
        },
        found: Ok(ours()),
        decides: decides(ours()),
        table: MAIN_TABLE,
        links: vec![link()],
        hops: vec![Hop {
            addr,
            link: Some(link()),
            neighbour: Some(Neighbour { link: ETH0, addr, state, mac }),
        }],
        answered: true,
    };
    change(&mut seen);
    checks(&seen)
}

/// The first broken check, with its fix.
fn broken(change: impl FnOnce(&mut Observed<'_>)) -> (&'static str, String, String) {
    let checks = checks_with(change);
    let first = checks.iter().find(|check| check.state == State::Broken).expect("something broken");
    (first.what, first.saw.clone(), first.fix.clone())
}

#[test]
fn a_healthy_path_is_shown_in_the_format_of_ip() {
    let checks = checks_with(|_| {});
    assert!(checks.iter().all(|check| check.state == State::Good && check.fix.is_empty()), "{checks:#?}");
    let saw: Vec<_> = checks.iter().map(|check| check.saw.as_str()).collect();
    assert_eq!(
        saw,
        [
            "h2 is ready, and on-link",
            "2001:db8:8000:2::/64 via 2001:db8::2 dev eth0 proto sextant metric 512",
            "2001:db8::2 dev eth0 lladdr 02:00:00:00:00:02 REACHABLE",
        ]
    );
}

#[test]
fn the_state_of_the_peer_comes_first() {
    for (state, fix) in [
        (
            Some(PeerState::Dead),
            "start host h2, or look at its uplink; if it is gone for good: sextant node forget h2",
        ),
        (
            Some(PeerState::NotReady(NodeState::Joining)),
            "sextant node show h2, and sextant-agent's log there",
        ),
        (Some(PeerState::NotReady(NodeState::Drained)), "sextant node undrain h2"),
        (Some(PeerState::Withdrawn), "sextant node undrain h1"),
        (None, "sextant wait --timeout 30s; then trace again"),
    ] {
        let found = broken(|seen| (seen.towards.state, seen.found) = (state, refusal()));
        assert_eq!((found.0, found.2.as_str()), ("peer", fix), "{found:?}");
    }
}

#[test]
fn a_foreign_route_is_reported_with_the_command_that_deletes_it() {
    let theirs = route("2001:db8:8000:2::/64", 100, 4, via("2001:db8::99"));
    let (what, saw, fix) = broken(|seen| seen.found = Ok(theirs));
    assert_eq!(what, "route");
    assert_eq!(
        saw,
        "a route of proto static is preferred to ours: 2001:db8:8000:2::/64 via 2001:db8::99 dev eth0 proto static metric 100"
    );
    assert_eq!(fix, "on h1: ip -6 route del 2001:db8:8000:2::/64 proto static metric 100");
    let refuses = route("2001:db8:8000:2::1/128", 1024, 3, RouteTarget::Unreachable);
    let (_, saw, fix) = broken(|seen| (seen.found, seen.decides) = (refusal(), decides(refuses)));
    assert!(
        saw.starts_with("a route of proto boot refuses packets: unreachable 2001:db8:8000:2::1/128"),
        "{saw}"
    );
    assert_eq!(fix, "on h1: ip -6 route del 2001:db8:8000:2::1/128 proto boot metric 1024");
    let local = route("2001:db8:8000:2::1/128", 0, 2, RouteTarget::Other(2));
    assert!(broken(|seen| seen.found = Ok(local)).1.contains("local 2001:db8:8000:2::1/128"));
    // A foreign route with the same next hop does no harm.
    let same = route("2001:db8:8000:2::/64", 100, 4, via("2001:db8::2"));
    assert!(checks_with(|seen| seen.found = Ok(same)).iter().all(|check| check.state == State::Good));
}

#[test]
fn a_rule_with_another_table_is_reported() {
    let mut elsewhere = route("::/0", 1024, 4, RouteTarget::Unreachable);
    elsewhere.key.table = 77;
    let rule = Rule { priority: 100, action: RuleAction::Table(77), ..Rule::default() };
    let by_it = |route: Option<Route>| Some(Decides { rule: rule.clone(), route });
    let found = broken(|seen| (seen.found, seen.decides) = (refusal(), by_it(Some(elsewhere.clone()))));
    assert_eq!(
        found.1,
        "ip -6 rule 100 (from all lookup 77) is evaluated before our table: unreachable default dev lo proto static metric 1024 \
         table 77"
    );
    assert_eq!(found.2, "on h1: ip -6 rule add to 2001:db8:8000:2::/64 lookup 254 pref 99");
    elsewhere.target = via("2001:db8::99");
    let found = broken(|seen| (seen.found, seen.decides) = (Ok(elsewhere.clone()), by_it(Some(elsewhere))));
    assert_eq!(found.2, "on h1: ip -6 rule add to 2001:db8:8000:2::/64 lookup 254 pref 99", "{found:?}");
    let prohibits = Rule { priority: 9, action: RuleAction::Refuse("prohibit"), ..Rule::default() };
    let decides = Some(Decides { rule: prohibits, route: None });
    let found = broken(|seen| (seen.found, seen.decides) = (refusal(), decides));
    assert_eq!(
        (found.1.as_str(), found.2.as_str()),
        (
            "ip -6 rule 9 (from all prohibit) is evaluated before our table",
            "on h1: ip -6 rule add to 2001:db8:8000:2::/64 lookup 254 pref 8"
        )
    );
}

#[test]
fn a_missing_route_of_ours_is_reported_with_the_reason() {
    let aggregate = || decides(route("2001:db8:8000::/40", 4_000_000_000, 66, RouteTarget::Unreachable));
    let missing = |waits: Option<&str>, paused: bool| {
        broken(|seen| {
            (seen.found, seen.decides) = (refusal(), aggregate());
            (seen.towards.pending, seen.towards.paused) = (pending(waits), paused);
        })
    };
    let (_, saw, fix) = missing(Some("the end of the pause"), true);
    assert!(
        saw.starts_with("our route is missing, so packets are refused: unreachable 2001:db8:8000::/40"),
        "{saw}"
    );
    assert_eq!(fix, "sextant resume");
    let (_, saw, fix) = missing(Some("failed: No buffer space; next try in 3 s"), false);
    assert!(saw.ends_with("it waits for failed: No buffer space; next try in 3 s"), "{saw}");
    assert_eq!(fix, "sextant plan h1");
    assert!(missing(None, false).2.ends_with("then trace again"));
    let wrong = route("2001:db8:8000:2::/64", 512, 66, via("2001:db8::77"));
    let (_, saw, fix) = broken(|seen| (seen.found, seen.towards.paused) = (Ok(wrong), true));
    assert!(saw.contains("but should lead via 2001:db8::2 dev eth0"), "{saw}");
    assert_eq!(fix, "sextant resume");
    let default = route("::/0", 1024, 4, via("2001:db8::ffff"));
    let (_, saw, _) = broken(|seen| {
        seen.found = Ok(default);
        seen.towards.pending = pending(None);
    });
    assert!(saw.starts_with("our route is missing, so the kernel uses default via 2001:db8::ffff"), "{saw}");
}

#[test]
fn a_peer_behind_the_router_needs_any_route() {
    let by_router = |seen: &mut Observed<'_>| {
        (seen.towards.state, seen.towards.wanted) = (Some(PeerState::LeftToRouter), None)
    };
    let default = || route("::/0", 1024, 9, via("2001:db8::ffff"));
    let checks = checks_with(|seen| {
        by_router(seen);
        seen.found = Ok(default());
    });
    assert!(checks.iter().all(|check| check.state == State::Good), "{checks:#?}");
    let (what, saw, fix) = broken(|seen| {
        by_router(seen);
        let code = nix::libc::ENETUNREACH;
        (seen.found, seen.decides) = (Err(Errno { code, detail: String::new() }), None);
    });
    assert_eq!(
        (what, saw.as_str()),
        ("route", "no route leads there: Network is unreachable (os error 101)")
    );
    assert!(fix.starts_with("on h1: add a default route to the router"), "{fix}");
}

#[test]
fn a_next_hop_is_reported_with_its_link() {
    let of_link = |change: fn(&mut Link)| broken(|seen| change(seen.hops[0].link.as_mut().unwrap()));
    assert_eq!(of_link(|link| link.up = false).2, "on h1: ip link set eth0 up");
    assert_eq!(of_link(|link| link.carrier = false).1, "eth0 has no carrier");
    for state in [NeighbourState::Failed, NeighbourState::Probing] {
        let found = broken(|seen| seen.hops[0].neighbour.as_mut().unwrap().state = state);
        assert_eq!(found.1, "2001:db8::2 does not answer neighbour solicitations on eth0");
    }
    let unseen = checks_with(|seen| seen.hops[0].neighbour = None);
    assert_eq!(
        (unseen[2].state, unseen[2].saw.as_str()),
        (State::Unknown, "2001:db8::2 dev eth0: no neighbour entry")
    );
}

/// A wrong one takes all packets, and looks like any other.
#[test]
fn a_static_neighbour_is_suspected_only_if_probes_are_lost() {
    let fixed = |seen: &mut Observed<'_>, mac: Option<[u8; 6]>, answered: bool| {
        let neighbour = seen.hops[0].neighbour.as_mut().unwrap();
        (neighbour.state, neighbour.mac, seen.answered) = (NeighbourState::Permanent, mac, answered);
    };
    let mac = Some([2, 0, 0, 0, 0, 2]);
    let (what, saw, fix) = broken(|seen| fixed(seen, mac, false));
    assert_eq!((what, fix.as_str()), ("next hop", "on h1: ip -6 neigh del 2001:db8::2 dev eth0"));
    assert!(saw.starts_with("2001:db8::2 dev eth0 lladdr 02:00:00:00:00:02 PERMANENT, static"), "{saw}");
    // A link that resolves nothing has such entries for all.
    for (mac, answered) in [(mac, true), (None, false), (Some([0; 6]), false)] {
        let checks = checks_with(|seen| fixed(seen, mac, answered));
        assert_eq!(checks.last().map(|check| check.state), Some(State::Unknown), "{checks:?}");
    }
}
