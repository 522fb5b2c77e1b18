//! The memory of earlier passes, and the plan that follows from it. Pure.

use tokio::time::Instant;

use super::{Actual, Brake, Damping, Desired, Facts, Failures, Known, Plan, Wanted, decide::change, plan};

/// The memory of earlier passes.
#[derive(Debug, Clone)]
pub struct Memory {
    /// The routes that were desired.
    pub wanted: Wanted,
    /// The peers that are gone.
    pub brake: Brake,
    /// The changes that the kernel refused.
    pub failures: Failures,
    /// The routes that other processes change.
    pub damping: Damping,
}

impl Memory {
    /// That of a new process.
    pub fn new(now: Instant) -> Self {
        Self {
            wanted: Wanted::default(),
            brake: Brake::default(),
            failures: Failures::default(),
            damping: Damping::new(now),
        }
    }

    /// All changes from the actual to the desired routes, and which of them are made now. On a copy, it shows the effect
    /// of the next pass.
    pub fn plan(&mut self, known: &Known<'_>, desired: &Desired, actual: &Actual, now: Instant) -> Plan {
        self.brake.judge(known, desired, actual, &self.wanted, now);
        self.forget_failures(known, desired, actual, now);
        let mut plan = plan(&Facts { known, desired, actual, memory: self, now });
        self.damping.limit(&mut plan.changes, now);
        plan
    }

    /// When a change that is held back is due by itself.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        [self.failures.next_due(), self.damping.next_due(now), self.brake.next_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Forgets changes that failed and are no longer to be made.
    fn forget_failures(&mut self, known: &Known<'_>, desired: &Desired, actual: &Actual, now: Instant) {
        if self.failures.is_empty() {
            return;
        }
        let mut failures = std::mem::take(&mut self.failures);
        let facts = Facts { known, desired, actual, memory: self, now };
        failures.retain(|failed| {
            let planned = change(&facts, &failed.route().key);
            planned.is_some_and(|it| it.change == *failed && it.hold.is_none_or(|hold| hold.is_delay()))
        });
        self.failures = failures;
    }
}
