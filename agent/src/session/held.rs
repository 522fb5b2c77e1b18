//! The claims that this node holds: in memory, and in the state directory.

use std::sync::Arc;

use sextant_daemon::transition;
use sextant_proto::{Claim, Epoch, PoolName};

use super::Ended;
use crate::state::{StateDir, StateError};

/// The claims, as last received from a controller: at most one per pool, the primary one first.
pub(super) struct Held {
    state: Arc<StateDir>,
    /// The pools by the settings, which give the order.
    pools: Vec<PoolName>,
    claims: Vec<Claim>,
}

impl Held {
    /// The claims in the state directory.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(super) fn stored(state: Arc<StateDir>, pools: Vec<PoolName>) -> Result<Self, StateError> {
        let claims = state.claims()?;
        let mut held = Self { state, pools, claims };
        held.sort();
        Ok(held)
    }

    pub(super) fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// A controller granted a claim; it takes the place of an earlier one in its pool.
    ///
    /// # Errors
    /// If it cannot be stored; then it is not held.
    pub(super) fn grant(&mut self, claim: Claim) -> Result<(), StateError> {
        let (before, pool) = (self.claims.clone(), claim.pool.name.clone());
        self.claims.retain(|other| other.pool.name != pool);
        self.claims.push(claim);
        self.sort();
        if let Err(error) = self.state.keep_claims(&self.claims) {
            self.claims = before;
            return Err(error);
        }
        let held = before.iter().any(|other| other.pool.name == pool);
        transition("claim", if held { "held" } else { "none" }, "held", "granted");
        Ok(())
    }

    /// The claim of this epoch is lost; without one, the primary claim.
    pub(super) fn lose(&mut self, epoch: Option<Epoch>, why: &Ended) -> Option<Claim> {
        let at = self.claims.iter().position(|claim| epoch.is_none_or(|epoch| claim.epoch == epoch));
        transition("claim", at.map_or("none", |_| "held"), "none", why.kind());
        let lost = self.claims.remove(at?);
        if let Err(error) = self.state.keep_claims(&self.claims) {
            tracing::error!(%error, "cannot remove the lost claim from the state directory");
        }
        Some(lost)
    }

    fn sort(&mut self) {
        self.claims.sort_by_key(|claim| claim.pool.name.place_in(&self.pools));
    }
}
