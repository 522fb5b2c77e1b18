//! The marks in the store, and their comparison with a mark that an agent reports. Pure.

use std::collections::{BTreeMap, HashMap};

use rand::Rng;
use sextant_proto::{NodeId, Revision};

use crate::{keys::Keys, records::MarkRecord, registry::Op};

/// How many of the newest marks are never deleted. An agent that was away for more grants and ends than that cannot be
/// judged: whether the store's history is the one it knows.
pub const KEPT: usize = 256;
/// How many marks a transaction deletes at most; more than it puts, so that those of concurrent ones go too.
const PRUNED: usize = 2;

/// What the store's history says of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It is there.
    Present,
    /// It would no longer be kept, or is from before marks were put: nothing can be said.
    TooOld,
    /// It must be there and is not: it is of another history.
    Missing,
}

/// The marks in the store.
#[derive(Debug, Clone, Default)]
pub struct History {
    by_id: HashMap<u64, Revision>,
    by_revision: BTreeMap<(Revision, u64), Option<NodeId>>,
}

impl History {
    /// A mark is there, put at `revision`.
    pub fn put(&mut self, id: u64, revision: Revision, record: &MarkRecord) {
        self.remove(id);
        self.by_id.insert(id, revision);
        self.by_revision.insert((revision, id), record.granted_to);
    }

    /// A mark is no longer there.
    pub fn remove(&mut self, id: u64) {
        if let Some(revision) = self.by_id.remove(&id) {
            self.by_revision.remove(&(revision, id));
        }
    }

    /// All marks.
    pub fn ids(&self) -> impl Iterator<Item = u64> {
        self.by_id.keys().copied()
    }

    /// The newest mark, and its revision.
    pub fn latest(&self) -> Option<(u64, Revision)> {
        self.by_revision.keys().next_back().map(|&(revision, id)| (id, revision))
    }

    /// What is known of the mark `id` that was put at `revision`.
    pub fn knows(&self, id: u64, revision: Revision) -> Known {
        self.judge(revision, self.by_id.get(&id) == Some(&revision))
    }

    /// What is known of a grant to `node_id` at `revision`.
    pub fn knows_grant(&self, node_id: NodeId, revision: Revision) -> Known {
        let mut at = self.by_revision.range((revision, 0)..=(revision, u64::MAX));
        self.judge(revision, at.any(|(_, granted_to)| *granted_to == Some(node_id)))
    }

    fn judge(&self, revision: Revision, present: bool) -> Known {
        match (present, self.complete_since()) {
            (true, _) => Known::Present,
            (false, Some(since)) if revision >= since => Known::Missing,
            (false, _) => Known::TooOld,
        }
    }

    /// From which revision on each mark that was put is still there.
    fn complete_since(&self) -> Option<Revision> {
        let mut newest_first = self.by_revision.keys().rev();
        // Where none was deleted yet, the oldest one began the marks.
        newest_first.nth(KEPT - 1).or_else(|| self.by_revision.keys().next()).map(|&(revision, _)| revision)
    }

    /// What puts a new mark for a grant to a node, or for an end; and deletes what need not be kept.
    pub fn ops(&self, keys: &Keys, granted_to: Option<NodeId>) -> Vec<Op> {
        let mut random = rand::rng();
        let put = MarkRecord { granted_to }.op(keys, random.random());
        let excess = self.by_revision.len().saturating_sub(KEPT);
        // Any of those: concurrent transactions choose different ones.
        let mut pruned: Vec<u64> = (0..excess.min(PRUNED))
            .filter_map(|_| self.by_revision.keys().nth(random.random_range(0..excess)))
            .map(|&(_, id)| id)
            .collect();
        pruned.sort_unstable();
        pruned.dedup();
        std::iter::once(put).chain(pruned.into_iter().map(|id| Op::Delete(keys.mark(id)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys() -> Keys {
        Keys::new(&"test".parse().unwrap())
    }

    /// A store's marks, and all that ever were put.
    #[derive(Default, Clone)]
    struct Store {
        history: History,
        revision: u64,
        ever: Vec<(u64, Revision)>,
    }

    impl Store {
        /// A transaction by who knows the marks as they are in `known`.
        fn commit(&mut self, known: &History, granted_to: Option<NodeId>) {
            self.revision += 1;
            for op in known.ops(&keys(), granted_to) {
                let Some(crate::keys::Key::Mark(id)) = keys().parse(op.key()) else { panic!("{op:?}") };
                match op {
                    Op::Put { .. } => {
                        self.history.put(id, Revision(self.revision), &MarkRecord { granted_to });
                        self.ever.push((id, Revision(self.revision)));
                    }
                    Op::Delete(_) => self.history.remove(id),
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_mark_of_this_history_is_never_missing_and_one_of_a_fork_always(
            before in 1usize..400, lags in prop::collection::vec(0usize..40, 1..500), back in 1usize..200
        ) {
            let mut store = Store::default();
            let mut seen: Vec<History> = vec![History::default()];
            let mut snapshots = Vec::new();
            for n in 0..before + lags.len() {
                let lag = lags.get(n.saturating_sub(before)).copied().unwrap_or(0);
                let known = seen[seen.len().saturating_sub(1 + lag)].clone();
                store.commit(&known, None);
                seen.push(store.history.clone());
                snapshots.push(store.clone());
            }
            for (id, revision) in &store.ever {
                prop_assert_ne!(store.history.knows(*id, *revision), Known::Missing);
            }
            prop_assert!(store.history.ids().count() <= KEPT * 2, "they are bounded: {}", store.history.ids().count());

            // The store is taken back, and goes on another way.
            let lost = back.min(snapshots.len() - 1);
            let mut fork = snapshots[snapshots.len() - 1 - lost].clone();
            for _ in 0..(lost * 2).min(KEPT - 1) {
                let known = fork.history.clone();
                fork.commit(&known, None);
            }
            let (id, revision) = *store.ever.last().unwrap();
            prop_assert_eq!(fork.history.knows(id, revision), Known::Missing);
            for (id, revision) in &fork.ever {
                prop_assert_ne!(fork.history.knows(*id, *revision), Known::Missing);
            }
        }
    }

    #[test]
    fn a_grant_is_known_by_node_and_revision() {
        let (mut store, node, other) = (Store::default(), NodeId::random(), NodeId::random());
        for granted_to in [None, Some(node), None] {
            store.commit(&store.history.clone(), granted_to);
        }
        assert_eq!(store.history.knows_grant(node, Revision(2)), Known::Present);
        assert_eq!(store.history.knows_grant(other, Revision(2)), Known::Missing);
        assert_eq!(store.history.knows_grant(node, Revision(3)), Known::Missing, "that was an end");
        assert_eq!(
            store.history.knows_grant(node, Revision(9)),
            Known::Missing,
            "the store is not there yet"
        );
        assert_eq!(store.history.knows_grant(node, Revision(0)), Known::TooOld, "before marks were put");
        assert_eq!(History::default().knows_grant(node, Revision(2)), Known::TooOld, "no mark yet");
    }
}
