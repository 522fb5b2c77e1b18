//! The next hops of a route.

use super::NextHop;

/// A set of next hops, in their order. Nearly always there is one, and that takes no memory of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NextHops(Hops);

/// One is always [`Hops::One`], so that what is equal looks equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Hops {
    One(NextHop),
    /// In ascending order, each once.
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

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Whether it is one of them.
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
            NextHop { gateway, link }
        })
    }

    proptest! {
        #[test]
        fn they_are_a_set(hops in proptest::collection::vec(hop(), 0..5), other in hop()) {
            let (ours, set) = (NextHops::from_iter(hops.clone()), BTreeSet::from_iter(hops.clone()));
            prop_assert!(ours.iter().eq(&set));
            prop_assert_eq!((ours.len(), ours.is_empty()), (set.len(), set.is_empty()));
            prop_assert_eq!(ours.contains(&other), set.contains(&other));
            prop_assert_eq!(&ours, &hops.into_iter().rev().collect::<NextHops>());
        }
    }

    #[test]
    fn one_takes_no_more_room_than_it_needs() {
        assert!(size_of::<NextHops>() <= 32, "{}", size_of::<NextHops>());
    }
}
