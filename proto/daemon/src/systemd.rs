//! Notifications to systemd (sd_notify(3)): ready, status, stopping, and the watchdog keepalive.
//!
//! The main loop updates its [`Heartbeat`] in each iteration, even without work; the [`Watchdog`] sends keepalives to systemd
//! only while the heartbeat is fresh. So systemd restarts a process with a stalled main loop (`WatchdogSec=` in the unit).
//! Outside systemd, nothing is sent and no timer runs.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::time::{Instant, sleep};

/// The number of keepalives, and of heartbeats, in a period of the watchdog.
const BEATS_PER_PERIOD: u32 = 4;
/// A heartbeat is fresh for this part of the period: a stalled process is killed within one and a half periods of the last
/// heartbeat.
const FRESH_PART: u32 = 2;

/// The service is up: units that are ordered after it may start.
pub fn notify_ready() {
    notify(NotifyState::Ready);
}

/// One line for `systemctl status`.
pub fn notify_status(text: &str) {
    notify(NotifyState::Status(text));
}

/// The service is stopping on request.
pub fn notify_stopping() {
    notify(NotifyState::Stopping);
}

/// The start continues: it may take `more` from now.
pub fn notify_starting(more: Duration) {
    notify(NotifyState::ExtendTimeoutUsec(u32::try_from(more.as_micros()).unwrap_or(u32::MAX)));
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        // A failure shows as a time-out of the start or of the watchdog.
        tracing::debug!(%error, "cannot notify systemd");
    }
}

/// The time of a main loop's last iteration.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    last: Arc<Mutex<Instant>>,
    every: Option<Duration>,
}

impl Heartbeat {
    fn new(every: Option<Duration>) -> Self {
        Self { last: Arc::new(Mutex::new(Instant::now())), every }
    }

    /// A heartbeat without a watchdog.
    pub fn unwatched() -> Self {
        Self::new(None)
    }

    /// Call it in each iteration of the loop.
    pub fn beat(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Ready when a loop without work should call [`Heartbeat::beat`]; never without a watchdog. Cancel safe: it counts from the
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

/// Sends keepalives to systemd while a heartbeat is fresh.
#[derive(Debug)]
pub struct Watchdog {
    period: Option<Duration>,
    heartbeat: Heartbeat,
}

impl Watchdog {
    /// The watchdog by `WATCHDOG_USEC` and `WATCHDOG_PID`; without them, one that does nothing.
    pub fn from_environment() -> Self {
        Self::with_period(sd_notify::watchdog_enabled())
    }

    /// A watchdog that expects a keepalive in each `period`; `None`: disabled.
    pub fn with_period(period: Option<Duration>) -> Self {
        Self { period, heartbeat: Heartbeat::new(period.map(|period| period / BEATS_PER_PERIOD)) }
    }

    /// The heartbeat of the main loop.
    pub fn heartbeat(&self) -> Heartbeat {
        self.heartbeat.clone()
    }

    /// Never ends.
    ///
    /// # Errors
    /// None.
    pub async fn run(self) -> Result<(), Infallible> {
        self.watch(|| notify(NotifyState::Watchdog)).await
    }

    /// Whether the heartbeat is fresh.
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
                tracing::warn!(age = ?self.heartbeat.age(), "main loop stalled; withholding the watchdog keepalive");
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

    /// A running watchdog: its heartbeat, and the number of its keepalives.
    fn watched() -> (Heartbeat, Arc<AtomicU32>) {
        let (watchdog, pings) = (Watchdog::with_period(Some(PERIOD)), Arc::new(AtomicU32::new(0)));
        let (heartbeat, count) = (watchdog.heartbeat(), pings.clone());
        tokio::spawn(watchdog.watch(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        (heartbeat, pings)
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_loop_causes_keepalives_in_time() {
        let (heartbeat, pings) = watched();
        for _ in 0..40 {
            heartbeat.due().await;
            heartbeat.beat();
        }
        let pings = pings.load(Ordering::Relaxed);
        assert!((39..=42).contains(&pings), "{pings} keepalives in ten periods");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stalled_loop_causes_no_keepalives_until_it_continues() {
        let (heartbeat, pings) = watched();
        sleep(PERIOD).await;
        let before = pings.load(Ordering::Relaxed);
        sleep(PERIOD * 10).await;
        assert_eq!(pings.load(Ordering::Relaxed), before, "keepalives while the loop is stalled");
        assert!(
            before <= 3,
            "the last keepalive came more than half a period after the last beat: {before} keepalives"
        );
        heartbeat.beat();
        sleep(PERIOD / 2).await;
        assert!(pings.load(Ordering::Relaxed) > before, "no keepalive after a beat");
    }

    #[tokio::test(start_paused = true)]
    async fn without_systemd_no_timer_runs() {
        let watchdog = Watchdog::with_period(None);
        let heartbeat = watchdog.heartbeat();
        tokio::select! {
            () = heartbeat.due() => panic!("a beat is due without a watchdog"),
            _ = watchdog.run() => panic!("the watchdog ended"),
            () = sleep(Duration::from_secs(86_400)) => {}
        }
    }
}
