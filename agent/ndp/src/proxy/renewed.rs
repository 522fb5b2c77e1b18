//! Advertisements on an uplink with a new link-layer address: neighbours know the containers' addresses at the former one, until their
//! entries fail. So these advertisements replace what they know (RFC 4861 §7.2.6), as the kernel's do for the host's own addresses.

use std::{collections::BTreeSet, net::Ipv6Addr};

use tokio::time::Instant;

use super::{PAUSE, Place, Proxy, Sent};
use crate::message::{ALL_NODES, Advertisement, advertisement, multicast_mac};

/// Advertisements at once; the rest is due a moment later.
const AT_ONCE: usize = 64;

/// The addresses that are still to be advertised.
#[derive(Debug, Default)]
pub(super) struct Renewed {
    /// Each with the index of the uplink.
    left: BTreeSet<(u32, Ipv6Addr)>,
    due: Option<Instant>,
}

impl Renewed {
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }
}

/// The uplinks of `now` that were not there before, or had another link-layer address.
pub(super) fn renewed(before: &Place, now: &Place) -> Vec<u32> {
    let was_there = |link, mac| before.uplinks.iter().any(|it| (it.link, it.mac) == (link, mac));
    now.uplinks.iter().filter(|it| !was_there(it.link, it.mac)).map(|it| it.link).collect()
}

impl Proxy {
    /// All addresses in use are to be advertised on these uplinks.
    pub(super) fn renew(&mut self, uplinks: Vec<u32>, now: Instant) {
        let all = uplinks.into_iter().flat_map(|link| self.alive().map(move |target| (link, target)));
        let all: Vec<_> = all.collect();
        if !all.is_empty() {
            self.renewed.left.extend(all);
            self.renewed.due.get_or_insert(now);
        }
    }

    /// The advertisements that are due after a change of an uplink's link-layer address.
    pub fn advertise_renewed(&mut self, now: Instant) -> Vec<Sent> {
        if self.renewed.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        let mut sent = Vec::new();
        for _ in 0..AT_ONCE {
            let Some((link, target)) = self.renewed.left.pop_first() else { break };
            sent.extend(self.replacement(link, target));
        }
        self.renewed.due = (!self.renewed.left.is_empty()).then(|| now + PAUSE);
        sent.iter().for_each(|it| self.counts.of(it.link).advertised += 1);
        sent
    }

    fn replacement(&self, link: u32, target: Ipv6Addr) -> Option<Sent> {
        let uplink = self.place.uplinks.iter().find(|uplink| uplink.link == link)?;
        let is_ours = self.is_alive(target) && self.place.is_on_link(link, target);
        let it = Advertisement {
            source: self.place.source_of(uplink, target),
            destination: ALL_NODES,
            target,
            mac: uplink.mac,
            solicited: false,
            overrides: true,
        };
        is_ours.then(|| Sent { link, to: multicast_mac(ALL_NODES), packet: advertisement(&it) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Bridge, Source, Uplink};
    use super::*;
    use crate::message::{Mac, decode};

    const FORMER: Mac = [2, 0, 0, 0, 0, 2];
    const NEW: Mac = [2, 0, 0, 0, 0, 3];

    fn addr(n: u16) -> Ipv6Addr {
        Ipv6Addr::from_bits("2001:db8::".parse::<Ipv6Addr>().unwrap().to_bits() + u128::from(n))
    }

    fn place(macs: &[(u32, Mac)]) -> Place {
        let prefix = "2001:db8::/112".parse().unwrap();
        let uplink =
            |&(link, mac)| Uplink { link, mac, source: "fe80::2".parse().unwrap(), kernel_hears: true };
        let bridge = Bridge {
            link: 7,
            mac: [7; 6],
            source: "fe80::7".parse().unwrap(),
            prefixes: vec![prefix],
            own: vec![addr(1)],
        };
        Place {
            prefixes: vec![prefix],
            uplinks: macs.iter().map(uplink).collect(),
            bridges: vec![bridge],
            ..Place::default()
        }
    }

    /// Link, target and link-layer address of each, which replaces what neighbours know.
    fn seen(sent: &[Sent]) -> Vec<(u32, Ipv6Addr, Mac)> {
        let one = |it: &Sent| {
            let read = decode(&it.packet).unwrap();
            assert_eq!((read.destination, it.packet[44]), (ALL_NODES, 0xa0));
            (it.link, read.target, read.mac.unwrap())
        };
        sent.iter().map(one).collect()
    }

    #[test]
    fn an_uplinks_new_link_layer_address_replaces_the_former_one_for_all_that_is_in_use() {
        let now = Instant::now();
        let mut proxy = Proxy::new(place(&[(2, FORMER), (3, FORMER)]), now);
        proxy.adopt([addr(5)], now);
        proxy.leave_to_kernel(addr(5), true);
        proxy.move_to(Place { source: Source::Target, ..place(&[(3, FORMER), (2, FORMER)]) }, now);
        assert_eq!(proxy.advertise_renewed(now), [], "neither has changed");
        proxy.move_to(place(&[(2, NEW), (3, FORMER)]), now);
        assert_eq!(proxy.next_due(), Some(now));
        assert_eq!(seen(&proxy.advertise_renewed(now)), [(2, addr(1), NEW), (2, addr(5), NEW)]);
        assert_eq!(proxy.advertise_renewed(now), [], "once");
        proxy.move_to(place(&[(3, FORMER)]), now);
        proxy.move_to(place(&[(2, NEW), (3, FORMER)]), now);
        assert_eq!(seen(&proxy.advertise_renewed(now)).len(), 2, "it may have been replaced");
    }

    #[test]
    fn only_what_is_still_ours_is_advertised() {
        let now = Instant::now();
        let mut proxy = Proxy::new(place(&[(2, FORMER)]), now);
        proxy.adopt([addr(5)], now);
        let off_link = vec![(4, proxy.place().prefixes[0])];
        proxy.move_to(Place { off_link, ..place(&[(2, NEW), (3, NEW), (4, NEW)]) }, now);
        proxy.move_to(
            Place { prefixes: vec!["2001:db8::/126".parse().unwrap()], ..proxy.place().clone() },
            now,
        );
        assert_eq!(seen(&proxy.advertise_renewed(now)), [(2, addr(1), NEW), (3, addr(1), NEW)]);
        proxy.move_to(place(&[(2, FORMER)]), now);
        proxy.move_to(place(&[]), now);
        assert_eq!(proxy.advertise_renewed(now), [], "the link is gone");
    }

    #[test]
    fn many_are_advertised_a_few_at_a_time() {
        let now = Instant::now();
        let mut proxy = Proxy::new(place(&[(2, FORMER)]), now);
        proxy.adopt((2..=200).map(addr), now);
        proxy.move_to(place(&[(2, NEW)]), now);
        let (mut at, mut counts) = (now, Vec::new());
        while let Some(due) = proxy.renewed.due() {
            at = due;
            counts.push(proxy.advertise_renewed(at).len());
        }
        assert_eq!(counts, [64, 64, 64, 8]);
        assert_eq!(at, now + PAUSE * 3);
        assert!(at < now + Duration::from_secs(1));
        assert_eq!(proxy.counts().all().advertised, 200);
    }
}
