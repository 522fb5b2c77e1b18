//! When all routes are read again, with no event that asks for it.

use std::time::Duration;

use tokio::time::Instant;

/// Every which resync reads others' routes too: events report them, and a dump may silently miss some.
const FOREIGN_EVERY: u32 = 10;

/// The next resync.
#[derive(Debug)]
pub(super) struct Resync {
    interval: Duration,
    at: Instant,
    count: u32,
}

impl Resync {
    /// The first is one interval from now.
    pub(super) fn every(interval: Duration) -> Self {
        Self { interval, at: Instant::now() + interval, count: 0 }
    }

    /// Waits for it. Cancel safe.
    pub(super) async fn due(&self) {
        tokio::time::sleep_until(self.at).await;
    }

    /// It is made now. Returns whether it reads others' routes too.
    pub(super) fn made(&mut self) -> bool {
        self.at = Instant::now() + self.interval;
        self.count = self.count.wrapping_add(1);
        self.count.is_multiple_of(FOREIGN_EVERY)
    }
}
