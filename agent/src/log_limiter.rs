//! Limits the rate of each kind of log line; the next line has the number of suppressed ones. Pure.

use std::{collections::BTreeMap, time::Duration};

use sextant_daemon::OncePerMinute;
use tokio::time::Instant;

/// A kind of log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Line {
    /// The uplinks have changed.
    Uplinks,
    /// Routes were written.
    Changes,
    /// Events of the kernel were lost.
    Overrun,
    /// Routes of other processes for the same destinations.
    Conflicts,
    /// Routes that the kernel refused.
    Failures,
    /// The host is set up.
    State,
    /// The brake holds routes.
    Held,
    /// A problem of the host was found or resolved.
    Problem,
}

impl Line {
    /// The burst, then the time for each further line.
    const fn rate(self) -> (u32, Duration) {
        match self {
            Self::Overrun | Self::Conflicts | Self::Held => (1, Duration::from_secs(60)),
            Self::Failures => (5, Duration::from_secs(60)),
            Self::Uplinks | Self::Changes | Self::State => (10, Duration::from_secs(3)),
            Self::Problem => (20, Duration::from_secs(3)),
        }
    }
}

#[derive(Debug)]
struct Allowance {
    left: u32,
    refilled: Instant,
    withheld: u64,
}

/// The lines that may be logged.
#[derive(Debug, Default)]
pub(crate) struct LogLimiter {
    by_line: BTreeMap<Line, Allowance>,
    problems: OncePerMinute,
}

impl LogLimiter {
    /// If a line of this kind may be written now, the number of lines that were suppressed since the last one.
    pub(crate) fn admit(&mut self, line: Line, now: Instant) -> Option<u64> {
        self.admit_many(line, 1, now)
    }

    /// Whether a warning of this problem is due: not if it was logged within the last minute, as of one that comes and goes.
    pub(crate) fn is_new(&mut self, kind: &str, problem: &str, now: Instant) -> bool {
        self.problems.admit_of(&format!("{kind} {problem}"), "", now).is_some()
    }

    /// As [`Self::admit`], for a line about `count` objects.
    pub(crate) fn admit_many(&mut self, line: Line, count: u64, now: Instant) -> Option<u64> {
        let (burst, period) = line.rate();
        let fresh = || Allowance { left: burst, refilled: now, withheld: 0 };
        let allowance = self.by_line.entry(line).or_insert_with(fresh);
        let passed = now.duration_since(allowance.refilled);
        let refills = u32::try_from(passed.as_millis() / period.as_millis()).unwrap_or(u32::MAX);
        if refills > 0 {
            allowance.left = allowance.left.saturating_add(refills).min(burst);
            allowance.refilled = now;
        }
        if allowance.left == 0 {
            allowance.withheld += count;
            return None;
        }
        allowance.left -= 1;
        Some(std::mem::take(&mut allowance.withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_flapping_link_are_logged_and_then_counted() {
        let (mut limit, start) = (LogLimiter::default(), Instant::now());
        let at = |n: u32| start + Duration::from_millis(100) * n;
        let logged = (0..200).filter(|n| limit.admit(Line::Uplinks, at(*n)).is_some()).count();
        assert!((10..=20).contains(&logged), "{logged}");
        assert_eq!(limit.admit(Line::State, at(200)), Some(0), "each kind has its own limit");
        let later = start + Duration::from_secs(60);
        assert!(limit.admit(Line::Uplinks, later).is_some_and(|withheld| withheld > 0));
        assert_eq!(limit.admit(Line::Uplinks, later), Some(0));
    }

    #[test]
    fn a_problem_that_comes_and_goes_is_logged_once_a_minute() {
        let (mut limit, start) = (LogLimiter::default(), Instant::now());
        let at = |n: u64| start + Duration::from_secs(n);
        let logged: Vec<_> =
            (0..130).filter(|n| limit.is_new("uplink-down", "eth0 is down", at(*n))).collect();
        assert_eq!(logged, [0, 60, 120]);
        assert!(limit.is_new("uplink-down", "eth1 is down", at(1)), "another one");
    }

    #[test]
    fn many_foreign_routes_are_one_line_and_a_count() {
        let (mut limit, start) = (LogLimiter::default(), Instant::now());
        let at = |n: u64| start + Duration::from_millis(n);
        for line in [Line::Overrun, Line::Conflicts] {
            let logged = (0..500).filter(|n| limit.admit_many(line, 100, at(*n)).is_some()).count();
            assert_eq!(logged, 1, "{line:?}");
            assert_eq!(limit.admit_many(line, 100, at(60_000)), Some(49_900), "{line:?}");
        }
    }
}
