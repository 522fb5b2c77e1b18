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

mod asking;

pub use asking::Ask;

pub use crate::seats::Seat;
use crate::{
    message::Mac,
    proxy::Form,
    room::{Cause, Room},
    seats::Seats,
    tracked::Tracked,
};

/// So many addresses are known to be alive: a bridge has at most 1,023 ports.
const MOST_ALIVE: usize = 16_384;
/// So many addresses of one container are believed: it could invent any number.
const MOST_OF_ONE: usize = 256;
/// So many neighbours wait for one address.
const MOST_WAITING: usize = 8;
/// An address that is heard of by a probe of duplicate address detection is in use a second later (RFC 4861 §10), if nobody objects.
const DETECTION: Duration = Duration::from_secs(1);
/// The same for a container that waits longer: its address is asked for until then.
const DETECTION_ENDS: Duration = Duration::from_secs(4);
/// An address that was not heard of for so long is asked for.
const SILENT: Duration = Duration::from_secs(30);

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
    /// Why it is asked for while it is not.
    cause: Option<Cause>,
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
    room: Room,
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

    /// Somebody waits for this address, which is not alive. `false` if too many are asked for already.
    pub fn wait(&mut self, target: Ipv6Addr, waiting: Waiting, now: Instant) -> bool {
        if !self.ask_for(target, Cause::Neighbour, now) {
            return false;
        }
        let Some(it) = self.all.get_mut(&target) else { return false };
        if it.waiting.len() < MOST_WAITING && !it.waiting.contains(&waiting) {
            it.waiting.push(waiting);
        }
        // A container may use its address before the usual time of its detection is over.
        if it.until.is_some() && it.asked == 0 {
            self.schedule(target, now);
        }
        true
    }

    /// It may be in use: it is asked for now. `false` if too many are asked for already.
    pub fn expect(&mut self, target: Ipv6Addr, now: Instant) -> bool {
        self.ask_for(target, Cause::Host, now)
    }

    fn ask_for(&mut self, target: Ipv6Addr, cause: Cause, now: Instant) -> bool {
        if self.all.contains_key(&target) {
            return true;
        }
        let has_room = self.room.take(cause);
        if has_room {
            self.all.insert(target, Target { cause: Some(cause), ..Target::default() });
            self.schedule(target, now);
        }
        has_room
    }

    /// A container there has begun duplicate address detection of it.
    pub fn detected(&mut self, target: Ipv6Addr, seat: Seat, now: Instant) {
        if self.is_alive(target) || !self.ask_for(target, Cause::Container(seat), now) {
            return;
        }
        if let Some(it) = self.all.get_mut(&target) {
            (it.until, it.detector, it.asked) = (Some(now + DETECTION_ENDS), Some(seat), 0);
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

    /// Forgets all but these.
    pub fn keep(&mut self, is_kept: impl Fn(Ipv6Addr) -> bool) {
        let gone: Vec<_> = self.all.keys().copied().filter(|target| !is_kept(*target)).collect();
        for target in gone {
            self.forget(target);
        }
    }

    #[cfg(test)]
    pub(crate) fn sizes(&self) -> Vec<(&'static str, usize, usize)> {
        let waiting = self.all.values().map(|it| it.waiting.len()).max().unwrap_or_default();
        let most = MOST_ALIVE + crate::room::MOST;
        let own = [
            ("addresses", self.all.len(), most),
            ("addresses that are due", self.due.len(), most),
            ("seats with an address", self.seats.len(), MOST_ALIVE),
            ("neighbours that wait for an address", waiting, MOST_WAITING),
        ];
        own.into_iter().chain(self.room.sizes()).collect()
    }

    fn forget(&mut self, target: Ipv6Addr) {
        let Some(it) = self.all.remove(&target) else { return };
        if let Some(due) = it.due {
            self.due.remove(&(due, target));
        }
        if let Some(cause) = it.cause {
            self.room.give_back(cause);
        }
        self.seats.change(target, it.seat, None);
        self.alive.set(target, false);
    }

    /// Whether it was not alive before.
    fn set_alive(&mut self, target: Ipv6Addr, now: Instant) -> bool {
        if self.alive.len() >= MOST_ALIVE && !self.is_alive(target) {
            return false;
        }
        let it = self.all.entry(target).or_default();
        it.alive.get_or_insert(now);
        if let Some(cause) = it.cause.take() {
            self.room.give_back(cause);
        }
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
