//! Room for the addresses that are asked for, though nobody knows whether they are in use. Neighbours, each container, and the host itself
//! have room of their own: a scan of the link by many neighbours, or a container that invents addresses, takes no other's. Pure.

use std::collections::HashMap;

use crate::seats::Seat;

/// So many addresses for neighbours: a scan of a prefix is no reason to remember it (RFC 6583 §6).
const OF_NEIGHBOURS: usize = 512;
/// So many for the host: the engine's containers, and the addresses of small prefixes.
const OF_HOST: usize = 4096;
/// So many for all containers: a thousand may start at once, with some addresses each.
const OF_CONTAINERS: usize = 8192;
/// So many for one of them.
const OF_ONE_CONTAINER: usize = 64;
/// The most of all together.
#[cfg(test)]
pub const MOST: usize = OF_NEIGHBOURS + OF_HOST + OF_CONTAINERS;

/// Why an address is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A neighbour on an uplink has solicited it.
    Neighbour,
    /// The engine has a container with it, or it is in a small prefix.
    Host,
    /// A container there has begun duplicate address detection of it.
    Container(Seat),
}

/// How much of it is taken.
#[derive(Debug, Default)]
pub struct Room {
    neighbours: usize,
    host: usize,
    containers: usize,
    each: HashMap<Seat, usize>,
}

impl Room {
    /// Takes a place. `false` if none is left.
    pub fn take(&mut self, cause: Cause) -> bool {
        let (taken, most) = match cause {
            Cause::Neighbour => (&mut self.neighbours, OF_NEIGHBOURS),
            Cause::Host => (&mut self.host, OF_HOST),
            Cause::Container(_) => (&mut self.containers, OF_CONTAINERS),
        };
        if *taken >= most {
            return false;
        }
        if let Cause::Container(seat) = cause {
            let of_one = self.each.entry(seat).or_default();
            if *of_one >= OF_ONE_CONTAINER {
                return false;
            }
            *of_one += 1;
        }
        *taken += 1;
        true
    }

    /// Gives one back.
    pub fn give_back(&mut self, cause: Cause) {
        match cause {
            Cause::Neighbour => self.neighbours -= 1,
            Cause::Host => self.host -= 1,
            Cause::Container(seat) => {
                self.containers -= 1;
                if let Some(of_one) = self.each.get_mut(&seat) {
                    *of_one -= 1;
                    if *of_one == 0 {
                        self.each.remove(&seat);
                    }
                }
            }
        }
    }

    /// What is taken, and the most.
    #[cfg(test)]
    pub fn sizes(&self) -> [(&'static str, usize, usize); 4] {
        let of_one = self.each.values().copied().max().unwrap_or_default();
        [
            ("addresses that neighbours ask for", self.neighbours, OF_NEIGHBOURS),
            ("addresses that the host asks for", self.host, OF_HOST),
            ("addresses under detection", self.containers, OF_CONTAINERS),
            ("addresses under detection by one container", of_one, OF_ONE_CONTAINER),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_room_of_its_own() {
        let mut room = Room::default();
        let fill = |room: &mut Room, cause| (0..100_000).take_while(|_| room.take(cause)).count();
        let seat = |n: u16| (7, [2, 0, 0, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]]);
        assert_eq!(fill(&mut room, Cause::Neighbour), OF_NEIGHBOURS);
        assert_eq!(fill(&mut room, Cause::Container(seat(0))), OF_ONE_CONTAINER);
        assert_eq!(fill(&mut room, Cause::Container(seat(1))), OF_ONE_CONTAINER, "another one");
        assert_eq!(fill(&mut room, Cause::Host), OF_HOST);
        room.give_back(Cause::Container(seat(1)));
        assert_eq!(fill(&mut room, Cause::Container(seat(1))), 1);
        let all: usize = (2..1000).map(|n| fill(&mut room, Cause::Container(seat(n)))).sum();
        assert_eq!(all, OF_CONTAINERS - 2 * OF_ONE_CONTAINER);
        (0..OF_ONE_CONTAINER).for_each(|_| room.give_back(Cause::Container(seat(0))));
        assert_eq!(room.each.get(&seat(0)), None, "nothing is kept of it");
    }
}
