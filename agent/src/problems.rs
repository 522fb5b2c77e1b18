//! The problems of this host, as the agent's components find them.
//!
//! There is one list. `/readyz`, systemd's status line, the log and the acknowledgements are made from it, so they agree. A
//! component reports all its findings with [`Problems::report`], as often as it likes.

use std::sync::{Arc, Mutex, PoisonError};

use sextant_proto::{Problem, unix_ms};
use tokio::{sync::watch, time::Instant};

use crate::log_limiter::{Line, LogLimiter};

/// The part of the agent that has found a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// Routes, uplinks, the bridge: checked in each pass.
    Engine,
    /// The host's settings, compared with the host.
    Host,
    /// The uplinks, by the answers of peers.
    Liveness,
    /// The session with a controller.
    Session,
    /// The sessions with routers.
    Bgp,
    /// `/metrics`, `/healthz` and `/readyz`.
    Probes,
    /// The network of the host's Docker engine.
    Docker,
}

/// A problem of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its kind, stable over versions, in lower case with hyphens.
    pub what: &'static str,
    /// The observation, with the names and values.
    pub saw: String,
    /// The fix; empty if unknown.
    pub fix: String,
    /// The host does not work: `/readyz` fails.
    pub unready: bool,
}

impl Finding {
    /// A problem of a host that still works.
    pub fn new(what: &'static str, saw: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what, saw: saw.into(), fix: fix.into(), unready: false }
    }

    /// A problem because of which the host does not work.
    pub fn unready(what: &'static str, saw: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { unready: true, ..Self::new(what, saw, fix) }
    }
}

/// The list of problems, shared by all components.
#[derive(Debug, Clone)]
pub struct Problems {
    list: watch::Sender<Found>,
    log: Arc<Mutex<LogLimiter>>,
}

/// All problems at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found(Vec<Listed>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    component: Component,
    unready: bool,
    problem: Problem,
}

/// Not determined yet.
const STARTING: &str = "starting";

impl Default for Problems {
    /// The agent is starting, until the engine has checked the host.
    fn default() -> Self {
        let problem =
            Problem { what: STARTING.into(), saw: STARTING.into(), fix: String::new(), since_unix_ms: 0 };
        let list =
            watch::Sender::new(Found(vec![Listed { component: Component::Engine, unready: true, problem }]));
        Self { list, log: Arc::default() }
    }
}

impl Problems {
    /// Replaces the findings of `component`. A finding that was reported before keeps its time.
    pub fn report(&self, component: Component, findings: Vec<Finding>) {
        self.list.send_if_modified(|found| {
            let next = found.with(component, findings, unix_ms());
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
            if limit.is_new(what, saw, Instant::now())
                && let Some(withheld) = limit.admit(Line::Problem, Instant::now())
            {
                tracing::warn!(kind = what, problem = saw, fix, unready, withheld, "problem found");
            }
        }
        for gone in before.beyond(now).filter(|it| it.problem.what != STARTING) {
            if let Some(withheld) = limit.admit(Line::Problem, Instant::now()) {
                tracing::info!(
                    kind = gone.problem.what,
                    problem = gone.problem.saw,
                    withheld,
                    "problem resolved"
                );
            }
        }
    }
}

impl Found {
    /// Whether the host works.
    ///
    /// # Errors
    /// The problems because of which it does not, one in each line.
    pub fn readiness(&self) -> Result<(), String> {
        let reasons: Vec<_> =
            self.0.iter().filter(|it| it.unready).map(|it| it.problem.to_string()).collect();
        if reasons.is_empty() { Ok(()) } else { Err(reasons.join("\n")) }
    }

    /// All of them, for the controllers.
    pub fn problems(&self) -> Vec<Problem> {
        self.0.iter().map(|it| it.problem.clone()).collect()
    }

    fn with(&self, component: Component, findings: Vec<Finding>, now_unix_ms: u64) -> Self {
        let mut before: Vec<_> = self.0.iter().filter(|it| it.component == component).collect();
        let listed = findings.into_iter().map(|Finding { what, saw, fix, unready }| {
            // Details of the observation may change while the problem persists.
            let same = |it: &&Listed| it.problem.what == what;
            let exactly = before.iter().position(|it| same(it) && it.problem.saw == saw);
            let known = exactly.or_else(|| before.iter().position(same)).map(|at| before.remove(at));
            let since_unix_ms = known.map_or(now_unix_ms, |it| it.problem.since_unix_ms);
            Listed { component, unready, problem: Problem { what: what.into(), saw, fix, since_unix_ms } }
        });
        let listed: Vec<_> = listed.collect();
        Self(self.0.iter().filter(|it| it.component != component).cloned().chain(listed).collect())
    }

    /// The problems of each kind that `other` has not, by their number.
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
    fn a_component_replaces_its_own_findings_and_keeps_their_times() {
        let found = Found(Vec::new())
            .with(Component::Engine, vec![Finding::unready("bridge-missing", "docker0", "")], 1)
            .with(Component::Host, vec![Finding::new("host-len", "60", "")], 2);
        assert_eq!(listed(&found), [("docker0".into(), 1), ("60".into(), 2)]);
        let found = found.with(
            Component::Engine,
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
        let found = found.with(Component::Engine, two("eth1", "eth0"), 4);
        assert_eq!(listed(&found), [("60".into(), 2), ("eth1".into(), 3), ("eth0".into(), 4)]);
        assert_eq!(
            listed(&found.with(Component::Engine, two("eth0", "eth1"), 5))[1..],
            [("eth0".into(), 4), ("eth1".into(), 3)]
        );
    }

    #[test]
    fn only_unready_findings_make_the_host_unready() {
        let problems = Problems::default();
        assert_eq!(problems.watch().borrow().readiness(), Err("starting".into()));
        problems.report(Component::Engine, vec![]);
        problems.report(Component::Host, vec![Finding::new("host-len", "the claim is /64", "set it so")]);
        assert_eq!(problems.watch().borrow().readiness(), Ok(()));
        problems.report(Component::Engine, vec![Finding::unready("bridge-missing", "no docker0", "make it")]);
        assert_eq!(problems.watch().borrow().readiness(), Err("no docker0; make it".into()));
        assert_eq!(problems.watch().borrow().problems().len(), 2);
    }

    #[test]
    fn an_unchanged_report_notifies_no_watcher() {
        let problems = Problems::default();
        let mut watch = problems.watch();
        let same = || vec![Finding::new("host-len", "the claim is /64", "")];
        problems.report(Component::Host, same());
        assert!(watch.has_changed().unwrap());
        watch.mark_unchanged();
        problems.report(Component::Host, same());
        assert!(!watch.has_changed().unwrap());
    }
}
