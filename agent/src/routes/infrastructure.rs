//! What this host's network stands on: its own addresses, those of its links and routers, and those of controllers on its
//! links. No prefix takes them (DESIGN §2). Pure.

use std::{collections::BTreeSet, net::Ipv6Addr};

use sextant_proto::Prefix;

use crate::uplinks::{AddressSet, Gateways, LocalUplink};

/// The addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Infrastructure {
    /// This host's own.
    own: AddressSet,
    others: AddressSet,
    /// The prefixes of neighbours, in ascending order.
    links: Vec<Prefix>,
}

impl Infrastructure {
    /// Of a host with these uplinks, routers and controllers. A controller elsewhere may be a container, in the prefix of its
    /// host.
    pub fn of(uplinks: &[LocalUplink], gateways: &Gateways, controllers: &[Ipv6Addr]) -> Self {
        let own = uplinks.iter().flat_map(|local| &local.uplink.addresses).map(|address| address.addr);
        let links: BTreeSet<_> = uplinks.iter().flat_map(|local| local.on_link.prefixes()).collect();
        let neighbour = |addr: &Ipv6Addr| uplinks.iter().any(|local| local.on_link.contains(*addr));
        let controllers = controllers.iter().copied().filter(neighbour);
        let others = gateways.addresses().chain(controllers);
        let others = others.filter(|addr| !addr.is_unspecified() && !addr.is_loopback());
        Self { own: own.collect(), others: others.collect(), links: links.into_iter().collect() }
    }

    /// What another node's `prefix` would take: an address in it, or the first one of a link in it.
    pub fn inside(&self, prefix: Prefix) -> Option<Ipv6Addr> {
        self.inside_own(prefix).or_else(|| self.own.first_in(prefix))
    }

    /// What this host's own `prefix` would take: its own addresses are not taken by that.
    pub fn inside_own(&self, prefix: Prefix) -> Option<Ipv6Addr> {
        let link = || self.links.iter().find(|link| prefix.covers(**link)).map(|link| link.addr());
        self.others.first_in(prefix).or_else(link)
    }

    /// The addresses that no new prefix may contain. The first one of a link is that of its routers (RFC 4291 §2.6.1).
    pub fn addresses(&self) -> impl Iterator<Item = Ipv6Addr> {
        let hosts: BTreeSet<_> = self.own.iter().chain(self.others.iter()).collect();
        hosts.into_iter().chain(self.links.iter().map(|link| link.addr()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{routes::fixture::uplink, uplinks::read};

    #[test]
    fn it_is_the_hosts_own_addresses_its_links_routers_and_controllers() {
        let (lookups, routes) = read(&["::/0 via 2001:db8::fe dev 2"]);
        let gateways = Gateways::of(&lookups, &routes, false);
        let controllers = ["2001:db8::c".parse().unwrap(), "2001:db8:c::7".parse().unwrap()];
        let it = Infrastructure::of(&[uplink(2, "2001:db8::1")], &gateways, &controllers);
        let all: Vec<_> = it.addresses().map(|addr| addr.to_string()).collect();
        assert_eq!(all, ["2001:db8::1", "2001:db8::c", "2001:db8::fe", "2001:db8::"]);
        for (prefix, inside) in [
            ("2001:db8::/64", Some("2001:db8::c")),
            ("2001:db8::/32", Some("2001:db8::c")),
            ("2001:db8::/126", Some("2001:db8::1")),
            ("2001:db8::/128", None),
            ("2001:db8:0:0:1::/80", None),
            ("2001:db8::c0/122", Some("2001:db8::fe")),
            ("2001:db8:c::/64", None),
            ("2001:db8:1::/64", None),
        ] {
            let found = it.inside(prefix.parse().unwrap());
            assert_eq!(found, inside.map(|addr| addr.parse().unwrap()), "{prefix}");
        }
        let alone: Prefix = "2001:db8::1/128".parse().unwrap();
        assert_eq!(
            (it.inside(alone).is_some(), it.inside_own(alone)),
            (true, None),
            "this host keeps its own"
        );
    }

    #[test]
    fn a_prefix_around_a_whole_link_takes_it_also_from_a_host_without_a_router() {
        let (lookups, routes) = read(&[]);
        let gateways = Gateways::of(&lookups, &routes, false);
        let it = Infrastructure::of(&[uplink(2, "2001:db8::1")], &gateways, &[]);
        for (prefix, inside) in [
            ("2001:db8::/64", Some("2001:db8::")),
            ("2001:db8::/48", Some("2001:db8::")),
            ("2001:db8::/65", None),
        ] {
            let found = it.inside_own(prefix.parse().unwrap());
            assert_eq!(found, inside.map(|addr| addr.parse().unwrap()), "{prefix}");
        }
    }
}
