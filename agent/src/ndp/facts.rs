//! The host's links and addresses, followed by the kernel's events. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use crate::kernel::{Address, Event, Link};

/// All links and addresses.
#[derive(Debug, Default)]
pub(super) struct Facts {
    links: BTreeMap<u32, Link>,
    addresses: BTreeMap<(u32, Ipv6Addr), Address>,
}

impl Facts {
    pub(super) fn new(links: Vec<Link>, addresses: Vec<Address>) -> Self {
        Self {
            links: links.into_iter().map(|link| (link.index, link)).collect(),
            addresses: addresses.into_iter().map(|it| ((it.link, it.addr), it)).collect(),
        }
    }

    /// One of the kernel's events, but for a loss of events.
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::LinkChanged(link) => drop(self.links.insert(link.index, link)),
            Event::LinkGone(link) => {
                self.links.remove(&link.index);
                self.addresses.retain(|(of, _), _| *of != link.index);
            }
            Event::AddressChanged(it) => drop(self.addresses.insert((it.link, it.addr), it)),
            Event::AddressGone(it) => drop(self.addresses.remove(&(it.link, it.addr))),
            _ => {}
        }
    }

    pub(super) fn link(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// The addresses that may be used.
    pub(super) fn usable(&self) -> impl Iterator<Item = &Address> {
        self.addresses.values().filter(|it| !it.tentative && !it.dad_failed)
    }

    /// The ports of bridges, each with its bridge; those that are up, since a container's link goes down with the container.
    pub(super) fn ports(&self) -> BTreeSet<(u32, u32)> {
        let up = self.links.values().filter(|link| link.up && link.carrier);
        up.filter_map(|link| Some((link.index, link.controller?))).collect()
    }
}
