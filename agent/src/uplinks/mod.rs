//! The interfaces towards the other hosts, and those of their addresses that peers may use. Pure, but for `reading`.

mod addresses;
mod findings;
mod gateways;
mod guess;
mod on_link;
mod reading;

use std::{fmt, net::Ipv6Addr, sync::Arc};

use sextant_proto::{InterfaceAddress, Peer, Prefix, Uplink, first_next_hop};

pub use addresses::AddressSet;
pub(crate) use findings::{findings, hidden, renamed};
pub use gateways::Gateways;
pub use guess::{Clues, guessed_uplinks};
pub use on_link::{LinkRouteReader, LinkRoutes, Lookup, OnLink, looked_up_before, lookups};
pub use reading::{first_guess, read_link_routes};

use crate::{
    kernel::{Address, Link, NextHop, Route, RouteTarget},
    problems::Finding,
    settings::NextHopKind,
};

/// The name of the loopback interface.
const LOOPBACK: &str = "lo";
/// So many addresses of an uplink are announced, best first: all peers keep them.
const MOST_ADDRESSES: usize = 8;

/// One of this host's interfaces towards the other hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalUplink {
    /// Its index.
    pub link: u32,
    /// Whether it is up and has carrier.
    pub works: bool,
    /// Its name, and the addresses that peers may use.
    pub uplink: Uplink,
    /// Its link-local address, once that is not tentative.
    pub link_local: Option<Ipv6Addr>,
    /// Its neighbours, by the kernel's routes.
    pub on_link: Arc<OnLink>,
}

impl fmt::Display for LocalUplink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uplink.fmt(f)?;
        self.link_local.iter().try_for_each(|addr| write!(f, " {addr}"))?;
        if self.works { Ok(()) } else { f.write_str(" (down)") }
    }
}

impl LocalUplink {
    /// The next hop through this gateway, a neighbour.
    pub(crate) fn hop(&self, gateway: Ipv6Addr) -> NextHop {
        NextHop { gateway: Some(gateway), link: self.link, onlink: self.on_link.needs_saying(gateway) }
    }

    /// Whether a route of another process may make a destination its neighbour, or one no more.
    pub(crate) fn is_decided_by(&self, route: &Route) -> bool {
        let destination = route.key.destination;
        let over_it = || match &route.target {
            RouteTarget::Via(hops) => {
                hops.iter().any(|hop| hop.link == self.link && (hop.gateway.is_none() || hop.onlink))
            }
            _ => false,
        };
        !on_link::is_of_every_link(destination)
            && (route.target == RouteTarget::NEXTHOP_OBJECT
                || over_it()
                || self.on_link.prefixes().any(|prefix| prefix.covers(destination)))
    }
}

/// A configured uplink does not exist.
#[derive(Debug, thiserror::Error)]
#[error("uplink \"{name}\" does not exist; interfaces: {}. Set [uplink] interface in agent.toml, or --uplink", interfaces.join(", "))]
pub struct MissingUplink {
    name: String,
    interfaces: Vec<String>,
}

/// No uplink is configured, and none can be determined.
#[derive(Debug, thiserror::Error)]
#[error("{}; {NO_UPLINK_FIX}", self.saw())]
pub struct NoUplink {
    /// The names of all interfaces; those that are down are marked.
    interfaces: Vec<String>,
}

const NO_UPLINK_FIX: &str =
    "bring up the one that leads to the other hosts, or set [uplink] interface in agent.toml (--uplink)";

impl NoUplink {
    fn among(links: &[Link]) -> Self {
        let marked = |link: &Link| format!("{}{}", link.name, if link.up { "" } else { " (down)" });
        Self { interfaces: links.iter().map(marked).collect() }
    }

    fn saw(&self) -> String {
        format!(
            "no uplink is configured, and no IPv6 route to a controller or default route to determine it from; interfaces: {}",
            self.interfaces.join(", ")
        )
    }

    /// The same with its fix apart.
    pub(crate) fn finding(&self) -> Finding {
        Finding::unready("uplink-undetermined", self.saw(), NO_UPLINK_FIX)
    }
}

/// Checks that all of `names` exist.
///
/// # Errors
/// The first one that does not.
pub fn existing_uplinks(names: &[String], links: &[Link]) -> Result<(), MissingUplink> {
    match names.iter().find(|name| !links.iter().any(|link| link.name == **name)) {
        None => Ok(()),
        Some(name) => Err(MissingUplink { name: name.clone(), interfaces: interfaces(links) }),
    }
}

fn interfaces(links: &[Link]) -> Vec<String> {
    links.iter().map(|link| link.name.clone()).collect()
}

