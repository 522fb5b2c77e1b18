//! Other hosts that advertise addresses of this host's containers.

use std::{collections::BTreeMap, net::Ipv6Addr, time::Duration};

use tokio::time::Instant;

use super::Proxy;
use crate::message::{Mac, Message};

/// So many addresses that others answer for are remembered, each for so long after the last time.
const MOST: usize = 64;
const FOR: Duration = Duration::from_secs(300);

/// The addresses, each with the link-layer address that was advertised, and when it was last.
#[derive(Debug, Default)]
pub(super) struct Others(BTreeMap<Ipv6Addr, (Mac, Instant)>);

impl Others {
    pub(super) fn all(&mut self, now: Instant) -> BTreeMap<Ipv6Addr, Mac> {
        self.0.retain(|_, (_, last)| now.saturating_duration_since(*last) < FOR);
        self.0.iter().map(|(target, (mac, _))| (*target, *mac)).collect()
    }

    /// Forgets all but these.
    pub(super) fn keep(&mut self, is_kept: impl Fn(Ipv6Addr) -> bool) {
        self.0.retain(|target, _| is_kept(*target));
    }

    /// When [`Self::all`] has fewer. It looks at each of them.
    pub(super) fn next_fewer(&self) -> Option<Instant> {
        self.0.values().map(|(_, last)| *last + FOR).min()
    }

    /// How many there are, and the most.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.0.len(), MOST)
    }

    fn note(&mut self, target: Ipv6Addr, mac: Mac, now: Instant) {
        if self.0.len() < MOST || self.0.contains_key(&target) {
            self.0.insert(target, (mac, now));
        }
    }
}

impl Proxy {
    /// Somebody on an uplink has advertised an address.
    pub(super) fn note_other(&mut self, from: Mac, message: &Message, now: Instant) {
        let mac = message.mac.unwrap_or(from);
        let own = self.place.uplinks.iter().any(|it| it.mac == mac);
        if self.place.is_containers(message.target) && !own {
            self.others.note(message.target, mac, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Place, Uplink},
        *,
    };
    use crate::message::{Kind, solicited_node};

    const OWN: Mac = [2; 6];
    const OTHER: Mac = [5; 6];

    fn place(prefix: &str) -> Place {
        let uplinks =
            vec![Uplink { link: 2, mac: OWN, source: "fe80::2".parse().unwrap(), kernel_hears: true }];
        Place { prefixes: vec![prefix.parse().unwrap()], uplinks, ..Place::default() }
    }

    #[test]
    fn another_answerer_is_noted() {
        let (now, target) = (Instant::now(), "2001:db8::c003".parse().unwrap());
        let mut proxy = Proxy::new(place("2001:db8::c000/125"), now);
        let says = |proxy: &mut Proxy, mac| {
            let (source, destination) = ("fe80::5".parse().unwrap(), solicited_node(target));
            let said = Message { kind: Kind::Advertisement, source, destination, target, mac: Some(mac) };
            proxy.received(2, mac, &said, now);
        };
        says(&mut proxy, OWN);
        assert_eq!(proxy.others(now).len(), 0, "our own");
        says(&mut proxy, OTHER);
        assert_eq!((proxy.others(now), proxy.next_fewer()), ([(target, OTHER)].into(), Some(now + FOR)));
        assert_eq!(proxy.others(now + FOR).len(), 0, "it has stopped");
        says(&mut proxy, OTHER);
        proxy.move_to(place("2001:db8::d000/125"), now);
        assert_eq!(proxy.others(now).len(), 0);
    }
}
