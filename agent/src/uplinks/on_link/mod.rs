//! Which neighbours are on-link, by the kernel's routes: not by the length of an address, which says nothing where the route
//! is missing (`noprefixroute`, a router advertisement without L) or came otherwise (static, RA, DHCP). Pure.

mod neighbours;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use sextant_proto::Prefix;

pub use self::neighbours::OnLink;
use self::neighbours::{Decision, Neighbours};
use super::AddressSet;
use crate::kernel::{LOCAL_TABLE, NextHop, Route, RouteProtocol, RouteReader, RouteTarget, Rule, RuleAction};

/// A table in which the kernel looks destinations up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookup {
    /// The table.
    pub table: u32,
    /// Only for these destinations.
    to: Option<Prefix>,
    /// Routes of this prefix length or shorter are ignored.
    suppressed: Option<u32>,
}

impl Lookup {
    /// The one by a rule, if that is for all sources.
    fn of(rule: &Rule) -> Option<Self> {
        match rule.action {
            RuleAction::Table(table) if !rule.conditional && rule.from.is_none() && table != LOCAL_TABLE => {
                Some(Self { table, to: rule.to, suppressed: rule.suppress_prefix_len })
            }
            _ => None,
        }
    }

    /// Whether a route of this length to a destination ends the lookup.
    pub(crate) fn counts(&self, destination: Ipv6Addr, len: u8) -> bool {
        self.to.is_none_or(|to| to.contains(destination))
            && self.suppressed.is_none_or(|suppressed| u32::from(len) > suppressed)
    }
}

/// The tables in which the kernel looks up destinations whatever the source, in its order; and the agent's own `table`.
pub fn lookups(rules: &[Rule], table: u32) -> Vec<Lookup> {
    let mut found: Vec<_> = rules.iter().filter_map(Lookup::of).collect();
    if found.iter().all(|lookup| lookup.table != table) {
        found.push(Lookup { table, to: None, suppressed: None });
    }
    found
}

/// The tables in which the kernel looks destinations up before the agent's own `table`: that of its
/// addresses first.
pub fn looked_up_before(rules: &[Rule], table: u32) -> Vec<Lookup> {
    let (local, ours) =
        (Lookup { table: LOCAL_TABLE, to: None, suppressed: None }, |it: &Lookup| it.table == table);
    let all: Vec<_> = rules.iter().filter_map(Lookup::of).collect();
    let before = all.iter().position(ours).unwrap_or(0);
    std::iter::once(local).chain(all.into_iter().take(before)).collect()
}

/// The routes that say who is a neighbour: those without a gateway, all routes inside of their destinations, and gateways that
/// are neighbours by their own route (`onlink`). Ours are none: a next hop is never reached by them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkRoutes {
    lookups: Vec<Lookup>,
    tables: BTreeMap<u32, LinkTable>,
    /// The gateways that are neighbours whatever other routes say, with their links.
    onlink: BTreeSet<(u32, Ipv6Addr)>,
    /// The destinations of routes whose next hops the kernel does not show.
    hidden: BTreeSet<Prefix>,
}

type LinkTable = BTreeMap<Prefix, Vec<LinkRoute>>;

/// The links of a route; none if it rejects packets.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LinkRoute {
    metric: u32,
    mtu: Option<u32>,
    /// Without a gateway.
    direct: Vec<u32>,
    gateways: Vec<NextHop>,
    /// The lookup goes on with the next table (RTN_THROW).
    throws: bool,
    hidden: bool,
}

/// Collects the routes of one table.
#[derive(Debug, Default)]
pub struct LinkRouteReader(Vec<(Prefix, LinkRoute)>);

impl RouteReader for LinkRouteReader {
    fn begin(&mut self) {
        self.0.clear();
    }

    fn take(&mut self, route: Route) {
        if !is_of_every_link(route.key.destination) && route.protocol != RouteProtocol::OURS {
            self.0.push((route.key.destination, LinkRoute::of(&route)));
        }
    }
}

