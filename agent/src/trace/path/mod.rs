//! Checks the first hop of the path to another node. Pure.

use std::net::Ipv6Addr;

use sextant_proto::{NodeName, NodeState, link_name_word};

use super::{Check, State, policy::Decides};
use crate::{
    advice::{about_route, about_rule, destination, in_table, kind, leads, rule_words},
    engine::Towards,
    kernel::{Errno, Link, Neighbour, NeighbourState, Route, RouteProtocol, RouteTarget, Rule},
    routes::PeerState,
};

/// The observations.
pub(super) struct Observed<'a> {
    pub(super) here: &'a NodeName,
    pub(super) peer: &'a NodeName,
    pub(super) towards: Towards,
    /// The result of the kernel's lookup.
    pub(super) found: Result<Route, Errno>,
    /// The rule and the route that cause this result.
    pub(super) decides: Option<Decides>,
    /// Our table.
    pub(super) table: u32,
    pub(super) links: Vec<Link>,
    /// The next hops of the found route.
    pub(super) hops: Vec<Hop>,
    /// Whether all probes were answered, or none was to be sent.
    pub(super) answered: bool,
}

/// A next hop.
pub(super) struct Hop {
    pub(super) addr: Ipv6Addr,
    pub(super) link: Option<Link>,
    pub(super) neighbour: Option<Neighbour>,
}

/// The checks, in the order of the path.
pub(super) fn checks(seen: &Observed<'_>) -> Vec<Check> {
    let mut checks = vec![peer(seen), route(seen)];
    checks.extend(seen.hops.iter().map(|hop| next_hop(seen, hop)));
    checks
}

fn peer(seen: &Observed<'_>) -> Check {
    let Observed { here, peer, towards, .. } = seen;
    let broken = |saw: String, fix: String| Check::broken("peer", saw, fix);
    match towards.state {
        Some(PeerState::Direct) => Check::new("peer", State::Good, format!("{peer} is ready, and on-link")),
        Some(PeerState::Own) => Check::new("peer", State::Good, format!("{peer} is this node")),
        Some(PeerState::LeftToRouter | PeerState::NoUplink) => Check::new(
            "peer",
            State::Good,
            format!("{peer} is ready, and left to the router: no direct route"),
        ),
        Some(PeerState::ThroughGateway) => {
            Check::new("peer", State::Good, format!("{peer} is ready, and has a route through a gateway"))
        }
        Some(PeerState::OffLink) => broken(
            format!("{peer} is not on-link: traffic to it is refused on {here}"),
            format!(
                "if routers know the host prefixes: [routes] off-link = \"gateway\" in agent.toml on {here}; else correct the \
                 uplink of {peer}"
            ),
        ),
        Some(PeerState::Infrastructure) => broken(
            format!(
                "the prefix of {peer} contains an address that the network of {here} stands on: no route to it"
            ),
            format!("sextant node forget {peer} --force, so that it claims another prefix"),
        ),
        Some(PeerState::Dead) => broken(
            format!("the agent of {peer} is gone, and its host does not answer: traffic to it is refused"),
            format!(
                "start host {peer}, or look at its uplink; if it is gone for good: sextant node forget {peer}"
            ),
        ),
        Some(PeerState::NotReady(NodeState::Joining)) => broken(
            format!("{peer} is not announced yet, so no peer routes to it"),
            format!("sextant node show {peer}, and sextant-agent's log there"),
        ),
        Some(PeerState::NotReady(state)) => broken(
            format!("{peer} is {state}, so no peer routes to it"),
            format!("sextant node undrain {peer}"),
        ),
        Some(PeerState::Withdrawn) => broken(
            format!("{here} itself is drained, and has no routes to peers"),
            format!("sextant node undrain {here}"),
        ),
        None => broken(
            format!("the agent has not received {peer} yet (revision {})", towards.revision),
            "sextant wait --timeout 30s; then trace again".into(),
        ),
    }
}

