//! Why a node does not get the prefix back that it held in a lost store, with the fix. Pure.

use sextant_proto::{Pool, Prefix};

use super::{Claim, ClaimError, ClaimRequest, held_before};
use crate::index::State;

/// Why the store that replaces a lost one has no place for the prefix that the node held there, if it has none.
pub(super) fn no_place(state: &State, request: &ClaimRequest) -> Option<ClaimError> {
    let held = held_before(request, state.meta())?;
    let why = match pools(state).find(|pool| pool.prefix.covers(held.prefix)) {
        Some(pool) => {
            beside_another(state, request, held, pool).or_else(|| reserved(state, request, held))?
        }
        None => without_pool(state, held)?,
    };
    Some(ClaimError::NoPlace { prefix: held.prefix, pool: Box::new(held.pool.clone()), why })
}

fn pools(state: &State) -> impl Iterator<Item = &Pool> {
    state.pools().values().map(|pool| &pool.record)
}

/// One pool has the prefixes of two.
fn beside_another(state: &State, request: &ClaimRequest, held: &Claim, pool: &Pool) -> Option<String> {
    let node = state.nodes().get(&request.node).filter(|node| node.record.node_id == request.node_id)?;
    let other = node.record.claim_in(&pool.name).filter(|claim| claim.prefix != held.prefix)?.prefix;
    let Pool { name, prefix, .. } = pool;
    Some(format!(
        "pool {name} {prefix} of this store contains it, and the node has {other} of that pool; a node has one prefix of each \
         pool. End the claims in {name} and run `sextant pool remove {name}`: the nodes restore the pools that they know"
    ))
}

fn reserved(state: &State, request: &ClaimRequest, held: &Claim) -> Option<String> {
    let reservations = state.holdings().reservations().iter();
    let mut others = reservations.filter(|(_, it)| it.record.node.as_ref() != Some(&request.node));
    let (prefix, _): (&Prefix, _) = others.find(|(prefix, _)| prefix.overlaps(held.prefix))?;
    Some(format!(
        "{prefix} is reserved in this store; run `sextant unreserve {prefix}`, and the node registers within some seconds"
    ))
}

fn without_pool(state: &State, held: &Claim) -> Option<String> {
    let Pool { name, prefix, host_len, container_len, .. } = &held.pool;
    if let Some(other) = pools(state).find(|pool| pool.prefix.overlaps(*prefix)) {
        return Some(format!(
            "pool {} {} of this store overlaps its pool; run `sextant pool remove {}`, and the node restores its pool within \
             some seconds",
            other.name, other.prefix, other.name
        ));
    }
    let other = pools(state).find(|pool| pool.name == *name)?;
    Some(format!(
        "pool {name} of this store is {}; add its pool under another name: \
         `sextant pool add NAME {prefix} --host-len {host_len} --container-len {container_len}`",
        other.prefix
    ))
}
