//! A set with its latest changes: who follows it looks at what has changed, not at all of it. Pure.

use std::{
    collections::{HashSet, VecDeque},
    hash::Hash,
};

/// So many changes are remembered; who has missed more looks at all.
const MOST: usize = 1024;

/// A set whose changes can be followed.
#[derive(Debug, Clone)]
pub struct Tracked<T> {
    all: HashSet<T>,
    /// The latest changes, oldest first.
    latest: VecDeque<T>,
    /// The number of changes so far.
    revision: u64,
}

impl<T> Default for Tracked<T> {
    fn default() -> Self {
        Self { all: HashSet::new(), latest: VecDeque::new(), revision: 0 }
    }
}

impl<T: Copy + Eq + Hash> Tracked<T> {
    /// Whether it is in the set.
    pub fn contains(&self, it: T) -> bool {
        self.all.contains(&it)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = T> {
        self.all.iter().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Puts it into the set, or takes it out. Returns whether that is a change.
    pub fn set(&mut self, it: T, is_in: bool) -> bool {
        let is_change = if is_in { self.all.insert(it) } else { self.all.remove(&it) };
        if is_change {
            if self.latest.len() == MOST {
                self.latest.pop_front();
            }
            self.latest.push_back(it);
            self.revision += 1;
        }
        is_change
    }

    /// Makes it the set of these. Returns whether that is a change.
    pub fn replace(&mut self, wanted: impl IntoIterator<Item = T>) -> bool {
        let (wanted, before): (HashSet<T>, _) = (wanted.into_iter().collect(), self.revision);
        let former: Vec<T> = self.iter().filter(|it| !wanted.contains(it)).collect();
        for it in former {
            self.set(it, false);
        }
        for it in wanted {
            self.set(it, true);
        }
        self.revision != before
    }

    /// Grows with each change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What has changed since this revision, or may have; `None` if that is no longer known.
    pub fn since(&self, revision: u64) -> Option<impl Iterator<Item = T>> {
        let missed = usize::try_from(self.revision.checked_sub(revision)?).ok()?;
        let start = self.latest.len().checked_sub(missed)?;
        Some(self.latest.range(start..).copied())
    }
}

impl<T: Copy + Eq + Hash> FromIterator<T> for Tracked<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        let mut it = Self::default();
        it.replace(all);
        it
    }
}

/// Revisions do not count: two histories may lead to the same set.
impl<T: Eq + Hash> PartialEq for Tracked<T> {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl<T: Eq + Hash> Eq for Tracked<T> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Follows a set by its changes alone.
    fn follow(copy: &mut HashSet<u8>, set: &Tracked<u8>, revision: u64) {
        for it in set.since(revision).unwrap() {
            if set.contains(it) {
                copy.insert(it)
            } else {
                copy.remove(&it)
            };
        }
    }

    proptest! {
        #[test]
        fn who_follows_the_changes_has_the_same_set(
            rounds in proptest::collection::vec(proptest::collection::vec((0..20_u8, any::<bool>()), 0..9), 0..9),
            last in proptest::collection::vec(0..20_u8, 0..20),
        ) {
            let (mut set, mut copy) = (Tracked::default(), HashSet::new());
            for round in rounds {
                let revision = set.revision();
                for (it, is_in) in round {
                    set.set(it, is_in);
                }
                follow(&mut copy, &set, revision);
                prop_assert_eq!(&copy, &set.all);
            }
            let revision = set.revision();
            set.replace(last.clone());
            follow(&mut copy, &set, revision);
            prop_assert_eq!(&copy, &last.into_iter().collect());
        }
    }

    #[test]
    fn who_has_missed_too_much_knows_it() {
        let mut set = Tracked::default();
        assert_eq!((0..MOST).filter(|it| set.set(*it, true)).count(), MOST);
        assert_eq!(set.since(0).unwrap().count(), MOST);
        assert!(!set.set(0, true) && set.revision() == MOST as u64, "no change");
        set.set(0, false);
        assert!(set.since(0).is_none() && set.since(1).is_some());
        assert!(set.since(set.revision() + 1).is_none(), "it is of another set");
        assert_eq!(set.since(set.revision()).unwrap().count(), 0);
    }
}
