//! Advertisements that replace what neighbours know (RFC 4861 §7.2.6): on an uplink with a new link-layer address, as the kernel's do for
//! the host's own addresses, and of an address that has come from another host. Until they arrive, neighbours send to the former one.

use std::{collections::BTreeMap, net::Ipv6Addr, time::Duration};

use tokio::time::Instant;

use super::{PAUSE, Place, Proxy, Sent};
use crate::message::{ALL_NODES, Advertisement, advertisement, multicast_mac};

/// Advertisements at once; the rest is due a moment later.
const AT_ONCE: usize = 64;
/// Each is sent so often, with so much time between, since one may be lost (RFC 4861 §10: MAX_NEIGHBOR_ADVERTISEMENT, RETRANS_TIMER).
const TIMES: u8 = 3;
const AGAIN: Duration = Duration::from_secs(1);

/// The addresses that are still to be advertised.
#[derive(Debug, Default)]
pub(super) struct Renewed {
    /// When which address is due on which uplink, and how often it is still to be sent.
    left: BTreeMap<(Instant, u32, Ipv6Addr), u8>,
    /// None is sent before that.
    paused: Option<Instant>,
}

impl Renewed {
    pub(super) fn due(&self) -> Option<Instant> {
        let (&(first, ..), _) = self.left.first_key_value()?;
        Some(self.paused.map_or(first, |paused| first.max(paused)))
    }

    /// The next one that is due, and how often it is to be sent.
    fn pop(&mut self, now: Instant) -> Option<(u32, Ipv6Addr, u8)> {
        let first = self.left.first_entry().filter(|first| first.key().0 <= now)?;
        let ((_, link, target), times) = first.remove_entry();
        Some((link, target, times))
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
        self.renewed.left.retain(|(_, link, _), _| !uplinks.contains(link));
        let all = uplinks.into_iter().flat_map(|link| self.alive().map(move |target| (now, link, target)));
        let all: Vec<_> = all.map(|it| (it, TIMES)).collect();
        self.renewed.left.extend(all);
    }

    /// An address was advertised; if that replaces what neighbours know, it is advertised again.
    pub(super) fn advertise_again(&mut self, target: Ipv6Addr, now: Instant) {
        if self.place.overrides(target) {
            let all = self.place.uplinks.iter().map(|uplink| (now + AGAIN, uplink.link, target));
            self.renewed.left.extend(all.map(|it| (it, TIMES - 1)));
        }
    }

    /// The advertisements that are due.
    pub fn advertise_renewed(&mut self, now: Instant) -> Vec<Sent> {
        if self.renewed.due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        let mut sent = Vec::new();
        for _ in 0..AT_ONCE {
            let Some((link, target, times)) = self.renewed.pop(now) else { break };
            let Some(it) = self.replacement(link, target) else { continue };
            sent.push(it);
            if times > 1 {
                self.renewed.left.insert((now + AGAIN, link, target), times - 1);
            }
        }
        self.renewed.paused = Some(now + PAUSE);
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
        let both = [(2, addr(1), NEW), (2, addr(5), NEW)];
        assert_eq!(seen(&proxy.advertise_renewed(now)), both);
        assert_eq!((proxy.advertise_renewed(now), proxy.renewed.due()), (vec![], Some(now + AGAIN)));
        assert_eq!(seen(&proxy.advertise_renewed(now + AGAIN)), both, "one may be lost");
        assert_eq!(seen(&proxy.advertise_renewed(now + AGAIN * 2)), both);
        assert_eq!(proxy.renewed.due(), None, "three times");
        let now = now + AGAIN * 3;
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
        assert_eq!((proxy.advertise_renewed(now + AGAIN), proxy.renewed.due()), (vec![], None));
    }

    /// Until its neighbours know that, they send to its former host.
    #[test]
    fn what_has_come_from_another_host_is_advertised_three_times() {
        let now = Instant::now();
        for (moved, expected) in [(true, TIMES), (false, 1)] {
            let place = place(&[(2, NEW)]);
            let moved = if moved { place.prefixes.clone() } else { vec![] };
            let mut proxy = Proxy::new(Place { moved, ..place }, now);
            let said = crate::message::Message {
                kind: crate::message::Kind::Advertisement,
                source: addr(5),
                destination: ALL_NODES,
                target: addr(5),
                mac: None,
            };
            proxy.received(7, [9; 6], &said, now);
            let mut times = 1;
            while let Some(due) = proxy.renewed.due() {
                assert_eq!(due, now + AGAIN * times.into());
                assert_eq!(seen(&proxy.advertise_renewed(due)), [(2, addr(5), NEW)]);
                times += 1;
            }
            assert_eq!(times, expected);
        }
    }

    #[test]
    fn many_are_advertised_a_few_at_a_time() {
        let now = Instant::now();
        let mut proxy = Proxy::new(place(&[(2, FORMER)]), now);
        proxy.adopt((2..=200).map(addr), now);
        proxy.move_to(place(&[(2, NEW)]), now);
        let (mut at, mut counts) = (now, Vec::new());
        while let Some(due) = proxy.renewed.due().filter(|due| *due < now + AGAIN) {
            at = due;
            counts.push(proxy.advertise_renewed(at).len());
        }
        assert_eq!(counts, [64, 64, 64, 8]);
        assert_eq!(at, now + PAUSE * 3);
        assert_eq!(proxy.counts().all().advertised, 200);
    }
}