fn route(seen: &Observed<'_>) -> Check {
    match (&seen.found, seen.towards.state) {
        (Ok(route), Some(PeerState::Direct | PeerState::ThroughGateway)) => direct(seen, route),
        (Ok(route), _) if matches!(route.target, RouteTarget::Via(_)) => {
            Check::new("route", State::Good, text(route, &seen.links))
        }
        (Ok(route), _) => foreign(seen, route, "leads nowhere"),
        (
            Err(errno),
            Some(
                PeerState::Direct | PeerState::ThroughGateway | PeerState::LeftToRouter | PeerState::NoUplink,
            ),
        ) => refused(seen, errno),
        // The refusal is correct: the peer is the problem.
        (Err(errno), _) => Check::new("route", State::Unknown, not_reachable(seen, errno)),
    }
}

/// The kernel uses a route, which should be ours.
fn direct(seen: &Observed<'_>, route: &Route) -> Check {
    let ours = route.protocol == RouteProtocol::OURS;
    let own = seen.towards.prefixes.contains(&route.key.destination);
    let same_target = seen.towards.wanted.as_ref() == Some(&route.target);
    let shown = text(route, &seen.links);
    if same_target && (ours || seen.hops.iter().any(|hop| hop.link.is_some())) {
        let note = if ours { "" } else { ", a foreign route with the same next hop" };
        return Check::new("route", State::Good, shown + note);
    }
    if ours && own {
        let wanted = seen.towards.wanted.as_ref().map_or_else(String::new, |it| leads(it, &seen.links));
        return pending(seen, format!("{shown}, but should lead{wanted}"));
    }
    let nothing_pending = seen.towards.pending.is_empty();
    let shorter = seen.towards.prefixes.iter().any(|own| route.key.destination.len() < own.len());
    if shorter && !nothing_pending {
        return pending(seen, format!("our route is missing, so the kernel uses {shown}"));
    }
    foreign(seen, route, "is preferred to ours")
}

/// A foreign route decides.
fn foreign(seen: &Observed<'_>, route: &Route, does: &str) -> Check {
    let here = seen.here;
    let shown = text(route, &seen.links);
    if route.key.table != seen.table
        && let Some(rule) = seen.decides.as_ref().map(|decides| &decides.rule)
    {
        let saw = format!("{} is evaluated before our table: {shown}", rule_text(rule));
        return Check::broken("route", saw, format!("on {here}: {}", before(seen, rule)));
    }
    let saw = format!("a route of proto {} {does}: {shown}", route.protocol);
    let advice = about_route(&route.key, route.protocol, Some(&route.target), &seen.towards.prefixes);
    Check::broken("route", saw, format!("on {here}: {advice}"))
}

fn before(seen: &Observed<'_>, rule: &Rule) -> String {
    about_rule(rule, seen.table, &seen.towards.prefixes)
}

/// Packets to the peer are refused.
fn refused(seen: &Observed<'_>, errno: &Errno) -> Check {
    let here = seen.here;
    match &seen.decides {
        Some(Decides { rule, route }) if route.as_ref().is_none_or(|route| route.key.table != seen.table) => {
            let what = route.as_ref().map_or_else(String::new, |it| format!(": {}", text(it, &seen.links)));
            let saw = format!("{} is evaluated before our table{what}", rule_text(rule));
            Check::broken("route", saw, format!("on {here}: {}", before(seen, rule)))
        }
        Some(Decides { route: Some(route), .. }) if route.protocol != RouteProtocol::OURS => {
            foreign(seen, route, "refuses packets")
        }
        _ if matches!(seen.towards.state, Some(PeerState::LeftToRouter | PeerState::NoUplink)) => {
            let fix = format!(
                "on {here}: add a default route to the router, and on the router a route to {}'s prefix (`sextant bgp`)",
                seen.peer
            );
            Check::broken("route", not_reachable(seen, errno), fix)
        }
        _ => pending(seen, format!("our route is missing, so {}", not_reachable(seen, errno))),
    }
}

