//! The last changes, kept in memory for watchers. Pure; [`super::watch`] streams them.

use std::{collections::VecDeque, sync::Arc};

use sextant_proto::Revision;

use crate::registry::{Batch, Event, KeyRange};

/// The most batches per read, so that a watcher far behind does not delay the others.
const STRIDE: usize = 1024;

/// The newest changes, without gaps.
#[derive(Debug)]
pub struct Ring {
    batches: VecDeque<Arc<Batch>>,
    /// In all batches.
    events: usize,
    bound: usize,
    /// Every change after this revision is in `batches`.
    floor: Revision,
}

/// Changes that a watcher has not seen yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Changes {
    /// The batches, reduced to the watched range; empty ones are left out.
    pub batches: Vec<Batch>,
    /// The batches are complete up to this revision.
    pub up_to: Revision,
    /// Whether there may be more.
    pub more: bool,
}

impl Ring {
    /// A ring that keeps about `bound` events after `floor`.
    pub fn new(bound: usize, floor: Revision) -> Self {
        Self { batches: VecDeque::new(), events: 0, bound, floor }
    }

    /// Adds the newest batch and drops the oldest ones; the newest is kept whatever its size.
    pub fn push(&mut self, batch: Batch) {
        self.events += batch.events.len();
        self.batches.push_back(Arc::new(batch));
        while self.events > self.bound && self.batches.len() > 1 {
            self.pop();
        }
    }

    /// Drops everything up to `floor`, after changes that bypassed the ring.
    pub fn reset(&mut self, floor: Revision) {
        *self = Self::new(self.bound, floor);
    }

    /// The changes of `range` after revision `seen`; none if some of them were dropped already.
    pub fn after(&self, seen: Revision, range: &KeyRange) -> Option<Changes> {
        if seen < self.floor {
            return None;
        }
        let first = self.batches.partition_point(|batch| batch.revision <= seen);
        let end = self.batches.len().min(first + STRIDE);
        let new = || self.batches.range(first..end);
        Some(Changes {
            batches: new().filter_map(|batch| within(batch, range)).collect(),
            up_to: new().last().map_or(seen, |batch| batch.revision),
            more: end < self.batches.len(),
        })
    }

    fn pop(&mut self) {
        if let Some(batch) = self.batches.pop_front() {
            self.events -= batch.events.len();
            self.floor = batch.revision;
        }
    }
}

fn within(batch: &Batch, range: &KeyRange) -> Option<Batch> {
    let inside = |event: &&Event| range.contains(key(event));
    let events: Vec<Event> = batch.events.iter().filter(inside).cloned().collect();
    let revision = batch.revision;
    (!events.is_empty()).then_some(Batch { revision, events })
}

fn key(event: &Event) -> &str {
    match event {
        Event::Put(entry) => &entry.key,
        Event::Deleted { key, .. } => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(revision: u64, keys: &[&str]) -> Batch {
        let revision = Revision(revision);
        let deleted = |key: &&str| Event::Deleted { key: (*key).to_owned(), revision };
        let events = keys.iter().map(deleted).collect();
        Batch { revision, events }
    }

    fn revisions(ring: &Ring, seen: u64, range: &KeyRange) -> Option<(Vec<u64>, u64)> {
        let changes = ring.after(Revision(seen), range)?;
        Some((changes.batches.iter().map(|batch| batch.revision.0).collect(), changes.up_to.0))
    }

    #[test]
    fn changes_are_after_the_revision_and_in_range() {
        let mut ring = Ring::new(100, Revision(10));
        ring.push(batch(11, &["a/1", "b/1"]));
        ring.push(batch(14, &["b/1"]));
        ring.push(batch(15, &["a/2"]));
        let a = KeyRange::prefix("a/");
        assert_eq!(revisions(&ring, 10, &a), Some((vec![11, 15], 15)));
        assert_eq!(revisions(&ring, 11, &a), Some((vec![15], 15)));
        assert_eq!(revisions(&ring, 12, &a), Some((vec![15], 15)), "revisions are sparse");
        assert_eq!(revisions(&ring, 15, &a), Some((vec![], 15)));
        assert_eq!(revisions(&ring, 20, &a), Some((vec![], 20)), "a future revision has no changes yet");
        let first = ring.after(Revision(10), &a).unwrap().batches.remove(0);
        assert_eq!(first, batch(11, &["a/1"]), "only what is in the range");
    }

    #[test]
    fn revisions_before_the_floor_are_compacted() {
        let mut ring = Ring::new(3, Revision(10));
        let all = KeyRange::prefix("k");
        assert_eq!(revisions(&ring, 9, &all), None);
        assert_eq!(revisions(&ring, 10, &all), Some((vec![], 10)));
        ring.push(batch(11, &["k1", "k2"]));
        ring.push(batch(12, &["k1"]));
        assert_eq!(revisions(&ring, 10, &all), Some((vec![11, 12], 12)));
        ring.push(batch(13, &["k1"]));
        assert_eq!(revisions(&ring, 10, &all), None, "revision 11 no longer fits");
        assert_eq!(revisions(&ring, 11, &all), Some((vec![12, 13], 13)));
        ring.push(batch(14, &["k1", "k2", "k3", "k4", "k5"]));
        assert_eq!(revisions(&ring, 12, &all), None);
        assert_eq!(revisions(&ring, 13, &all), Some((vec![14], 14)), "the newest stays whatever its size");
        ring.reset(Revision(20));
        assert_eq!(revisions(&ring, 14, &all), None);
    }

    #[test]
    fn reads_are_limited_to_a_stride() {
        let mut ring = Ring::new(10 * STRIDE, Revision(0));
        for revision in 1..=STRIDE as u64 + 5 {
            ring.push(batch(revision, &["k"]));
        }
        let changes = ring.after(Revision(0), &KeyRange::key("k")).unwrap();
        assert_eq!((changes.batches.len(), changes.up_to.0, changes.more), (STRIDE, STRIDE as u64, true));
        let rest = ring.after(changes.up_to, &KeyRange::key("k")).unwrap();
        assert_eq!((rest.batches.len(), rest.more), (5, false));
    }
}
