//! The problems of this host, as the agent's rooms find them.
//!
//! There is one list. `/readyz`, systemd's status line, the log and the acks are made from it, so none of them knows what
//! another one does not. A room gives all that it finds with [`Problems::report`], as often as it likes.

use std::sync::{Arc, Mutex, PoisonError};

use sextant_proto::{Problem, unix_ms};
use tokio::{sync::watch, time::Instant};

use crate::log_limiter::{Line, LogLimiter};

/// Which part of the agent has found something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Routes, uplinks, the bridge: what each pass looks at.
    Engine,
    /// The host's settings, and how the host stands to them.
    Host,
    /// The conversation with the controllers.
    Session,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which kind; the same from version to version, in lower case with hyphens.
    pub what: &'static str,
    /// What was seen, with the names and values.
    pub saw: String,
    /// What to do; empty where that is not known.
    pub fix: String,
    /// The host does not do its work: `/readyz` says so.
    pub unready: bool,
}

impl Finding {
    /// Something that is wrong while the host does its work.
    pub fn new(what: &'static str, saw: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what, saw: saw.into(), fix: fix.into(), unready: false }
    }

    /// Something that keeps the host from its work.
    pub fn unready(what: &'static str, saw: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { unready: true, ..Self::new(what, saw, fix) }
    }
}

/// The one list, shared by all rooms.
#[derive(Debug, Clone)]
pub struct Problems {
    list: watch::Sender<Found>,
    log: Arc<Mutex<LogLimiter>>,
}

/// All problems at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found(Vec<Listed>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    room: Room,
    unready: bool,
    problem: Problem,
}

/// Not determined yet.
const STARTING: &str = "starting";

impl Default for Problems {
    /// The agent is starting, until the engine has looked at the host.
    fn default() -> Self {
        let problem =
            Problem { what: STARTING.into(), saw: STARTING.into(), fix: String::new(), since_unix_ms: 0 };
        let list = watch::Sender::new(Found(vec![Listed { room: Room::Engine, unready: true, problem }]));
        Self { list, log: Arc::default() }
    }
}

impl Problems {
    /// All that `room` finds now, in place of what it found before; since when is kept for what it found before too.
    pub fn report(&self, room: Room, findings: Vec<Finding>) {
        self.list.send_if_modified(|found| {
            let next = found.with(room, findings, unix_ms());
            let changed = *found != next;
            if changed {
                self.log(found, &next);
                *found = next;
            }
            changed
        });
    }

    /// The list, and its changes.
    pub fn watch(&self) -> watch::Receiver<Found> {
        self.list.subscribe()
    }

    fn log(&self, before: &Found, now: &Found) {
        let mut limit = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        for Listed { problem: Problem { what, saw, fix, .. }, unready, .. } in now.beyond(before) {
            if let Some(withheld) = limit.admit(Line::Problem, Instant::now()) {
                tracing::warn!(what, saw, fix, unready, withheld, "problem found");
            }
        }
        for gone in before.beyond(now).filter(|it| it.problem.what != STARTING) {
            if let Some(withheld) = limit.admit(Line::Problem, Instant::now()) {
                tracing::info!(what = gone.problem.what, saw = gone.problem.saw, withheld, "problem is over");
            }
        }
    }
}

impl Found {
    /// What keeps the host from its work, a line each.
    ///
    /// # Errors
    /// If something does.
    pub fn readiness(&self) -> Result<(), String> {
        let reasons: Vec<_> =
            self.0.iter().filter(|it| it.unready).map(|it| it.problem.to_string()).collect();
        if reasons.is_empty() { Ok(()) } else { Err(reasons.join("\n")) }
    }

    /// All of them, for the controllers.
    pub fn problems(&self) -> Vec<Problem> {
        self.0.iter().map(|it| it.problem.clone()).collect()
    }

    fn with(&self, room: Room, findings: Vec<Finding>, now_unix_ms: u64) -> Self {
        let mut before: Vec<_> = self.0.iter().filter(|it| it.room == room).collect();
        let listed = findings.into_iter().map(|Finding { what, saw, fix, unready }| {
            // What is seen may change in its details while the problem stays the same.
            let same = |it: &&Listed| it.problem.what == what;
            let exactly = before.iter().position(|it| same(it) && it.problem.saw == saw);
            let known = exactly.or_else(|| before.iter().position(same)).map(|at| before.remove(at));
            let since_unix_ms = known.map_or(now_unix_ms, |it| it.problem.since_unix_ms);
            Listed { room, unready, problem: Problem { what: what.into(), saw, fix, since_unix_ms } }
        });
        let listed: Vec<_> = listed.collect();
        Self(self.0.iter().filter(|it| it.room != room).cloned().chain(listed).collect())
    }

    /// Those of a kind that `other` has fewer of.
    fn beyond<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Listed> {
        let of = |list: &[Listed], what: &str| list.iter().filter(|it| it.problem.what == what).count();
        let kinds = self.0.iter().enumerate();
        kinds
            .filter(move |(at, it)| of(&self.0[..=*at], &it.problem.what) > of(&other.0, &it.problem.what))
            .map(|(_, it)| it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(found: &Found) -> Vec<(String, u64)> {
        found.0.iter().map(|it| (it.problem.saw.clone(), it.problem.since_unix_ms)).collect()
    }

    #[test]
    fn a_room_replaces_its_own_and_keeps_since_when() {
        let found = Found(Vec::new())
            .with(Room::Engine, vec![Finding::unready("bridge-missing", "docker0", "")], 1)
            .with(Room::Host, vec![Finding::new("host-len", "60", "")], 2);
        assert_eq!(listed(&found), [("docker0".into(), 1), ("60".into(), 2)]);
        let found = found.with(
            Room::Engine,
            vec![
                Finding::new("address-missing", "eth0", ""),
                Finding::unready("bridge-missing", "docker0 again", ""),
            ],
            3,
        );
        assert_eq!(listed(&found), [("60".into(), 2), ("eth0".into(), 3), ("docker0 again".into(), 1)]);
        let two = |first, second| {
            vec![Finding::new("address-missing", first, ""), Finding::new("address-missing", second, "")]
        };
        let found = found.with(Room::Engine, two("eth1", "eth0"), 4);
        assert_eq!(listed(&found), [("60".into(), 2), ("eth1".into(), 3), ("eth0".into(), 4)]);
        assert_eq!(
            listed(&found.with(Room::Engine, two("eth0", "eth1"), 5))[1..],
            [("eth0".into(), 4), ("eth1".into(), 3)]
        );
    }

    #[test]
    fn only_what_keeps_the_host_from_its_work_makes_it_unready() {
        let problems = Problems::default();
        assert_eq!(problems.watch().borrow().readiness(), Err("starting".into()));
        problems.report(Room::Engine, vec![]);
        problems.report(Room::Host, vec![Finding::new("host-len", "the claim is /64", "set it so")]);
        assert_eq!(problems.watch().borrow().readiness(), Ok(()));
        problems.report(Room::Engine, vec![Finding::unready("bridge-missing", "no docker0", "make it")]);
        assert_eq!(problems.watch().borrow().readiness(), Err("no docker0; make it".into()));
        assert_eq!(problems.watch().borrow().problems().len(), 2);
    }

    #[test]
    fn a_report_without_news_wakes_nobody() {
        let problems = Problems::default();
        let mut watch = problems.watch();
        let same = || vec![Finding::new("host-len", "the claim is /64", "")];
        problems.report(Room::Host, same());
        assert!(watch.has_changed().unwrap());
        watch.mark_unchanged();
        problems.report(Room::Host, same());
        assert!(!watch.has_changed().unwrap());
    }
}
