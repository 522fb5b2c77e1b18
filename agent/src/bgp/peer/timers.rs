//! When something is due in a session.

use std::time::Duration;

use rand::Rng;
use rustbgpd_fsm::TimerType;
use tokio::time::Instant;

/// The longest wait before a connection is tried again: a router that comes back should not have to wait for us.
pub(in crate::bgp) const MAX_RETRY: Duration = Duration::from_secs(10);

/// The longest wait for an OPEN; the shortest is half of it. RFC 4271 §8.2.2 suggests four minutes; a router on the next link
/// needs less, and one whose segments are dropped, and its resets with them, is to be tried again before that. A router that
/// all hosts connect to at once drops what its queue has no room for (BIRD's has for 8), and TCP's retransmissions then come
/// at the same instants from all of them, ever less often: those who try anew spread out.
const OPEN_PATIENCE: Duration = Duration::from_secs(15);

/// How long to wait for an OPEN.
pub(in crate::bgp) fn open_patience() -> Duration {
    OPEN_PATIENCE.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[derive(Default)]
pub(in crate::bgp) struct Timers {
    retry: Option<Instant>,
    hold: Option<Instant>,
    keepalive: Option<Instant>,
}

impl Timers {
    pub(in crate::bgp) fn set(&mut self, timer: TimerType, at: Option<Instant>) {
        match timer {
            TimerType::Hold => self.hold = at,
            TimerType::Keepalive => self.keepalive = at,
            _ => self.retry = at,
        }
    }

    pub(in crate::bgp) fn next(&self) -> Option<(Instant, TimerType)> {
        let all = [
            (self.hold, TimerType::Hold),
            (self.keepalive, TimerType::Keepalive),
            (self.retry, TimerType::ConnectRetry),
        ];
        all.into_iter().filter_map(|(at, timer)| Some((at?, timer))).min_by_key(|(at, _)| *at)
    }
}

/// RFC 4271 §10: all but the hold timer are jittered.
pub(in crate::bgp) fn jittered(timer: TimerType, secs: u32) -> Duration {
    let whole = Duration::from_secs(secs.into());
    match timer {
        TimerType::Hold => whole,
        TimerType::Keepalive => whole.mul_f64(rand::rng().random_range(0.75..=1.0)),
        _ => whole.min(MAX_RETRY).mul_f64(rand::rng().random_range(0.75..=1.0)),
    }
}

pub(in crate::bgp) async fn until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

pub(in crate::bgp) async fn expiry(timer: Option<(Instant, TimerType)>) -> TimerType {
    match timer {
        Some((at, timer)) => {
            tokio::time::sleep_until(at).await;
            timer
        }
        None => std::future::pending().await,
    }
}
