//! Nodes that register their claims of a lost store in the store that replaces it (DESIGN I2).
//!
//! Of two that held the same prefix there, the one with the higher epoch gets it: the other one held it earlier.

mod no_place;

use sextant_proto::{Epoch, HALF_RESTORED, Incarnation, NodeName, Pool, PoolName, Prefix};

use super::{Claim, ClaimError, ClaimRequest, Claims, Granted, HolderError};
use crate::{
    audit::What,
    index::{State, View},
    pools::{Pools, PoolsError},
    records::{ClaimRecord, HeldClaim, Meta, NodeRecord},
    registry::RegistryError,
    store,
};

impl Claims {
    /// Refuses during a restore.
    pub(super) fn is_whole(&self) -> Result<(), RegistryError> {
        if self.index.read(|state| state.meta().restoring) {
            return Err(RegistryError::Unavailable(HALF_RESTORED.into()));
        }
        Ok(())
    }

    /// For a node of a lost store, records that its store is lost, and ends the claim that the backup has of it if the node later
    /// held another one.
    pub(super) async fn come_back(&self, request: &ClaimRequest) -> Result<(), ClaimError> {
        let meta = self.index.read(|state| state.meta().clone());
        let Some(held) = held_before(request, &meta) else { return Ok(()) };
        if meta.replaces.is_none() {
            store::replaces(&self.registry, &self.keys, held.epoch.incarnation).await?;
        }
        let own = self.index.read(|state| {
            let node = state.nodes().get(&request.node).filter(|it| it.record.node_id == request.node_id)?;
            let here = in_place_of(state, &node.record, request, held)?.prefix;
            let claim = state.claims().get(&here)?;
            (here != held.prefix && is_earlier(state.meta(), claim, held, &request.ancestors)).then_some(here)
        });
        match own {
            Some(here) => self.supersede(&request.node, here).await,
            None => Ok(()),
        }
    }

    /// In a store that replaces a lost one, the first node that holds a prefix of a pool restores the pool. Its size is the
    /// largest that any of these nodes knows, since it may have grown after others had claimed (DESIGN I2).
    ///
    /// # Errors
    /// If that was not decided, and may be possible in a moment.
    pub(super) async fn restore_pool(&self, request: &ClaimRequest) -> Result<(), ClaimError> {
        let Some((held, there)) = self.index.read(|state| {
            let held = held_before(request, state.meta())?;
            if pool_here(state, held).is_some_and(|here| *here != held.pool.name) {
                return None;
            }
            Some((held, state.pools().get(&held.pool.name).map(|pool| pool.record.prefix)))
        }) else {
            return Ok(());
        };
        let (pool, wanted) = (&held.pool.name, held.pool.prefix);
        let pools = Pools::new(self.registry.clone(), self.keys.clone(), self.index.clone()).by(&self.by);
        let done = match there {
            None => pools.restore(&held.pool, &request.node).await.map(drop),
            Some(there) if wanted != there && wanted.covers(there) => {
                pools.grow(pool, wanted).await.map(drop)
            }
            Some(_) => return Ok(()),
        };
        match done {
            Ok(()) => tracing::warn!(
                %pool, prefix = %wanted, node = %request.node,
                "pool restored from the claim of a node"
            ),
            Err(PoolsError::Contended) => return Err(ClaimError::Contended),
            Err(PoolsError::Registry(error)) => return Err(error.into()),
            Err(error) => {
                if let Some(suppressed) = self.admit_line(&pool.to_string(), &error.to_string()) {
                    tracing::warn!(%pool, %error, suppressed, "pool of a held prefix cannot be restored");
                }
            }
        }
        Ok(())
    }

    /// If another node has the prefix that this one held in a lost store, the later holder keeps it: the other node's claim
    /// ends, or this node is fenced.
    pub(super) async fn settle_with_holder(
        &self,
        request: &ClaimRequest,
    ) -> Result<Option<Granted>, ClaimError> {
        let found = self.index.read(|state| {
            let held = held_before(request, state.meta())?;
            let (prefix, claim) = state.holdings().claim_overlapping(held.prefix)?;
            let earlier = is_earlier(state.meta(), claim, held, &request.ancestors);
            Some((held.clone(), prefix, claim.record.node.clone(), earlier))
        });
        match found {
            Some((_, prefix, holder, true)) => self.supersede(&holder, prefix).await.map(|()| None),
            Some((held, prefix, holder, false)) if holder != request.node => {
                Ok(Some(Granted::Fenced(taken(&held, prefix, &holder))))
            }
            _ => Ok(None),
        }
    }

    /// Whether the node may get `prefix`. While nodes of a lost store may still return, it may get only the prefix that it held
    /// there.
    pub(super) fn may_hand_out(&self, request: &ClaimRequest, prefix: Prefix) -> Result<(), ClaimError> {
        let held = request.held.as_ref().map(|held| held.prefix);
        if held == Some(prefix) { Ok(()) } else { self.hands_out() }
    }

