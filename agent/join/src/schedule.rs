//! When a certificate is renewed, and when its end is reported. Pure.

use std::time::{Duration, SystemTime};

/// How long before its end a certificate of a long life is reported.
const LONGEST_NOTICE: Duration = Duration::from_secs(7 * 86_400);

/// When a certificate is renewed: at two thirds of its life, a twentieth of it earlier or later by `jitter` (0 to 1), so that the
/// nodes of a cluster do not ask at the same time.
pub fn renewal(begins: SystemTime, ends: SystemTime, jitter: f64) -> SystemTime {
    let life = ends.duration_since(begins).unwrap_or_default();
    begins + life.mul_f64(2.0 / 3.0 - 0.05 + 0.1 * jitter.clamp(0.0, 1.0))
}

/// When the end of a certificate is reported: in the last quarter of its life, and not more than a week before its end.
pub fn notice(begins: SystemTime, ends: SystemTime) -> SystemTime {
    let life = ends.duration_since(begins).unwrap_or_default();
    ends - LONGEST_NOTICE.min(life / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_and_reported_if_that_fails() {
        let begins = SystemTime::UNIX_EPOCH + 1000 * HOUR;
        let ends = begins + 24 * HOUR;
        let [first, middle, last] = [0.0, 0.5, 1.0].map(|jitter| renewal(begins, ends, jitter));
        assert_eq!(middle, begins + 16 * HOUR);
        assert_eq!(
            (middle.duration_since(first).unwrap(), last.duration_since(middle).unwrap()),
            (HOUR * 6 / 5, HOUR * 6 / 5)
        );
        assert_eq!(notice(begins, ends), ends - 6 * HOUR);
        assert!(last < notice(begins, ends));
    }

    #[test]
    fn a_long_life_is_reported_days_before_its_end() {
        let begins = SystemTime::UNIX_EPOCH;
        let ends = begins + 365 * 24 * HOUR;
        assert_eq!(notice(begins, ends), ends - 7 * 24 * HOUR);
        // A certificate that ends before it begins.
        assert_eq!(renewal(ends, begins, 0.5), ends);
        assert_eq!(notice(ends, begins + HOUR), begins + HOUR);
    }
}
