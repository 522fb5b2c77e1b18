//! The kernel's proxy entries: desired against actual. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

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

/// An entry for each address in use, on each uplink where it is answered for. Those of others stay, and serve (DESIGN I4).
pub(super) fn plan(alive: &BTreeSet<Ipv6Addr>, reach: &Reach, actual: &[ProxyEntry]) -> Plan {
    let there: BTreeMap<Key, &ProxyEntry> = actual.iter().map(|it| ((it.link, it.addr), it)).collect();
    let wanted = alive.iter().flat_map(|addr| reach.links(*addr).map(|link| (link, *addr)));
    let is_right = |key: &Key| there.get(key).is_some_and(|it| !it.is_ours() || it.router);
    let add = wanted.filter(|key| !is_right(key)).collect();
    let unwanted =
        |it: &&&ProxyEntry| it.is_ours() && !(reach.has(it.link, it.addr) && alive.contains(&it.addr));
    let remove = there.values().filter(unwanted).map(|it| (it.link, it.addr)).collect();
    Plan { add, remove }
}

/// The addresses with an entry on each uplink where they are answered for.
pub(super) fn on_all(actual: &[ProxyEntry], reach: &Reach) -> BTreeSet<Ipv6Addr> {
    let mut counts: BTreeMap<Ipv6Addr, usize> = BTreeMap::new();
    for it in actual.iter().filter(|it| reach.has(it.link, it.addr)) {
        *counts.entry(it.addr).or_default() += 1;
    }
    counts.retain(|addr, count| *count == reach.links(*addr).count());
    counts.into_keys().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xc000, n)
    }

    #[test]
    fn only_our_entries_are_changed() {
        let foreign = ProxyEntry { protocol: RouteProtocol(0), ..ProxyEntry::ours(2, addr(3)) };
        let other = ProxyEntry { protocol: RouteProtocol(0), ..ProxyEntry::ours(2, addr(9)) };
        let actual = [
            ProxyEntry::ours(2, addr(1)),
            ProxyEntry::ours(2, addr(2)),
            ProxyEntry { router: false, ..ProxyEntry::ours(2, addr(5)) },
            foreign,
            other,
            ProxyEntry::ours(5, addr(1)),
        ];
        let reach = |links| Reach::of("2001:db8::c000:0/112", links);
        let plan = plan(&[addr(1), addr(3), addr(4), addr(5)].into(), &reach(&[2]), &actual);
        assert_eq!(
            plan,
            Plan { add: vec![(2, addr(4)), (2, addr(5))], remove: vec![(2, addr(2)), (5, addr(1))] }
        );
        assert_eq!(on_all(&actual, &reach(&[2])), [addr(1), addr(2), addr(3), addr(5), addr(9)].into());
        assert_eq!(on_all(&actual, &reach(&[2, 5])), [addr(1)].into());
    }
}
