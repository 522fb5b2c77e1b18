//! When a problem is logged as found, and when as resolved.

use std::collections::BTreeMap;

use sextant_daemon::RECOVERED;
use sextant_proto::Problem;
use tokio::time::Instant;

use super::{Found, Listed, STARTING};
use crate::log_limiter::{Line, LogLimiter};

/// The log of the problems. One that is gone for a moment is not resolved, and one that has come back lately is not found anew: it is
/// the same one.
#[derive(Debug, Default)]
pub(super) struct Log {
    limit: LogLimiter,
    /// The problems that were logged as found, by their kind, their object, and their number among those.
    logged: BTreeMap<(String, String, usize), Logged>,
}

#[derive(Debug)]
struct Logged {
    saw: String,
    /// Since when it is not found any more.
    gone: Option<Instant>,
}

/// A line to log.
#[derive(Debug, PartialEq, Eq)]
enum Event<'a> {
    Found(&'a Listed),
    Resolved { kind: String, problem: String },
}

impl Log {
    pub(super) fn update(&mut self, found: &Found, now: Instant) {
        for event in self.events(found, now) {
            let Some(withheld) = self.limit.admit(Line::Problem, now) else { continue };
            match event {
                Event::Found(Listed { problem: Problem { what, saw, fix, .. }, unready, .. }) => {
                    tracing::warn!(kind = what, problem = saw, fix, unready, withheld, "problem found");
                }
                Event::Resolved { kind, problem } => {
                    tracing::info!(kind, problem, withheld, "problem resolved");
                }
            }
        }
    }

    fn events<'a>(&mut self, found: &'a Found, now: Instant) -> Vec<Event<'a>> {
        let mut events = Vec::new();
        let mut numbers = BTreeMap::<(&str, &str), usize>::new();
        let mut there = Vec::new();
        for listed in found.0.iter().filter(|it| it.problem.what != STARTING) {
            let Problem { what, saw, .. } = &listed.problem;
            let number = numbers.entry((what, &listed.about)).or_default();
            let key = (what.clone(), listed.about.clone(), *number);
            *number += 1;
            match self.logged.get_mut(&key) {
                Some(logged) => (logged.saw, logged.gone) = (saw.clone(), None),
                None if self.limit.is_new(what, saw, now) => {
                    self.logged.insert(key.clone(), Logged { saw: saw.clone(), gone: None });
                    events.push(Event::Found(listed));
                }
                None => {}
            }
            there.push(key);
        }
        self.logged.retain(|key, logged| {
            let is_there = there.contains(key);
            let gone = if is_there { now } else { *logged.gone.get_or_insert(now) };
            let lasts = now.duration_since(gone) < RECOVERED;
            if !lasts {
                let (kind, problem) = (key.0.clone(), std::mem::take(&mut logged.saw));
                events.push(Event::Resolved { kind, problem });
            }
            lasts
        });
        events
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::problems::{Component, Finding};

    #[test]
    fn a_problem_that_comes_and_goes_is_one_in_the_log() {
        let (mut log, start) = (Log::default(), Instant::now());
        let none = Found(Vec::new());
        let there = none.with(Component::Session, vec![Finding::unready("duplicate-agent", "h1", "")], 1);
        let mut at = |millis: u64, found: &Found| {
            let events = log.events(found, start + Duration::from_millis(millis));
            let text = |event: Event<'_>| match event {
                Event::Found(listed) => format!("{} found", listed.problem.what),
                Event::Resolved { kind, .. } => format!("{kind} resolved"),
            };
            events.into_iter().map(text).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(at(0, &there), "duplicate-agent found");
        for n in 1..20 {
            assert_eq!(at(n * 500, if n % 2 == 0 { &there } else { &none }), "", "{n}");
        }
        assert_eq!(at(14_000, &none), "");
        assert_eq!(at(14_500, &none), "duplicate-agent resolved");
        assert_eq!(at(30_000, &none), "", "once");
        // Back within a minute of its line: it is logged when that has passed, if it lasts.
        assert_eq!((at(40_000, &there), at(59_000, &there)), (String::new(), String::new()));
        assert_eq!(at(61_000, &there), "duplicate-agent found");
    }
}
