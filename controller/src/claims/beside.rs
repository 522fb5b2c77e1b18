//! What leaves no prefix of a pool free. Pure.

use std::{collections::BTreeSet, fmt, net::Ipv6Addr};

use sextant_proto::{Pool, Prefix, counted};

use crate::{index::State, prefixes::overlapping};

/// What a pool holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside {
    /// The number of claims.
    pub claimed: usize,
    /// The number of reservations.
    pub reserved: usize,
    /// The number of other prefixes of the wanted length that the network stands on: with addresses of hosts, of their links and
    /// routers, and of controllers.
    pub blocked: usize,
}

impl Beside {
    /// Where a prefix of this length is wanted, without the addresses that are `avoided` as well.
    pub(super) fn in_pool(state: &State, pool: &Pool, len: u8, avoided: &[Ipv6Addr]) -> Self {
        let holdings = state.holdings();
        let used = holdings.infrastructure().all_inside(pool.prefix).map(|(address, _)| address);
        let avoided = avoided.iter().copied().filter(|address| pool.prefix.contains(*address));
        let around: BTreeSet<Prefix> =
            used.chain(avoided).filter_map(|address| Prefix::containing(address, len)).collect();
        let is_other = |prefix: &&Prefix| {
            let reserved = overlapping(holdings.reservations(), **prefix).next();
            holdings.claim_overlapping(**prefix).is_none() && reserved.is_none()
        };
        Self {
            claimed: holdings.claims_in(pool),
            reserved: holdings.reservations_in(pool).count(),
            blocked: around.iter().filter(is_other).count(),
        }
    }
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (claims, reservations) = (counted(self.claimed, "claim"), counted(self.reserved, "reservation"));
        match self.blocked {
            0 => write!(f, "{claims} and {reservations}"),
            n => write!(
                f,
                "{claims}, {reservations} and {} with addresses of hosts, links, routers or controllers",
                if n == 1 { "1 prefix".to_owned() } else { format!("{n} prefixes") }
            ),
        }
    }
}
