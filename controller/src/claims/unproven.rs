//! Claims that a node shows and that nothing proves (DESIGN I14). One counts only where the store itself has it: it restores no pool,
//! supersedes nobody, is no doubt of the store's history, and gets its node no prefix.

use sextant_proto::{Claim, Epoch, NodeId, Revision};

use super::{
    CATCH_UP, ClaimError, ClaimRequest, Claims, Granted, Holder, Registration, name_taken,
    node_status::{Judged, Lost, NodeStatus},
    recovery::dated,
    rename::has_new_name,
};
use crate::{
    audit::{Event, What},
    index::State,
    lineage,
    records::Meta,
    registry::{Outcome, RegistryError},
    store,
};

/// The attempts to change the store's record against concurrent changes.
const ATTEMPTS: u32 = 8;

/// A claim that a node shows, without a valid receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unproven {
    /// The claim.
    pub claim: Claim,
    /// Why its receipt proves nothing.
    pub why: String,
}

/// Why claims without receipts are not let in.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// There is nothing to recover.
    #[error(
        "the recovery window is closed; claims that are not in the store have ended: they are claimed anew"
    )]
    Closed,
    /// The store did not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// The claim that the node of this id shows, with its pool here, if the store has it: under its epoch, or under the one that it had in
/// the store before.
pub(crate) fn in_the_store(state: &State, node_id: NodeId, shown: &Claim) -> Option<Claim> {
    let claim = state.claims().get(&shown.prefix).filter(|claim| claim.record.node_id == node_id)?;
    let here = Epoch { incarnation: state.meta().incarnation, revision: claim.created };
    let epochs = [Some(here), claim.record.prior, dated(state.meta(), claim)];
    let is_it = epochs.contains(&Some(shown.epoch));
    let pool = state.pools().get(&claim.record.pool).filter(|_| is_it)?;
    Some(Claim { pool: pool.record.clone(), ..shown.clone() })
}

impl Claims {
    /// The answer to a node that shows a claim that nothing proves.
    pub(super) async fn unproven(
        &self,
        request: &ClaimRequest,
        shown: &Unproven,
    ) -> Result<Granted, ClaimError> {
        let status = self.node_status_with(&request.node, &[self.keys.marks()]).await?;
        self.index.reaches(status.read_at, CATCH_UP).await;
        let incarnation = shown.claim.epoch.incarnation;
        if incarnation == status.meta.incarnation {
            return self.unproven_here(request, shown, &status);
        }
        match self.registration(request, &status)? {
            Registration::Granted(claim) => Ok(Granted::Claim(claim)),
            _ if status.meta.recovering || lineage::foreign(&status.meta, incarnation).is_some() => {
                Err(self.not_proven(request, shown, &status.meta))
            }
            _ => Ok(Granted::Fenced(format!(
                "the claim of {} was held in another store, and was not registered in this one",
                shown.claim.prefix
            ))),
        }
    }

    /// The same, of a claim that is of this store by its epoch.
    fn unproven_here(
        &self,
        request: &ClaimRequest,
        shown: &Unproven,
        status: &NodeStatus,
    ) -> Result<Granted, ClaimError> {
        let Claim { prefix, epoch, .. } = shown.claim;
        let why = match status.holds(request.node_id, epoch) {
            Ok(holding) => return self.claim_of(status, holding).map(Granted::Claim),
            Err(Lost::Name(holder, prefixes)) => return Err(name_taken(request, holder, prefixes)),
            Err(Lost::Claim(why)) => why,
        };
        let holder = Holder { node: request.node.clone(), node_id: request.node_id, epoch };
        match self.judged_by_the_store(&holder, Some(prefix), status) {
            Some(Judged::Fenced) => Ok(Granted::Fenced(why)),
            Some(Judged::Renamed(now)) => Err(has_new_name(&request.node, &now).into()),
            Some(Judged::Copied(copied)) => Err(ClaimError::Copied(copied)),
            Some(Judged::Waiting | Judged::Alone) | None => {
                Err(self.not_proven(request, shown, &status.meta))
            }
        }
    }

    fn not_proven(&self, request: &ClaimRequest, shown: &Unproven, meta: &Meta) -> ClaimError {
        let (node, prefix, why) = (&request.node, shown.claim.prefix, &shown.why);
        if let Some(suppressed) = self.admit_line(node.as_str(), why) {
            tracing::warn!(%node, %prefix, why, suppressed, "claim without a valid receipt refused");
        }
        let why = why.clone();
        ClaimError::Unproven { prefix, why, is_open: meta.recovering }
    }

    /// Lets claims without receipts count until the present recovery window closes.
    ///
    /// # Errors
    /// If it is closed, or the store does not answer.
    pub async fn accept_unsigned(&self) -> Result<Revision, AcceptError> {
        for _ in 0..ATTEMPTS {
            let current = store::read(&self.registry, &self.keys).await?;
            if !current.meta.recovering {
                return Err(AcceptError::Closed);
            }
            if current.meta.accepts_unsigned {
                return Ok(current.modified);
            }
            let next = Meta { accepts_unsigned: true, ..current.meta.clone() };
            let noted = self.note(Event::new(What::UnsignedAccepted));
            match self.registry.commit(store::change(&self.keys, &next, &current, vec![noted])).await {
                Ok(Outcome::Committed(revision)) => {
                    tracing::warn!(by = %self.by, "claims without receipts count until the recovery window closes");
                    return Ok(revision);
                }
                Ok(Outcome::Refused(_)) | Err(RegistryError::Unknown(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RegistryError::Unavailable("its own record changes all the time; try again".into()).into())
    }
}
