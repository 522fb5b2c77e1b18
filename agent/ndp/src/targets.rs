//! Which addresses are in use on the containers' bridges, and how that is found out. Pure.
//!
//! An address is alive once a container has spoken of it there. Of an unknown one that somebody asks for, and of one that may be
//! gone, the containers are asked: by a few solicitations, after which a silent address is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    time::Duration,
};

use tokio::time::Instant;

pub use crate::seats::Seat;
use crate::{message::Mac, proxy::Form, seats::Seats, tracked::Tracked};

/// So many unknown addresses are asked for at once: a scan of a prefix is no reason to remember it (RFC 6583 §6).
const MOST_ASKED: usize = 512;
/// So many addresses are known to be alive: a bridge has at most 1,023 ports.
const MOST_ALIVE: usize = 16_384;
/// So many addresses of one container are believed: it could invent any number.
const MOST_OF_ONE: usize = 256;
/// So many neighbours wait for one address.
const MOST_WAITING: usize = 8;
/// The waits after each solicitation of an address.
const WAITS: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400)];
/// A solicitation to all containers that must wait is tried again after that.
const LATER: Duration = Duration::from_millis(20);
/// An address that is heard of by a probe of duplicate address detection is in use a second later (RFC 4861 §10), if nobody objects.
const DETECTION: Duration = Duration::from_secs(1);
/// The same for a container that waits longer: its address is asked for until then.
const DETECTION_ENDS: Duration = Duration::from_secs(4);
/// How often it is asked meanwhile.
const DETECTION_STEP: Duration = Duration::from_millis(200);
/// An address that was not heard of for so long is asked for.
const SILENT: Duration = Duration::from_secs(30);
/// An address whose answer could not be heard is asked for again after that.
const UNHEARD: Duration = Duration::from_secs(1);

/// A neighbour on an uplink that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// The uplink.
    pub link: u32,
    /// Its address; unspecified if it is detecting duplicates.
    pub source: Ipv6Addr,
    /// Its link-layer address.
    pub mac: Mac,
    /// How it has asked.
    pub form: Form,
}

/// A solicitation that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The address.
    pub target: Ipv6Addr,
    /// Where it was last; everywhere if unknown.
    pub seat: Option<Seat>,
}

/// How it became known that an address is in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Learnt {
    /// It was in use before this process; no container has spoken of it since.
    #[default]
    Adopted,
    /// A container has spoken of it.
    Heard,
    /// A container has answered for it when it was asked for.
    Asked,
}

/// An address in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InUse {
    /// How that became known.
    pub learnt: Learnt,
    /// Since when it is known.
    pub since: Instant,
    /// Where it is; `None` if no container has spoken of it yet.
    pub seat: Option<Seat>,
}

#[derive(Debug, Clone, Default)]
struct Target {
    /// Since when it is alive.
    alive: Option<Instant>,
    learnt: Learnt,
    seat: Option<Seat>,
    /// Who has begun duplicate address detection of it: the first to be asked.
    detector: Option<Seat>,
    /// When something is due: the next solicitation, or the end of one that nobody answered.
    due: Option<Instant>,
    /// The solicitations that were sent since it was heard of.
    asked: usize,
    /// Until then it is asked for.
    until: Option<Instant>,
    waiting: Vec<Waiting>,
}

/// All addresses that are alive, or asked for.
#[derive(Debug, Default)]
pub struct Targets {
    all: BTreeMap<Ipv6Addr, Target>,
    due: BTreeSet<(Instant, Ipv6Addr)>,
    alive: Tracked<Ipv6Addr>,
    seats: Seats,
}

impl Targets {
    /// Whether it is alive.
    pub fn is_alive(&self, target: Ipv6Addr) -> bool {
        self.alive.contains(target)
    }

    /// The one with this address, if it is alive.
    pub fn in_use(&self, target: Ipv6Addr) -> Option<InUse> {
        let it = self.all.get(&target)?;
        Some(InUse { learnt: it.learnt, since: it.alive?, seat: it.seat })
    }

    /// The addresses that are alive.
    pub fn alive(&self) -> &Tracked<Ipv6Addr> {
        &self.alive
    }

    /// When [`Self::ask`] is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Somebody waits for this address, which is not alive. `false` if too many are asked for already.
    pub fn wait(&mut self, target: Ipv6Addr, waiting: Waiting, now: Instant) -> bool {
        if !self.expect(target, now) {
            return false;
        }
        let Some(it) = self.all.get_mut(&target) else { return false };
        if it.waiting.len() < MOST_WAITING && !it.waiting.contains(&waiting) {
            it.waiting.push(waiting);
        }
        true
    }

    /// It may be in use: it is asked for now. `false` if too many are asked for already.
    pub fn expect(&mut self, target: Ipv6Addr, now: Instant) -> bool {
        let known = self.all.contains_key(&target);
        if !known && self.all.len() - self.alive.len() >= MOST_ASKED {
            return false;
        }
        if !known {
            self.all.insert(target, Target::default());
            self.schedule(target, now);
        }
        true
    }

    /// A container there has begun duplicate address detection of it.
    pub fn detected(&mut self, target: Ipv6Addr, seat: Seat, now: Instant) {
        if self.is_alive(target) || !self.expect(target, now) {
            return;
        }
        if let Some(it) = self.all.get_mut(&target) {
            (it.until, it.detector) = (Some(now + DETECTION_ENDS), Some(seat));
        }
        self.schedule(target, now + DETECTION);
    }