impl LinkRouteReader {
    /// Each destination, with the gateways of its route of the lowest metric: an empty list if that has none, `None` if the
    /// lookup goes on with the next table.
    pub(super) fn gateways(&self) -> BTreeMap<Prefix, Option<Vec<NextHop>>> {
        let mut best: BTreeMap<Prefix, &LinkRoute> = BTreeMap::new();
        for (prefix, route) in &self.0 {
            let known = best.entry(*prefix).or_insert(route);
            if route.metric < known.metric {
                *known = route;
            }
        }
        let gateways = |route: &LinkRoute| (!route.throws).then(|| route.gateways.clone());
        best.into_iter().map(|(prefix, route)| (prefix, gateways(route))).collect()
    }
}

impl LinkRoute {
    fn of(route: &Route) -> Self {
        let hops: Vec<NextHop> = match &route.target {
            RouteTarget::Via(hops) => hops.iter().copied().collect(),
            _ => Vec::new(),
        };
        let (gateways, direct): (Vec<_>, Vec<_>) = hops.into_iter().partition(|hop| hop.gateway.is_some());
        Self {
            metric: route.key.metric,
            mtu: route.mtu,
            direct: direct.iter().map(|hop| hop.link).collect(),
            gateways,
            throws: route.target == RouteTarget::THROW,
            hidden: route.target == RouteTarget::NEXTHOP_OBJECT,
        }
    }

    fn links(&self) -> impl Iterator<Item = u32> {
        self.direct.iter().copied().chain(self.gateways.iter().map(|hop| hop.link))
    }

    fn uses(&self, link: u32) -> bool {
        self.links().any(|it| it == link)
    }
}

impl LinkRoutes {
    /// By the tables of `lookups`, as they were read; also with the routes that lead to the addresses `towards`.
    pub fn new(lookups: Vec<Lookup>, read: BTreeMap<u32, LinkRouteReader>, towards: &[Ipv6Addr]) -> Self {
        let direct = read.values().flat_map(|reader| &reader.0).filter(|(_, route)| !route.direct.is_empty());
        let direct: BTreeSet<Prefix> = direct.map(|(prefix, _)| *prefix).collect();
        let hops = read.values().flat_map(|reader| &reader.0).flat_map(|(_, route)| &route.gateways);
        let onlink = hops.filter(|hop| hop.onlink).filter_map(|hop| Some((hop.link, hop.gateway?))).collect();
        let all = read.values().flat_map(|reader| &reader.0);
        let hidden = all.filter(|(_, route)| route.hidden).map(|(prefix, _)| *prefix).collect();
        let tables = read.into_iter().map(|(table, reader)| (table, deciding(reader.0, &direct, towards)));
        Self { lookups, tables: tables.collect(), onlink, hidden }
    }

    /// The neighbours on a link; `own` addresses of this host are none.
    pub fn on(&self, link: u32, own: &AddressSet) -> OnLink {
        let is_own = |prefix: &Prefix| prefix.len() == 128 && own.contains(prefix.addr());
        let neighbours = |lookup: &Lookup| {
            let mut lengths: BTreeMap<u8, BTreeMap<Prefix, Decision>> = BTreeMap::new();
            for (prefix, routes) in self.tables.get(&lookup.table).into_iter().flatten() {
                if !is_own(prefix) {
                    lengths.entry(prefix.len()).or_default().insert(*prefix, Decision::of(routes, link));
                }
            }
            Neighbours { lookup: *lookup, longest_first: lengths.into_iter().rev().collect() }
        };
        let gateways = self.onlink.iter().filter(|(of, _)| *of == link).map(|(_, gateway)| *gateway);
        OnLink {
            tables: self.lookups.iter().map(neighbours).collect(),
            own: own.clone(),
            gateways: gateways.collect(),
        }
    }

    /// The destination of a route to the prefix of an address whose next hops the kernel does not show.
    pub(super) fn hidden_around(&self, addr: Ipv6Addr) -> Option<Prefix> {
        self.hidden.iter().copied().find(|prefix| (1..128).contains(&prefix.len()) && prefix.contains(addr))
    }

    /// The links on which a destination is a neighbour.
    pub fn neighbour_links(&self, destination: Ipv6Addr) -> Vec<u32> {
        let routes = self.longest(destination);
        let links = routes.iter().flat_map(|route| &route.direct).copied();
        links.filter(|link| leads_to(routes, *link)).collect()
    }

