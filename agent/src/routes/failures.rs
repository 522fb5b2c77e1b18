//! Changes that the kernel refused: each is tried again alone, with back-off (DESIGN I10). Pure.

use std::{collections::BTreeMap, time::Duration};

use sextant_proto::FailedRoute;
use tokio::time::Instant;

use crate::kernel::{Change, Errno, RouteKey};

const FIRST_DELAY: Duration = Duration::from_millis(500);
const MAX_DELAY: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Failure {
    change: Change,
    errno: Errno,
    delay: Duration,
    due: Instant,
}

/// What failed, by route.
#[derive(Debug, Default)]
pub struct Failures {
    by_key: BTreeMap<RouteKey, Failure>,
}

impl Failures {
    /// `changes` without those that failed just so and are not due yet. What failed and is no longer planned is forgotten.
    pub fn due(&mut self, changes: Vec<Change>, now: Instant) -> Vec<Change> {
        if self.by_key.is_empty() {
            return changes;
        }
        self.by_key.retain(|_, failure| changes.contains(&failure.change));
        let waits =
            |change: &Change| self.by_key.get(&change.route().key).is_some_and(|failure| failure.due > now);
        changes.into_iter().filter(|change| !waits(change)).collect()
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
        let all = vec![change(1), change(2)];
        failures.note(&change(1), errno(), start);
        assert_eq!(failures.due(all.clone(), start), [change(2)]);
        assert_eq!(failures.due(all.clone(), start + FIRST_DELAY), all);
        failures.note(&change(1), errno(), start);
        assert_eq!(failures.due(all.clone(), start + FIRST_DELAY), [change(2)]);
        assert_eq!(failures.next_due(), Some(start + FIRST_DELAY * 2));
    }

    #[test]
    fn what_is_no_longer_planned_is_forgotten() {
        let (mut failures, now) = (Failures::default(), Instant::now());
        failures.note(&change(1), errno(), now);
        assert_eq!(failures.routes().count(), 1);
        failures.due(vec![change(2)], now);
        assert_eq!(failures.routes().count(), 0);
    }
}
