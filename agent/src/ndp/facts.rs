//! The host's links and addresses, followed by the kernel's events. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use sextant_ndp::losses::Losses;
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
    /// How many have come so far.
    arrivals: u64,
    /// What the bridges have lost.
    losses: Losses,
}

impl Facts {
    /// All were read, after events were lost or at the start.
    pub(super) fn read(&mut self, links: Vec<Link>, addresses: Vec<Address>) {
        let links: BTreeMap<_, _> = links.into_iter().map(|link| (link.index, link)).collect();
        // What the bridges have forgotten meanwhile is not known.
        let bridges: BTreeSet<_> = self.links.values().filter_map(serves).collect();
        bridges.into_iter().for_each(|bridge| self.losses.note((bridge, None)));
        self.ports = links.values().filter(|link| serves(link).is_some()).count();
        let new = links.values().filter(|link| has_come(self.links.get(&link.index), link)).count();
        self.arrivals += new as u64;
        self.links = links;
        (self.addresses, self.global) = Default::default();
        addresses.into_iter().for_each(|it| self.take(Event::AddressChanged(it)));
    }

    /// One of the kernel's events, but for a loss of events.
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::LinkChanged(link) => {
                self.ports += usize::from(serves(&link).is_some());
                self.arrivals += u64::from(has_come(self.links.get(&link.index), &link));
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
            Event::MacForgotten { bridge, mac, .. } => self.losses.note((bridge, Some(mac))),
            _ => {}
        }
    }

    fn remove(&mut self, (link, addr): (u32, Ipv6Addr)) {
        self.addresses.remove(&(link, addr));
        self.global.remove(&(addr, link));
    }

    /// A bridge notifies of what it has learnt on a port that goes: [`Event::MacForgotten`]. If it does not learn, all of its containers
    /// may be gone.
    fn note_lost(&mut self, before: &Link, now: Option<&Link>) {
        if let Some(bridge) = serves(before).filter(|bridge| now.and_then(serves) != Some(*bridge)) {
            let learns = before.learns && self.links.get(&bridge).is_some_and(|it| it.learns);
            if !learns {
                self.losses.note((bridge, None));
            }
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

    /// How many have come up so far: one may come in the place of another.
    pub(super) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// What the bridges have lost.
    pub(super) fn losses(&self) -> &Losses {
        &self.losses
    }
}

const LAST: Ipv6Addr = Ipv6Addr::from_bits(u128::MAX);

/// Whether it is a port that did not serve its bridge before.
fn has_come(before: Option<&Link>, now: &Link) -> bool {
    serves(now).is_some() && before.and_then(serves) != serves(now)
}

/// The bridge of a port that is up: a container's link goes down with the container.
fn serves(link: &Link) -> Option<u32> {
    link.controller.filter(|_| link.up && link.carrier)
}

#[cfg(test)]
mod tests {
    use sextant_ndp::losses::Loss;

    use super::*;
    use crate::kernel::fake::permanent;

    fn port(index: u32, bridge: Option<u32>) -> Link {
        Link { index, up: true, carrier: true, controller: bridge, ..Link::default() }
    }

    fn address(link: u32, addr: &str) -> Address {
        permanent(link, addr.parse().unwrap(), 64)
    }

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn lost(facts: &Facts, count: u64) -> Vec<Loss> {
        facts.losses().since(count).unwrap().collect()
    }

    #[test]
    fn ports_that_go_are_counted_and_those_that_come_are_not() {
        let mut facts = Facts::default();
        facts.read(vec![port(1, Some(7)), port(2, Some(7)), port(3, Some(8)), port(4, None)], vec![]);
        for link in [port(5, Some(7)), port(1, Some(7)), port(4, Some(8))] {
            facts.take(Event::LinkChanged(link));
        }
        assert_eq!((lost(&facts, 0), facts.ports()), (vec![], 5));
        facts.take(Event::LinkGone(port(1, Some(7))));
        facts.take(Event::LinkChanged(Link { carrier: false, ..port(2, Some(7)) }));
        facts.take(Event::LinkGone(port(2, Some(7))));
        facts.take(Event::LinkChanged(port(3, Some(7))));
        let all = [(7, None), (7, None), (8, None)];
        assert_eq!(lost(&facts, 0), all, "one is gone, one is down, one has moved");
        assert_eq!(facts.ports(), 3);
        facts.read(vec![port(3, Some(7)), port(4, Some(8))], vec![]);
        assert_eq!(lost(&facts, 3), [(7, None), (8, None)], "others may have gone unnoticed");
    }

    #[test]
    fn each_port_that_comes_up_is_an_arrival() {
        let mut facts = Facts::default();
        facts.read(vec![port(1, Some(7)), port(2, None)], vec![]);
        let at_start = facts.arrivals();
        let mut arrivals = |event| {
            let before = facts.arrivals();
            facts.take(event);
            facts.arrivals() - before
        };
        assert_eq!(arrivals(Event::LinkChanged(port(1, Some(7)))), 0, "it was there");
        assert_eq!(arrivals(Event::LinkGone(port(1, Some(7)))), 0);
        assert_eq!(arrivals(Event::LinkChanged(Link { carrier: false, ..port(3, Some(7)) })), 0);
        assert_eq!(arrivals(Event::LinkChanged(port(3, Some(7)))), 1, "in the place of the first one");
        assert_eq!(arrivals(Event::LinkChanged(port(3, Some(8)))), 1, "to another bridge");
        assert_eq!(arrivals(Event::LinkChanged(port(2, None))), 0);
        facts.read(vec![port(3, Some(8)), port(4, Some(8))], vec![]);
        assert_eq!(facts.arrivals(), at_start + 3, "one has come while events were lost");
    }

    #[test]
    fn of_a_port_where_its_bridge_learns_only_what_that_has_forgotten_is_lost() {
        let learning = |link: Link| Link { learns: true, ..link };
        let mut facts = Facts::default();
        let (bridge, silent) = (learning(port(7, None)), port(8, None));
        let ports = [learning(port(1, Some(7))), port(2, Some(7)), learning(port(3, Some(8)))];
        facts.read([&[bridge.clone(), silent][..], &ports].concat(), vec![]);
        facts.take(Event::LinkChanged(Link { up: false, ..ports[0].clone() }));
        facts.take(Event::MacForgotten { bridge: 7, port: 1, mac: MAC });
        facts.take(Event::LinkGone(ports[0].clone()));
        assert_eq!(lost(&facts, 0), [(7, Some(MAC))]);
        facts.take(Event::LinkGone(ports[1].clone()));
        facts.take(Event::LinkGone(ports[2].clone()));
        assert_eq!(
            lost(&facts, 1),
            [(7, None), (8, None)],
            "the one does not learn there, the other one nowhere"
        );
        facts.take(Event::LinkChanged(ports[0].clone()));
        facts.read(vec![bridge], vec![]);
        assert_eq!(lost(&facts, 3), [(7, None)], "events were lost");
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
