//! The next hops of a route.

use super::NextHop;

/// A set of next hops, in ascending order. A single next hop, the usual case, needs no allocation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHops(Hops);

/// A single next hop is always [`Hops::One`], so that equality of sets is equality of values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Hops {
    One(NextHop),
    /// In ascending order, without duplicates.
    Others(Box<[NextHop]>),
}

impl NextHops {
    /// All of them, in ascending order.
    pub fn as_slice(&self) -> &[NextHop] {
        match &self.0 {
            Hops::One(hop) => std::slice::from_ref(hop),
            Hops::Others(hops) => hops,
        }
    }

    /// All of them, in ascending order.
    pub fn iter(&self) -> std::slice::Iter<'_, NextHop> {
        self.as_slice().iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Whether `hop` is in the set.
    pub fn contains(&self, hop: &NextHop) -> bool {
        self.as_slice().binary_search(hop).is_ok()
    }
}

impl From<NextHop> for NextHops {
    fn from(hop: NextHop) -> Self {
        Self(Hops::One(hop))
    }
}

impl FromIterator<NextHop> for NextHops {
    fn from_iter<I: IntoIterator<Item = NextHop>>(hops: I) -> Self {
        let mut hops = hops.into_iter();
        let (first, second) = (hops.next(), hops.next());
        if let (Some(only), None) = (first, second) {
            return only.into();
        }
        let mut all: Vec<NextHop> = first.into_iter().chain(second).chain(hops).collect();
        all.sort_unstable();
        all.dedup();
        match all[..] {
            [only] => only.into(),
            _ => Self(Hops::Others(all.into_boxed_slice())),
        }
    }
}

impl<const N: usize> From<[NextHop; N]> for NextHops {
    fn from(hops: [NextHop; N]) -> Self {
        hops.into_iter().collect()
    }
}

impl<'a> IntoIterator for &'a NextHops {
    type Item = &'a NextHop;
    type IntoIter = std::slice::Iter<'a, NextHop>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn hop() -> impl Strategy<Value = NextHop> {
        (0u16..3, 1u32..3).prop_map(|(n, link)| {
            let gateway = (n > 0).then(|| std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n));
            NextHop { gateway, link, onlink: false }
        })
    }

    proptest! {
        #[test]
        fn next_hops_are_a_set(hops in proptest::collection::vec(hop(), 0..5), other in hop()) {
            let (ours, set) = (NextHops::from_iter(hops.clone()), BTreeSet::from_iter(hops.clone()));
            prop_assert!(ours.iter().eq(&set));
            prop_assert_eq!((ours.len(), ours.is_empty()), (set.len(), set.is_empty()));
            prop_assert_eq!(ours.contains(&other), set.contains(&other));
            prop_assert_eq!(&ours, &hops.into_iter().rev().collect::<NextHops>());
        }
    }

    #[test]
    fn the_type_is_small() {
        assert!(size_of::<NextHops>() <= 32, "{}", size_of::<NextHops>());
    }
}
