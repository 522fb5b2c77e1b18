//! The timers of a session (RFC 4271 §10), and how they are jittered.
//!
//! `draw` is a random number from 0 to 1.

use std::time::Duration;

use rustbgpd_fsm::TimerType;
use tokio::time::Instant;

/// The longest wait before a connection is tried again: a router that comes back should not have to wait for this host.
const MAX_RETRY: Duration = Duration::from_secs(10);

/// The longest wait for an OPEN; the shortest is half of it. RFC 4271 §8.2.2 suggests four minutes; a router on the next link
/// needs less, and one whose segments are dropped, and its resets with them, is to be tried again before that. A router that
/// all hosts connect to at once drops what its queue has no room for (BIRD's has for 8), and TCP's retransmissions then come
/// at the same instants from all of them, ever less often: new attempts spread out.
const OPEN_WAIT: Duration = Duration::from_secs(15);

/// When each timer expires.
#[derive(Debug, Clone, Default)]
pub(super) struct Timers {
    retry: Option<Instant>,
    hold: Option<Instant>,
    keepalive: Option<Instant>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: TimerType, at: Option<Instant>) {
        match timer {
            TimerType::Hold => self.hold = at,
            TimerType::Keepalive => self.keepalive = at,
            _ => self.retry = at,
        }
    }

    /// The timer that expires first.
    pub(super) fn next(&self) -> Option<(Instant, TimerType)> {
        let all = [
            (self.hold, TimerType::Hold),
            (self.keepalive, TimerType::Keepalive),
            (self.retry, TimerType::ConnectRetry),
        ];
        all.into_iter().filter_map(|(at, timer)| Some((at?, timer))).min_by_key(|(at, _)| *at)
    }
}

/// RFC 4271 §10: all but the hold timer are jittered.
pub(super) fn jittered(timer: TimerType, secs: u32, draw: f64) -> Duration {
    let whole = Duration::from_secs(secs.into());
    match timer {
        TimerType::Hold => whole,
        TimerType::Keepalive => shortened(whole, draw),
        _ => shortened(whole.min(MAX_RETRY), draw),
    }
}

/// How long to wait for an OPEN.
pub(super) fn open_wait(draw: f64) -> Duration {
    OPEN_WAIT.mul_f64(0.5 + 0.5 * draw)
}

/// How long a peer stays idle after so many sessions in a row that failed before they were established.
pub(super) fn idle_hold(failures: u32, draw: f64) -> Duration {
    shortened(Duration::from_secs(1 << failures.min(4)).min(MAX_RETRY), draw)
}

/// By up to a quarter.
pub(super) fn shortened(whole: Duration, draw: f64) -> Duration {
    whole.mul_f64(0.75 + 0.25 * draw)
}