    /// The links that lead to a destination, which is one of `towards`, or a neighbour.
    pub fn links_to(&self, destination: Ipv6Addr) -> Vec<u32> {
        let taken = self.longest(destination).iter().min_by_key(|route| route.metric);
        taken.map_or_else(Vec::new, |route| route.links().collect())
    }

    /// The links of the default routes.
    pub fn default_links(&self) -> Vec<u32> {
        let tables = self.lookups.iter().filter_map(|lookup| self.tables.get(&lookup.table));
        let defaults = tables.filter_map(|table| table.get(&Prefix::EVERYWHERE)).flatten();
        defaults.flat_map(LinkRoute::links).collect()
    }

    /// The MTUs of the default routes over these links, as far as they have one of their own.
    pub fn default_mtus(&self, links: &[u32]) -> impl Iterator<Item = u32> {
        let tables = self.lookups.iter().filter_map(|lookup| self.tables.get(&lookup.table));
        let defaults = tables.filter_map(|table| table.get(&Prefix::EVERYWHERE)).flatten();
        defaults.filter(|route| route.links().any(|link| links.contains(&link))).filter_map(|route| route.mtu)
    }

    /// The longest routes to a destination, in the first table that has one.
    fn longest(&self, destination: Ipv6Addr) -> &[LinkRoute] {
        let of_table = |lookup: &Lookup| {
            let covering = self.tables.get(&lookup.table)?.iter().filter(|(it, _)| it.contains(destination));
            let (prefix, routes) = covering.max_by_key(|(prefix, _)| prefix.len())?;
            let ends = lookup.counts(destination, prefix.len()) && !throws(routes);
            ends.then_some(routes.as_slice())
        };
        self.lookups.iter().find_map(of_table).unwrap_or_default()
    }

    /// Whether a lookup may find routes of this table.
    pub fn uses(&self, table: u32) -> bool {
        self.lookups.iter().any(|lookup| lookup.table == table)
    }
}

/// The routes that decide on destinations of `direct` routes: those inside of them; and, for the tables after this one, those
/// around them. And those that lead to the addresses `towards`, and default routes.
fn deciding(routes: Vec<(Prefix, LinkRoute)>, direct: &BTreeSet<Prefix>, towards: &[Ipv6Addr]) -> LinkTable {
    let lengths: BTreeSet<u8> = direct.iter().map(|prefix| prefix.len()).collect();
    let inside = |prefix: Prefix| {
        lengths.iter().filter_map(|len| prefix.ancestor(*len)).any(|it| direct.contains(&it))
    };
    let around = |prefix: Prefix| {
        let leads = || towards.iter().any(|it| prefix.contains(*it));
        prefix.len() == 0 || direct.iter().any(|it| prefix.covers(*it)) || leads()
    };
    let mut table = LinkTable::new();
    for (prefix, route) in routes.into_iter().filter(|(prefix, _)| inside(*prefix) || around(*prefix)) {
        table.entry(prefix).or_default().push(route);
    }
    table
}

/// Whether these routes to one destination make it one of neighbours on `link`. Each link that has a route is as good as
/// another; on one link, the lowest metric decides.
fn leads_to(routes: &[LinkRoute], link: u32) -> bool {
    let of_link = routes.iter().filter(|route| route.uses(link));
    of_link.min_by_key(|route| route.metric).is_some_and(|route| route.direct.contains(&link))
}

/// Whether the lookup goes on with the next table, by the route of the lowest metric to one destination.
fn throws(routes: &[LinkRoute]) -> bool {
    routes.iter().min_by_key(|route| route.metric).is_some_and(|route| route.throws)
}

/// Whether each link, or none, has such destinations: link-local, multicast and loopback ones.
pub(super) fn is_of_every_link(destination: Prefix) -> bool {
    let addr = destination.addr();
    destination.len() >= 8 && (addr.is_unicast_link_local() || addr.is_multicast() || addr.is_loopback())
}

#[cfg(test)]
pub(crate) mod tests;
