//! Claims that overlap in time. Pure.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
};

use sextant_proto::{NodeName, PoolName, Prefix};

use super::holding::Held;

/// Two claims that were held at the same time.
#[derive(Debug, Default)]
pub(super) struct Clashes {
    /// Their prefixes overlap.
    pub(super) overlapping: Vec<(Held, Held)>,
    /// They are one node's, from one pool.
    pub(super) of_one_node: Vec<(Held, Held)>,
}

/// Goes along the spans, `(from, to, what was held from the one until before the other)`.
pub(super) fn clashes<T: Ord + Copy>(mut spans: Vec<(T, T, &Held)>) -> Clashes {
    spans.retain(|(from, to, _)| from < to);
    spans.sort_by_key(|(from, ..)| *from);
    let mut clashes = Clashes::default();
    // Those that are held at present: no two overlap, and none is of the same node and pool as another.
    let mut by_prefix = BTreeMap::<Prefix, &Held>::new();
    let mut by_node = HashMap::<(&NodeName, &PoolName), &Held>::new();
    let mut ends = BinaryHeap::<Reverse<(T, usize)>>::new();
    for (index, (from, to, held)) in spans.iter().enumerate() {
        while let Some(&Reverse((end, past))) = ends.peek()
            && end <= *from
        {
            let past: &Held = spans[past].2;
            by_prefix.remove(&past.prefix);
            by_node.remove(&(&past.node, &past.pool));
            ends.pop();
        }
        let overlapped = overlapping(&by_prefix, held.prefix);
        let same = by_node.get(&(&held.node, &held.pool)).copied();
        clashes.overlapping.extend(overlapped.map(|other| (other.clone(), (*held).clone())));
        clashes.of_one_node.extend(same.map(|other| (other.clone(), (*held).clone())));
        if overlapped.is_none() && same.is_none() {
            by_prefix.insert(held.prefix, held);
            by_node.insert((&held.node, &held.pool), held);
            ends.push(Reverse((*to, index)));
        }
    }
    clashes
}

/// One of `all`, none of which overlaps another, that `prefix` overlaps.
fn overlapping<'a>(all: &BTreeMap<Prefix, &'a Held>, prefix: Prefix) -> Option<&'a Held> {
    let last = Prefix::containing(prefix.last_addr(), 128)?;
    let (_, nearest) = all.range(..=last).next_back()?;
    nearest.prefix.overlaps(prefix).then_some(*nearest)
}
