//! A store that was reverted to an earlier revision: its detection, and its new incarnation.

use sextant_proto::{Incarnation, Revision};

use super::{History, Known};
use crate::{
    audit::{Actor, Event, What},
    keys::{Key, Keys},
    records::{MarkRecord, Meta, Record},
    registry::{Guard, KeyRange, Listing, Op, Outcome, RegistryError, SharedRegistry, Txn},
};

/// The attempts of a change of the store's record against concurrent changes.
const ATTEMPTS: u32 = 8;

/// The relation of a listing to the known history of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Course {
    /// It continues the history; or the store was wiped, which its record shows.
    On,
    /// It is the incarnation that follows the known one: the store must be listed again.
    Successor,
    /// It was reverted to before the known history, by this evidence.
    Back(String),
}

/// The relation of `listing` to the store `here` with the history `known`, of which everything up to `seen` was seen.
pub fn course(here: Incarnation, known: &History, keys: &Keys, seen: Revision, listing: &Listing) -> Course {
    let key = keys.meta();
    let entry = listing.entries.iter().find(|entry| entry.key == key);
    let Some(meta) = entry.and_then(|entry| Meta::decode(&entry.value).ok()) else { return Course::On };
    if meta.incarnation != here {
        return if meta.replaces == Some(here) { Course::Successor } else { Course::On };
    }
    if listing.revision < seen {
        return Course::Back(format!("its revision fell from {seen} to {}", listing.revision));
    }
    let latest = known.latest();
    match latest.filter(|&(id, revision)| history(keys, listing).knows(id, revision) == Known::Missing) {
        Some((_, revision)) => Course::Back(format!("the change at revision {revision} is not in it")),
        None => Course::On,
    }
}

fn history(keys: &Keys, listing: &Listing) -> History {
    let mut history = History::default();
    for entry in &listing.entries {
        if let (Some(Key::Mark(id)), Ok(mark)) = (keys.parse(&entry.key), MarkRecord::decode(&entry.value)) {
            history.put(id, entry.modified, &mark);
        }
    }
    history
}

/// Gives the store `of` a new incarnation with an open recovery window; no effect if another controller has done so.
///
/// # Errors
/// If the store does not answer, or is neither `of` nor its successor.
pub async fn fork(
    registry: &SharedRegistry,
    keys: &Keys,
    of: Incarnation,
    why: &str,
) -> Result<(), RegistryError> {
    let key = keys.meta();
    for _ in 0..ATTEMPTS {
        let entry = registry.list(&KeyRange::key(&key)).await?.entries.pop();
        let entry =
            entry.ok_or_else(|| RegistryError::Unavailable(format!("{key} is gone: the store was wiped")))?;
        let meta =
            Meta::decode(&entry.value).map_err(|error| RegistryError::Corrupt(format!("{key}: {error}")))?;
        if meta.replaces == Some(of) {
            return Ok(());
        }
        if meta.incarnation != of {
            return Err(RegistryError::Unavailable(format!("{key} has changed: the store was replaced")));
        }
        let next = meta.fork();
        let noted = Event::new(What::Forked).detail(why).op(keys, &Actor::controller());
        // Claims and reservations that are based on the previous state are refused.
        let ops = vec![Op::put(&key, next.encode()), Op::put(keys.reservation_set(), ""), noted];
        let guards = vec![Guard::Holds(key.clone(), entry.value)];
        match registry.commit(Txn { guards, ops }).await {
            Ok(Outcome::Committed(_)) => {
                tracing::warn!(
                    lost = %of, incarnation = %next.incarnation, why,
                    "store was reverted to an earlier snapshot; it has a new incarnation, and agents register their \
                     claims again"
                );
                return Ok(());
            }
            Ok(Outcome::Refused(_)) | Err(RegistryError::Unknown(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(RegistryError::Unavailable(format!("{key} keeps changing; try again")))
}

#[cfg(test)]
mod tests {
    use sextant_proto::NodeId;

    use super::*;
    use crate::registry::Entry;

    fn keys() -> Keys {
        Keys::new(&"test".parse().unwrap())
    }

    fn listing(revision: u64, meta: &Meta, marks: &[(u64, u64)]) -> Listing {
        let entry = |key: String, value: bytes::Bytes, modified: u64| {
            let modified = Revision(modified);
            Entry { key, value, created: modified, modified, lease: None }
        };
        let mark = |&(id, at): &(u64, u64)| {
            entry(keys().mark(id), MarkRecord { granted_to: Some(NodeId::random()) }.encode(), at)
        };
        let entries = std::iter::once(entry(keys().meta(), meta.encode(), 1)).chain(marks.iter().map(mark));
        Listing { revision: Revision(revision), entries: entries.collect() }
    }

    #[test]
    fn a_store_that_went_back_differs_from_one_that_continued() {
        let meta = Meta::new();
        let known = history(&keys(), &listing(20, &meta, &[(7, 2), (8, 9), (9, 15)]));
        let known_as = meta.incarnation;
        let wiped = Meta::new();
        let successor = Meta { replaces: Some(meta.incarnation), ..Meta::new() };
        type Marks = &'static [(u64, u64)];
        let table: [(&str, u64, &Meta, Marks, bool, bool); 7] = [
            ("unchanged", 20, &meta, &[(7, 2), (8, 9), (9, 15)], true, false),
            ("gone on", 30, &meta, &[(7, 2), (8, 9), (9, 15), (5, 25)], true, false),
            ("fell", 17, &meta, &[(7, 2), (8, 9), (9, 15)], false, false),
            ("overtook, without the last mark", 30, &meta, &[(7, 2), (8, 9), (4, 15)], false, false),
            ("overtook, from before all but one", 90, &meta, &[(7, 2)], false, false),
            ("another one follows, at a lower revision", 10, &successor, &[], false, true),
            ("wiped, which its record tells", 10, &wiped, &[], true, false),
        ];
        for (what, revision, meta, marks, on, successor) in table {
            let listing = listing(revision, meta, marks);
            let found = course(known_as, &known, &keys(), Revision(20), &listing);
            let wanted = (on, successor);
            assert_eq!((found == Course::On, found == Course::Successor), wanted, "{what}: {found:?}");
        }
    }
}
