//! A token bucket. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// How much may be done at once and per time: it fills up evenly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rate {
    /// The most at once.
    pub(super) burst: f64,
    /// What is added each second.
    pub(super) per_second: f64,
}

/// What is left of a [`Rate`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    left: f64,
    last: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self { left: rate.burst, last: now }
    }

    /// Takes one; `false` if there is none.
    pub(super) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.left = self.level(rate, now);
        self.last = now;
        let has = self.left >= 1.0;
        if has {
            self.left -= 1.0;
        }
        has
    }

    /// Whether nothing was taken lately.
    pub(super) fn is_full(&self, rate: Rate, now: Instant) -> bool {
        self.level(rate, now) >= rate.burst
    }

    fn level(&self, rate: Rate, now: Instant) -> f64 {
        let since: Duration = now.saturating_duration_since(self.last);
        (self.left + since.as_secs_f64() * rate.per_second).min(rate.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_taken_at_once_and_the_rest_at_the_rate() {
        let (rate, now) = (Rate { burst: 10.0, per_second: 2.0 }, Instant::now());
        let mut bucket = Bucket::new(rate, now);
        assert_eq!((0..20).filter(|_| bucket.take(rate, now)).count(), 10);
        let later = now + Duration::from_secs(3);
        assert!(!bucket.is_full(rate, later));
        assert_eq!((0..20).filter(|_| bucket.take(rate, later)).count(), 6);
        assert!(bucket.is_full(rate, later + Duration::from_secs(5)));
    }
}
