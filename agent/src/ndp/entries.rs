//! The kernel's proxy entries: desired against actual. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use sextant_ndp::tracked::Tracked;

use super::reach::Reach;
use crate::kernel::{ProxyEntry, RouteProtocol};

/// An entry's link and address.
type Key = (u32, Ipv6Addr);

/// The changes to the entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) add: Vec<Key>,
    pub(super) remove: Vec<Key>,
}

impl ProxyEntry {
    /// Of our protocol, and as we make them.
    pub(crate) fn ours(link: u32, addr: Ipv6Addr) -> Self {
        Self { link, addr, protocol: RouteProtocol::OURS, router: true }
    }

    /// Whether it is ours.
    pub(crate) fn is_ours(&self) -> bool {
        self.protocol == RouteProtocol::OURS
    }
}

/// The entries, as they were read last and changed since.
#[derive(Debug, Default)]
pub(super) struct Entries {
    all: BTreeMap<(Ipv6Addr, u32), ProxyEntry>,
    /// The number of each link.
    counts: BTreeMap<u32, usize>,
    /// Those of other processes.
    foreign: BTreeSet<(Ipv6Addr, u32)>,
    revision: u64,
}

impl Entries {
    /// These were read. Returns whether that is news.
    pub(super) fn replace(&mut self, read: &[ProxyEntry]) -> bool {
        let is_known = |it: &ProxyEntry| self.all.get(&(it.addr, it.link)) == Some(it);
        if read.len() == self.all.len() && read.iter().all(is_known) {
            return false;
        }
        *self = Self { revision: self.revision + 1, ..Self::default() };
        read.iter().for_each(|it| self.insert(*it));
        true
    }

    /// It is there now.
    pub(super) fn insert(&mut self, entry: ProxyEntry) {
        self.remove((entry.link, entry.addr));
        let key = (entry.addr, entry.link);
        *self.counts.entry(entry.link).or_default() += 1;
        if !entry.is_ours() {
            self.foreign.insert(key);
        }
        self.all.insert(key, entry);
        self.revision += 1;
    }

    /// It is there no longer.
    pub(super) fn remove(&mut self, (link, addr): Key) {
        if self.all.remove(&(addr, link)).is_some() {
            self.foreign.remove(&(addr, link));
            self.counts.entry(link).and_modify(|count| *count -= 1);
            self.revision += 1;
        }
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &ProxyEntry> {
        self.all.values()
    }

    /// Those of other processes.
    pub(super) fn foreign(&self) -> impl Iterator<Item = &ProxyEntry> {
        self.foreign.iter().filter_map(|key| self.all.get(key))
    }

    /// How many a link has.
    pub(super) fn count(&self, link: u32) -> usize {
        self.counts.get(&link).copied().unwrap_or_default()
    }

    /// Grows with each change.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Those of an address.
    fn of(&self, addr: Ipv6Addr) -> impl Iterator<Item = &ProxyEntry> {
        self.all.range((addr, 0)..=(addr, u32::MAX)).map(|(_, entry)| entry)
    }

    /// Whether an address has one on each uplink where it is answered for.
    pub(super) fn are_on_all(&self, addr: Ipv6Addr, reach: &Reach) -> bool {
        let mut links = reach.links(addr).peekable();
        links.peek().is_some() && links.all(|link| self.all.contains_key(&(addr, link)))
    }

    /// The addresses with an entry on each uplink where they are answered for.
    pub(super) fn on_all(&self, reach: &Reach) -> impl Iterator<Item = Ipv6Addr> {
        self.all.keys().map(|(addr, _)| *addr).filter(|addr| self.are_on_all(*addr, reach))
    }
}

/// An entry for each address in use, on each uplink where it is answered for. Those of others stay, and serve (DESIGN I4).
pub(super) fn plan(alive: &Tracked<Ipv6Addr>, reach: &Reach, actual: &Entries) -> Plan {
    let there = actual.iter().map(|it| it.addr);
    plan_of(&alive.iter().chain(there).collect(), alive, reach, actual)
}

/// The same, of these addresses only.
pub(super) fn plan_of(
    addresses: &BTreeSet<Ipv6Addr>,
    alive: &Tracked<Ipv6Addr>,
    reach: &Reach,
    actual: &Entries,
) -> Plan {
    let mut plan = Plan::default();
    for addr in addresses.iter().copied() {
        let is_alive = alive.contains(addr);
        let is_right =
            |link: &u32| actual.all.get(&(addr, *link)).is_some_and(|it| !it.is_ours() || it.router);
        let wanted = reach.links(addr).filter(|link| is_alive && !is_right(link));
        plan.add.extend(wanted.map(|link| (link, addr)));
        let unwanted = actual.of(addr).filter(|it| it.is_ours() && !(is_alive && reach.has(it.link, addr)));
        plan.remove.extend(unwanted.map(|it| (it.link, addr)));
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xc000, n)
    }

    fn reach(links: &[u32]) -> Reach {
        Reach::of("2001:db8::c000:0/112", links)
    }

    fn foreign(n: u16) -> ProxyEntry {
        ProxyEntry { protocol: RouteProtocol(0), ..ProxyEntry::ours(2, addr(n)) }
    }

    fn actual() -> Vec<ProxyEntry> {
        vec![
            ProxyEntry::ours(2, addr(1)),
            ProxyEntry::ours(2, addr(2)),
            ProxyEntry { router: false, ..ProxyEntry::ours(2, addr(5)) },
            foreign(3),
            foreign(9),
            ProxyEntry::ours(5, addr(1)),
        ]
    }

    #[test]
    fn only_our_entries_are_changed() {
        let mut entries = Entries::default();
        assert!(entries.replace(&actual()));
        let alive = [addr(1), addr(3), addr(4), addr(5)].into_iter().collect();
        let whole = plan(&alive, &reach(&[2]), &entries);
        assert_eq!(
            whole,
            Plan { add: vec![(2, addr(4)), (2, addr(5))], remove: vec![(5, addr(1)), (2, addr(2))] }
        );
        let one = plan_of(&[addr(2), addr(4)].into(), &alive, &reach(&[2]), &entries);
        assert_eq!(one, Plan { add: vec![(2, addr(4))], remove: vec![(2, addr(2))] });
        let on_all = |links: &[u32]| entries.on_all(&reach(links)).collect::<BTreeSet<_>>();
        assert_eq!(on_all(&[2]), [addr(1), addr(2), addr(3), addr(5), addr(9)].into());
        assert_eq!(on_all(&[2, 5]), [addr(1)].into());
        assert_eq!(on_all(&[]), [].into(), "it is answered for nowhere");
    }

    #[test]
    fn what_was_read_again_is_no_news() {
        let mut entries = Entries::default();
        assert!(!entries.replace(&[]));
        entries.replace(&actual());
        let (revision, mut read) = (entries.revision(), actual());
        read.reverse();
        assert!(!entries.replace(&read) && entries.revision() == revision);
        assert_eq!((entries.count(2), entries.foreign().count()), (5, 2));
        entries.remove((2, addr(9)));
        entries.insert(ProxyEntry::ours(2, addr(3)));
        assert_eq!((entries.count(2), entries.foreign().count()), (4, 0));
        assert!(entries.revision() > revision && entries.replace(&actual()));
        assert_eq!((entries.count(2), entries.foreign().count()), (5, 2));
    }
}