    /// It is alive, by what was known before; whether it still is, is asked at `at`.
    pub fn adopt(&mut self, target: Ipv6Addr, at: Instant) {
        if self.set_alive(target, at) {
            self.schedule(target, at);
        }
    }

    /// It may be gone: it is asked for now.
    pub fn doubt(&mut self, target: Ipv6Addr, now: Instant) {
        if let Some(it) = self.all.get_mut(&target).filter(|it| it.alive.is_some() && it.asked == 0) {
            it.until = None;
            self.schedule(target, now);
        }
    }

    /// Every address on this bridge may be gone, or every one of a container. The cost follows the number of these.
    pub fn doubt_those(&mut self, bridge: u32, mac: Option<Mac>, now: Instant) {
        let those: Vec<_> = match mac {
            Some(mac) => self.seats.at((bridge, mac)).collect(),
            None => self.seats.on(bridge).chain(self.unseated()).collect(),
        };
        for target in those {
            self.doubt(target, now);
        }
    }

    /// Those that were in use before this process, and that no container has spoken of since.
    fn unseated(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.all.iter().filter(|(_, it)| it.alive.is_some() && it.seat.is_none()).map(|(addr, _)| *addr)
    }

    /// A container has spoken of it. Returns who has waited for that; `None` if it was alive before.
    pub fn heard(&mut self, target: Ipv6Addr, seat: Seat, now: Instant) -> Option<Vec<Waiting>> {
        let before = self.all.get(&target).and_then(|it| it.seat);
        if before != Some(seat) && self.seats.count(seat) >= MOST_OF_ONE {
            return None;
        }
        let is_new = self.set_alive(target, now);
        if !self.all.contains_key(&target) {
            return None;
        }
        self.seats.change(target, before, Some(seat));
        let it = self.all.get_mut(&target)?;
        if is_new || it.learnt == Learnt::Adopted {
            it.learnt = if it.asked > 0 { Learnt::Asked } else { Learnt::Heard };
        }
        (it.seat, it.asked, it.until) = (Some(seat), 0, None);
        let waiting = std::mem::take(&mut it.waiting);
        self.schedule(target, now + SILENT);
        is_new.then_some(waiting)
    }

    /// The solicitations that are due by now, at most `most`. Addresses that did not answer are gone after that, but only if an answer
    /// would have been heard all the time: one in use stays so while it cannot be heard. One that goes to all containers waits until
    /// `may_ask_all` permits it.
    pub fn ask(
        &mut self,
        now: Instant,
        most: usize,
        is_heard: impl Fn(Ipv6Addr) -> bool,
        mut may_ask_all: impl FnMut() -> bool,
    ) -> Vec<Ask> {
        let mut asks = Vec::new();
        while asks.len() < most {
            let Some((_, target)) = self.due.first().copied().filter(|(at, _)| *at <= now) else { break };
            let Some(it) = self.all.get_mut(&target) else { break };
            if self.alive.contains(target) && !is_heard(target) {
                it.asked = 0;
                self.schedule(target, now + UNHEARD);
                continue;
            }
            let step = match it.until {
                Some(until) => (now < until).then_some(DETECTION_STEP),
                None => WAITS.get(it.asked).copied(),
            };
            match step {
                Some(step) => {
                    // The container may have another link-layer address by now.
                    let seat = it.seat.or(it.detector).filter(|_| it.asked + 1 < WAITS.len());
                    if seat.is_none() && !may_ask_all() {
                        self.schedule(target, now + LATER);
                        continue;
                    }
                    it.asked += 1;
                    asks.push(Ask { target, seat });
                    self.schedule(target, now + step);
                }
                None => self.forget(target),
            }
        }
        asks
    }

    /// Forgets all but these.
    pub fn keep(&mut self, is_kept: impl Fn(Ipv6Addr) -> bool) {
        let gone: Vec<_> = self.all.keys().copied().filter(|target| !is_kept(*target)).collect();
        for target in gone {
            self.forget(target);
        }
    }

    #[cfg(test)]
    pub(crate) fn sizes(&self) -> [(&'static str, usize, usize); 4] {
        let waiting = self.all.values().map(|it| it.waiting.len()).max().unwrap_or_default();
        [
            ("addresses", self.all.len(), MOST_ALIVE + MOST_ASKED),
            ("addresses that are due", self.due.len(), MOST_ALIVE + MOST_ASKED),
            ("seats with an address", self.seats.len(), MOST_ALIVE),
            ("neighbours that wait for an address", waiting, MOST_WAITING),
        ]
    }

    fn forget(&mut self, target: Ipv6Addr) {
        let Some(it) = self.all.remove(&target) else { return };
        if let Some(due) = it.due {
            self.due.remove(&(due, target));
        }
        self.seats.change(target, it.seat, None);
        self.alive.set(target, false);
    }

    /// Whether it was not alive before.
    fn set_alive(&mut self, target: Ipv6Addr, now: Instant) -> bool {
        if self.alive.len() >= MOST_ALIVE && !self.is_alive(target) {
            return false;
        }
        self.all.entry(target).or_default().alive.get_or_insert(now);
        self.alive.set(target, true)
    }

    fn schedule(&mut self, target: Ipv6Addr, at: Instant) {
        let Some(it) = self.all.get_mut(&target) else { return };
        if let Some(before) = it.due.replace(at) {
            self.due.remove(&(before, target));
        }
        self.due.insert((at, target));
    }
}

#[cfg(test)]
mod tests;
