//! Delays between attempts: exponential with jitter, so that the agents of a cluster do not reconnect at the same time. Pure
//! except for the random jitter.

use std::time::Duration;

use rand::Rng;

const FIRST: Duration = Duration::from_millis(100);
const MAX: Duration = Duration::from_secs(5);

/// The delays of a series of attempts.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next delay: 50 % to 100 % of 100 ms, doubled with each attempt up to 5 s.
    pub(super) fn next_delay(&mut self) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.attempts.min(10)).min(MAX);
        self.attempts += 1;
        ceiling.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// Starts a new series.
    pub(super) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_limit_and_are_reset() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..12).map(|_| backoff.next_delay()).collect();
        assert!(delays[0] <= FIRST && delays[11] >= MAX / 2 && delays.iter().all(|delay| *delay <= MAX));
        backoff.reset();
        assert!(backoff.next_delay() <= FIRST);
    }
}
