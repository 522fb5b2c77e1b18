//! Allocation of a free host prefix in a pool. Pure.
//!
//! The first choice depends on the node's name, so that controllers that claim at the same time rarely choose the same; it
//! is in a window at the pool's start that grows with the number of claims, so that the rest stays whole for shorter prefixes.
//! Prefixes longer than the pool's own are packed into the smallest gap that they fit into.

use std::net::Ipv6Addr;

use sextant_proto::{NodeName, Pool, Prefix};

use crate::index::{Among, Kind, Occupied};

/// The size of the window in host prefixes: its minimum, and per claim.
const LEAST_WINDOW: u128 = 1024;
const WINDOW_PER_TAKEN: u128 = 4;
/// The attempt from which on the smallest gap is not searched: concurrent claimers would all choose the same.
const LOOSE_FROM: u32 = 2;

/// What prefixes are chosen from.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The occupied ones.
    pub occupied: &'a Occupied,
    /// Addresses that no chosen prefix contains.
    pub avoided: &'a [Ipv6Addr],
}

/// A free prefix of length `len` for `node`; a quarantined one only if no other is free. Each `attempt` begins at another
/// place.
pub fn choose(pool: &Pool, len: u8, place: &Place<'_>, node: &NodeName, attempt: u32) -> Option<Prefix> {
    let start = start(pool, place.occupied, node, attempt)?.addr();
    let packed = len > pool.host_len && attempt < LOOSE_FROM;
    [Among::Fresh, Among::Free].into_iter().find_map(|among| place.find(pool, len, among, packed, start))
}

impl Place<'_> {
    /// The first free prefix from `start` on; in the smallest gap, if it is to be `packed`.
    fn find(&self, pool: &Pool, len: u8, among: Among, packed: bool, start: Ipv6Addr) -> Option<Prefix> {
        let from = if packed { self.occupied.tightest(pool.prefix, len, among)? } else { 0 };
        let mut start = start;
        // Each avoided address costs one more search at most: the next one begins after it.
        for _ in 0..=self.avoided.len() {
            let found = self.occupied.find(pool.prefix, len, among, from, start)?;
            if !self.avoided.iter().any(|address| found.contains(*address)) {
                return Some(found);
            }
            let next = found.last_addr().to_bits().checked_add(1).map(Ipv6Addr::from_bits);
            start = next.filter(|next| pool.prefix.contains(*next)).unwrap_or(pool.prefix.addr());
        }
        // The gap may consist of avoided addresses.
        if packed { self.find(pool, len, among, false, start) } else { None }
    }
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

    fn place(occupied: &Occupied) -> Place<'_> {
        Place { occupied, avoided: &[] }
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
                let prefix = choose(&pool, pool.host_len, &place(&taken), &name(n), 0).unwrap();
                assert!(pool.prefix.covers(prefix) && taken.is_free(prefix, Among::Free));
                taken.insert(prefix, Kind::Taken);
            }
            assert_eq!(choose(&pool, pool.host_len, &place(&taken), &name(capacity), 0), None);
        }
    }

    #[test]
    fn a_huge_pool_has_room_at_once() {
        let pool = pool("fd00::/16", 124);
        let mut taken = Occupied::default();
        for n in 0..10_000 {
            let prefix = choose(&pool, 124, &place(&taken), &name(n), 0).unwrap();
            assert!(taken.is_free(prefix, Among::Free));
            taken.insert(prefix, Kind::Taken);
        }
    }

    #[test]
    fn names_lead_to_different_places() {
        let pool = pool("fd00::/40", 64);
        let empty = Occupied::default();
        let chosen: std::collections::BTreeSet<_> =
            (0..64).filter_map(|n| choose(&pool, 64, &place(&empty), &name(n), 0)).collect();
        assert!(chosen.len() > 55, "{} of 64", chosen.len());
    }

    #[test]
    fn longer_ones_share_a_gap_and_shorter_ones_find_room() {
        let pool = pool("fd00::/48", 64);
        let mut taken = Occupied::default();
        for n in 0..300 {
            let len = if n % 3 == 0 { 72 } else { 64 };
            let prefix = choose(&pool, len, &place(&taken), &name(n), 0).unwrap();
            taken.insert(prefix, Kind::Taken);
        }
        let shared: std::collections::BTreeSet<_> =
            pool_of(&taken, &pool).into_iter().filter(|it| it.1).map(|it| it.0).collect();
        assert_eq!(shared.len(), 1, "100 of /72 fit into one /64: {shared:?}");
        for n in 300..320 {
            let prefix = choose(&pool, 56, &place(&taken), &name(n), 0).unwrap();
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
        fn no_prefix_with_an_avoided_address_is_chosen_and_all_others_are(
            taken in proptest::collection::btree_set(0u128..16, 0..16),
            avoided in proptest::collection::vec(any::<u64>(), 0..12),
            len in prop_oneof![Just(64u8), Just(65)],
        ) {
            let pool = pool("fd00::/60", 64);
            let mut occupied = Occupied::default();
            for n in taken {
                occupied.insert(pool.prefix.nth(64, n).unwrap(), Kind::Taken);
            }
            let bits = pool.prefix.addr().to_bits();
            let spread = |n: &u64| Ipv6Addr::from_bits(bits | (u128::from(*n) << 4));
            let avoided: Vec<_> = avoided.iter().map(spread).collect();
            let place = Place { occupied: &occupied, avoided: &avoided };
            let is_good = |it: &Prefix| {
                occupied.is_free(*it, Among::Free) && !avoided.iter().any(|address| it.contains(*address))
            };
            let good = (0..pool.prefix.count(len)).filter_map(|n| pool.prefix.nth(len, n)).any(|it| is_good(&it));
            let chosen = choose(&pool, len, &place, &name(3), 0);
            prop_assert_eq!(chosen.is_some(), good);
            prop_assert!(chosen.is_none_or(|it| is_good(&it)));
        }

        #[test]
        fn quarantined_prefixes_are_taken_last(indices in proptest::collection::vec(0u128..8, 0..12), n in 0usize..50) {
            let pool = pool("fd00::/61", 64);
            let mut occupied = Occupied::default();
            for index in &indices {
                occupied.insert(pool.prefix.nth(64, *index).unwrap(), Kind::Quarantined);
            }
            let chosen = choose(&pool, 64, &place(&occupied), &name(n), 0).unwrap();
            let quarantined = indices.iter().any(|index| pool.prefix.nth(64, *index) == Some(chosen));
            let all = (0..8).all(|index| indices.contains(&index));
            prop_assert_eq!(quarantined, all);
        }
    }
}