/// The existing uplinks among `names`, in their order, with the addresses that peers may use, and the neighbours by `routes`.
pub fn local_uplinks(
    names: &[String],
    links: &[Link],
    addresses: &[Address],
    routes: &LinkRoutes,
) -> Vec<LocalUplink> {
    let own = addresses.iter().map(|address| address.addr).collect();
    let found = names.iter().filter_map(|name| links.iter().find(|link| link.name == *name));
    found.map(|link| local(link, links, addresses, routes, &own)).collect()
}

fn local(
    link: &Link,
    links: &[Link],
    addresses: &[Address],
    routes: &LinkRoutes,
    own: &AddressSet,
) -> LocalUplink {
    let on_link = routes.on(link.index, own);
    let of_link = || addresses.iter().filter(|address| address.link == link.index);
    let link_local = of_link().filter(|address| is_link_local(address)).map(|address| address.addr).min();
    let mut usable: Vec<_> = of_link().filter(|address| is_usable(address)).collect();
    if usable.is_empty() && link_local.is_some() {
        usable = lent(links, addresses).collect();
    }
    // RFC 6724: a deprecated address is the last choice.
    usable.sort_by_key(|address| (address.deprecated, !address.permanent, address.addr));
    let address = |address: &&Address| {
        let (addr, on_link) = (address.addr, on_link.around(address.addr)?);
        (!is_of_all_routers(addr, on_link)).then_some(InterfaceAddress { addr, on_link })
    };
    let addresses = usable.iter().filter_map(address).take(MOST_ADDRESSES).collect();
    LocalUplink {
        link: link.index,
        works: link.up && link.carrier,
        link_local,
        uplink: Uplink { interface: link.name.clone(), addresses },
        on_link: Arc::new(on_link),
    }
}

/// The addresses of the loopback interface, for uplinks that have only a link-local one (unnumbered).
fn lent<'a>(links: &'a [Link], addresses: &'a [Address]) -> impl Iterator<Item = &'a Address> {
    let loopback = links.iter().find(|link| link.name == LOOPBACK).map(|link| link.index);
    addresses.iter().filter(move |address| Some(address.link) == loopback && is_usable(address))
}

/// The announcement of an uplink to peers: each address, followed by the link-local one if that is to be the next hop. Peers
/// recognise the segment by the first (`direct_next_hop` in `sextant_proto`); older agents use it as next hop.
pub(crate) fn announced(local: &LocalUplink, next_hop: NextHopKind) -> Uplink {
    let link_local = local.link_local.filter(|_| next_hop == NextHopKind::LinkLocal);
    let after =
        link_local.and_then(|addr| Some(InterfaceAddress { addr, on_link: Prefix::containing(addr, 64)? }));
    let addresses = local.uplink.addresses.iter().flat_map(|address| [Some(*address), after]).flatten();
    Uplink { interface: local.uplink.interface.clone(), addresses: addresses.collect() }
}

/// The direct next hops of a peer, at most one on each of `uplinks`, in their order (DESIGN §2).
pub fn direct_next_hops<'a>(
    uplinks: &'a [LocalUplink],
    peer: &'a Peer,
) -> impl Iterator<Item = (&'a LocalUplink, NextHop)> {
    uplinks.iter().filter_map(|local| {
        let on_link = |hop| local.on_link.contains(hop).then_some(());
        let ((), hop) = first_next_hop(&peer.next_hops, on_link)?;
        Some((local, local.hop(hop)))
    })
}

fn is_link_local(address: &Address) -> bool {
    address.addr.is_unicast_link_local() && address.permanent && !address.tentative && !address.dad_failed
}

/// Whether peers may use it: a global address that is verified as unique, and is not to be replaced every day.
fn is_usable(address: &Address) -> bool {
    let verified = address.global && !address.tentative && !address.dad_failed && !address.temporary;
    verified && !is_shared(address)
}

fn is_shared(address: &Address) -> bool {
    Prefix::containing(address.addr, address.len)
        .is_some_and(|prefix| is_of_all_routers(address.addr, prefix))
}

/// Whether it is the subnet-router anycast address of a link (RFC 4291 section 2.6.1): each host on the link that forwards has it,
/// and answers for it.
fn is_of_all_routers(addr: Ipv6Addr, link: Prefix) -> bool {
    // A link between two hosts has none (RFC 6164), as in the kernel (`addrconf_join_anycast`).
    link.len() < 127 && link.addr() == addr
}

#[cfg(test)]
pub(crate) use on_link::tests::{on_link_by, read, route, routes_of_main as link_routes};

#[cfg(test)]
mod tests;
