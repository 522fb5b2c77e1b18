//! The gateways that the kernel's routes lead through. Pure.

use std::{collections::BTreeMap, net::Ipv6Addr};

use sextant_proto::Prefix;

use super::on_link::{LinkRouteReader, Lookup};
use crate::kernel::{NextHop, NextHops, Route};

/// The routes of other processes that decide which gateway leads to a destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gateways {
    /// Not only default routes.
    all: bool,
    tables: Vec<Table>,
}

/// The routes of one table, by their length; each with the gateways of the lowest metric: an empty list if it has none, `None` if
/// the lookup goes on with the next table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Table {
    lookup: Lookup,
    lengths: BTreeMap<u8, BTreeMap<Prefix, Option<Vec<NextHop>>>>,
}

impl Gateways {
    /// Those of these tables: of `all` routes, or of default routes only.
    pub fn of(lookups: &[Lookup], read: &BTreeMap<u32, LinkRouteReader>, all: bool) -> Self {
        let table = |lookup: &Lookup| {
            let routes = read.get(&lookup.table).map(LinkRouteReader::gateways).unwrap_or_default();
            let mut lengths: BTreeMap<u8, BTreeMap<Prefix, Option<Vec<NextHop>>>> = BTreeMap::new();
            for (prefix, hops) in routes.into_iter().filter(|(prefix, _)| all || prefix.len() == 0) {
                lengths.entry(prefix.len()).or_default().insert(prefix, hops);
            }
            Table { lookup: *lookup, lengths }
        };
        Self { all, tables: lookups.iter().map(table).collect() }
    }

    /// The gateways that lead to a destination; `None` if none does.
    pub fn towards(&self, destination: Ipv6Addr) -> Option<NextHops> {
        let hops = self.tables.iter().find_map(|table| table.decides(destination))?;
        (!hops.is_empty()).then(|| hops.iter().copied().collect())
    }

    /// The gateways' addresses; link-local ones are of no prefix.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv6Addr> {
        let hops = self.tables.iter().flat_map(|table| table.lengths.values().flat_map(BTreeMap::values));
        hops.flatten().flatten().filter_map(|hop| hop.gateway).filter(|addr| !addr.is_unicast_link_local())
    }

    /// Whether a route of another process may change them.
    pub fn are_decided_by(&self, route: &Route) -> bool {
        self.all || route.key.destination.len() == 0
    }
}

impl Table {
    /// The gateways of the longest route to a destination, if this table ends the lookup.
    fn decides(&self, destination: Ipv6Addr) -> Option<&[NextHop]> {
        let mut longest = self.lengths.iter().rev();
        let (len, hops) = longest
            .find_map(|(len, routes)| Some((*len, routes.get(&Prefix::containing(destination, *len)?)?)))?;
        hops.as_deref().filter(|_| self.lookup.counts(destination, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplinks::on_link::tests::{read, read_of_two};

    fn of(routes: &[&str], all: bool) -> Gateways {
        let (lookups, read) = read(routes);
        Gateways::of(&lookups, &read, all)
    }

    #[test]
    fn a_throw_route_leads_to_the_next_table() {
        let (around, thrown) = ("::/0 via fe80::1 dev 2 table 100", "throw 2001:db8:7::/48 table 100");
        let (lookups, read) = read_of_two(&[around, thrown, "2001:db8:7::/48 via fe80::7 dev 3"]);
        let gateways = Gateways::of(&lookups, &read, true);
        assert_eq!(towards(&gateways, "2001:db8:7::1"), "fe80::7 dev 3");
        assert_eq!(towards(&gateways, "2001:db8:9::1"), "fe80::1 dev 2");
    }

    fn towards(gateways: &Gateways, destination: &str) -> String {
        let hops = gateways.towards(destination.parse().unwrap());
        let hop = |hop: &NextHop| format!("{} dev {}", hop.gateway.unwrap(), hop.link);
        hops.map_or_else(|| "none".into(), |hops| hops.iter().map(hop).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn the_longest_route_to_a_destination_decides() {
        let routes = [
            "::/0 via fe80::1 dev 2",
            "2001:db8:7::/48 via 2001:db8::fe dev 2",
            "2001:db8:7:7::/64 via 2001:db8::ff dev 3",
            "2001:db8:7:8::/64 dev 4",
        ];
        let all = of(&routes, true);
        for (destination, expected) in [
            ("2001:db8:9::1", "fe80::1 dev 2"),
            ("2001:db8:7:1::1", "2001:db8::fe dev 2"),
            ("2001:db8:7:7::1", "2001:db8::ff dev 3"),
            ("2001:db8:7:8::1", "none"),
        ] {
            assert_eq!(towards(&all, destination), expected, "{destination}");
        }
        let default = of(&routes, false);
        assert_eq!(towards(&default, "2001:db8:7:7::1"), "fe80::1 dev 2");
        let addresses: Vec<_> = all.addresses().map(|addr| addr.to_string()).collect();
        assert_eq!(addresses, ["2001:db8::fe", "2001:db8::ff"]);
    }
}
