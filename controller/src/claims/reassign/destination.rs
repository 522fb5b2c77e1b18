//! The next prefix of a node that is moved. Pure.

use std::net::Ipv6Addr;

use sextant_proto::{NodeName, Pool, PoolName, Prefix, Revision};

use super::{
    super::{
        Beside,
        allocate::{self, Place},
    },
    Move, Reassignment,
};
use crate::{
    index::{State, User, View},
    prefixes::overlapping,
};

/// Why a node cannot have a prefix.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The pool is gone.
    #[error("pool {0} does not exist; see `sextant pool list`")]
    NoPool(PoolName),
    /// The pool is closed to new claims.
    #[error("pool {0} is closed to new claims; open it with `sextant pool undrain {0}`, and try again")]
    Closed(PoolName),
    /// The prefix is not in the pool.
    #[error(
        "{prefix} is not in pool {pool} {area}, in which node {node} holds a prefix; name another one inside it"
    )]
    Outside {
        /// The prefix.
        prefix: Prefix,
        /// The pool.
        pool: PoolName,
        /// The pool's prefix.
        area: Prefix,
        /// The node.
        node: NodeName,
    },
    /// The prefix has no space for containers.
    #[error("{0} is too long for containers; name a prefix of at most 126 bits")]
    TooLong(Prefix),
    /// The prefix has another length than those of the pool.
    #[error(
        "{prefix} has another length than the host prefixes of pool {pool} (/{host_len}) and than {held}, which node {node} holds; name a prefix of /{host_len}, or reserve this one for the node first: sextant reserve {prefix} --node {node}"
    )]
    Length {
        /// The prefix.
        prefix: Prefix,
        /// The pool.
        pool: PoolName,
        /// The length of the pool's host prefixes.
        host_len: u8,
        /// What the node holds.
        held: Prefix,
        /// The node.
        node: NodeName,
    },
    /// A node holds some of it.
    #[error(
        "{prefix} overlaps {claim}, which node {holder} holds; name another prefix, or leave --prefix out"
    )]
    Claimed {
        /// The prefix.
        prefix: Prefix,
        /// What is held.
        claim: Prefix,
        /// Its holder.
        holder: NodeName,
    },
    /// It is reserved, and not for this node.
    #[error(
        "{prefix} overlaps the reservation of {reserved}{}; name another prefix, or end that with `sextant unreserve \
         {reserved}`", whose(.of.as_ref())
    )]
    Reserved {
        /// The prefix.
        prefix: Prefix,
        /// The reserved one.
        reserved: Prefix,
        /// For this node.
        of: Option<NodeName>,
    },
    /// The cluster stands on an address in it.
    #[error(
        "{prefix} contains {address}, which {user} has: its holder would take that address from all others; name another \
         prefix{}", unreserve(*reserved, *prefix)
    )]
    Infrastructure {
        /// The prefix.
        prefix: Prefix,
        /// The address.
        address: Ipv6Addr,
        /// Who has it.
        user: User,
        /// It was chosen because it is reserved for the node.
        reserved: bool,
    },
    /// No other prefix is free.
    #[error(
        "pool {pool} {area} is exhausted: no other /{len} is free beside {beside}; `sextant pool grow {pool}`, or end \
         claims of hosts that are gone with `sextant node forget NAME`"
    )]
    Exhausted {
        /// The pool.
        pool: PoolName,
        /// The pool's prefix.
        area: Prefix,
        /// The length.
        len: u8,
        /// What it holds.
        beside: Beside,
    },
}

fn whose(of: Option<&NodeName>) -> String {
    of.map_or(" for no node".into(), |node| format!(" for node {node}"))
}

fn unreserve(reserved: bool, prefix: Prefix) -> String {
    if reserved {
        format!(", or end its reservation with `sextant unreserve {prefix}`")
    } else {
        String::new()
    }
}

/// A prefix to move to.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) pool: View<Pool>,
    pub(super) prefix: Prefix,
    /// The revision of the set of reservations that it was chosen by.
    pub(super) reservation_set: Option<Revision>,
}

/// The prefix that is ordered; else the one that is reserved for the node in the pool; else a free one of the same length.
pub(super) fn destination(
    state: &State,
    order: &Reassignment,
    planned: &Move,
    attempt: u32,
) -> Result<Destination, Unavailable> {
    let pool = state.pools().get(&planned.pool).ok_or_else(|| Unavailable::NoPool(planned.pool.clone()))?;
    if pool.record.draining {
        return Err(Unavailable::Closed(planned.pool.clone()));
    }
    let prefix = match order.prefix {
        Some(prefix) => named(state, order, planned, &pool.record, prefix)?,
        None => chosen(state, order, planned, &pool.record, attempt)?,
    };
    Ok(Destination { pool: pool.clone(), prefix, reservation_set: state.holdings().reservation_set() })
}

fn named(
    state: &State,
    order: &Reassignment,
    planned: &Move,
    pool: &Pool,
    prefix: Prefix,
) -> Result<Prefix, Unavailable> {
    if !pool.prefix.covers(prefix) {
        let (pool, area, node) = (pool.name.clone(), pool.prefix, order.node.clone());
        return Err(Unavailable::Outside { prefix, pool, area, node });
    }
    if !pool.fits(prefix.len().into()) {
        return Err(Unavailable::TooLong(prefix));
    }
    let holdings = state.holdings();
    if let Some((claim, view)) = holdings.claim_overlapping(prefix) {
        return Err(Unavailable::Claimed { prefix, claim, holder: view.record.node.clone() });
    }
    let is_its_own =
        |(reserved, of): &(Prefix, Option<NodeName>)| *reserved == prefix && of.as_ref() == Some(&order.node);
    let reserved =
        overlapping(holdings.reservations(), prefix).map(|(it, view)| (*it, view.record.node.clone()));
    let (its_own, others): (Vec<_>, Vec<_>) = reserved.into_iter().partition(is_its_own);
    if let Some((reserved, of)) = others.into_iter().next() {
        return Err(Unavailable::Reserved { prefix, reserved, of });
    }
    let lengths = [pool.host_len, planned.from.len()];
    if its_own.is_empty() && !lengths.contains(&prefix.len()) {
        let (pool, host_len, node) = (pool.name.clone(), pool.host_len, order.node.clone());
        return Err(Unavailable::Length { prefix, pool, host_len, held: planned.from, node });
    }
    without_infrastructure(state, prefix, false)
}

fn chosen(
    state: &State,
    order: &Reassignment,
    planned: &Move,
    pool: &Pool,
    attempt: u32,
) -> Result<Prefix, Unavailable> {
    let holdings = state.holdings();
    let is_other = |prefix: &&Prefix| pool.prefix.covers(**prefix) && !prefix.overlaps(planned.from);
    if let Some(&reserved) = holdings.reserved_for(&order.node).iter().find(is_other) {
        return without_infrastructure(state, reserved, true);
    }
    let (len, place) = (planned.from.len(), Place { occupied: holdings.occupied(), avoided: &[] });
    allocate::choose(pool, len, &place, &order.node, attempt).ok_or_else(|| Unavailable::Exhausted {
        pool: pool.name.clone(),
        area: pool.prefix,
        len,
        beside: Beside::in_pool(state, pool, len, &[]),
    })
}

fn without_infrastructure(state: &State, prefix: Prefix, reserved: bool) -> Result<Prefix, Unavailable> {
    match state.holdings().infrastructure().inside(prefix) {
        None => Ok(prefix),
        Some((address, user)) => {
            Err(Unavailable::Infrastructure { prefix, address, user: user.clone(), reserved })
        }
    }
}
