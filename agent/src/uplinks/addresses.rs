//! Sets of addresses. Pure.

use std::{collections::BTreeSet, net::Ipv6Addr};

use sextant_proto::Prefix;

/// Addresses in ascending order. Kept as numbers: an `Ipv6Addr` is compared by one pair of octets after the other, which takes
/// several times as long, and each peer's addresses are looked up here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressSet(Vec<u128>);

impl AddressSet {
    /// Whether `addr` is one of them.
    pub fn contains(&self, addr: Ipv6Addr) -> bool {
        self.0.binary_search(&addr.to_bits()).is_ok()
    }

    /// The first of them that is in `prefix`.
    pub fn first_in(&self, prefix: Prefix) -> Option<Ipv6Addr> {
        let from = self.0.partition_point(|addr| *addr < prefix.addr().to_bits());
        self.0.get(from).map(|addr| Ipv6Addr::from_bits(*addr)).filter(|addr| prefix.contains(*addr))
    }

    /// All of them, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Ipv6Addr> {
        self.0.iter().copied().map(Ipv6Addr::from_bits)
    }
}

impl FromIterator<Ipv6Addr> for AddressSet {
    fn from_iter<I: IntoIterator<Item = Ipv6Addr>>(addresses: I) -> Self {
        let sorted: BTreeSet<u128> = addresses.into_iter().map(Ipv6Addr::to_bits).collect();
        Self(sorted.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Few, so that they meet; around the ends of all prefixes.
    fn address() -> impl Strategy<Value = Ipv6Addr> {
        prop_oneof![0u128..20, (u128::MAX - 4)..=u128::MAX].prop_map(Ipv6Addr::from_bits)
    }

    proptest! {
        #[test]
        fn it_is_a_set(
            all in proptest::collection::vec(address(), 0..12),
            addr in address(),
            len in prop_oneof![Just(0u8), 122u8..=128],
        ) {
            let (set, model) = (AddressSet::from_iter(all.clone()), BTreeSet::from_iter(all));
            prop_assert!(set.iter().eq(model.iter().copied()));
            prop_assert_eq!(set.contains(addr), model.contains(&addr));
            let prefix = Prefix::containing(addr, len).unwrap();
            prop_assert_eq!(set.first_in(prefix), model.into_iter().find(|it| prefix.contains(*it)));
        }
    }
}
