//! What systemd is told (sd_notify(3)): ready, status, stopping, and that the essential loop still turns.
//!
//! The loop touches its [`Heartbeat`] each turn, also when it has nothing to do; the [`Watchdog`] pings systemd only while
//! that is fresh. So a process that lives but does nothing is killed and started again (`WatchdogSec=` in the unit). Outside
//! systemd nothing is told, and nothing ticks.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep};

/// How often a ping is due within the watchdog's period, and a touch of the heartbeat.
const BEATS_PER_PERIOD: u32 = 4;
/// What part of the period a heartbeat is fresh for: the kill then comes within one and a half periods of the last one.
const FRESH_PART: u32 = 2;

/// The service is up: units that are ordered after it may start.
pub fn tell_ready() {
    tell(NotifyState::Ready);
}

/// One line for `systemctl status`.
pub fn tell_status(text: &str) {
    tell(NotifyState::Status(text));
}

/// The service is about to end, as it was told to.
pub fn tell_stopping() {
    tell(NotifyState::Stopping);
}

/// The start is not done, but goes on: it may take `more` from now.
pub fn tell_starting(more: Duration) {
    tell(NotifyState::ExtendTimeoutUsec(u32::try_from(more.as_micros()).unwrap_or(u32::MAX)));
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        // It shows as a start or a watchdog that times out.
        tracing::debug!(%error, "systemd cannot be told");
    }
}

/// Where an essential loop shows that it turns.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    last: Arc<Mutex<Instant>>,
    every: Option<Duration>,
}

impl Heartbeat {
    fn new(every: Option<Duration>) -> Self {
        Self { last: Arc::new(Mutex::new(Instant::now())), every }
    }

    /// One that nobody looks at.
    pub fn unwatched() -> Self {
        Self::new(None)
    }

    /// The loop has come round.
    pub fn beat(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Ready when a loop that has nothing to do should come round; never if nobody looks. Cancel safe: it counts from the
    /// last beat.
    pub async fn due(&self) {
        match self.every {
            Some(every) => sleep(every.saturating_sub(self.age())).await,
            None => std::future::pending().await,
        }
    }

    fn age(&self) -> Duration {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// Pings systemd for as long as a heartbeat is fresh.
#[derive(Debug)]
pub struct Watchdog {
    period: Option<Duration>,
    heartbeat: Heartbeat,
}

impl Watchdog {
    /// The watchdog that systemd asks for by `WATCHDOG_USEC` and `WATCHDOG_PID`, or one that does nothing.
    pub fn from_environment() -> Self {
        Self::with_period(sd_notify::watchdog_enabled())
    }

    /// One that must be pinged at least once in each `period`, or never.
    pub fn with_period(period: Option<Duration>) -> Self {
        Self { period, heartbeat: Heartbeat::new(period.map(|period| period / BEATS_PER_PERIOD)) }
    }

    /// What the essential loop is to touch.
    pub fn heartbeat(&self) -> Heartbeat {
        self.heartbeat.clone()
    }

    /// Never ends.
    ///
    /// # Errors
    /// None.
    pub async fn run(self) -> Result<(), Infallible> {
        self.watch(|| tell(NotifyState::Watchdog)).await
    }

    /// Whether the loop has come round lately.
    pub fn is_fresh(&self) -> bool {
        self.period.is_none_or(|period| self.heartbeat.age() <= period / FRESH_PART)
    }

    async fn watch(self, mut ping: impl FnMut()) -> Result<(), Infallible> {
        let Some(period) = self.period else { return std::future::pending().await };
        let mut was_fresh = true;
        loop {
            let fresh = self.is_fresh();
            if fresh {
                ping();
            } else if was_fresh {
                tracing::warn!(age = ?self.heartbeat.age(), "the essential loop stands still; systemd is not told that all is well");
            }
            was_fresh = fresh;
            sleep(period / BEATS_PER_PERIOD).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const PERIOD: Duration = Duration::from_secs(30);

    /// A watchdog at work: its heartbeat, and the count of its pings.
    fn watched() -> (Heartbeat, Arc<AtomicU32>) {
        let (watchdog, pings) = (Watchdog::with_period(Some(PERIOD)), Arc::new(AtomicU32::new(0)));
        let (heartbeat, count) = (watchdog.heartbeat(), pings.clone());
        tokio::spawn(watchdog.watch(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        (heartbeat, pings)
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_loop_that_turns_is_pinged_for_in_time() {
        let (heartbeat, pings) = watched();
        for _ in 0..40 {
            heartbeat.due().await;
            heartbeat.beat();
        }
        let pings = pings.load(Ordering::Relaxed);
        assert!((39..=42).contains(&pings), "{pings} pings in ten periods");
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_stands_still_is_not_pinged_for_until_it_turns_again() {
        let (heartbeat, pings) = watched();
        sleep(PERIOD).await;
        let before = pings.load(Ordering::Relaxed);
        sleep(PERIOD * 10).await;
        assert_eq!(pings.load(Ordering::Relaxed), before, "pings while it stands still");
        assert!(
            before <= 3,
            "the last ping came more than half a period after the last beat: {before} pings"
        );
        heartbeat.beat();
        sleep(PERIOD / 2).await;
        assert!(pings.load(Ordering::Relaxed) > before, "no ping after it has come round");
    }

    #[tokio::test(start_paused = true)]
    async fn without_systemd_nothing_ticks() {
        let watchdog = Watchdog::with_period(None);
        let heartbeat = watchdog.heartbeat();
        tokio::select! {
            () = heartbeat.due() => panic!("a beat is due, but nobody looks"),
            _ = watchdog.run() => panic!("the watchdog ended"),
            () = sleep(Duration::from_secs(86_400)) => {}
        }
    }
}
