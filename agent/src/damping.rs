//! Flap damping: how soon state of this host that another process changes again and again is restored. Pure.
//!
//! One rule for routes, links, addresses and sysctls. State is restored at once some times (DESIGN I9, I13), then less and
//! less often: two processes that each undo the other's change would otherwise keep the machine busy for ever.

use std::time::Duration;

use tokio::time::Instant;

/// State that has been left alone for this long is no longer damped.
pub const FORGOTTEN: Duration = Duration::from_secs(60);
/// From so many changes on, a lasting change is reported.
pub const REPORTED: u32 = 10;

/// What a change by another process puts at risk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A route of another protocol was put in the place of ours (DESIGN I4).
    Occupied,
    /// State that forwards was removed, or changed while it stays ours.
    Forwarding,
    /// State that protects was removed or changed: without an unreachable route, packets leak to the default route (DESIGN I11);
    /// with `accept_ra` on a bridge, a container can change the host's routes. It is restored at once each time.
    Protecting,
}

/// How long state stays away after it was changed `times` times.
fn hold(change: Change, times: u32) -> Duration {
    let (free, first, most) = match change {
        Change::Occupied => (10, Duration::from_secs(1), Duration::from_secs(30)),
        Change::Forwarding => (30, Duration::from_millis(250), Duration::from_secs(5)),
        Change::Protecting => return Duration::ZERO,
    };
    let Some(doublings) = times.checked_sub(free + 1) else {
        return Duration::ZERO;
    };
    (first * 2u32.saturating_pow(doublings.min(16))).min(most)
}

/// The changes of one piece of state by other processes.
#[derive(Debug, Clone)]
pub struct Flap {
    /// Changes in all, for reports.
    times: u32,
    /// Changes that count for the hold.
    occupied: u32,
    changed: u32,
    last: Instant,
    until: Instant,
    damped: bool,
}

impl Flap {
    /// Without a change.
    pub fn new(now: Instant) -> Self {
        Self { times: 0, occupied: 0, changed: 0, last: now, until: now, damped: false }
    }

    /// Another process has changed it.
    pub fn note(&mut self, change: Change, now: Instant) {
        self.last = now;
        self.times += 1;
        // What is changed while it is held counts once.
        if self.until > now {
            return;
        }
        let times = if change == Change::Occupied { &mut self.occupied } else { &mut self.changed };
        *times += 1;
        self.until = now + hold(change, *times);
        self.damped |= self.until > now;
    }

    /// Until when it is not restored, if it is not at once.
    pub fn until(&self, now: Instant) -> Option<Instant> {
        Some(self.until).filter(|until| *until > now)
    }

    /// When it is restored, or its damping is over.
    pub fn next_due(&self, now: Instant) -> Instant {
        self.until(now).unwrap_or(self.last + FORGOTTEN)
    }

    /// Whether it has been left alone for long enough.
    pub fn is_over(&self, now: Instant) -> bool {
        self.last + FORGOTTEN <= now
    }

    /// How often it was changed.
    pub fn times(&self) -> u32 {
        self.times
    }

    /// Whether it has not been restored at once.
    pub fn is_damped(&self) -> bool {
        self.damped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hold_by_change_and_number_of_changes() {
        let table = [
            (Change::Occupied, 10, 0),
            (Change::Occupied, 11, 1000),
            (Change::Occupied, 12, 2000),
            (Change::Occupied, 16, 30_000),
            (Change::Occupied, u32::MAX, 30_000),
            (Change::Forwarding, 30, 0),
            (Change::Forwarding, 31, 250),
            (Change::Forwarding, 32, 500),
            (Change::Forwarding, 35, 4000),
            (Change::Forwarding, 36, 5000),
            (Change::Forwarding, u32::MAX, 5000),
            (Change::Protecting, 1, 0),
            (Change::Protecting, u32::MAX, 0),
        ];
        for (change, times, expected) in table {
            assert_eq!(hold(change, times).as_millis(), expected, "{change:?} {times}");
        }
    }
}
