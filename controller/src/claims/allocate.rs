//! Finding a free host prefix in a pool. Pure.

use std::{collections::BTreeMap, net::Ipv6Addr, ops::Bound};

use sextant_proto::{NodeName, Pool, Prefix};

/// The first free host prefix of `pool` at or after the place that `node`'s name leads to, going round. `taken` holds all
/// prefixes that must not be overlapped, none of which overlaps another.
///
/// The place depends on the name so that controllers that claim at the same time rarely choose the same.
pub fn first_free<T>(pool: &Pool, taken: &BTreeMap<Prefix, T>, node: &NodeName) -> Option<Prefix> {
    let capacity = pool.capacity();
    let start = fnv1a(node.as_str()) % capacity;
    free_between(pool, taken, start, capacity).or_else(|| free_between(pool, taken, 0, start))
}

fn free_between<T>(pool: &Pool, taken: &BTreeMap<Prefix, T>, from: u128, to: u128) -> Option<Prefix> {
    let mut index = from;
    while index < to {
        let candidate = pool.prefix.nth(pool.host_len, index)?;
        match overlapping(taken, candidate) {
            None => return Some(candidate),
            Some(other) => index = index_of(pool, other.last_addr()) + 1,
        }
    }
    None
}

/// The last of `taken` that overlaps `prefix`.
pub fn overlapping<T>(taken: &BTreeMap<Prefix, T>, prefix: Prefix) -> Option<Prefix> {
    let end = Prefix::containing(prefix.last_addr(), 128)?;
    let (nearest, _) = taken.range((Bound::Unbounded, Bound::Included(end))).next_back()?;
    nearest.overlaps(prefix).then_some(*nearest)
}

/// Which host prefix of the pool, counted from 0, `addr` is in.
fn index_of(pool: &Pool, addr: Ipv6Addr) -> u128 {
    let offset = addr.to_bits() - pool.prefix.addr().to_bits();
    offset.checked_shr(u32::from(128 - pool.host_len)).unwrap_or(0)
}

/// FNV-1a, 64 bits: spreads names evenly, and the same way in every build.
fn fnv1a(text: &str) -> u128 {
    let step = |hash: u64, octet: u8| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step).into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pool(prefix: &str, host_len: u32) -> Pool {
        Pool::new("main".parse().unwrap(), prefix.parse().unwrap(), host_len, host_len).unwrap()
    }

    fn name(n: usize) -> NodeName {
        format!("host{n}").parse().unwrap()
    }

    #[test]
    fn a_pool_is_handed_out_whole_and_then_exhausted() {
        for (pool, capacity) in
            [(pool("fd00::/56", 64), 256), (pool("fd00::/64", 72), 256), (pool("fd00::/64", 64), 1)]
        {
            let mut taken = BTreeMap::new();
            for n in 0..capacity {
                let prefix = first_free(&pool, &taken, &name(n)).unwrap();
                assert!(pool.prefix.covers(prefix) && overlapping(&taken, prefix).is_none());
                taken.insert(prefix, ());
            }
            assert_eq!(first_free(&pool, &taken, &name(capacity)), None);
        }
    }

    #[test]
    fn a_huge_pool_has_room_at_once() {
        let pool = pool("fd00::/16", 124);
        let prefix = first_free(&pool, &BTreeMap::<Prefix, ()>::new(), &name(1)).unwrap();
        assert_eq!(prefix.len(), 124);
    }

    proptest! {
        #[test]
        fn agrees_with_brute_force(lens in proptest::collection::vec((0u128..64, 58u8..=66), 0..24), n in 0usize..50) {
            let pool = pool("fd00::/58", 64);
            let mut taken: BTreeMap<Prefix, ()> = BTreeMap::new();
            for (index, len) in lens {
                let inside = pool.prefix.nth(64, index).unwrap();
                let prefix = if len <= 64 { inside.ancestor(len).unwrap() } else { inside.nth(len, 1).unwrap() };
                if !taken.keys().any(|other| other.overlaps(prefix)) {
                    taken.insert(prefix, ());
                }
            }
            let is_free = |prefix: Prefix| !taken.keys().any(|other| other.overlaps(prefix));
            let any_free = (0..64).filter_map(|index| pool.prefix.nth(64, index)).any(is_free);
            match first_free(&pool, &taken, &name(n)) {
                Some(prefix) => prop_assert!(is_free(prefix)),
                None => prop_assert!(!any_free),
            }
        }
    }
}
