//! Which events of links and addresses concern this host's routes and setup. Pure.
//!
//! Containers come and go with their links, many a second on a busy host. Their events must not have routes read again, nor
//! failed routes tried again.

use std::{collections::BTreeMap, net::Ipv6Addr};

use crate::kernel::{Address, Link, Route, RouteProtocol, RouteTarget};

const LAST: Ipv6Addr = Ipv6Addr::from_bits(u128::MAX);

/// What an event makes stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Concern {
    /// Nothing.
    Nothing,
    /// The host's setup, at the next look at it: a container's link has come.
    Later,
    /// The host's setup.
    Host,
    /// The host's setup, and the routes: the kernel drops them with the link.
    Routes,
}

/// The links and addresses, as they were read or notified last.
#[derive(Debug, Default)]
pub(super) struct Concerned {
    uplinks: Vec<String>,
    bridge: String,
    links: BTreeMap<u32, Link>,
    addresses: BTreeMap<(u32, Ipv6Addr), Address>,
}

impl Concerned {
    /// With the names of this host's uplinks and bridge. No link is known yet.
    pub(super) fn new(uplinks: Vec<String>, bridge: String) -> Self {
        Self { uplinks, bridge, ..Self::default() }
    }

    /// The uplinks have these names now.
    pub(super) fn set_uplinks(&mut self, names: &[String]) {
        if self.uplinks != names {
            names.clone_into(&mut self.uplinks);
        }
    }

    /// All links and addresses have been read.
    pub(super) fn read(&mut self, links: &[Link], addresses: &[Address]) {
        self.links = links.iter().map(|link| (link.index, link.clone())).collect();
        self.addresses =
            addresses.iter().map(|address| ((address.link, address.addr), address.clone())).collect();
    }

    /// A link has changed.
    pub(super) fn link_changed(&mut self, link: &Link) -> Concern {
        let before = self.links.insert(link.index, link.clone());
        let names = [Some(link), before.as_ref()].into_iter().flatten().map(|link| link.name.as_str());
        if names.clone().any(|name| self.carries_routes(name)) {
            // Even if it is as it was read: an earlier dump may have missed something.
            return Concern::Routes;
        }
        let same_setup = before.as_ref().is_some_and(|before| setup(before) == setup(link));
        if same_setup {
            return Concern::Nothing;
        }
        // A port of hardware decides whether containers are on a bridge.
        let prompt = link.bridge || link.kind.is_empty() || names.into_iter().any(|name| name == self.bridge);
        if prompt { Concern::Host } else { Concern::Later }
    }

    /// A link is gone.
    pub(super) fn link_gone(&mut self, link: &Link) -> Concern {
        self.links.remove(&link.index);
        let gone: Vec<_> = self.addresses_of(link.index).map(|it| (it.link, it.addr)).collect();
        for it in gone {
            self.addresses.remove(&it);
        }
        match link {
            link if self.carries_routes(&link.name) => Concern::Routes,
            link if link.bridge || link.kind.is_empty() || link.name == self.bridge => Concern::Host,
            _ => Concern::Nothing,
        }
    }

    /// An address has changed.
    pub(super) fn address_changed(&mut self, address: &Address) -> Concern {
        let before = self.addresses.insert((address.link, address.addr), address.clone());
        match self.of_address(address) {
            Concern::Host if !self.is_of_uplink(address) && before.as_ref() == Some(address) => {
                Concern::Nothing
            }
            concern => concern,
        }
    }

    /// An address is gone.
    pub(super) fn address_gone(&mut self, address: &Address) -> Concern {
        self.addresses.remove(&(address.link, address.addr));
        self.of_address(address)
    }

    /// Forwarding was switched off for a link, or for all.
    pub(super) fn forwarding_off(&self, link: Option<u32>) -> Concern {
        let ours = |link: &Link| self.uplinks.contains(&link.name) || link.name == self.bridge;
        let concerned = link.is_none_or(|index| self.links.get(&index).is_some_and(ours));
        if concerned { Concern::Host } else { Concern::Nothing }
    }

