//! Where addresses are: each at one seat. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use crate::message::Mac;

/// The bridge, and the container's link-layer address.
pub type Seat = (u32, Mac);

const FIRST: Mac = [0; 6];
const LAST: Mac = [0xff; 6];

/// The addresses at each seat.
#[derive(Debug, Default)]
pub struct Seats(BTreeMap<Seat, BTreeSet<Ipv6Addr>>);

impl Seats {
    /// How many addresses are there.
    pub fn count(&self, seat: Seat) -> usize {
        self.0.get(&seat).map_or(0, BTreeSet::len)
    }

    /// The addresses there.
    pub fn at(&self, seat: Seat) -> impl Iterator<Item = Ipv6Addr> {
        self.0.get(&seat).into_iter().flatten().copied()
    }

    /// The addresses on a bridge.
    pub fn on(&self, bridge: u32) -> impl Iterator<Item = Ipv6Addr> {
        self.0.range((bridge, FIRST)..=(bridge, LAST)).flat_map(|(_, there)| there).copied()
    }

    /// An address has another seat, or none.
    pub fn change(&mut self, target: Ipv6Addr, before: Option<Seat>, now: Option<Seat>) {
        if before == now {
            return;
        }
        if let Some((seat, there)) = before.and_then(|seat| Some((seat, self.0.get_mut(&seat)?))) {
            there.remove(&target);
            if there.is_empty() {
                self.0.remove(&seat);
            }
        }
        if let Some(seat) = now {
            self.0.entry(seat).or_default().insert(target);
        }
    }

    /// How many seats have an address.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_at_one_seat() {
        let addr = |n: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n);
        let (mut seats, [here, there, beyond]) = (Seats::default(), [(7, FIRST), (7, LAST), (8, FIRST)]);
        for (n, seat) in [(1, here), (2, here), (3, there), (4, beyond)] {
            seats.change(addr(n), None, Some(seat));
        }
        assert_eq!(seats.on(7).collect::<Vec<_>>(), [addr(1), addr(2), addr(3)]);
        seats.change(addr(1), Some(here), Some(beyond));
        seats.change(addr(2), Some(here), Some(here));
        assert_eq!([here, there, beyond].map(|seat| seats.count(seat)), [1, 1, 2]);
        assert_eq!(seats.at(beyond).collect::<Vec<_>>(), [addr(1), addr(4)]);
        seats.change(addr(2), Some(here), None);
        assert_eq!((seats.on(7).count(), seats.len()), (1, 2));
    }
}