fn not_reachable(seen: &Observed<'_>, errno: &Errno) -> String {
    match seen.decides.as_ref().and_then(|decides| decides.route.as_ref()) {
        Some(route) => format!("packets are refused: {}", text(route, &seen.links)),
        None => format!("no route leads there: {errno}"),
    }
}

/// Our own route is missing or wrong: the reason why the agent does not change it, and the fix.
fn pending(seen: &Observed<'_>, saw: String) -> Check {
    let plan = format!("sextant plan {}", seen.here);
    if seen.towards.paused {
        return Check::broken("route", saw + "; the agent is paused and changes nothing", "sextant resume");
    }
    match seen.towards.pending.iter().find_map(|pending| pending.waits.as_ref()) {
        Some(waits) => Check::broken("route", format!("{saw}; it waits for {waits}"), plan),
        None => Check::broken("route", saw, plan + ": the agent may be about to fix it; then trace again"),
    }
}

fn next_hop(seen: &Observed<'_>, Hop { addr, link, neighbour }: &Hop) -> Check {
    let here = seen.here;
    let Some(link) = link else {
        return Check::broken("next hop", format!("{addr} is on a missing interface"), "trace again");
    };
    let name = &link.name;
    if !link.up {
        return Check::broken(
            "next hop",
            format!("{name} is down"),
            format!("on {here}: ip link set {name} up"),
        );
    }
    if !link.carrier {
        let fix = format!("check the cable of {name} on {here}, and the switch's port");
        return Check::broken("next hop", format!("{name} has no carrier"), fix);
    }
    let mac = neighbour.and_then(|it| it.mac).map_or_else(String::new, |mac| {
        let octets: Vec<_> = mac.iter().map(|octet| format!("{octet:02x}")).collect();
        format!(" lladdr {}", octets.join(":"))
    });
    let shown = |state: &str| format!("{addr} dev {name}{mac} {state}");
    match neighbour.map(|it| it.state) {
        Some(NeighbourState::Reachable) => Check::new("next hop", State::Good, shown("REACHABLE")),
        Some(NeighbourState::Stale) => Check::new("next hop", State::Good, shown("STALE")),
        // The kernel sends to this link-layer address, whoever has it.
        Some(state) if state.is_fixed() && !seen.answered && neighbour.is_some_and(has_mac) => Check::broken(
            "next hop",
            shown("PERMANENT, static: the kernel never resolves it, and no packet to it is answered"),
            format!("on {here}: ip -6 neigh del {addr} dev {}", link_name_word(name)),
        ),
        Some(NeighbourState::Fixed | NeighbourState::Permanent) => {
            Check::new("next hop", State::Unknown, shown("PERMANENT, static"))
        }
        // It was probed, and has not answered in time.
        Some(NeighbourState::Failed | NeighbourState::Probing) => Check::broken(
            "next hop",
            format!("{addr} does not answer neighbour solicitations on {name}"),
            format!(
                "check that the host is up, and its port and cable to the link of {name}; on {here}: ip -6 neigh show {addr} \
                 dev {name}"
            ),
        ),
        Some(NeighbourState::Unknown) | None => {
            Check::new("next hop", State::Unknown, format!("{addr} dev {name}: no neighbour entry"))
        }
    }
}

fn has_mac(neighbour: Neighbour) -> bool {
    neighbour.mac.is_some_and(|mac| mac != [0; 6])
}

fn rule_text(rule: &Rule) -> String {
    format!("ip -6 rule {} ({})", rule.priority, rule_words(rule))
}

/// A route as `ip -6 route` shows it.
fn text(route: &Route, links: &[Link]) -> String {
    let Route { key, protocol, target, .. } = route;
    let kind = kind(target);
    let leads = if let RouteTarget::Other(_) = target { String::new() } else { leads(target, links) };
    format!("{kind}{}{leads} proto {protocol} metric {}{}", destination(key), key.metric, in_table(key))
}

#[cfg(test)]
mod tests;
