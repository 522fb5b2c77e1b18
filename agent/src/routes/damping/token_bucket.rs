//! A token bucket: so many at once, and so many a second afterwards. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// What may still be done.
#[derive(Debug, Clone)]
pub(super) struct TokenBucket {
    /// The time at which the bucket would be full; a token costs one interval.
    full_at: Instant,
    interval: Duration,
    depth: Duration,
    /// When the next token is there, once one was refused.
    refused_until: Option<Instant>,
}

impl TokenBucket {
    /// A full bucket of `burst` tokens that gets `per_second` new ones a second, both at least 1.
    pub(super) fn new(burst: u32, per_second: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { full_at: now, interval, depth: interval * burst.max(1), refused_until: None }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.interval;
        let over = full_at.duration_since(now).saturating_sub(self.depth);
        if over > Duration::ZERO {
            self.refused_until = Some(now + over);
            return false;
        }
        (self.full_at, self.refused_until) = (full_at, None);
        true
    }

    /// When the token that was refused last will be there.
    pub(super) fn next(&self) -> Option<Instant> {
        self.refused_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_a_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(5, 10, start);
        assert_eq!((0..8).filter(|_| bucket.take(start)).count(), 5);
        let next = bucket.next().unwrap();
        assert_eq!(next, start + Duration::from_millis(100));
        assert!(bucket.take(next) && !bucket.take(next));
        let later = start + Duration::from_secs(100);
        assert_eq!((0..8).filter(|_| bucket.take(later)).count(), 5, "no more than the burst is kept");
    }
}
