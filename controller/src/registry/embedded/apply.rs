//! The semantics of guards, operations and leases: applies a request to the store's content. Pure: no file, no clock.
//!
//! The content is behind [`Content`], so that the same code runs over the file's tables and over a map in tests.

use std::time::Duration;

use bytes::Bytes;
use sextant_proto::Revision;

use crate::registry::{Batch, Entry, Event, Guard, KeyRange, LeaseId, Op, Outcome, Txn};

/// The store's content after all requests so far.
pub trait Content {
    /// A failed read or write.
    type Error;

    /// The revision of the last change.
    fn revision(&self) -> Revision;
    fn set_revision(&mut self, revision: Revision);
    /// The revisions and the lease of a key.
    fn key_meta(&self, key: &str) -> Result<Option<KeyMeta>, Self::Error>;
    /// The value of a key.
    fn value(&self, key: &str) -> Result<Option<Bytes>, Self::Error>;
    /// Whether any key is in the range.
    fn any_in(&self, range: &KeyRange) -> Result<bool, Self::Error>;
    fn has_lease(&self, lease: LeaseId) -> Result<bool, Self::Error>;
    /// The keys that end with the lease, in order.
    fn keys_of(&self, lease: LeaseId) -> Result<Vec<String>, Self::Error>;
    /// Puts an entry whose key belonged to the lease `before`.
    fn put(&mut self, entry: &Entry, before: Option<LeaseId>) -> Result<(), Self::Error>;
    /// Deletes a key that belonged to the lease `before`.
    fn delete(&mut self, key: &str, before: Option<LeaseId>) -> Result<(), Self::Error>;
    /// Creates a lease with an id that was never used.
    fn add_lease(&mut self, ttl: Duration) -> Result<LeaseId, Self::Error>;
    /// Removes a lease that has no keys left.
    fn remove_lease(&mut self, lease: LeaseId) -> Result<(), Self::Error>;
}

/// A key's revisions and lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyMeta {
    pub created: Revision,
    pub modified: Revision,
    pub lease: Option<LeaseId>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    Commit(Txn),
    Grant(Duration),
    /// Ends a lease: revoked or expired.
    End(LeaseId),
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Outcome(Outcome),
    Granted(LeaseId, Duration),
    /// The lease has ended.
    Ended(LeaseId),
    /// The lease does not exist; nothing was changed.
    NoLease(LeaseId),
}

/// The effect of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    pub answer: Answer,
    /// Its changes, if it created a revision.
    pub batch: Option<Batch>,
}

impl Applied {
    /// Whether the content has changed.
    pub fn changed(&self) -> bool {
        self.batch.is_some() || matches!(self.answer, Answer::Granted(..) | Answer::Ended(_))
    }

    fn nothing(answer: Answer) -> Self {
        Self { answer, batch: None }
    }
}

/// Applies one request to the content.
pub fn perform<C: Content>(content: &mut C, work: &Work) -> Result<Applied, C::Error> {
    match work {
        Work::Commit(txn) => commit(content, txn),
        Work::Grant(ttl) => {
            let lease = content.add_lease(*ttl)?;
            Ok(Applied::nothing(Answer::Granted(lease, *ttl)))
        }
        Work::End(lease) => end(content, *lease),
    }
}

fn commit<C: Content>(content: &mut C, txn: &Txn) -> Result<Applied, C::Error> {
    for guard in &txn.guards {
        if !holds(content, guard)? {
            return Ok(Applied::nothing(Answer::Outcome(Outcome::Refused(content.revision()))));
        }
    }
    if let Some(lease) = ended_lease(content, &txn.ops)? {
        return Ok(Applied::nothing(Answer::NoLease(lease)));
    }
    let revision = next(content);
    let mut events = Vec::with_capacity(txn.ops.len());
    for op in &txn.ops {
        events.extend(apply(content, op, revision)?);
    }
    let batch = conclude(content, revision, events);
    let answer = Answer::Outcome(Outcome::Committed(content.revision()));
    Ok(Applied { answer, batch })
}

