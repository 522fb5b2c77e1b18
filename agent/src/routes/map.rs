//! Routes by their keys.

use std::{fmt, sync::Arc};

use sextant_proto::Prefix;

use crate::kernel::{RouteKey, RouteTarget};

/// A route: its key and its target.
pub type Entry = (RouteKey, RouteTarget);

/// Routes in the order of their keys, each key once. A copy shares them: desired and actual routes are mostly the same.
#[derive(Clone, Default, Eq)]
pub struct RouteMap(Arc<Vec<Entry>>);

impl RouteMap {
    /// All of them, in the order of their keys.
    pub fn as_slice(&self) -> &[Entry] {
        &self.0
    }

    /// All of them, in the order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&RouteKey, &RouteTarget)> {
        self.0.iter().map(|(key, target)| (key, target))
    }

    /// All keys, in their order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &RouteKey> {
        self.0.iter().map(|(key, _)| key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The target of the route of this key.
    pub fn get(&self, key: &RouteKey) -> Option<&RouteTarget> {
        let at = self.0.binary_search_by(|(other, _)| other.cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// Whether there is a route of this key.
    pub fn contains_key(&self, key: &RouteKey) -> bool {
        self.get(key).is_some()
    }

    /// Those from `key` on.
    pub fn starting_at(&self, key: &RouteKey) -> &[Entry] {
        &self.0[self.0.partition_point(|(other, _)| other < key)..]
    }

    /// The route that decides for the destination of `key` in its table: the one with the lowest metric.
    pub fn deciding(&self, key: &RouteKey) -> Option<&Entry> {
        let first = self.starting_at(&RouteKey { metric: 0, ..*key }).first()?;
        ((first.0.table, first.0.destination) == (key.table, key.destination)).then_some(first)
    }

    /// The route that decides where packets to the destination of `key` would go without any route to just that: the longest
    /// one around it in its table.
    pub fn around(&self, key: &RouteKey) -> Option<&Entry> {
        let last_of = |end: usize| self.0[..end].last().filter(|(last, _)| last.table == key.table);
        let mut last = last_of(self.0.partition_point(|(it, _)| it < &RouteKey { metric: 0, ..*key }))?;
        // Whatever is around it comes before it, and is around all that is between: also around what both begin with.
        while !last.0.destination.covers(key.destination) {
            let common = common_ancestor(last.0.destination, key.destination);
            let up_to = RouteKey { destination: common, metric: u32::MAX, ..*key };
            last = last_of(self.0.partition_point(|(it, _)| *it <= up_to))?;
        }
        self.deciding(&last.0)
    }

    /// The routes inside of the destination of `key`, in its table.
    pub fn inside<'a>(&'a self, key: &RouteKey) -> impl Iterator<Item = &'a Entry> + use<'a> {
        let (table, prefix) = (key.table, key.destination);
        let from = self.starting_at(&RouteKey { metric: 0, ..*key });
        from.iter().take_while(move |(it, _)| it.table == table && prefix.covers(it.destination))
    }

    /// The tables that they are in.
    pub fn tables(&self) -> impl Iterator<Item = u32> {
        let from = |table| {
            let first = RouteKey { table, destination: Prefix::EVERYWHERE, metric: 0 };
            self.starting_at(&first).first().map(|(key, _)| key.table)
        };
        std::iter::successors(from(0), move |table| from(table.checked_add(1)?))
    }

    /// Those whose keys `other` does not have.
    pub fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Entry> {
        self.beside(other).filter(|(_, their)| their.is_none()).map(|(entry, _)| entry)
    }

    /// The routes that differ in `other`, each with the target that `other` has at the key.
    pub fn unlike<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (&'a Entry, Option<&'a RouteTarget>)> {
        self.beside(other).filter(|(entry, their)| *their != Some(&entry.1))
    }

    /// The routes, each with the target that `other` has at the key; none at all if both are one in memory.
    fn beside<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a Entry, Option<&'a RouteTarget>)> {
        let all = if self.is_shared_with(other) { &[] } else { self.as_slice() };
        let mut theirs = other.as_slice();
        all.iter().map(move |entry| {
            // Almost all keys are in both, and an equal key is found faster than the order of two.
            while let [(key, target), rest @ ..] = theirs {
                if *key == entry.0 {
                    theirs = rest;
                    return (entry, Some(target));
                }
                if *key > entry.0 {
                    break;
                }
                theirs = rest;
            }
            (entry, None)
        })
    }

    /// Whether both are one in memory, and so the same for sure.
    pub fn is_shared_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Puts routes in, in place of those of their keys, and takes away those of which nothing is left. Of several changes of
    /// one key the last one counts.
    pub fn change(&mut self, mut changes: Vec<(RouteKey, Option<RouteTarget>)>) {
        changes.sort_by_key(|(key, _)| *key);
        changes.dedup_by(last_counts);
        if self.is_empty() {
            // As at a start, where they may be a hundred thousand: they stay where they are in memory.
            let all = changes.into_iter().filter_map(|(key, target)| target.map(|target| (key, target)));
            self.0 = Arc::new(all.collect());
            return;
        }
        let mut all = Vec::with_capacity(self.len() + changes.len());
        let mut before = self.0.iter().peekable();
        for (key, target) in changes {
            while let Some(kept) = before.next_if(|(other, _)| *other < key) {
                all.push(kept.clone());
            }
            before.next_if(|(other, _)| *other == key);
            all.extend(target.map(|target| (key, target)));
        }
        all.extend(before.cloned());
        all.shrink_to_fit();
        self.0 = Arc::new(all);
    }
}

