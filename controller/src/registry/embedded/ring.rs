//! The last changes, kept in memory for watchers. Pure; [`super::watch`] makes streams of it.

use std::{collections::VecDeque, sync::Arc};

use sextant_proto::Revision;

use crate::registry::{Batch, Event, KeyRange};

/// How many batches are looked at in one go, so that a watcher far behind does not hold the others up.
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

/// What a watcher has not seen yet.
#[derive(Debug, PartialEq, Eq)]
pub struct News {
    /// The batches with what is in the watched range; those with nothing in it are left out.
    pub batches: Vec<Batch>,
    /// The revision up to which they tell everything.
    pub upto: Revision,
    /// Whether there may be more.
    pub more: bool,
}

impl Ring {
    /// A ring that keeps about `bound` events after `floor`.
    pub fn new(bound: usize, floor: Revision) -> Self {
        Self { batches: VecDeque::new(), events: 0, bound, floor }
    }

    /// Adds the newest batch; the oldest ones go, but the newest stays however large it is.
    pub fn push(&mut self, batch: Batch) {
        self.events += batch.events.len();
        self.batches.push_back(Arc::new(batch));
        while self.events > self.bound && self.batches.len() > 1 {
            self.pop();
        }
    }

    /// Forgets everything up to `floor`, after changes that went past it.
    pub fn reset(&mut self, floor: Revision) {
        *self = Self::new(self.bound, floor);
    }

    /// The changes of `range` after revision `seen`; none if some of them are no longer kept.
    pub fn after(&self, seen: Revision, range: &KeyRange) -> Option<News> {
        if seen < self.floor {
            return None;
        }
        let first = self.batches.partition_point(|batch| batch.revision <= seen);
        let end = self.batches.len().min(first + STRIDE);
        let new = || self.batches.range(first..end);
        Some(News {
            batches: new().filter_map(|batch| within(batch, range)).collect(),
            upto: new().last().map_or(seen, |batch| batch.revision),
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
        let news = ring.after(Revision(seen), range)?;
        Some((news.batches.iter().map(|batch| batch.revision.0).collect(), news.upto.0))
    }

    #[test]
    fn it_tells_what_is_after_and_in_range() {
        let mut ring = Ring::new(100, Revision(10));
        ring.push(batch(11, &["a/1", "b/1"]));
        ring.push(batch(14, &["b/1"]));
        ring.push(batch(15, &["a/2"]));
        let a = KeyRange::prefix("a/");
        assert_eq!(revisions(&ring, 10, &a), Some((vec![11, 15], 15)));
        assert_eq!(revisions(&ring, 11, &a), Some((vec![15], 15)));
        assert_eq!(revisions(&ring, 12, &a), Some((vec![15], 15)), "revisions are sparse");
        assert_eq!(revisions(&ring, 15, &a), Some((vec![], 15)));
        assert_eq!(revisions(&ring, 20, &a), Some((vec![], 20)), "the future is waited for");
        let first = ring.after(Revision(10), &a).unwrap().batches.remove(0);
        assert_eq!(first, batch(11, &["a/1"]), "only what is in the range");
    }

    #[test]
    fn it_is_compacted_before_its_floor() {
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
    fn it_is_read_in_strides() {
        let mut ring = Ring::new(10 * STRIDE, Revision(0));
        for revision in 1..=STRIDE as u64 + 5 {
            ring.push(batch(revision, &["k"]));
        }
        let news = ring.after(Revision(0), &KeyRange::key("k")).unwrap();
        assert_eq!((news.batches.len(), news.upto.0, news.more), (STRIDE, STRIDE as u64, true));
        let rest = ring.after(news.upto, &KeyRange::key("k")).unwrap();
        assert_eq!((rest.batches.len(), rest.more), (5, false));
    }
}
