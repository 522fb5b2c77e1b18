//! Silent containers of small prefixes: one with a static address that it does not check for duplicates may send nothing until somebody
//! asks for it. While the agent is dead, nobody would answer for it then. So all addresses of a small prefix are asked for now and then.

use std::{net::Ipv6Addr, time::Duration};

use sextant_proto::Prefix;
use tokio::time::Instant;

use super::Proxy;

/// So many addresses are asked for at once, with all prefixes together: the rest of a larger prefix cannot be searched.
const MOST: u128 = 256;
const EVERY: Duration = Duration::from_secs(60);
/// A container that has just come has its address by then.
const AFTER_A_PORT: Duration = Duration::from_secs(1);

/// When the next one is due; never, if nobody sweeps.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    due: Option<Instant>,
}

impl Sweep {
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}

impl Proxy {
    /// Asks for all addresses of small prefixes, from now on.
    pub fn start_sweeps(&mut self, now: Instant) {
        self.sweep.due = Some(now);
    }

    /// A port has come, maybe with a container.
    pub fn port_came(&mut self, now: Instant) {
        let soon = now + AFTER_A_PORT;
        self.sweep.due = self.sweep.due.map(|due| due.min(soon));
    }

    /// Lets [`Proxy::ask`] ask for the addresses that are not known to be in use, if that is due.
    pub fn sweep(&mut self, now: Instant) {
        if self.sweep.due.is_none_or(|due| due > now) {
            return;
        }
        self.sweep.due = Some(now + EVERY);
        let unknown: Vec<_> = self.small().filter(|target| !self.is_alive(*target)).collect();
        for target in unknown {
            self.targets.expect(target, now);
        }
    }

    fn small(&self) -> impl Iterator<Item = Ipv6Addr> {
        let size = |prefix: &Prefix| 1u128.checked_shl(u32::from(128 - prefix.len())).unwrap_or(u128::MAX);
        let is_small = move |prefix: &&Prefix| size(prefix) <= MOST;
        let of = move |prefix: &Prefix| {
            let first = prefix.addr().to_bits();
            (first..first.saturating_add(size(prefix))).map(Ipv6Addr::from_bits)
        };
        let all = self.place.prefixes.iter().filter(is_small).flat_map(of);
        all.filter(|target| self.place.is_containers(*target)).take(MOST as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{Bridge, Place};
    use super::*;
    use crate::message::{Mac, decode};

    const BRIDGE: u32 = 7;
    const CONTAINER: Mac = [2, 0, 0, 0, 0, 9];

    fn addr(n: u16) -> Ipv6Addr {
        Ipv6Addr::from_bits("2001:db8::c000".parse::<Ipv6Addr>().unwrap().to_bits() + u128::from(n))
    }

    fn place(prefixes: &[&str]) -> Place {
        let prefixes: Vec<_> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
        let source = "fe80::7".parse().unwrap();
        let bridge =
            Bridge { link: BRIDGE, mac: [7; 6], source, prefixes: prefixes.clone(), own: vec![addr(1)] };
        Place { prefixes, bridges: vec![bridge], ..Place::default() }
    }

    fn asked(proxy: &mut Proxy, now: Instant) -> BTreeSet<Ipv6Addr> {
        proxy.sweep(now);
        proxy.ask(now, |_| true).iter().map(|it| decode(&it.packet).unwrap().target).collect()
    }

    #[test]
    fn all_addresses_of_a_small_prefix_are_asked_for_now_and_then() {
        let now = Instant::now();
        let mut proxy = Proxy::new(place(&["2001:db8::c000/125"]), now);
        assert_eq!(asked(&mut proxy, now), [].into(), "nobody sweeps");
        proxy.start_sweeps(now);
        assert_eq!(proxy.next_due(), Some(now));
        assert_eq!(asked(&mut proxy, now), (2..8).map(addr).collect(), "but the routers' and the bridge's");
        for later in 1..40 {
            asked(&mut proxy, now + Duration::from_millis(100 * later));
        }
        assert_eq!(proxy.next_due(), Some(now + EVERY), "the others are forgotten");
        proxy.adopt([addr(3)], now + EVERY);
        assert_eq!(asked(&mut proxy, now + EVERY), (2..8).map(addr).collect());
    }

    #[test]
    fn a_port_that_comes_is_asked_soon() {
        let now = Instant::now();
        let mut proxy = Proxy::new(place(&["2001:db8::c000/125"]), now);
        proxy.port_came(now);
        assert_eq!(proxy.next_due(), None, "nobody sweeps");
        proxy.start_sweeps(now);
        asked(&mut proxy, now);
        let quiet = now + Duration::from_secs(5);
        (0..50).for_each(|step| drop(asked(&mut proxy, now + Duration::from_millis(100 * step))));
        assert_eq!(proxy.next_due(), Some(now + EVERY));
        proxy.port_came(quiet);
        assert_eq!(proxy.next_due(), Some(quiet + AFTER_A_PORT));
        assert_eq!(asked(&mut proxy, quiet + AFTER_A_PORT).len(), 6);
    }

    #[test]
    fn a_large_prefix_is_not_searched() {
        let now = Instant::now();
        let mut proxy = Proxy::new(place(&["2001:db8::/64", "2001:db8:1::/119", "2001:db8:2::/120"]), now);
        proxy.start_sweeps(now);
        proxy.sweep(now);
        let all = proxy.targets.sizes()[0].1;
        assert_eq!(all, 255, "of the smallest, without its first");
        let whole = ["2001:db8:2::/120", "2001:db8:3::/120"];
        let mut proxy = Proxy::new(place(&whole), now);
        proxy.start_sweeps(now);
        proxy.sweep(now);
        assert_eq!(proxy.targets.sizes()[0].1, MOST as usize, "of all together");
        assert_eq!(asked(&mut Proxy::new(place(&whole), now), now), [].into());
        let said = crate::message::Message {
            kind: crate::message::Kind::Advertisement,
            source: "2001:db8:2::9".parse().unwrap(),
            destination: "fe80::7".parse().unwrap(),
            target: "2001:db8:2::9".parse().unwrap(),
            mac: Some(CONTAINER),
        };
        proxy.received(BRIDGE, CONTAINER, &said, now);
        assert!(proxy.is_alive(said.target), "one that answers is in use");
    }
}
