//! Allocation of a free host prefix in a pool. Pure.
//!
//! The first choice depends on the node's name, so that controllers that claim at the same time rarely choose the same; it
//! is in a window at the pool's start that grows with the number of claims, so that the rest stays whole for shorter prefixes.
//! Prefixes longer than the pool's own are packed into the smallest gap that they fit into.

use sextant_proto::{NodeName, Pool, Prefix};

use crate::index::{Among, Kind, Occupied};

/// The size of the window in host prefixes: its minimum, and per claim.
const LEAST_WINDOW: u128 = 1024;
const WINDOW_PER_TAKEN: u128 = 4;
/// The attempt from which on the smallest gap is not searched: concurrent claimers would all choose the same.
const LOOSE_FROM: u32 = 2;

/// A free prefix of length `len` for `node`; a quarantined one only if no other is free. Each `attempt` begins at another
/// place.
pub fn choose(pool: &Pool, len: u8, occupied: &Occupied, node: &NodeName, attempt: u32) -> Option<Prefix> {
    let start = start(pool, occupied, node, attempt)?.addr();
    [Among::Fresh, Among::Free].into_iter().find_map(|among| {
        let packed = len > pool.host_len && attempt < LOOSE_FROM;
        let from = if packed { occupied.tightest(pool.prefix, len, among)? } else { 0 };
        occupied.find(pool.prefix, len, among, from, start)
    })
}

fn start(pool: &Pool, occupied: &Occupied, node: &NodeName, attempt: u32) -> Option<Prefix> {
    let taken = u128::from(occupied.count(pool.prefix, Kind::Taken)) + 1;
    let window = (taken * WINDOW_PER_TAKEN).max(LEAST_WINDOW).next_power_of_two().min(pool.capacity());
    pool.prefix.nth(pool.host_len, fnv1a(node.as_str(), attempt) % window)
}

/// FNV-1a, 64 bits: spreads names evenly, and identically in every build.
fn fnv1a(text: &str, attempt: u32) -> u128 {
    let step = |hash: u64, octet: u8| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
    let more = if attempt == 0 { Vec::new() } else { attempt.to_be_bytes().to_vec() };
    text.bytes().chain(more).fold(0xcbf2_9ce4_8422_2325, step).into()
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
            let mut taken = Occupied::default();
            for n in 0..capacity {
                let prefix = choose(&pool, pool.host_len, &taken, &name(n), 0).unwrap();
                assert!(pool.prefix.covers(prefix) && taken.is_free(prefix, Among::Free));
                taken.insert(prefix, Kind::Taken);
            }
            assert_eq!(choose(&pool, pool.host_len, &taken, &name(capacity), 0), None);
        }
    }

    #[test]
    fn a_huge_pool_has_room_at_once() {
        let pool = pool("fd00::/16", 124);
        let mut taken = Occupied::default();
        for n in 0..10_000 {
            let prefix = choose(&pool, 124, &taken, &name(n), 0).unwrap();
            assert!(taken.is_free(prefix, Among::Free));
            taken.insert(prefix, Kind::Taken);
        }
    }

    #[test]
    fn names_lead_to_different_places() {
        let pool = pool("fd00::/40", 64);
        let empty = Occupied::default();
        let chosen: std::collections::BTreeSet<_> =
            (0..64).filter_map(|n| choose(&pool, 64, &empty, &name(n), 0)).collect();
        assert!(chosen.len() > 55, "{} of 64", chosen.len());
    }

    #[test]
    fn longer_ones_share_a_gap_and_shorter_ones_find_room() {
        let pool = pool("fd00::/48", 64);
        let mut taken = Occupied::default();
        for n in 0..300 {
            let len = if n % 3 == 0 { 72 } else { 64 };
            let prefix = choose(&pool, len, &taken, &name(n), 0).unwrap();
            taken.insert(prefix, Kind::Taken);
        }
        let shared: std::collections::BTreeSet<_> =
            pool_of(&taken, &pool).into_iter().filter(|it| it.1).map(|it| it.0).collect();
        assert_eq!(shared.len(), 1, "100 of /72 fit into one /64: {shared:?}");
        for n in 300..320 {
            let prefix = choose(&pool, 56, &taken, &name(n), 0).unwrap();
            taken.insert(prefix, Kind::Taken);
        }
    }

    /// Each /64 of the pool that is partly taken, and whether it is only so.
    fn pool_of(taken: &Occupied, pool: &Pool) -> Vec<(Prefix, bool)> {
        let all = (0..1 << 16).filter_map(|n| pool.prefix.nth(64, n));
        all.filter(|it| taken.count(*it, Kind::Taken) > 0)
            .map(|it| (it, taken.tightest(it, 72, Among::Free).is_some()))
            .collect()
    }

    proptest! {
        #[test]
        fn quarantined_prefixes_are_taken_last(indices in proptest::collection::vec(0u128..8, 0..12), n in 0usize..50) {
            let pool = pool("fd00::/61", 64);
            let mut occupied = Occupied::default();
            for index in &indices {
                occupied.insert(pool.prefix.nth(64, *index).unwrap(), Kind::Quarantined);
            }
            let chosen = choose(&pool, 64, &occupied, &name(n), 0).unwrap();
            let quarantined = indices.iter().any(|index| pool.prefix.nth(64, *index) == Some(chosen));
            let all = (0..8).all(|index| indices.contains(&index));
            prop_assert_eq!(quarantined, all);
        }
    }
}
