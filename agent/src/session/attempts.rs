//! Limits the log of connection failures: a failure is logged when it begins, then once a minute. Pure.

use std::collections::{HashMap, VecDeque};

use sextant_daemon::{Failing, Outage};
use tokio::time::Instant;

/// How many reasons of one controller are remembered. They may take turns: a store has several addresses.
const REASONS: usize = 8;

/// The failures with each controller by its address, each with its reason.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    failures: HashMap<String, VecDeque<(String, Outage)>>,
}

impl Attempts {
    /// The connection to `controller` failed or ended. Returns the failures to log, if any.
    pub(super) fn failed(&mut self, controller: &str, why: &str, now: Instant) -> Option<Failing> {
        let reasons = self.failures.entry(controller.to_owned()).or_default();
        if let Some((_, outage)) = reasons.iter_mut().find(|(reason, _)| reason == why) {
            return outage.failed(now);
        }
        let mut outage = Outage::default();
        let failing = outage.failed(now);
        reasons.truncate(REASONS - 1);
        reasons.push_front((why.to_owned(), outage));
        failing
    }

    /// The connection to `controller` was stable: the next failure is a new one.
    pub(super) fn succeeded(&mut self, controller: &str) {
        self.failures.remove(controller);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_failing_controller_is_logged_once_a_minute() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        let mut logged = Vec::new();
        for second in 0..120 {
            let controller = if second % 2 == 0 { "one" } else { "two" };
            if attempts.failed(controller, "refused", start + Duration::from_secs(second)).is_some() {
                logged.push((controller, second));
            }
        }
        assert_eq!(logged, [("one", 0), ("two", 1), ("one", 60), ("two", 61)]);
        let now = start + Duration::from_secs(120);
        assert!(attempts.failed("one", "another reason", now).is_some());
        assert!(attempts.failed("one", "another reason", now).is_none());
        attempts.succeeded("one");
        assert!(attempts.failed("one", "another reason", now).is_some());
    }

    #[test]
    fn reasons_that_take_turns_are_logged_once_a_minute_each() {
        let (mut attempts, start) = (Attempts::default(), Instant::now());
        let mut logged = 0;
        for second in 0..60 {
            let why = ["no answer of m1", "no answer of m2", "no answer of m3"][second as usize % 3];
            logged += u32::from(attempts.failed("one", why, start + Duration::from_secs(second)).is_some());
        }
        assert_eq!(logged, 3);
    }
}
