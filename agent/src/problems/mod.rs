//! The problems of this host, as the agent's components find them.
//!
//! There is one list. `/readyz`, systemd's status line, the log and the acknowledgements are made from it, so they agree. A
//! component reports all its findings with [`Problems::report`], as often as it likes.

mod log;

use std::sync::{Arc, Mutex, PoisonError};

use sextant_proto::{Problem, unix_ms};
use tokio::{sync::watch, time::Instant};

use log::Log;

/// The part of the agent that has found a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// Routes, uplinks, the bridge: checked in each pass.
    Engine,
    /// The host's settings, compared with the host.
    Host,
    /// The uplinks, by the answers of peers.
    Liveness,
    /// The kernel's neighbour table.
    Neighbours,
    /// The session with a controller.
    Session,
    /// The sessions with routers.
    Bgp,
    /// `/metrics`, `/healthz` and `/readyz`.
    Probes,
    /// The network of the host's Docker engine.
    Docker,
    /// The IPAM driver for that engine.
    Ipam,
    /// All networks of that engine.
    Containers,
    /// What keeps the packets of containers from their way.
    ContainerPaths,
    /// The router advertisements on the containers' bridge.
    Advertise,
    /// The answers to neighbour solicitations for containers.
    Ndp,
    /// The certificate of this node.
    Certificates,
}

/// A problem of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its kind, stable over versions, in lower case with hyphens.
    pub what: &'static str,
    /// The name that tells it from others of its kind, where details of the observation change while it lasts: of a pool, an
    /// interface, a setting. Empty where there is only one, or the observation does not change.
    pub about: String,
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
        Self { what, about: String::new(), saw: saw.into(), fix: fix.into(), unready: false }
    }

    /// The same, about this object.
    #[must_use]
    pub fn about(self, object: impl Into<String>) -> Self {
        Self { about: object.into(), ..self }
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
    log: Arc<Mutex<Log>>,
}

/// All problems at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found(Vec<Listed>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    component: Component,
    about: String,
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
        let list = watch::Sender::new(Found(vec![Listed {
            component: Component::Engine,
            about: String::new(),
            unready: true,
            problem,
        }]));
        Self { list, log: Arc::default() }
    }
}

impl Problems {
    /// Replaces the findings of `component`. A finding that was reported before keeps its time.
    pub fn report(&self, component: Component, findings: Vec<Finding>) {
        self.list.send_if_modified(|found| {
            let next = found.with(component, findings, unix_ms());
            self.log.lock().unwrap_or_else(PoisonError::into_inner).update(&next, Instant::now());
            let changed = *found != next;
            if changed {
                *found = next;
            }
            changed
        });
    }

