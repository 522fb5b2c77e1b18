//! Measures how long this host's routes take to follow events and news.

use tokio::time::Instant;

use super::{Meters, Report};

/// The meters, and the times that run.
#[derive(Debug)]
pub(super) struct Timing {
    pub(super) meters: Meters,
    /// Since when events wait for a pass, and since when not all is right.
    events_since: Option<Instant>,
    wrong_since: Option<Instant>,
}

impl Timing {
    /// Nothing is right until a pass has found it so.
    pub(super) fn start() -> Self {
        Self { meters: Meters::default(), events_since: None, wrong_since: Some(Instant::now()) }
    }

    /// News has come: the kernel may differ from the desired routes.
    pub(super) fn news(&mut self) {
        self.wrong_since.get_or_insert_with(Instant::now);
    }

    /// An event has come: a pass will follow.
    pub(super) fn event(&mut self) {
        self.events_since = Some(Instant::now());
        self.news();
    }

    /// A pass has ended, whether it was complete or not.
    pub(super) fn pass_ended(&mut self) {
        if let Some(since) = self.events_since.take() {
            self.meters.caught_up(since);
        }
    }

    /// A pass is complete, and all that is known of the kernel is `current` or not.
    pub(super) fn reported(&mut self, report: &Report, current: bool) {
        self.meters.flapping.set(i64::try_from(report.flapping.len()).unwrap_or(i64::MAX));
        if report.all_routes_stand()
            && current
            && let Some(since) = self.wrong_since.take()
        {
            self.meters.converged(since);
        }
    }
}
