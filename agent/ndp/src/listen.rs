//! A short look at a link, for a check of the host: who else advertises its containers' addresses, and who goes on asking for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::Ipv6Addr,
    time::Duration,
};

use sextant_proto::Prefix;
use tokio::time::{Instant, timeout_at};

use crate::{
    message::{Kind, Mac, Message, multicast_mac, solicitation, solicited_node},
    proxy::{Form, Uplink},
    socket::Port,
};

/// Others answer within that.
const LOOK: Duration = Duration::from_secs(1);
/// If somebody asks meanwhile, it is seen within that whether its question is repeated: it asks once a second.
const LONG_LOOK: Duration = Duration::from_millis(4500);
/// Repetitions that are closer together are one: whoever asks did not wait for the answer.
const TOGETHER: Duration = Duration::from_millis(500);
/// So many repetitions show that answers do not arrive: they come a second apart.
const REPEATED: u32 = 3;
/// So many addresses are asked for.
const MOST: usize = 64;
/// So many messages are taken at once.
const AT_ONCE: usize = 64;

/// What was heard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Addresses that another host has advertised, with its link-layer address.
    pub others: BTreeMap<Ipv6Addr, Mac>,
    /// Addresses that a neighbour goes on asking for, with its link-layer address.
    pub unheeded: BTreeMap<Ipv6Addr, Mac>,
}

/// Looks at a link. `targets` are addresses of this host's containers: all others are asked for them. `own` are the link-layer
/// addresses of this host: several of its interfaces may be on the link.
///
/// # Errors
/// If the link cannot be heard: that needs CAP_NET_RAW.
pub async fn listen(uplink: Uplink, own: &BTreeSet<Mac>, targets: &[Ipv6Addr]) -> io::Result<Heard> {
    let port = Port::open(uplink.link, true)?;
    let each: Vec<_> = targets.iter().filter_map(|target| Prefix::containing(*target, 128)).collect();
    port.listen_for(Some(&each))?;
    for target in targets.iter().take(MOST) {
        let to = multicast_mac(solicited_node(*target));
        port.send(to, &solicitation(uplink.source, uplink.mac, *target))?;
    }
    let start = Instant::now();
    let mut look = Look { own: own.clone(), targets: targets.iter().copied().collect(), ..Look::default() };
    loop {
        let until = start + if look.asked.is_empty() { LOOK } else { LONG_LOOK };
        let take = |from, message: Message| look.take(from, &message, Instant::now());
        match timeout_at(until, port.receive(AT_ONCE, take)).await {
            Ok(outcome) => drop(outcome?),
            Err(_) => return Ok(look.heard()),
        }
    }
}

/// What was heard so far.
#[derive(Debug, Default)]
struct Look {
    own: BTreeSet<Mac>,
    targets: BTreeSet<Ipv6Addr>,
    others: BTreeMap<Ipv6Addr, Mac>,
    /// How often a neighbour has asked for an address, and when it did last.
    asked: BTreeMap<(Ipv6Addr, Mac), (u32, Instant)>,
}

impl Look {
    fn take(&mut self, from: Mac, message: &Message, now: Instant) {
        let target = message.target;
        let mac = message.mac.unwrap_or(from);
        if !self.targets.contains(&target) || self.own.contains(&mac) {
            return;
        }
        match (message.kind, Form::of(message)) {
            (Kind::Advertisement, _) => drop(self.others.insert(target, mac)),
            (Kind::Solicitation, Form::Multicast) if self.asked.len() < MOST => {
                let (count, last) = self.asked.entry((target, from)).or_insert((1, now));
                if now.saturating_duration_since(*last) >= TOGETHER {
                    (*count, *last) = (*count + 1, now);
                }
            }
            _ => {}
        }
    }

    fn heard(self) -> Heard {
        let repeated = self.asked.into_iter().filter(|(_, (count, _))| *count >= REPEATED);
        Heard { others: self.others, unheeded: repeated.map(|((target, mac), _)| (target, mac)).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_and_repetitions_are_heard() {
        let (own, also_own, other, router) = ([2; 6], [5; 6], [3; 6], [4; 6]);
        let addr = |text: &str| text.parse::<Ipv6Addr>().unwrap();
        let [one, two] = ["2001:db8::c002", "2001:db8::c003"].map(addr);
        let message = |kind, target| Message {
            kind,
            source: addr("fe80::1"),
            destination: solicited_node(target),
            target,
            mac: None,
        };
        let now = Instant::now();
        let mut look = Look { own: [own, also_own].into(), targets: [one, two].into(), ..Look::default() };
        look.take(other, &message(Kind::Advertisement, one), now);
        for own in [own, also_own] {
            look.take(own, &message(Kind::Advertisement, two), now);
        }
        look.take(other, &message(Kind::Advertisement, addr("2001:db8::c004")), now);
        for n in 0..REPEATED {
            look.take(router, &message(Kind::Solicitation, two), now + Duration::from_secs(1) * n);
            look.take(router, &message(Kind::Solicitation, one), now);
        }
        assert_eq!(look.heard(), Heard { others: [(one, other)].into(), unheeded: [(two, router)].into() });
    }
}