    /// The list, and its changes.
    pub fn watch(&self) -> watch::Receiver<Found> {
        self.list.subscribe()
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

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, for the controllers.
    pub fn problems(&self) -> Vec<Problem> {
        self.0.iter().map(|it| it.problem.clone()).collect()
    }

    /// Those that this component has found.
    pub fn of(&self, component: Component) -> Vec<Problem> {
        self.0.iter().filter(|it| it.component == component).map(|it| it.problem.clone()).collect()
    }

    /// Why the host does not use this prefix, or holds none of this pool: the problem that the engine or the session has found
    /// about it, or else the one because of which the host does not work.
    pub fn unused(&self, prefix_or_pool: &str) -> Option<&Problem> {
        let finds = |it: &&Listed| matches!(it.component, Component::Engine | Component::Session);
        let about = self.0.iter().filter(finds).find(|it| it.about == prefix_or_pool);
        let unready = || self.0.iter().find(|it| it.component == Component::Engine && it.unready);
        about.or_else(unready).map(|it| &it.problem)
    }

    fn with(&self, component: Component, findings: Vec<Finding>, now_unix_ms: u64) -> Self {
        let times = self.times(component, &findings);
        let listed =
            findings.into_iter().zip(times).map(|(Finding { what, about, saw, fix, unready }, since)| {
                let since_unix_ms = since.unwrap_or(now_unix_ms);
                Listed {
                    component,
                    about,
                    unready,
                    problem: Problem { what: what.into(), saw, fix, since_unix_ms },
                }
            });
        let listed: Vec<_> = listed.collect();
        Self(self.0.iter().filter(|it| it.component != component).cloned().chain(listed).collect())
    }

    /// Since when each finding of `component` is reported. Details of the observation may change while the problem persists: one
    /// that is not the same to the letter is the next of its kind and object that is not.
    fn times(&self, component: Component, findings: &[Finding]) -> Vec<Option<u64>> {
        let mut before: Vec<_> = self.0.iter().filter(|it| it.component == component).collect();
        let mut take = |is: &dyn Fn(&Listed) -> bool| {
            let at = before.iter().position(|it| is(it))?;
            Some(before.remove(at).problem.since_unix_ms)
        };
        let same =
            |it: &Listed, finding: &Finding| it.problem.what == finding.what && it.about == finding.about;
        let unchanged = |finding: &Finding| take(&|it| same(it, finding) && it.problem.saw == finding.saw);
        let mut times: Vec<_> = findings.iter().map(unchanged).collect();
        for (finding, time) in findings.iter().zip(&mut times).filter(|(_, time)| time.is_none()) {
            *time = take(&|it| same(it, finding));
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(found: &Found) -> Vec<(String, u64)> {
        found.0.iter().map(|it| (it.problem.saw.clone(), it.problem.since_unix_ms)).collect()
    }

    #[test]
    fn the_reason_for_an_unused_prefix_is_the_engines_own_one() {
        let about = |found: &Found, object: &str| found.unused(object).map(|problem| problem.saw.clone());
        let of = |found: &Found| about(found, "fd00::/64");
        let found = Found(Vec::new())
            .with(Component::Probes, vec![Finding::unready("port", "in use", "").about("fd00::/64")], 1)
            .with(
                Component::Engine,
                vec![Finding::new("state-directory", "full", "").about("fd00:1::/64")],
                1,
            );
        assert_eq!(of(&found), None);
        let session = found.with(
            Component::Session,
            vec![Finding::new("pool-without-claim", "exhausted", "").about("ula")],
            1,
        );
        assert_eq!((about(&session, "ula").as_deref(), of(&session)), (Some("exhausted"), None));
        let more = |more| vec![Finding::new("other", "other", ""), more];
        let found = found.with(Component::Engine, more(Finding::unready("no-claim", "none", "")), 2);
        assert_eq!(of(&found).as_deref(), Some("none"));
        let full = Finding::new("state-directory", "full", "").about("fd00::/64");
        assert_eq!(of(&found.with(Component::Engine, more(full), 2)).as_deref(), Some("full"));
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
        assert_eq!(listed(&found), [("60".into(), 2), ("eth1".into(), 4), ("eth0".into(), 3)]);
        assert_eq!(
            listed(&found.with(Component::Engine, two("eth0", "eth1"), 5))[1..],
            [("eth0".into(), 3), ("eth1".into(), 4)]
        );
    }

    #[test]
    fn two_problems_of_a_kind_keep_their_own_times_whatever_changes() {
        let of = |pool: &str, claims: u32| {
            Finding::new("pool-without-claim", format!("pool {pool}: {claims} claims"), "").about(pool)
        };
        let first = Found(Vec::new()).with(Component::Session, vec![of("ula", 1)], 1);
        let found = first.with(Component::Session, vec![of("ula", 1), of("third", 1)], 2);
        let since = |found: &Found, pool: &str| {
            let mut of_pool = found.0.iter().filter(|it| it.about == pool);
            of_pool.next().map(|it| it.problem.since_unix_ms)
        };
        let later = [
            [of("third", 1), of("ula", 1)],
            [of("third", 2), of("ula", 2)],
            [of("ula", 3), of("third", 1)],
            [of("third", 2), of("ula", 1)],
        ];
        for findings in later {
            let found = found.with(Component::Session, findings.to_vec(), 3);
            assert_eq!((since(&found, "ula"), since(&found, "third")), (Some(1), Some(2)), "{findings:?}");
        }
        // Without an object, one whose observation is unchanged is not taken for another one.
        let plain = |saw: &str| Finding::new("address-missing", saw, "");
        let found = Found(Vec::new()).with(Component::Engine, vec![plain("eth0"), plain("eth1")], 1);
        let found = found.with(Component::Engine, vec![plain("eth2"), plain("eth0")], 2);
        let found = found.with(Component::Engine, vec![plain("eth3"), plain("eth2"), plain("eth0")], 3);
        assert_eq!(listed(&found), [("eth3".into(), 3), ("eth2".into(), 1), ("eth0".into(), 1)]);
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
