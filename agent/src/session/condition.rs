//! The condition of the session: for probes and metrics, as problems, and in the log.

use std::time::Duration;

use sextant_daemon::{FailingServer, Outages, transition};
use tokio::{sync::watch, time::Instant};

use super::{Ended, link::LinkError, loops::Loops};
use crate::problems::{Component, Finding, Problems};

/// The state of the session, for probes and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// A controller is connected, and has answered.
    pub connected: bool,
    /// The last error, while no controller is connected.
    pub error: Option<String>,
    /// The number of streams so far.
    pub streams: u64,
}

/// Reports the condition.
pub(super) struct Reporting {
    condition: watch::Sender<Condition>,
    problems: Problems,
    loops: Loops,
    failures: Outages,
    /// Why this agent was refused as another one of its node, until a controller admits it. Attempts in between fail otherwise, or
    /// get as far as a claim: the refusal lasts.
    duplicate: Option<String>,
    /// Pools of which this node has no prefix.
    missing: Vec<Finding>,
    /// Pools and prefixes that the controllers sent, and that `accept-pools` leaves out.
    left_out: Option<Finding>,
}

impl Reporting {
    /// To these.
    pub(super) fn new(condition: watch::Sender<Condition>, problems: Problems) -> Self {
        let (loops, failures) = (Loops::default(), Outages::default());
        Self { condition, problems, loops, failures, duplicate: None, missing: Vec::new(), left_out: None }
    }

    /// The controller has answered on the stream.
    pub(super) fn connected(&mut self) {
        transition("session", "disconnected", "connected", "welcome");
        self.duplicate = None;
        self.condition.send_modify(|condition| {
            condition.connected = true;
            condition.error = None;
            condition.streams += 1;
        });
        self.update_problems();
    }

    /// The stream was stable: the next failure with this controller is a new one.
    pub(super) fn stable(&mut self, controller: &str) {
        self.failures.succeeded(controller);
    }

    /// The least delay before the next connection, after one that has `ended`: longer in a loop.
    pub(super) fn delay_after(&mut self, ended: &Ended) -> Duration {
        let connected = self.condition.borrow().connected;
        self.loops.connection_ended(ended, connected, Instant::now())
    }

    /// No controller is connected.
    pub(super) fn disconnected(&mut self, controller: &str, ended: &Ended) {
        let why = ended.to_string();
        if !ended.is_fenced() {
            self.log_failure(controller, &why);
        }
        self.report_problems(Some(ended));
        let error = Some(format!("controller {controller}: {why}"));
        self.condition.send_if_modified(|condition| {
            if condition.connected {
                transition("session", "connected", "disconnected", ended.kind());
            }
            let now = Condition { connected: false, error, streams: condition.streams };
            let changed = *condition != now;
            *condition = now;
            changed
        });
    }

    /// The pools of which this node has no prefix.
    pub(super) fn set_missing(&mut self, missing: Vec<Finding>) {
        self.missing = missing;
        self.update_problems();
    }

    /// What of the view is left out.
    pub(super) fn set_left_out(&mut self, left_out: Option<Finding>) {
        if self.left_out != left_out {
            self.left_out = left_out;
            self.update_problems();
        }
    }

    /// Reports the session's problems while the connection lasts, since a loop may have ended.
    pub(super) fn update_problems(&mut self) {
        self.report_problems(None);
    }

    fn log_failure(&mut self, controller: &str, why: &str) {
        if let Some(failing) = self.failures.failed(controller, why, Instant::now()) {
            let FailingServer { failures, for_secs, others } = failing;
            tracing::warn!(
                controller,
                error = why,
                failures,
                for_secs,
                others,
                "not connected to a controller; routes unchanged"
            );
        }
    }

    /// Reports the session's problems, after the connection has `ended` or while it lasts.
    fn report_problems(&mut self, ended: Option<&Ended>) {
        if let Some(Ended::Link(LinkError::Duplicate(why))) = ended {
            self.duplicate = Some(why.clone());
        }
        let found = match &self.duplicate {
            Some(why) => Some(Finding::unready("duplicate-agent", why.clone(), "")),
            None => self.loops.problem(Instant::now()),
        };
        let lasting = self.missing.iter().chain(&self.left_out).cloned();
        self.problems.report(Component::Session, found.into_iter().chain(lasting).collect());
    }
}
