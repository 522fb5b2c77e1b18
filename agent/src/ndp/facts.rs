//! The host's links and addresses, followed by the kernel's events. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use sextant_proto::Prefix;

use crate::kernel::{Address, Event, Link};

/// All links and addresses.
#[derive(Debug, Default)]
pub(super) struct Facts {
    links: BTreeMap<u32, Link>,
    addresses: BTreeMap<(u32, Ipv6Addr), Address>,
    /// The addresses that are not of link-local scope: a host has few, and a link-local one of each port.
    global: BTreeSet<(Ipv6Addr, u32)>,
    /// How many ports of bridges there are.
    ports: usize,
    /// How many ports each bridge has lost so far.
    lost_ports: BTreeMap<u32, u64>,
}

impl Facts {
    /// All were read, after events were lost or at the start.
    pub(super) fn read(&mut self, links: Vec<Link>, addresses: Vec<Address>) {
        let links: BTreeMap<_, _> = links.into_iter().map(|link| (link.index, link)).collect();
        for (index, link) in std::mem::take(&mut self.links) {
            self.note_lost(&link, links.get(&index));
        }
        self.ports = links.values().filter(|link| serves(link).is_some()).count();
        self.links = links;
        (self.addresses, self.global) = Default::default();
        addresses.into_iter().for_each(|it| self.take(Event::AddressChanged(it)));
    }

    /// One of the kernel's events, but for a loss of events.
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::LinkChanged(link) => {
                self.ports += usize::from(serves(&link).is_some());
                if let Some(before) = self.links.insert(link.index, link.clone()) {
                    self.ports -= usize::from(serves(&before).is_some());
                    self.note_lost(&before, Some(&link));
                }
            }
            Event::LinkGone(link) => {
                if let Some(before) = self.links.remove(&link.index) {
                    self.ports -= usize::from(serves(&before).is_some());
                    self.note_lost(&before, None);
                }
                let addresses: Vec<_> = self.of(link.index).map(|it| it.addr).collect();
                addresses.into_iter().for_each(|addr| self.remove((link.index, addr)));
            }
            Event::AddressChanged(it) => {
                if !it.addr.is_unicast_link_local() {
                    self.global.insert((it.addr, it.link));
                }
                self.addresses.insert((it.link, it.addr), it);
            }
            Event::AddressGone(it) => self.remove((it.link, it.addr)),
            _ => {}
        }
    }

    fn remove(&mut self, (link, addr): (u32, Ipv6Addr)) {
        self.addresses.remove(&(link, addr));
        self.global.remove(&(addr, link));
    }

    fn note_lost(&mut self, before: &Link, now: Option<&Link>) {
        if let Some(bridge) = serves(before).filter(|bridge| now.and_then(serves) != Some(*bridge)) {
            *self.lost_ports.entry(bridge).or_default() += 1;
        }
    }

    pub(super) fn link(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    fn of(&self, link: u32) -> impl Iterator<Item = &Address> {
        self.addresses.range((link, Ipv6Addr::UNSPECIFIED)..=(link, LAST)).map(|(_, it)| it)
    }

    /// The addresses of a link that may be used.
    pub(super) fn usable(&self, link: u32) -> impl Iterator<Item = Ipv6Addr> {
        self.of(link).filter(|it| !it.tentative && !it.dad_failed).map(|it| it.addr)
    }

    /// The links with an address of this prefix.
    pub(super) fn links_inside(&self, prefix: Prefix) -> impl Iterator<Item = u32> {
        self.global.range((prefix.addr(), 0)..=(prefix.last_addr(), u32::MAX)).map(|(_, link)| *link)
    }

    /// How many ports of bridges are up.
    pub(super) fn ports(&self) -> usize {
        self.ports
    }

    /// How many ports each bridge has lost so far.
    pub(super) fn lost_ports(&self) -> &BTreeMap<u32, u64> {
        &self.lost_ports
    }
}

const LAST: Ipv6Addr = Ipv6Addr::from_bits(u128::MAX);

/// The bridge of a port that is up: a container's link goes down with the container.
fn serves(link: &Link) -> Option<u32> {
    link.controller.filter(|_| link.up && link.carrier)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::permanent;

    fn port(index: u32, bridge: Option<u32>) -> Link {
        Link { index, up: true, carrier: true, controller: bridge, ..Link::default() }
    }

    fn address(link: u32, addr: &str) -> Address {
        permanent(link, addr.parse().unwrap(), 64)
    }

    #[test]
    fn ports_that_go_are_counted_and_those_that_come_are_not() {
        let mut facts = Facts::default();
        facts.read(vec![port(1, Some(7)), port(2, Some(7)), port(3, Some(8)), port(4, None)], vec![]);
        for link in [port(5, Some(7)), port(1, Some(7)), port(4, Some(8))] {
            facts.take(Event::LinkChanged(link));
        }
        assert_eq!((facts.lost_ports(), facts.ports()), (&[].into(), 5));
        facts.take(Event::LinkGone(port(1, Some(7))));
        facts.take(Event::LinkChanged(Link { carrier: false, ..port(2, Some(7)) }));
        facts.take(Event::LinkGone(port(2, Some(7))));
        facts.take(Event::LinkChanged(port(3, Some(7))));
        assert_eq!(*facts.lost_ports(), [(7, 2), (8, 1)].into(), "one is gone, one is down, one has moved");
        assert_eq!(facts.ports(), 3);
        facts.read(vec![port(3, Some(7)), port(4, Some(8))], vec![]);
        assert_eq!(*facts.lost_ports(), [(7, 3), (8, 1)].into(), "another one has gone unnoticed");
    }

    #[test]
    fn a_links_addresses_go_with_it() {
        let mut facts = Facts::default();
        let all = vec![address(1, "2001:db8::1"), address(1, "fe80::1"), address(2, "2001:db8::2")];
        facts.read(vec![port(1, None), port(2, None)], all);
        let inside = |facts: &Facts| facts.links_inside("2001:db8::/64".parse().unwrap()).collect::<Vec<_>>();
        assert_eq!((inside(&facts), facts.usable(1).count()), (vec![1, 2], 2));
        facts.take(Event::AddressChanged(Address { tentative: true, ..address(2, "2001:db8::2") }));
        assert_eq!((inside(&facts), facts.usable(2).count()), (vec![1, 2], 0), "it may not be used yet");
        facts.take(Event::LinkGone(port(1, None)));
        assert_eq!((inside(&facts), facts.usable(1).count()), (vec![2], 0));
        facts.take(Event::AddressGone(address(2, "2001:db8::2")));
        assert!(inside(&facts).is_empty());
    }
}
