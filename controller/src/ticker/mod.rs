//! Elapsed time that survives restarts and clock steps: what decides when a recovery window, a quarantine, the window of
//! removals, or the time for which audit entries are kept is over.
//!
//! [`crate::elapsed`] is the record in the store, and pure. The one task here, [`Ticker::run`], waits for its tick, and adds to the
//! record what passed on the monotonic clock: often while something short is waited for, seldom otherwise. Every controller
//! does it; each write is guarded by the record that it adds to, and adds only what the controller measured since it saw
//! that record, so that no time counts twice. The task never ends: a store that does not answer is tried again.

use std::{convert::Infallible, time::Duration};

use sextant_proto::{Incarnation, Revision, brake};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{
    elapsed::Elapsed,
    index::{Index, State},
    keys::Keys,
    records::Record,
    registry::{Guard, Op, Outcome, RegistryError, SharedRegistry, Txn},
    removals,
};

/// The interval of checks whether a write is due.
const TICK: Duration = Duration::from_secs(1);
/// How often time is written down while only audit entries grow older.
const IDLE: Duration = Duration::from_secs(600);
/// How often, at least, while something is waited for.
const SLOWEST: Duration = Duration::from_secs(30);
/// How many times a wait is written down while it lasts.
const STEPS: u32 = 20;

/// The durations that are waited for.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// A new store, for the agents of a lost one.
    pub recovery: Duration,
    /// A freed prefix, for its being handed out again.
    pub quarantine: Duration,
}

/// Counts the elapsed time.
pub struct Ticker {
    registry: SharedRegistry,
    keys: Keys,
    index: Index,
    waits: Waits,
    base: Option<Base>,
}

/// The record that time is added to.
#[derive(Debug, Clone, Copy)]
struct Base {
    of: Incarnation,
    /// The revision that put it; none if there is none yet.
    modified: Option<Revision>,
    /// The time of the put, or of its first observation.
    since: Instant,
}

/// The index's state at a check.
struct Seen {
    incarnation: Incarnation,
    revision: Revision,
    record: Option<(Elapsed, Revision)>,
    every: Duration,
}

impl Base {
    /// Whether it is of a write that the index does not have yet. One that it has and that is gone was deleted since.
    fn is_ahead_of(&self, seen: &Seen) -> bool {
        self.of == seen.incarnation && self.modified > Some(seen.revision)
    }
}

impl Ticker {
    /// A ticker of the store that `index` follows.
    pub fn new(registry: SharedRegistry, keys: Keys, index: Index, waits: Waits) -> Self {
        Self { registry, keys, index, waits, base: None }
    }

    /// Counts, for ever.
    ///
    /// # Errors
    /// None: a store that does not answer is tried again.
    pub async fn run(mut self) -> Result<(), Infallible> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error) = self.look(Instant::now()).await {
                tracing::debug!(%error, "elapsed time cannot be written; retrying");
            }
        }
    }

    async fn look(&mut self, now: Instant) -> Result<(), RegistryError> {
        let seen = self.seen();
        let modified = seen.record.as_ref().map(|(_, modified)| *modified);
        if self.base.is_some_and(|base| base.is_ahead_of(&seen)) {
            // The index does not have the last write yet.
            return Ok(());
        }
        let base = self.base.filter(|base| base.of == seen.incarnation && base.modified == modified);
        let base = base.unwrap_or(Base { of: seen.incarnation, modified, since: now });
        self.base = Some(base);
        let passed = now.duration_since(base.since);
        let Some(next) = next(&seen, passed) else { return Ok(()) };
        let key = self.keys.elapsed();
        let guard = match modified {
            Some(modified) => Guard::Unchanged(key.clone(), modified),
            None => Guard::Absent(key.clone()),
        };
        let ops = vec![Op::put(key, next.encode())];
        // Not into another incarnation than the index is of.
        let guards = self.index.read(State::same_record).into_iter().chain([guard]).collect();
        if let Outcome::Committed(revision) = self.registry.commit(Txn { guards, ops }).await? {
            // What passes from here on is counted by the next write.
            self.base = Some(Base { of: seen.incarnation, modified: Some(revision), since: now });
        }
        Ok(())
    }

    fn seen(&self) -> Seen {
        // Before the state: the state is at least as new.
        let revision = self.index.seen();
        self.index.read(|state| Seen {
            incarnation: state.meta().incarnation,
            revision,
            record: state.elapsed().map(|view| (view.record.clone(), view.modified)),
            every: period(state, self.waits),
        })
    }
}

/// The record to write, if it is time.
fn next(seen: &Seen, passed: Duration) -> Option<Elapsed> {
    match &seen.record {
        None => Some(Elapsed::new(seen.incarnation, seen.revision)),
        Some((record, _)) if passed >= seen.every || !record.is_of(seen.incarnation) => {
            // The process was stopped, or the store was unavailable: nothing was served, and nothing expires in that time.
            let counted = passed.min(seen.every * 2);
            Some(record.advanced(counted, seen.incarnation, seen.revision))
        }
        Some(_) => None,
    }
}

/// How often time is written down.
fn period(state: &State, waits: Waits) -> Duration {
    let recovery = state.meta().recovering.then_some(waits.recovery);
    let quarantine = (!state.holdings().freed().is_empty()).then_some(waits.quarantine);
    let removals = removals::is_open(state.removals(), state.elapsed()).then_some(brake::WINDOW);
    let shortest = recovery.into_iter().chain(quarantine).chain(removals).min();
    shortest.map_or(IDLE, |wait| (wait / STEPS).clamp(TICK, SLOWEST))
}

#[cfg(test)]
mod tests;
