//! Questions about sets of prefixes in address order. Pure.

use std::collections::BTreeMap;

use sextant_proto::Prefix;

/// What of `records` lies in `prefix`, itself included.
pub(crate) fn inside<T>(
    records: &BTreeMap<Prefix, T>,
    prefix: Prefix,
) -> impl Iterator<Item = (&Prefix, &T)> {
    records.range(prefix..=last_in(prefix))
}

/// Those of `taken`, none of which overlap each other, that overlap `prefix`.
pub(crate) fn overlapping<T>(
    taken: &BTreeMap<Prefix, T>,
    prefix: Prefix,
) -> impl Iterator<Item = (&Prefix, &T)> {
    let around = taken.range(..prefix).next_back().filter(|(other, _)| other.overlaps(prefix));
    around.into_iter().chain(inside(taken, prefix))
}

/// Two neighbours that overlap, if any do.
pub(crate) fn overlaps<T>(taken: &BTreeMap<Prefix, T>) -> Option<(Prefix, Prefix)> {
    let mut neighbours = taken.keys().zip(taken.keys().skip(1));
    neighbours.find(|(one, other)| one.overlaps(**other)).map(|(one, other)| (*one, *other))
}

fn last_in(prefix: Prefix) -> Prefix {
    Prefix::containing(prefix.last_addr(), 128).unwrap_or(prefix)
}
