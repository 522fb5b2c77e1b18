//! When which containers are asked for an address.

use std::{net::Ipv6Addr, time::Duration};

use tokio::time::Instant;

use super::{Seat, Target, Targets};
use crate::{limits::Urgency, room::Cause};

/// The waits after each solicitation of an address.
pub(super) const WAITS: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(200), Duration::from_millis(400)];
/// A solicitation to all containers that must wait is tried again after that.
pub(super) const LATER: Duration = Duration::from_millis(20);
/// How often an address under detection is asked for meanwhile.
pub(super) const DETECTION_STEP: Duration = Duration::from_millis(200);
/// An address whose answer could not be heard is asked for again after that.
const UNHEARD: Duration = Duration::from_secs(1);

/// A solicitation that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The address.
    pub target: Ipv6Addr,
    /// Where it was last; everywhere if unknown.
    pub seat: Option<Seat>,
}

impl Target {
    /// How urgent a question about it is: those about the host's own containers come before those of its neighbours.
    fn urgency(&self) -> Urgency {
        let is_neighbours =
            self.alive.is_none() && self.until.is_none() && self.cause == Some(Cause::Neighbour);
        if is_neighbours { Urgency::Low } else { Urgency::High }
    }
}

impl Targets {
    /// When [`Self::ask`] is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The solicitations that are due by now, at most `most`. Addresses that did not answer are gone after that, but only if an answer
    /// would have been heard all the time: one in use stays so while it cannot be heard. One that goes to all containers waits until
    /// `may_ask_all` permits it.
    pub fn ask(
        &mut self,
        now: Instant,
        most: usize,
        is_heard: impl Fn(Ipv6Addr) -> bool,
        mut may_ask_all: impl FnMut(Urgency) -> bool,
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
                    if seat.is_none() && !may_ask_all(it.urgency()) {
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
}
