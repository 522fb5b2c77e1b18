//! The neighbours on one link. Pure.

use std::{collections::BTreeMap, net::Ipv6Addr};

use sextant_proto::Prefix;

use super::{LinkRoute, Lookup, leads_to, throws};
use crate::uplinks::AddressSet;

/// The neighbours on one link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OnLink {
    pub(super) tables: Vec<Neighbours>,
    pub(super) own: AddressSet,
    pub(super) gateways: AddressSet,
}

/// Where the routes of one table to a destination lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// To neighbours on the link.
    Here,
    Elsewhere,
    /// To the next table.
    NextTable,
}

impl Decision {
    pub(super) fn of(routes: &[LinkRoute], link: u32) -> Self {
        match (throws(routes), leads_to(routes, link)) {
            (true, _) => Self::NextTable,
            (false, true) => Self::Here,
            (false, false) => Self::Elsewhere,
        }
    }
}

/// The destinations of one table by their length, and where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Neighbours {
    pub(super) lookup: Lookup,
    pub(super) longest_first: Vec<(u8, BTreeMap<Prefix, Decision>)>,
}

impl OnLink {
    /// Whether a destination is a neighbour on this link: by the longest route to it, or as a gateway.
    pub fn contains(&self, destination: Ipv6Addr) -> bool {
        let may_be = !destination.is_multicast() && !destination.is_loopback() && !self.is_own(destination);
        may_be && (self.gateways.contains(destination) || self.is_by_route(destination))
    }

    /// Whether a route by this neighbour must say that it is one, since no route to it does.
    pub fn needs_saying(&self, gateway: Ipv6Addr) -> bool {
        self.gateways.contains(gateway) && !gateway.is_unicast_link_local() && !self.is_by_route(gateway)
    }

    /// Whether the kernel takes a destination for a neighbour on this link: the longest route to it has no gateway.
    fn is_by_route(&self, destination: Ipv6Addr) -> bool {
        self.tables.iter().find_map(|it| it.decides(destination)).unwrap_or(false)
    }

    /// The destination of the route that leads elsewhere, though an address is inside of a prefix of neighbours.
    pub fn diverted_by(&self, addr: Ipv6Addr) -> Option<Prefix> {
        if self.is_own(addr) || self.contains(addr) || !self.prefixes().any(|prefix| prefix.contains(addr)) {
            return None;
        }
        self.tables.iter().find_map(|table| Some(table.deciding(addr)?.0))
    }

    /// Whether it is an address of this host.
    pub fn is_own(&self, addr: Ipv6Addr) -> bool {
        self.own.contains(addr)
    }

    /// The prefixes of neighbours, but for a default route.
    pub fn prefixes(&self) -> impl Iterator<Item = Prefix> {
        let all = self.tables.iter().flat_map(Neighbours::destinations);
        all.filter(|(prefix, decision)| *decision == Decision::Here && prefix.len() > 0)
            .map(|(prefix, _)| prefix)
    }

    /// The widest prefix of neighbours that an address of the link is in; itself if there is none.
    pub fn around(&self, addr: Ipv6Addr) -> Option<Prefix> {
        let around = self.prefixes().filter(|prefix| prefix.contains(addr));
        around.min_by_key(|prefix| prefix.len()).or_else(|| Prefix::containing(addr, 128))
    }

    /// Whether no destination is a neighbour, but for gateways.
    pub fn is_empty(&self) -> bool {
        !self.tables.iter().flat_map(Neighbours::destinations).any(|(_, decision)| decision == Decision::Here)
    }
}

impl Neighbours {
    /// All of them, the shortest first.
    fn destinations(&self) -> impl Iterator<Item = (Prefix, Decision)> {
        let all = self.longest_first.iter().rev().flat_map(|(_, routes)| routes);
        all.map(|(prefix, decision)| (*prefix, *decision))
    }

    fn decides(&self, destination: Ipv6Addr) -> Option<bool> {
        self.deciding(destination).map(|(_, decision)| decision == Decision::Here)
    }

    /// The longest route to a destination, if this table ends the lookup.
    fn deciding(&self, destination: Ipv6Addr) -> Option<(Prefix, Decision)> {
        let longest = |(len, routes): &(u8, BTreeMap<Prefix, Decision>)| {
            let prefix = Prefix::containing(destination, *len)?;
            Some((prefix, *routes.get(&prefix)?))
        };
        let (prefix, decision) = self.longest_first.iter().find_map(longest)?;
        let ends = self.lookup.counts(destination, prefix.len()) && decision != Decision::NextTable;
        ends.then_some((prefix, decision))
    }
}
