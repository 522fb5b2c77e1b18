//! What is answered, asked and advertised. Pure.

mod advertisements;
mod counts;
mod expected;
mod others;
mod place;
mod received;
mod renewed;
mod sweep;
mod unheeded;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::Ipv6Addr,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

pub use counts::{Counts, FORMER, Form, LinkCounts, Unanswered};
pub use place::{Answer, Bridge, Place, Source, Uplink};

use crate::{
    limits::{Limits, ToAll},
    message::{Mac, multicast_mac, solicitation, solicited_node},
    targets::{Ask, InUse, Targets},
    tracked::Tracked,
};

use expected::Expected;
use others::Others;
use renewed::{Renewed, renewed};
use sweep::Sweep;
use unheeded::Unheeded;

/// Solicitations of one neighbour that are answered a second: a router that asks for each of 1,000 containers at once is served.
const ANSWERS: u32 = 1000;
/// Unknown addresses that one neighbour makes us ask for a second: each costs a packet to all containers.
const ASKS: u32 = 50;
/// Solicitations to the bridges at once; the rest is due a moment later.
const ASKS_AT_ONCE: usize = 64;
/// The delay between these.
const PAUSE: Duration = Duration::from_millis(20);
/// What was alive before is asked for at this pace.
const ADOPTED_EVERY: Duration = Duration::from_millis(2);

/// A packet that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The interface.
    pub link: u32,
    /// The receiver's link-layer address.
    pub to: Mac,
    /// The IPv6 packet.
    pub packet: Vec<u8>,
}

/// The state of all answers.
#[derive(Debug)]
pub struct Proxy {
    place: Place,
    targets: Targets,
    expected: Expected,
    /// The addresses that the kernel answers for by its own entries.
    kernel: HashSet<Ipv6Addr>,
    answers: Limits,
    asks: Limits,
    to_all: ToAll,
    /// No further solicitation before that.
    asked: Option<Instant>,
    counts: Counts,
    others: Others,
    unheeded: Unheeded,
    renewed: Renewed,
    sweep: Sweep,
}

impl Proxy {
    /// At this place; nothing is known to be alive.
    pub fn new(place: Place, now: Instant) -> Self {
        Self {
            place,
            targets: Targets::default(),
            expected: Expected::default(),
            kernel: HashSet::new(),
            answers: Limits::new(ANSWERS, now),
            asks: Limits::new(ASKS, now),
            to_all: ToAll::new(0, now),
            asked: None,
            counts: Counts::default(),
            others: Others::default(),
            unheeded: Unheeded::default(),
            renewed: Renewed::default(),
            sweep: Sweep::default(),
        }
    }

    /// The present place.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The addresses in use, those of this host's bridges first.
    pub fn alive(&self) -> impl Iterator<Item = Ipv6Addr> {
        let of_bridges = self.place.own_targets();
        of_bridges.chain(self.targets.alive().iter())
    }

    /// Whether it is one of them.
    pub fn is_alive(&self, target: Ipv6Addr) -> bool {
        self.targets.is_alive(target) || self.is_own(target)
    }

    fn is_own(&self, target: Ipv6Addr) -> bool {
        self.place.own_targets().any(|own| own == target)
    }

    /// What is known of an address of a container, if it is in use.
    pub fn in_use(&self, target: Ipv6Addr) -> Option<InUse> {
        self.targets.in_use(target)
    }

    /// The addresses of containers that are alive, to follow their changes.
    pub fn containers(&self) -> &Tracked<Ipv6Addr> {
        self.targets.alive()
    }

    /// What has happened since the start.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Others on the uplinks that have advertised addresses of ours of late.
    pub fn others(&mut self, now: Instant) -> BTreeMap<Ipv6Addr, Mac> {
        self.others.all(now)
    }

    /// Addresses that a neighbour goes on asking for although it is answered, each with one such neighbour.
    pub fn unheeded(&mut self, now: Instant) -> BTreeMap<Ipv6Addr, Mac> {
        let (place, targets) = (&self.place, &self.targets);
        let is_ours = |target| targets.is_alive(target) || place.own_targets().any(|own| own == target);
        self.unheeded.keep(now, is_ours);
        self.unheeded.all(now)
    }

    /// Whether the kernel answers for this address.
    pub fn leave_to_kernel(&mut self, target: Ipv6Addr, is_kernels: bool) {
        if is_kernels {
            self.kernel.insert(target)
        } else {
            self.kernel.remove(&target)
        };
    }