fn end<C: Content>(content: &mut C, lease: LeaseId) -> Result<Applied, C::Error> {
    if !content.has_lease(lease)? {
        return Ok(Applied::nothing(Answer::NoLease(lease)));
    }
    let revision = next(content);
    let mut events = Vec::new();
    for key in content.keys_of(lease)? {
        content.delete(&key, Some(lease))?;
        events.push(Event::Deleted { key, revision });
    }
    content.remove_lease(lease)?;
    let batch = conclude(content, revision, events);
    let answer = Answer::Ended(lease);
    Ok(Applied { answer, batch })
}

fn holds<C: Content>(content: &C, guard: &Guard) -> Result<bool, C::Error> {
    Ok(match guard {
        Guard::Absent(key) => content.key_meta(key)?.is_none(),
        Guard::Unchanged(key, revision) => {
            content.key_meta(key)?.is_some_and(|key_meta| key_meta.modified == *revision)
        }
        Guard::RangeAbsent(range) => !content.any_in(range)?,
        Guard::Holds(key, value) => content.value(key)?.as_ref() == Some(value),
    })
}

/// The first lease that an operation names and that does not exist.
fn ended_lease<C: Content>(content: &C, ops: &[Op]) -> Result<Option<LeaseId>, C::Error> {
    for op in ops {
        if let Op::Put { lease: Some(lease), .. } = op
            && !content.has_lease(*lease)?
        {
            return Ok(Some(*lease));
        }
    }
    Ok(None)
}

fn apply<C: Content>(content: &mut C, op: &Op, revision: Revision) -> Result<Option<Event>, C::Error> {
    let key_meta = content.key_meta(op.key())?;
    let before = key_meta.and_then(|key_meta| key_meta.lease);
    match op {
        Op::Put { key, value, lease } => {
            let entry = Entry {
                key: key.clone(),
                value: value.clone(),
                created: key_meta.map_or(revision, |key_meta| key_meta.created),
                modified: revision,
                lease: *lease,
            };
            content.put(&entry, before)?;
            Ok(Some(Event::Put(entry)))
        }
        Op::Delete(_) if key_meta.is_none() => Ok(None),
        Op::Delete(key) => {
            content.delete(key, before)?;
            let key = key.clone();
            Ok(Some(Event::Deleted { key, revision }))
        }
    }
}

fn next<C: Content>(content: &C) -> Revision {
    Revision(content.revision().0 + 1)
}