    /// Another process's route, or the kernel's own, is gone. The bridge's connected route is part of its setup.
    pub(super) fn route_gone(&self, route: &Route) -> Concern {
        let RouteTarget::Via(hops) = &route.target else { return Concern::Nothing };
        let bridge = |index: &u32| self.links.get(index).is_some_and(|link| link.name == self.bridge);
        let destination = route.key.destination;
        let of_containers = destination.len() < 128
            && !destination.addr().is_unicast_link_local()
            && !destination.addr().is_multicast();
        let connected = route.protocol == RouteProtocol::KERNEL && hops.iter().any(|hop| bridge(&hop.link));
        if connected && of_containers { Concern::Host } else { Concern::Nothing }
    }

    fn is_of_uplink(&self, address: &Address) -> bool {
        self.links.get(&address.link).is_some_and(|link| self.uplinks.contains(&link.name))
    }

    fn of_address(&self, address: &Address) -> Concern {
        match self.links.get(&address.link) {
            None => Concern::Host,
            Some(link) if self.uplinks.contains(&link.name) => Concern::Host,
            Some(link) if link.name == self.bridge => Concern::Host,
            Some(_) if !address.global && !self.has_network(address.link) => Concern::Nothing,
            Some(_) => Concern::Later,
        }
    }

    /// Whether the link has an address besides its link-local one, as ports of containers have not.
    fn has_network(&self, link: u32) -> bool {
        self.addresses_of(link).any(|it| it.global)
    }

    fn addresses_of(&self, link: u32) -> impl Iterator<Item = &Address> {
        self.addresses.range((link, Ipv6Addr::UNSPECIFIED)..=(link, LAST)).map(|(_, it)| it)
    }

    fn carries_routes(&self, name: &str) -> bool {
        name == "lo" || self.uplinks.iter().any(|uplink| uplink == name)
    }
}

