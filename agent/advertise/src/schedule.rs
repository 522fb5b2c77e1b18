//! When advertisements are sent (RFC 4861 §6.2.4, §6.2.6). Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Between two periodic advertisements there are 200 to 600 s, by chance, so that routers do not fall into step.
const LEAST: Duration = Duration::from_secs(200);
/// See [`LEAST`].
const MOST: Duration = Duration::from_secs(600);
/// After a change, this many advertisements follow each other sooner, since some may be lost.
const INITIAL: u32 = 3;
/// At most this long after each other.
const INITIAL_INTERVAL: Duration = Duration::from_secs(16);
/// At least this long after each other, however many solicit them.
const SPACING: Duration = Duration::from_secs(3);
/// A solicited advertisement is delayed by chance, by less than this.
const DELAY: Duration = Duration::from_millis(500);

/// The time of the next advertisement to all containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    initial_left: u32,
    last: Option<Instant>,
    next: Instant,
}

impl Schedule {
    /// The first one is due now.
    pub fn new(now: Instant) -> Self {
        Self { initial_left: INITIAL, last: None, next: now }
    }

    /// When the next one is due.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// What is advertised has changed: as at first, but not too soon after the last one.
    pub fn changed(&mut self, now: Instant) {
        self.initial_left = INITIAL;
        self.next = self.next.min(self.earliest(now));
    }

    /// A container solicits one. `chance` is from 0 to 1.
    pub fn solicited(&mut self, now: Instant, chance: f64) {
        let due = self.earliest(now).max(now + DELAY.mul_f64(chance));
        self.next = self.next.min(due);
    }

    /// It has been sent. `chance` is from 0 to 1.
    pub fn sent(&mut self, now: Instant, chance: f64) {
        self.initial_left = self.initial_left.saturating_sub(1);
        self.last = Some(now);
        let interval = LEAST + (MOST - LEAST).mul_f64(chance);
        self.next = now + if self.initial_left > 0 { interval.min(INITIAL_INTERVAL) } else { interval };
    }

    /// It could not be sent; it is tried again.
    pub fn failed(&mut self, now: Instant) {
        self.last = Some(now);
        self.next = now + SPACING;
    }

    fn earliest(&self, now: Instant) -> Instant {
        self.last.map_or(now, |last| (last + SPACING).max(now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn three_come_soon_then_they_are_rare() {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(now);
        let mut gaps = Vec::new();
        for _ in 0..5 {
            assert!(schedule.next() >= now);
            gaps.push(schedule.next() - now);
            now = schedule.next();
            schedule.sent(now, 0.5);
        }
        assert_eq!(gaps, [0, 16, 16, 400, 400].map(|secs| SECOND * secs));
        schedule.changed(now + SECOND);
        assert_eq!(schedule.next(), now + SPACING, "not too soon after the last one");
    }

    #[tokio::test(start_paused = true)]
    async fn solicited_ones_are_soon_and_not_too_many() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        schedule.sent(now, 1.0);
        schedule.solicited(now + SECOND, 1.0);
        assert_eq!(schedule.next(), now + SPACING);
        let later = now + SECOND * 10;
        schedule.sent(later, 1.0);
        schedule.solicited(later + SECOND * 5, 1.0);
        assert_eq!(schedule.next(), later + SECOND * 5 + DELAY);
        schedule.solicited(later + SECOND * 5, 0.0);
        assert_eq!(schedule.next(), later + SECOND * 5);
    }

    proptest! {
        /// Whatever happens, two are never sent within the spacing, and the next one is never further away than the longest
        /// interval.
        #[test]
        fn they_are_spaced_and_never_end(steps in proptest::collection::vec((0u8..3, 0u64..700_000, 0.0..1.0), 1..60)) {
            let mut now = Instant::now();
            let mut schedule = Schedule::new(now);
            let mut last: Option<Instant> = None;
            for (step, millis, chance) in steps {
                now += Duration::from_millis(millis);
                if schedule.next() <= now {
                    schedule.sent(now, chance);
                    last = Some(now);
                }
                match step {
                    0 => schedule.changed(now),
                    1 => schedule.solicited(now, chance),
                    _ => {}
                }
                prop_assert!(schedule.next() <= now + MOST);
                prop_assert!(last.is_none_or(|last| schedule.next() >= last + SPACING));
            }
        }
    }
}