/// Only a request that changed something creates a revision.
fn conclude<C: Content>(content: &mut C, revision: Revision, events: Vec<Event>) -> Option<Batch> {
    if events.is_empty() {
        return None;
    }
    content.set_revision(revision);
    Some(Batch { revision, events })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::fake::Snapshot as Map;

    fn done(map: &mut Map, work: Work) -> Applied {
        let Ok(done) = perform(map, &work);
        done
    }

    fn txn(map: &mut Map, guards: Vec<Guard>, ops: Vec<Op>) -> Applied {
        done(map, Work::Commit(Txn { guards, ops }))
    }

    fn with_lease(key: &str, lease: LeaseId) -> Op {
        Op::Put { key: key.to_owned(), value: "held".into(), lease: Some(lease) }
    }

    fn keys(done: &Applied) -> Vec<&str> {
        let events = done.batch.iter().flat_map(|batch| &batch.events);
        events
            .map(|event| match event {
                Event::Put(entry) => &*entry.key,
                Event::Deleted { key, .. } => key,
            })
            .collect()
    }

    #[test]
    fn a_guard_decides_by_the_content() {
        let mut map = Map::default();
        txn(&mut map, vec![], vec![Op::put("b", "1")]);
        txn(&mut map, vec![], vec![Op::put("b", "2"), Op::put("d", "2")]);
        let range = |from: &str, to: &str| {
            let (from, to) = (from.to_owned(), to.to_owned());
            Guard::RangeAbsent(KeyRange { from, to })
        };
        let table = [
            (Guard::Absent("a".into()), true),
            (Guard::Absent("b".into()), false),
            (Guard::Unchanged("b".into(), Revision(2)), true),
            (Guard::Unchanged("b".into(), Revision(1)), false),
            (Guard::Unchanged("a".into(), Revision(0)), false),
            (Guard::Holds("b".into(), "1".into()), false),
            (Guard::Holds("a".into(), "".into()), false),
            (range("a", "b"), true),
            (range("b\0", "d"), true),
            (range("b", "c"), false),
            (range("a", "z"), false),
            (range("z", "a"), true),
        ];
        for (guard, expected) in table {
            let before = map.clone();
            let outcome = txn(&mut map, vec![guard.clone()], vec![]).answer;
            let wanted =
                if expected { Outcome::Committed(Revision(2)) } else { Outcome::Refused(Revision(2)) };
            assert_eq!(outcome, Answer::Outcome(wanted), "{guard:?}");
            assert_eq!(map, before, "{guard:?} alone changes nothing");
        }
    }

    #[test]
    fn a_refused_transaction_changes_nothing_even_with_an_ended_lease() {
        let mut map = Map::default();
        txn(&mut map, vec![], vec![Op::put("a", "1")]);
        let before = map.clone();
        let ops = vec![Op::put("b", "1"), with_lease("c", LeaseId(9)), Op::Delete("a".into())];
        let refused = txn(&mut map, vec![Guard::Absent("a".into())], ops.clone());
        assert_eq!(refused, Applied::nothing(Answer::Outcome(Outcome::Refused(Revision(1)))));
        let ended = txn(&mut map, vec![], ops);
        assert_eq!(ended, Applied::nothing(Answer::NoLease(LeaseId(9))));
        assert_eq!(map, before);
    }

    #[test]
    fn deletes_of_absent_keys_make_no_revision() {
        let mut map = Map::default();
        txn(&mut map, vec![], vec![Op::put("a", "1")]);
        let nothing = txn(&mut map, vec![], vec![Op::Delete("x".into()), Op::Delete("y".into())]);
        assert_eq!(nothing, Applied::nothing(Answer::Outcome(Outcome::Committed(Revision(1)))));
        assert!(!nothing.changed());
        let partly = txn(&mut map, vec![], vec![Op::Delete("x".into()), Op::Delete("a".into())]);
        assert_eq!(keys(&partly), ["a"]);
        assert_eq!(map.revision, Revision(2));
    }

    #[test]
    fn a_put_keeps_created_until_the_key_is_deleted() {
        let mut map = Map::default();
        let dates = |map: &Map| (map.entries["a"].created.0, map.entries["a"].modified.0);
        txn(&mut map, vec![], vec![Op::put("a", "1")]);
        assert_eq!(dates(&map), (1, 1));
        txn(&mut map, vec![], vec![Op::put("a", "2")]);
        assert_eq!(dates(&map), (1, 2));
        txn(&mut map, vec![], vec![Op::Delete("a".into())]);
        txn(&mut map, vec![], vec![Op::put("a", "3")]);
        assert_eq!(dates(&map), (4, 4));
    }

    #[test]
    fn the_end_of_a_lease_takes_the_keys_that_still_belong_to_it() {
        let mut map = Map::default();
        let ttl = Duration::from_secs(5);
        let Answer::Granted(one, _) = done(&mut map, Work::Grant(ttl)).answer else { panic!() };
        let Answer::Granted(two, _) = done(&mut map, Work::Grant(ttl)).answer else { panic!() };
        assert_ne!(one, two);
        let puts = ["a", "b", "c", "d"].map(|key| with_lease(key, one));
        txn(&mut map, vec![], puts.to_vec());
        let moves = vec![Op::put("b", "free"), with_lease("c", two), Op::Delete("d".into())];
        txn(&mut map, vec![], moves);
        let ended = done(&mut map, Work::End(one));
        assert_eq!((ended.answer, keys(&ended)), (Answer::Ended(one), vec!["a"]));
        assert_eq!(map.entries.keys().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(done(&mut map, Work::End(one)).answer, Answer::NoLease(one));
        txn(&mut map, vec![], vec![Op::put("c", "free")]);
        let revision = map.revision;
        assert_eq!(done(&mut map, Work::End(two)), Applied::nothing(Answer::Ended(two)));
        assert_eq!(map.revision, revision, "the end of a lease without keys makes no revision");
    }
}