/// The part of a link that decides the setup: without its carrier and MAC address, which change with each container.
fn setup(link: &Link) -> (&str, bool, Option<u32>, u32) {
    (&link.name, link.up, link.controller, link.mtu)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::time::{ClockId, clock_gettime};

    use super::*;
    use crate::kernel::fake::permanent;

    fn link(index: u32, name: &str, kind: &str) -> Link {
        let (name, kind, bridge) = (name.to_owned(), kind.to_owned(), kind == "bridge");
        Link { index, name, kind, bridge, up: true, mtu: 1500, ..Link::default() }
    }

    fn concerned() -> Concerned {
        let mut it = Concerned::new(vec!["eth0".into()], "brc".into());
        let links =
            [link(1, "lo", ""), link(2, "eth0", "veth"), link(3, "brc", "bridge"), link(4, "br-x", "bridge")];
        it.read(&links, &[permanent(2, "2001:db8::1".parse().unwrap(), 64)]);
        it
    }

    #[test]
    fn links_of_containers_concern_nothing_but_their_bridge_later() {
        let mut it = concerned();
        let port = Link { controller: Some(3), ..link(9, "veth9", "veth") };
        assert_eq!(it.link_changed(&port), Concern::Later);
        assert_eq!(it.link_changed(&port), Concern::Nothing, "it is known");
        assert_eq!(it.link_changed(&Link { carrier: true, ..port.clone() }), Concern::Nothing);
        for bridge in [link(3, "brc", "bridge"), link(4, "br-x", "bridge")] {
            let flaps = Link { carrier: true, mac: vec![2, 0, 0, 0, 0, 9], ..bridge };
            assert_eq!(it.link_changed(&flaps), Concern::Nothing, "carrier comes and goes with containers");
        }
        let local = |link| permanent(link, "fe80::1".parse().unwrap(), 64);
        assert_eq!(
            (it.address_changed(&local(9)), it.address_gone(&local(9))),
            (Concern::Nothing, Concern::Nothing)
        );
        assert_eq!(it.forwarding_off(Some(9)), Concern::Nothing);
        assert_eq!(it.link_gone(&port), Concern::Nothing);
    }

    /// The processor time for ports that come, get their address and go beside so many others.
    fn cost_beside(others: u32) -> Duration {
        let port = |n| Link { controller: Some(3), ..link(n, &format!("veth{n}"), "veth") };
        let local = |n: u32| permanent(n, Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(n)), 64);
        let (mut it, ports) = (concerned(), 10..10 + others);
        it.read(&ports.clone().map(port).collect::<Vec<_>>(), &ports.map(local).collect::<Vec<_>>());
        let mut round = || {
            let before = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
            for n in (0..200).map(|n| 100_000 + n) {
                let concerns =
                    [it.link_changed(&port(n)), it.address_changed(&local(n)), it.link_gone(&port(n))];
                assert_eq!(concerns, [Concern::Later, Concern::Nothing, Concern::Nothing]);
            }
            Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap()) - before
        };
        (0..5).map(|_| round()).min().unwrap()
    }

    #[test]
    fn the_link_of_a_container_costs_the_same_beside_few_and_many() {
        let (few, many) = (cost_beside(100), cost_beside(10_000));
        // A walk over all of them would cost a hundred times as much.
        assert!(many < few * 5, "{few:?} beside 100 ports, {many:?} beside 10,000");
    }

    #[test]
    fn uplinks_concern_routes_and_bridges_the_setup() {
        let mut it = concerned();
        let eth0 = link(2, "eth0", "veth");
        assert_eq!(it.link_changed(&eth0), Concern::Routes);
        assert_eq!(it.link_changed(&Link { carrier: true, ..eth0.clone() }), Concern::Routes);
        assert_eq!(
            it.link_changed(&Link { name: "lan0".into(), ..eth0.clone() }),
            Concern::Routes,
            "it was an uplink"
        );
        assert_eq!(it.link_changed(&Link { up: false, ..link(3, "brc", "bridge") }), Concern::Host);
        assert_eq!(it.link_changed(&Link { mtu: 1200, ..link(3, "brc", "bridge") }), Concern::Host);
        assert_eq!(it.link_changed(&link(7, "br-y", "bridge")), Concern::Host, "another engine's new bridge");
        assert_eq!(it.link_changed(&Link { controller: Some(7), ..link(8, "eth1", "") }), Concern::Host);
        assert_eq!(it.link_gone(&link(3, "brc", "bridge")), Concern::Host);
        assert_eq!(it.link_gone(&eth0), Concern::Routes);
    }

    #[test]
    fn addresses_and_forwarding_of_uplinks_and_bridge_concern_the_setup() {
        let mut it = concerned();
        let of = |link, addr: &str| permanent(link, addr.parse().unwrap(), 64);
        let local = of(3, "fe80::1");
        assert_eq!(
            (it.address_changed(&local), it.address_changed(&local)),
            (Concern::Host, Concern::Nothing)
        );
        assert_eq!(it.address_gone(&local), Concern::Host, "it is restored");
        it.address_changed(&of(4, "2001:db8:1::1"));
        assert_eq!(it.address_gone(&of(4, "fe80::1")), Concern::Later, "of another network of containers");
        assert_eq!(it.address_changed(&of(2, "2001:db8::1")), Concern::Host);
        assert_eq!(it.address_changed(&of(2, "fe80::2")), Concern::Host);
        assert_eq!(it.address_gone(&of(2, "2001:db8::1")), Concern::Host);
        assert_eq!(it.address_changed(&of(3, "2001:db8:1::1")), Concern::Host);
        assert_eq!(it.address_changed(&of(3, "2001:db8:1::1")), Concern::Nothing, "it is known");
        assert_eq!(it.address_changed(&of(4, "2001:db8:2::1")), Concern::Later);
        assert_eq!(it.address_changed(&of(99, "2001:db8:3::1")), Concern::Host, "of an unknown link");
        for link in [None, Some(2), Some(3)] {
            assert_eq!(it.forwarding_off(link), Concern::Host);
        }
    }
}
