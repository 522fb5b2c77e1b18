//! What the engine counts of its own work; [`crate::metrics`] shows it.

use prometheus_client::{
    metrics::{
        counter::Counter,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use tokio::time::Instant;

use crate::routes::{Actual, Desired};

/// Shared: the engine counts, the registry shows.
#[derive(Debug, Clone)]
pub struct Meters {
    desired: Gauge,
    actual: Gauge,
    foreign: Gauge,
    pub(super) flapping: Gauge,
    plan: Histogram,
    batch: Histogram,
    lag: Histogram,
    converge: Histogram,
    pub(super) passes: Counter,
    pub(super) overruns: Counter,
    pub(super) broken: Counter,
}

impl Default for Meters {
    fn default() -> Self {
        // 0.1 ms to 26 s.
        let seconds = || Histogram::new(exponential_buckets(0.0001, 4.0, 10));
        Self {
            desired: Gauge::default(),
            actual: Gauge::default(),
            foreign: Gauge::default(),
            flapping: Gauge::default(),
            plan: Histogram::new(exponential_buckets(1.0, 4.0, 9)),
            batch: seconds(),
            lag: seconds(),
            converge: seconds(),
            passes: Counter::default(),
            overruns: Counter::default(),
            broken: Counter::default(),
        }
    }
}

impl Meters {
    /// Shows all of it in `registry`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("routes_desired", "Routes that should be", self.desired.clone());
        registry.register(
            "routes_actual",
            "Routes of ours in the kernel, of all tables",
            self.actual.clone(),
        );
        registry.register("routes_foreign", "Others' routes in our table", self.foreign.clone());
        registry.register(
            "routes_contested",
            "Routes that another process changes again and again",
            self.flapping.clone(),
        );
        registry.register("plan_changes", "Changes of a plan that is not empty", self.plan.clone());
        let seconds = [
            ("batch", "A plan's changes, from the first to the last answer of the kernel", &self.batch),
            ("event_lag", "From the first event of a burst to the end of the pass that it led to", &self.lag),
            ("converge", "From news or an event until the kernel has what it should", &self.converge),
        ];
        for (name, help, histogram) in seconds {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
        registry.register(
            "passes",
            "Comparisons of what is with what should be, and the changes that follow",
            self.passes.clone(),
        );
        registry.register("overruns", "Times that events of the kernel were lost", self.overruns.clone());
        registry.register("broken_passes", "Passes that the kernel's answers broke off", self.broken.clone());
    }

    /// A plan was carried out since `began`.
    pub(super) fn applied(&self, changes: usize, began: Instant) {
        self.plan.observe(changes as f64);
        self.batch.observe(began.elapsed().as_secs_f64());
    }

    /// What is, and what should be, in our `table`.
    pub(super) fn stand(&self, desired: &Desired, actual: &Actual, table: u32) {
        self.desired.set(as_gauge(desired.routes.len()));
        self.actual.set(as_gauge(actual.ours.len()));
        let of_table = actual.foreign.iter().filter(|(key, _)| key.table == table);
        self.foreign.set(as_gauge(of_table.map(|(_, known)| known.len()).sum()));
    }

    /// The events since `since` have led to a pass.
    pub(super) fn caught_up(&self, since: Instant) {
        self.lag.observe(since.elapsed().as_secs_f64());
    }

    /// What was not right since `since` is.
    pub(super) fn converged(&self, since: Instant) {
        self.converge.observe(since.elapsed().as_secs_f64());
    }
}

fn as_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
