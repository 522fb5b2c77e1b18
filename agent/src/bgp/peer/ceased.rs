//! How long a peer stays idle after a Cease that needs someone at the router (RFC 4486 §4).

use std::time::Duration;

use tokio::time::Instant;

use super::timers::shortened;
use crate::bgp::wire::notification::Again;

/// The first hold; each further one doubles it up to the longest. A router that wants a session earlier connects.
const FIRST_HOLD: Duration = Duration::from_secs(30);
const LONGEST_HOLD: Duration = Duration::from_secs(120);
/// A session that lasted so long was a good one.
const STABLE: Duration = Duration::from_secs(600);

/// The Ceases of a neighbour.
#[derive(Debug, Clone, Default)]
pub(super) struct Ceased {
    /// Those in a row that need someone at the router.
    times: u32,
    /// There was no session since the last one.
    holds: bool,
}

impl Ceased {
    /// A session or an attempt was ended; the last session was established at `established_at`.
    pub(super) fn heard(&mut self, again: Again, established_at: Option<Instant>, now: Instant) {
        let stable = !self.holds && established_at.is_some_and(|at| now.duration_since(at) >= STABLE);
        match again {
            Again::Slowly if stable => (self.times, self.holds) = (1, true),
            Again::Slowly => (self.times, self.holds) = (self.times.saturating_add(1), true),
            Again::Soon => *self = Self::default(),
        }
    }

    /// There is a session.
    pub(super) fn established(&mut self) {
        self.holds = false;
    }

    /// How long no session begins.
    pub(super) fn hold(&self, draw: f64) -> Duration {
        if !self.holds {
            return Duration::ZERO;
        }
        shortened(FIRST_HOLD.saturating_mul(1 << (self.times - 1).min(4)).min(LONGEST_HOLD), draw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cease_in_a_row_doubles_the_hold_up_to_a_limit() {
        let (mut ceased, now) = (Ceased::default(), Instant::now());
        assert_eq!(ceased.hold(1.0), Duration::ZERO);
        let mut holds = Vec::new();
        for _ in 0..4 {
            ceased.heard(Again::Slowly, None, now);
            holds.push(ceased.hold(1.0).as_secs());
        }
        assert_eq!(holds, [30, 60, 120, 120]);
        ceased.established();
        assert_eq!(ceased.hold(1.0), Duration::ZERO);
        ceased.heard(Again::Slowly, Some(now), now + Duration::from_secs(1));
        assert_eq!(ceased.hold(1.0).as_secs(), 120, "a short session changes nothing");
        ceased.established();
        ceased.heard(Again::Slowly, Some(now), now + STABLE);
        assert_eq!(ceased.hold(1.0).as_secs(), 30);
        ceased.heard(Again::Slowly, Some(now), now + STABLE);
        assert_eq!(ceased.hold(1.0).as_secs(), 60, "the stable session was before the last Cease");
        ceased.heard(Again::Soon, None, now);
        assert_eq!(ceased.hold(1.0), Duration::ZERO);
    }
}
