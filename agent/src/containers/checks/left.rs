//! Addresses and routes of prefixes that this node does not hold, on links that containers are on. Pure.
//!
//! Docker removes neither when its prefix changes. The prefix may be another node's now: packets to its containers end here.

use sextant_proto::Prefix;

use super::{Facts, Fault};
use crate::{
    kernel::{Link, MAIN_TABLE, Route, RouteProtocol},
    problems::Finding,
};

/// Stale addresses.
pub(super) fn addresses(facts: &Facts) -> impl Iterator<Item = Fault> {
    facts.addresses.iter().filter(|address| address.global && address.permanent).filter_map(|address| {
        let link = link(facts, address.link)?;
        let prefix = Prefix::containing(address.addr, address.len)?;
        let stale = facts.is_of_containers(link) && is_left(facts, prefix);
        stale.then(|| {
            let shown = format!("{}/{}", address.addr, address.len);
            let command = format!("ip -6 address del {shown} dev {}", link.name);
            let finding = Finding::new(
                "docker-stale-address",
                format!(
                    "{} has {shown}, and this host does not hold {prefix}: packets to it end here",
                    link.name
                ),
                format!("`{command}`; if containers still have addresses of it, create them again"),
            );
            Fault { finding, safe: safe(facts, prefix, command) }
        })
    })
}

/// Stale routes.
pub(super) fn routes(facts: &Facts) -> impl Iterator<Item = Fault> {
    facts.routes.iter().filter(|route| route.protocol == RouteProtocol::BOOT && route.key.table == MAIN_TABLE).filter_map(|route| {
        let link = leads_to(facts, route)?;
        let destination = route.key.destination;
        let stale = facts.is_of_containers(link) && is_left(facts, destination);
        stale.then(|| {
            let (name, metric) = (&link.name, route.key.metric);
            let command = format!("ip -6 route del {destination} dev {name} proto boot metric {metric}");
            let finding = Finding::new(
                "docker-stale-route",
                format!(
                    "a route of proto boot, as Docker makes them, leads {destination} to {name}, and this host does not hold it: it is cut \
                     off from the containers of the host that does"
                ),
                format!("`{command}`"),
            );
            Fault { finding, safe: safe(facts, destination, command) }
        })
    })
}

/// Whether a prefix is another node's, and no network of the engine has it: such a network is reported itself.
fn is_left(facts: &Facts, prefix: Prefix) -> bool {
    facts.is_anothers(prefix) && !facts.live.prefixes().any(|(_, used)| used.covers(prefix))
}

/// Without the engine's word, a network may have it, or a part of it.
fn safe(facts: &Facts, prefix: Prefix, command: String) -> Vec<String> {
    let used = facts.live.prefixes().any(|(_, used)| used.overlaps(prefix));
    if facts.live.version.is_empty() || used { Vec::new() } else { vec![command] }
}

fn link(facts: &Facts, index: u32) -> Option<&Link> {
    facts.links.iter().find(|link| link.index == index)
}

/// The link of a route without a gateway.
fn leads_to<'a>(facts: &'a Facts, route: &Route) -> Option<&'a Link> {
    link(facts, route.target.direct_link()?)
}