    /// The error for a node that holds a claim of a lost store: why the pools have no place for it, if that is the reason.
    pub(super) fn explained(&self, request: &ClaimRequest, error: ClaimError) -> ClaimError {
        let no_place = || self.index.read(|state| no_place::no_place(state, request));
        if error.is_refusal() { no_place().unwrap_or(error) } else { error }
    }

    /// Whether prefixes are granted that no node of a lost store may still hold.
    pub(super) fn hands_out(&self) -> Result<(), ClaimError> {
        if self.index.read(|state| state.meta().stands_in()) {
            return Err(ClaimError::Recovering);
        }
        if self.lineage.is_unconfirmed() { Err(ClaimError::Unconfirmed) } else { Ok(()) }
    }

    /// Since when the node held `prefix` in another store than this, or in a history that this store does not have.
    pub(super) fn prior(request: &ClaimRequest, prefix: Prefix) -> Option<Epoch> {
        request.held.as_ref().filter(|held| held.prefix == prefix).map(|held| held.epoch)
    }

    /// Ends the claim of a node that held it earlier than who asks for it. If it has changed meanwhile, the next attempt sees.
    async fn supersede(&self, name: &NodeName, prefix: Prefix) -> Result<(), ClaimError> {
        let status = self.node_status(name).await?;
        if status.node.is_none() {
            return Ok(());
        }
        tracing::warn!(node = %name, %prefix, "claim superseded by a later holder in the lost store");
        match self.end(name, &status, &[prefix], What::Superseded).await {
            Ok(_) => Ok(()),
            Err(HolderError::Registry(error)) => Err(error.into()),
            Err(_) => Err(ClaimError::Contended),
        }
    }
}

/// The node's claim in another store, while this store may replace that one.
fn held_before<'a>(request: &'a ClaimRequest, meta: &Meta) -> Option<&'a Claim> {
    request.held.as_ref().filter(|held| meta.recovering && held.epoch.incarnation != meta.incarnation)
}

/// The claim that the node cannot hold at the same time as `held`: the one in its pool; of a node that has one claim, that one.
fn in_place_of<'a>(
    state: &State,
    node: &'a NodeRecord,
    request: &ClaimRequest,
    held: &Claim,
) -> Option<&'a HeldClaim> {
    let only = || match &node.claims[..] {
        [only] if !request.beside => Some(only),
        _ => None,
    };
    pool_here(state, held).and_then(|pool| node.claim_in(pool)).or_else(only)
}

/// The pool of another store's claim in this one: whatever its name is here, it contains the claim's prefix, and nothing beside the
/// pool that it was; a pool of the same name may have grown, or not yet.
pub(super) fn pool_here<'a>(state: &'a State, held: &Claim) -> Option<&'a PoolName> {
    let is_part = |pool: Prefix| held.pool.prefix.covers(pool);
    let is_same = |(name, pool): &(&PoolName, &View<Pool>)| {
        pool.record.prefix.covers(held.prefix) && (**name == held.pool.name || is_part(pool.record.prefix))
    };
    let named = || {
        let named = state.pools().get_key_value(&held.pool.name);
        named.filter(|(_, pool)| is_part(pool.record.prefix))
    };
    state.pools().iter().find(is_same).or_else(named).map(|(name, _)| name)
}

/// Whether `claim` was held earlier than `held`: in the same store at an earlier revision, in one of the `ancestors` of that of
/// `held`, or in one that this store knows, while `held` is of one that it does not know, from which it was taken back.
fn is_earlier(meta: &Meta, claim: &View<ClaimRecord>, held: &Claim, ancestors: &[Incarnation]) -> bool {
    dated(meta, claim).is_some_and(|since| {
        if since.incarnation == held.epoch.incarnation {
            return since.revision < held.epoch.revision;
        }
        if ancestors.contains(&since.incarnation) {
            return true;
        }
        meta.forked && meta.descends_from(since.incarnation) && !meta.descends_from(held.epoch.incarnation)
    })
}

/// Since when the claim was held in another store. One that this store took over as it was, when it was taken back to a
/// snapshot, is dated by its own revision.
pub(super) fn dated(meta: &Meta, claim: &View<ClaimRecord>) -> Option<Epoch> {
    let lost = meta.replaces?;
    let says_more = |prior: &Epoch| prior.incarnation == lost || !meta.descends_from(prior.incarnation);
    let taken_over = || meta.forked.then_some(Epoch { incarnation: lost, revision: claim.created });
    claim.record.prior.filter(says_more).or_else(taken_over).or(claim.record.prior)
}

fn taken(held: &Claim, prefix: Prefix, holder: &NodeName) -> String {
    format!("{} was held in another store, and {prefix} is {holder}'s in this one", held.prefix)
}

#[cfg(test)]
mod tests;