    /// The kernel answers for these addresses, and for no others.
    pub fn leave_only_to_kernel(&mut self, targets: impl Iterator<Item = Ipv6Addr>) {
        self.kernel = targets.collect();
    }

    /// The host has other prefixes, links or settings.
    pub fn move_to(&mut self, place: Place, now: Instant) {
        self.counts.keep(&place.uplinks.iter().map(|uplink| uplink.link).collect());
        let prefixes = place.prefixes.clone();
        self.targets.keep(|target| prefixes.iter().any(|prefix| prefix.contains(target)));
        self.others.keep(|target| prefixes.iter().any(|prefix| prefix.contains(target)));
        let renewed = renewed(&self.place, &place);
        self.place = place;
        self.renew(renewed, now);
    }

    /// These were alive before this process: they are, until they do not answer.
    pub fn adopt(&mut self, targets: impl IntoIterator<Item = Ipv6Addr>, now: Instant) {
        let mut at = now;
        for target in targets {
            if self.place.is_containers(target) {
                self.targets.adopt(target, at);
                at += ADOPTED_EVERY;
            }
        }
    }

    /// The engine has containers with these addresses, and with no others. Those that it has no longer may be gone.
    pub fn follow_engine(&mut self, expected: &Arc<BTreeSet<Ipv6Addr>>, now: Instant) {
        for target in self.expected.replace(expected) {
            self.targets.doubt(target, now);
        }
    }

    /// Asks for the engine's containers that have not spoken yet, or no longer do.
    pub fn ask_silent(&mut self, now: Instant) {
        for target in self.expected.silent(self.targets.alive()) {
            if self.place.is_containers(*target) {
                self.targets.expect(*target, now);
            }
        }
    }

    /// The bridges have so many ports.
    pub fn set_ports(&mut self, ports: usize) {
        self.to_all.set_ports(ports);
    }

    /// A bridge has lost its containers with this link-layer address, or nobody knows which ones.
    pub fn doubt_those(&mut self, bridge: u32, mac: Option<Mac>, now: Instant) {
        self.targets.doubt_those(bridge, mac, now);
    }

    /// Nobody knows what the bridges have lost.
    pub fn doubt_all(&mut self, now: Instant) {
        for bridge in &self.place.bridges {
            self.targets.doubt_those(bridge.link, None, now);
        }
    }

    /// When [`Self::ask`], [`Self::sweep`] or [`Self::advertise_renewed`] is due. It is asked for at each message.
    pub fn next_due(&self) -> Option<Instant> {
        let asks = self.targets.next_due().map(|due| self.asked.map_or(due, |asked| due.max(asked)));
        asks.into_iter().chain(self.renewed.due()).chain(self.sweep.due()).min()
    }

    /// When [`Self::others`] or [`Self::unheeded`] has fewer. It looks at each of them.
    pub fn next_fewer(&self) -> Option<Instant> {
        self.others.next_fewer().into_iter().chain(self.unheeded.next_due()).min()
    }

    /// The solicitations that are due. `is_heard` tells which links are: on others, silence is no sign that an address is gone.
    pub fn ask(&mut self, now: Instant, is_heard: impl Fn(u32) -> bool) -> Vec<Sent> {
        let bridges = &self.place.bridges;
        let all_heard = |target| bridges.iter().all(|bridge| !bridge.has(target) || is_heard(bridge.link));
        let may_ask_all = |urgency| self.to_all.admit(urgency, now);
        let asks = self.targets.ask(now, ASKS_AT_ONCE, all_heard, may_ask_all);
        self.asked = (asks.len() == ASKS_AT_ONCE).then(|| now + PAUSE);
        asks.into_iter().flat_map(|ask| self.solicitations(ask)).collect()
    }

    fn solicitations(&self, ask: Ask) -> Vec<Sent> {
        let there = |bridge: &&Bridge| ask.seat.is_none_or(|(link, _)| link == bridge.link);
        let bridges = self.place.bridges.iter().filter(|bridge| bridge.has(ask.target)).filter(there);
        let packet = |bridge: &Bridge| solicitation(bridge.source, bridge.mac, ask.target);
        let group = multicast_mac(solicited_node(ask.target));
        let to = ask.seat.map_or(group, |(_, mac)| mac);
        bridges.map(|bridge| Sent { link: bridge.link, to, packet: packet(bridge) }).collect()
    }
}

#[cfg(test)]
mod tests;
