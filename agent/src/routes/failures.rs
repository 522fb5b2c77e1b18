//! Changes that the kernel refused: each is tried again alone, with back-off (DESIGN I10). Pure.

use std::{collections::BTreeMap, time::Duration};

use sextant_proto::FailedRoute;
use tokio::time::Instant;

use crate::kernel::{Change, Errno, RouteKey};

const FIRST_DELAY: Duration = Duration::from_millis(500);
const MAX_DELAY: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
struct Failure {
    change: Change,
    errno: Errno,
    delay: Duration,
    due: Instant,
}

/// What failed, by route.
#[derive(Debug, Clone, Default)]
pub struct Failures {
    by_key: BTreeMap<RouteKey, Failure>,
}

impl Failures {
    /// Whether nothing has failed.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Forgets the changes that are not to be made any more.
    pub fn retain(&mut self, still_planned: impl Fn(&Change) -> bool) {
        self.by_key.retain(|_, failure| still_planned(&failure.change));
    }

    /// A change was refused.
    pub fn note(&mut self, change: &Change, errno: Errno, now: Instant) {
        let key = change.route().key;
        let delay = self.by_key.get(&key).map_or(FIRST_DELAY, |before| (before.delay * 2).min(MAX_DELAY));
        self.by_key.insert(key, Failure { change: change.clone(), errno, delay, due: now + delay });
    }

    /// Why this change failed, and when it is tried again.
    pub fn of(&self, change: &Change) -> Option<(&Errno, Instant)> {
        let failure = self.by_key.get(&change.route().key).filter(|failure| failure.change == *change);
        failure.map(|failure| (&failure.errno, failure.due))
    }

    /// A change was done.
    pub fn forget(&mut self, key: &RouteKey) {
        self.by_key.remove(key);
    }

    /// The host has changed: everything is worth another try.
    pub fn forget_all(&mut self) {
        self.by_key.clear();
    }

    /// When the next one is tried again.
    pub fn next_due(&self) -> Option<Instant> {
        self.by_key.values().map(|failure| failure.due).min()
    }

    /// For people and controllers.
    pub fn routes(&self) -> impl Iterator<Item = FailedRoute> {
        self.by_key.iter().map(|(key, failure)| FailedRoute {
            destination: key.destination,
            error: failure.errno.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{OwnRoute, RouteTarget};

    fn change(n: u8) -> Change {
        let destination = format!("2001:db8:{n:x}::/64").parse().unwrap();
        let key = RouteKey { table: 254, destination, metric: 512 };
        Change::Add(OwnRoute { key, target: RouteTarget::Unreachable })
    }

    fn errno() -> Errno {
        Errno { code: 113, detail: String::new() }
    }

    #[test]
    fn a_failure_waits_longer_each_time_and_stops_nobody() {
        let (mut failures, start) = (Failures::default(), Instant::now());
        let due = |failures: &Failures, n| failures.of(&change(n)).map(|(_, due)| due - start);
        failures.note(&change(1), errno(), start);
        assert_eq!((due(&failures, 1), due(&failures, 2)), (Some(FIRST_DELAY), None));
        failures.note(&change(1), errno(), start);
        assert_eq!(due(&failures, 1), Some(FIRST_DELAY * 2));
        assert_eq!(failures.next_due(), Some(start + FIRST_DELAY * 2));
        (0..20).for_each(|_| failures.note(&change(1), errno(), start));
        assert_eq!(due(&failures, 1), Some(MAX_DELAY));
    }

    #[test]
    fn a_change_that_is_no_longer_planned_is_forgotten() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        failures.note(&change(1), errno(), now);
        assert_eq!(failures.routes().count(), 1);
        failures.retain(|failed| *failed == change(2));
        assert!(failures.is_empty() && failures.routes().count() == 0);
    }
}