/// For `Vec::dedup_by` in the order of keys: of several with one key the last one stays.
fn last_counts<T>(later: &mut (RouteKey, T), earlier: &mut (RouteKey, T)) -> bool {
    let same = later.0 == earlier.0;
    if same {
        std::mem::swap(later, earlier);
    }
    same
}

/// The longest prefix that both are in.
pub(super) fn common_ancestor(one: Prefix, other: Prefix) -> Prefix {
    let same = (one.addr().to_bits() ^ other.addr().to_bits()).leading_zeros() as u8;
    let len = same.min(one.len()).min(other.len());
    one.ancestor(len).unwrap_or(Prefix::EVERYWHERE)
}

impl PartialEq for RouteMap {
    fn eq(&self, other: &Self) -> bool {
        self.is_shared_with(other) || self.0 == other.0
    }
}

impl fmt::Debug for RouteMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// In whatever order; of several with one key the last one counts.
impl From<Vec<Entry>> for RouteMap {
    fn from(mut all: Vec<Entry>) -> Self {
        if !all.is_sorted_by(|one, next| one.0 < next.0) {
            // Of a dump, long runs are in order already.
            all.sort_by_key(|(key, _)| *key);
            all.dedup_by(last_counts);
        }
        all.shrink_to_fit();
        Self(Arc::new(all))
    }
}

impl FromIterator<Entry> for RouteMap {
    fn from_iter<I: IntoIterator<Item = Entry>>(routes: I) -> Self {
        routes.into_iter().collect::<Vec<_>>().into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Few, so that they meet.
    fn key() -> impl Strategy<Value = RouteKey> {
        (1u32..3, 0u16..3, 1u32..3).prop_map(|(table, n, metric)| {
            let destination = format!("2001:db8:{n}::/48").parse().unwrap();
            RouteKey { table, destination, metric }
        })
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        proptest::collection::vec((key(), (0u8..3).prop_map(RouteTarget::Other)), 0..20)
    }

    proptest! {
        #[test]
        fn it_is_a_map(all in entries(), key in key()) {
            let (ours, model) = (RouteMap::from(all.clone()), BTreeMap::from_iter(all));
            prop_assert!(ours.iter().eq(&model));
            prop_assert_eq!(ours.get(&key), model.get(&key));
            let deciding = model.iter().find(|(it, _)| (it.table, it.destination) == (key.table, key.destination));
            prop_assert_eq!(ours.deciding(&key).map(|(key, target)| (key, target)), deciding);
            let tables: std::collections::BTreeSet<u32> = model.keys().map(|key| key.table).collect();
            prop_assert!(ours.tables().eq(tables));
            prop_assert!(ours.starting_at(&key).iter().map(|(key, target)| (key, target)).eq(model.range(key..)));
        }

        #[test]
        fn two_maps_are_compared(one in entries(), other in entries()) {
            let (one, other) = (RouteMap::from(one), RouteMap::from(other));
            let only: Vec<_> = one.iter().filter(|(key, _)| !other.contains_key(key)).collect();
            prop_assert_eq!(one.without(&other).map(|(key, target)| (key, target)).collect::<Vec<_>>(), only);
            let unlike: Vec<_> = one.unlike(&other).map(|((key, target), their)| (key, target, their)).collect();
            let all = one.iter().map(|(key, target)| (key, target, other.get(key)));
            prop_assert_eq!(unlike, all.filter(|(_, target, their)| *their != Some(target)).collect::<Vec<_>>());
            prop_assert!(one.without(&one.clone()).next().is_none() && one.unlike(&one.clone()).next().is_none());
        }

        #[test]
        fn changes_go_in_and_come_out(all in entries(), changes in entries()) {
            let (mut ours, mut model) = (RouteMap::from(all.clone()), BTreeMap::from_iter(all));
            let changes = changes.into_iter().map(|(key, target)| (key, Some(target).filter(|it| *it != RouteTarget::Other(0))));
            let changes: Vec<_> = changes.collect();
            ours.change(changes.clone());
            for (key, target) in changes {
                match target {
                    Some(target) => model.insert(key, target),
                    None => model.remove(&key),
                };
            }
            prop_assert!(ours.iter().eq(&model));
        }
    }
}
