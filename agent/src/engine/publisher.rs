//! Publishes the result of each pass: to the other tasks, to the list of problems, and to the log.

use tokio::{sync::watch, time::Instant};

use super::{Report, news};
use crate::{
    log_limiter::LogLimiter,
    problems::{Component, Finding, Problems},
};

/// The receivers of the engine's reports.
pub(super) struct Publisher {
    report: watch::Sender<Report>,
    problems: Problems,
    log: LogLimiter,
}

impl Publisher {
    pub(super) fn new(report: watch::Sender<Report>) -> Self {
        Self { report, problems: Problems::default(), log: LogLimiter::default() }
    }

    /// Lists the problems here from now on.
    pub(super) fn list_problems_in(&mut self, problems: Problems) {
        self.problems = problems;
    }

    /// The last report.
    pub(super) fn last(&self) -> watch::Ref<'_, Report> {
        self.report.borrow()
    }

    /// Publishes a report, and warns of each trouble that is new in it.
    pub(super) fn publish(&mut self, report: Report) {
        let log = &mut self.log;
        self.report.send_if_modified(|before| {
            let changed = *before != report;
            if changed {
                news::warn_of_new(before, &report, log, Instant::now());
            }
            *before = report;
            changed
        });
    }

    /// Publishes the problems of the engine, and those of the host's setup.
    pub(super) fn publish_problems(&self, engine: Vec<Finding>, host: Vec<Finding>) {
        self.problems.report(Component::Engine, engine);
        self.problems.report(Component::Host, host);
    }

    /// Nothing is read, computed or done; the last report stays true.
    pub(super) fn publish_pause(&self) {
        self.report.send_if_modified(|report| {
            let news = !report.paused;
            if news {
                tracing::warn!("paused by an operator: nothing is changed until `sextant resume`");
            }
            report.paused = true;
            news
        });
    }
}
