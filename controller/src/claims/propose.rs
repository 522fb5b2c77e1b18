//! Proposes a pool and a prefix for a node from the index. Pure: the transaction's guards decide.

use std::net::Ipv6Addr;

use sextant_proto::{Pool, PoolName, Prefix, Revision, convert::MOST_POOLS};

use super::{
    Beside, ClaimError, ClaimRequest,
    accepted::accepted,
    allocate::{self, Place},
};
use crate::index::{Among, State, View};

/// A pool and a prefix to try.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) pool: View<Pool>,
    pub(super) prefix: Prefix,
    /// The revision of the set of reservations that it was made by.
    pub(super) reservation_set: Option<Revision>,
}

/// A prefix for `request`: the one it held, else one reserved for the node, else its quarantined one,
/// else a free one. A length that the node asks for may be `shorter` bits shorter than the pool's.
pub(super) fn propose(
    state: &State,
    request: &ClaimRequest,
    shorter: u32,
    attempt: u32,
) -> Result<Proposal, ClaimError> {
    let proposal = |pool: &View<Pool>, prefix| Proposal {
        pool: pool.clone(),
        prefix,
        reservation_set: state.holdings().reservation_set(),
    };
    let is_free = |prefix: &Prefix, among| state.holdings().occupied().is_free(*prefix, among);
    // What others announce takes no prefix from who held it (DESIGN I14).
    let is_unclaimed = |(_, prefix): &(_, Prefix)| is_free(prefix, Among::Unclaimed);
    if let Some((pool, prefix)) = held_here(state, request).filter(is_unclaimed) {
        return Ok(proposal(pool, prefix));
    }
    let own = state.nodes().get(&request.node).filter(|node| node.record.node_id == request.node_id);
    if own.is_some_and(|node| node.record.claims.len() >= MOST_POOLS) {
        return Err(ClaimError::TooMany { node: request.node.clone() });
    }
    let avoided = &request.infrastructure;
    if let Some((pool, prefix)) = reserved_for(state, request) {
        if let Some(&address) = avoided.iter().find(|address| prefix.contains(**address)) {
            return Err(ClaimError::Infrastructure { prefix, address });
        }
        return open(accepted(pool, request)?).map(|pool| proposal(pool, prefix));
    }
    let pool = accepted(choose_pool(state, request)?, request)?;
    let pool = open(pool)?;
    let len = length(&pool.record, request, shorter)?;
    let may_be_back =
        |prefix: &Prefix| is_free(prefix, Among::Free) && !avoided.iter().any(|it| prefix.contains(*it));
    let back = previous(state, &pool.record, request, len).filter(may_be_back);
    let place = Place { occupied: state.holdings().occupied(), avoided };
    let chosen = back.or_else(|| allocate::choose(&pool.record, len, &place, &request.node, attempt));
    chosen.map(|prefix| proposal(pool, prefix)).ok_or_else(|| exhausted(state, &pool.record, len, avoided))
}

/// The prefix that the node held in another store, and its pool here, unless it has another prefix of that.
fn held_here<'a>(state: &'a State, request: &ClaimRequest) -> Option<(&'a View<Pool>, Prefix)> {
    let held = request.held.as_ref()?;
    let pool = state.pools().values().find(|pool| pool.record.prefix.covers(held.prefix))?;
    let node = state.nodes().get(&request.node).filter(|node| node.record.node_id == request.node_id);
    let has_another = node.is_some_and(|node| node.record.claim_in(&pool.record.name).is_some());
    (!has_another).then_some((pool, held.prefix))
}

/// The prefix that is reserved for the node in the pool that it asks for; for a node that has one claim, in any pool.
fn reserved_for<'a>(state: &'a State, request: &ClaimRequest) -> Option<(&'a View<Pool>, Prefix)> {
    let reserved = state.holdings().reserved_for(&request.node).iter().filter_map(|&prefix| {
        let pool = state.pools().values().find(|pool| pool.record.prefix.covers(prefix))?;
        Some((pool, prefix))
    });
    let asked = |pool: &View<Pool>| request.pool.as_ref() == Some(&pool.record.name);
    let in_any = || reserved.clone().next().filter(|_| !request.beside || request.pool.is_none());
    reserved.clone().find(|(pool, _)| asked(pool)).or_else(in_any)
}

fn open(pool: &View<Pool>) -> Result<&View<Pool>, ClaimError> {
    if pool.record.draining { Err(ClaimError::Closed(pool.record.name.clone())) } else { Ok(pool) }
}

fn length(pool: &Pool, request: &ClaimRequest, shorter: u32) -> Result<u8, ClaimError> {
    let len = request.host_len.unwrap_or(pool.host_len.into());
    let shortest = u32::from(pool.host_len).saturating_sub(shorter).max(pool.prefix.len().into());
    if len < shortest && pool.fits(len) {
        let (node, pool) = (request.node.clone(), pool.name.clone());
        return Err(ClaimError::TooShort { node, host_len: len, shortest, pool });
    }
    let fits = pool.fits(len).then(|| u8::try_from(len).ok()).flatten();
    fits.ok_or_else(|| ClaimError::HostLength { host_len: len, pool: pool.clone() })
}

/// The host's own quarantined prefix in the pool.
fn previous(state: &State, pool: &Pool, request: &ClaimRequest, len: u8) -> Option<Prefix> {
    let mut had = state.holdings().had(request.node_id).iter().copied();
    had.find(|prefix| prefix.len() == len && pool.prefix.covers(*prefix))
}

fn exhausted(state: &State, pool: &Pool, len: u8, avoided: &[Ipv6Addr]) -> ClaimError {
    let held: Vec<_> =
        state.nodes().iter().filter(|(_, node)| node.record.claim_in(&pool.name).is_some()).collect();
    let without_session = held.iter().filter(|(name, _)| !state.sessions().contains_key(*name)).count();
    ClaimError::Exhausted {
        pool: pool.clone(),
        len,
        beside: Beside::in_pool(state, pool, len, avoided),
        without_session,
    }
}

/// The requested pool, else that of the held prefix, else the one named "default", else the only open one. Without a name, pools that
/// the agent does not take count only if there are no others.
fn choose_pool<'a>(state: &'a State, request: &ClaimRequest) -> Result<&'a View<Pool>, ClaimError> {
    let pools = state.pools();
    let names = || -> Vec<PoolName> { pools.keys().cloned().collect() };
    if let Some(name) = &request.pool {
        return pools.get(name).ok_or_else(|| ClaimError::UnknownPool { name: name.clone(), pools: names() });
    }
    if let Some(pool) = request.held.as_ref().and_then(|held| pools.get(&held.pool.name)) {
        return Ok(pool);
    }
    let is_taken = |pool: &&View<Pool>| request.accepts(&pool.record);
    let any = pools.values().any(|pool| is_taken(&pool));
    let candidates = || pools.values().filter(|pool| !any || is_taken(pool));
    if let Some(pool) = candidates().find(|pool| pool.record.name.as_str() == "default") {
        return Ok(pool);
    }
    let mut open = candidates().filter(|pool| !pool.record.draining);
    match (open.next(), open.next()) {
        (None, _) => {
            let closed = candidates().next().map(|pool| pool.record.name.clone());
            Err(closed.map_or(ClaimError::NoPool, ClaimError::Closed))
        }
        (Some(only), None) => Ok(only),
        _ => Err(ClaimError::Ambiguous(names())),
    }
}
