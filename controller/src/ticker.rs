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
mod tests {
    use super::*;
    use crate::{
        records::{Meta, Removal, RemovalsRecord},
        registry::{Entry, Listing},
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn seen(record: Option<Elapsed>, incarnation: u8, every: Duration) -> Seen {
        Seen {
            incarnation: format!("{incarnation:032x}").parse().unwrap(),
            revision: Revision(9),
            record: record.map(|record| (record, Revision(8))),
            every,
        }
    }

    #[test]
    fn time_is_written_often_while_something_is_waited_for() {
        let keys = Keys::new(&"test".parse().unwrap());
        let meta = Meta::new();
        let meta = Meta { recovering: false, ..meta };
        let entry = |key: String, value, revision| Entry {
            key,
            value,
            created: Revision(revision),
            modified: Revision(revision),
            lease: None,
        };
        let removal = Removal { node: "h1".parse().unwrap(), claimed: Revision(3), ended: None, unix_ms: 0 };
        let removals = RemovalsRecord { recent: vec![removal], confirmed: 0 };
        let waits = Waits { recovery: 60 * SECOND, quarantine: 3600 * SECOND };
        for (what, since, every) in [("in the window", 599, SLOWEST), ("no more", 600, IDLE)] {
            let elapsed = Elapsed::new(meta.incarnation, Revision(9));
            let elapsed = elapsed.advanced(since * SECOND, meta.incarnation, Revision(10));
            let entries = vec![
                entry(keys.removals(), removals.encode(), 9),
                entry(keys.elapsed(), elapsed.encode(), 10),
            ];
            let listing = Listing { revision: Revision(10), entries };
            let state = State::new(keys.clone(), meta.clone(), &listing).unwrap();
            assert_eq!(period(&state, waits), every, "{what}");
        }
    }

    #[test]
    fn the_index_is_waited_for_only_until_it_has_the_last_write() {
        let of_here = |modified| {
            let of = seen(None, 1, SECOND).incarnation;
            Base { of, modified, since: Instant::now() }
        };
        let record = Elapsed::new(of_here(None).of, Revision(8));
        for (what, base, ahead) in [
            ("nothing was written yet", of_here(None), false),
            ("the write is on its way", of_here(Some(Revision(10))), true),
            ("the index has it", of_here(Some(Revision(8))), false),
            ("it was deleted since", of_here(Some(Revision(9))), false),
        ] {
            assert_eq!(base.is_ahead_of(&seen(Some(record.clone()), 1, SECOND)), ahead, "{what}");
            assert!(!base.is_ahead_of(&seen(None, 2, SECOND)), "{what}: of another incarnation");
        }
    }

    #[test]
    fn time_is_written_when_due_and_never_more_than_two_periods_at_once() {
        let first = seen(None, 1, 5 * SECOND);
        let record = next(&first, Duration::ZERO).expect("a store without a record gets one at once");
        let table = [(1, None), (4, None), (5, Some(5)), (9, Some(9)), (10, Some(10)), (3600, Some(10))];
        for (passed, counted) in table {
            let seen = seen(Some(record.clone()), 1, 5 * SECOND);
            let next = next(&seen, passed * SECOND);
            let total = next.map(|next| next.age_of(seen.incarnation).unwrap());
            assert_eq!(total, counted.map(|seconds| seconds * SECOND), "{passed} s passed");
        }
        let restored = seen(Some(record), 2, 5 * SECOND);
        let next = next(&restored, SECOND).expect("another incarnation is written at once");
        assert_eq!(next.age_of(restored.incarnation), Some(Duration::ZERO));
    }
}
