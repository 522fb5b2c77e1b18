//! The claims that this node holds: in memory, and in the state directory.

use std::sync::Arc;

use sextant_daemon::transition;
use sextant_proto::{Claim, Epoch, PoolName};

use super::Ended;
use crate::state::{KeptReceipt, StateDir, StateError};

/// The claims, as last received from a controller: at most one per pool, the primary one first.
pub(super) struct Held {
    state: Arc<StateDir>,
    /// The pools by the settings, which give the order.
    pools: Vec<PoolName>,
    claims: Vec<Claim>,
    receipts: Vec<KeptReceipt>,
}

impl Held {
    /// The claims in the state directory.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(super) fn stored(state: Arc<StateDir>, pools: Vec<PoolName>) -> Result<Self, StateError> {
        let (claims, receipts) = (state.claims()?, state.receipts());
        let mut held = Self { state, pools, claims, receipts };
        held.sort();
        Ok(held)
    }

    pub(super) fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// A controller granted a claim; it takes the place of an earlier one in its pool, and of one of the same prefix, whose pool has
    /// another name now.
    ///
    /// # Errors
    /// If it cannot be stored; then it is not held.
    pub(super) fn grant(&mut self, claim: Claim) -> Result<(), StateError> {
        let before = self.claims.clone();
        let replaces = |other: &Claim| other.pool.name == claim.pool.name || other.prefix == claim.prefix;
        let held = before.iter().any(replaces);
        self.claims.retain(|other| !replaces(other));
        self.claims.push(claim);
        self.sort();
        if let Err(error) = self.state.keep_claims(&self.claims) {
            self.claims = before;
            return Err(error);
        }
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

    /// The receipt of a claim, encoded.
    pub(super) fn receipt(&self, claim: &Claim) -> Option<Vec<u8>> {
        self.receipts.iter().find(|receipt| receipt.is_of(claim)).map(|receipt| receipt.octets.clone())
    }

    /// A controller signed a receipt of a claim. Those of claims that this node does not hold go. One that cannot be stored is signed
    /// anew after the next start.
    pub(super) fn keep_receipt(&mut self, claim: &Claim, octets: Vec<u8>) {
        let claims = &self.claims;
        self.receipts.retain(|it| !it.is_of(claim) && claims.iter().any(|claim| it.is_of(claim)));
        self.receipts.push(KeptReceipt { prefix: claim.prefix, epoch: claim.epoch, octets });
        if let Err(error) = self.state.keep_receipts(&self.receipts) {
            tracing::warn!(prefix = %claim.prefix, %error, "receipt of a claim cannot be stored");
        }
    }

    fn sort(&mut self) {
        self.claims.sort_by_key(|claim| claim.pool.name.place_in(&self.pools));
    }
}

#[cfg(test)]
mod tests {
    use sextant_proto::{Incarnation, Pool, Revision};

    use super::*;

    fn claim(pool: &str, prefix: &str, revision: u64) -> Claim {
        let prefix: sextant_proto::Prefix = prefix.parse().unwrap();
        let whole = sextant_proto::Prefix::containing(prefix.addr(), 48).unwrap();
        let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(revision) };
        Claim { prefix, epoch, pool: Pool::new(pool.parse().unwrap(), whole, 64, 80).unwrap() }
    }

    #[test]
    fn a_grant_takes_the_place_of_the_claim_in_its_pool_and_of_that_of_its_prefix() {
        let directory = tempfile::tempdir().unwrap();
        let state = Arc::new(StateDir::open(&directory.path().join("agent")).unwrap());
        state.node_id().unwrap();
        let pools = ["main", "ula"].map(|pool| pool.parse().unwrap()).to_vec();
        let mut held = Held::stored(state, pools).unwrap();
        let of = |held: &Held| held.claims().iter().map(|it| it.pool.name.to_string()).collect::<Vec<_>>();
        held.grant(claim("ula", "fd00:1:0:1::/64", 5)).unwrap();
        held.grant(claim("main", "fd00:2:0:1::/64", 4)).unwrap();
        assert_eq!(of(&held), ["main", "ula"]);
        held.grant(claim("main", "fd00:2:0:2::/64", 6)).unwrap();
        assert_eq!(
            (of(&held), held.claims()[0].epoch.revision),
            (vec!["main".into(), "ula".into()], Revision(6))
        );
        // The store was lost, and the pool has another name in the next one.
        held.grant(claim("xmain", "fd00:2:0:2::/64", 2)).unwrap();
        assert_eq!(of(&held), ["ula", "xmain"]);
        let [ula, main] = [0, 1].map(|at: usize| held.claims()[at].clone());
        held.keep_receipt(&ula, vec![1]);
        held.keep_receipt(&main, vec![2]);
        held.keep_receipt(&main, vec![3]);
        assert_eq!((held.receipt(&ula), held.receipt(&main)), (Some(vec![1]), Some(vec![3])));
        let next = claim("ula", "fd00:1:0:2::/64", 9);
        held.grant(next.clone()).unwrap();
        assert_eq!(held.receipt(&next), None, "a receipt is of one claim");
        held.keep_receipt(&next, vec![4]);
        assert_eq!(held.state.receipts().len(), 2, "the former claim's is gone");
    }
}
