//! Which addresses are in use, as far as what containers have said decides it.

use std::{collections::BTreeMap, net::Ipv6Addr, time::Duration};

use tokio::time::Instant;

use crate::{message::Mac, targets::Seat};

/// An address that was heard of is in use for so long; then its container is asked.
const HEARD: Duration = Duration::from_secs(30);
/// One that does not answer is gone after that, even if many are asked at once.
const SETTLED: Duration = Duration::from_millis(1700);
/// Of a container with so many addresses, further ones may be ignored.
const MANY: usize = 200;

/// Whether an address is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Alive,
    Gone,
    /// Its container is asked.
    Unclear,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    seat: Option<Seat>,
    alive_until: Instant,
    gone_from: Instant,
}

/// All that were heard of, and who probed last for an address that it wants.
#[derive(Default)]
pub(super) struct Lives(BTreeMap<Ipv6Addr, Heard>, BTreeMap<Ipv6Addr, Seat>);

impl Lives {
    pub(super) fn of(&self, target: Ipv6Addr, now: Instant) -> Life {
        match self.0.get(&target) {
            Some(it) if now < it.alive_until => Life::Alive,
            Some(it) if now < it.gone_from => Life::Unclear,
            _ => Life::Gone,
        }
    }

    /// A container says that it has it. `false` if that may be ignored.
    pub(super) fn hear(&mut self, target: Ipv6Addr, seat: Seat, now: Instant) -> bool {
        let is_counted = self.0.values().filter(|it| it.seat == Some(seat)).count() < MANY;
        let alive_until = if is_counted { now + HEARD } else { now };
        self.0.insert(target, Heard { seat: Some(seat), alive_until, gone_from: now + HEARD + SETTLED });
        is_counted
    }

    /// A container detects whether somebody else has it.
    pub(super) fn detect(&mut self, target: Ipv6Addr, seat: Seat) {
        self.1.insert(target, seat);
    }

    /// Whether it was heard of there last, or is detected there.
    pub(super) fn was_at(&self, target: Ipv6Addr, seat: Seat) -> bool {
        let is_heard = self.0.get(&target).is_some_and(|it| it.seat == Some(seat));
        is_heard || self.1.get(&target) == Some(&seat)
    }

    pub(super) fn adopt(&mut self, target: Ipv6Addr, now: Instant) {
        self.0.entry(target).or_insert(Heard { seat: None, alive_until: now, gone_from: now + SETTLED });
    }

    /// Those of a bridge, or of one of its containers, are asked.
    pub(super) fn doubt(&mut self, bridge: u32, mac: Option<Mac>, now: Instant) {
        let is_there = |seat: Seat| seat.0 == bridge && mac.is_none_or(|mac| seat.1 == mac);
        for it in self.0.values_mut().filter(|it| it.seat.is_none_or(is_there)) {
            it.alive_until = it.alive_until.min(now);
            it.gone_from = it.gone_from.min(now + SETTLED);
        }
    }
}
