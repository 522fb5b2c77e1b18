//! The receipts of this controller: it signs one with each grant, and decides by them whether a claim that a node shows counts.
//!
//! This is the only place that decides it. Where receipts are required, which is where TLS is, a claim that neither the store nor a
//! receipt proves reaches the claim logic as [`Unproven`] and in no other form.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use sextant_authority::{Authority, CertifyError, Signer};
use sextant_daemon::OncePerMinute;
use sextant_identity::certificate;
use sextant_proto::{Claim, Incarnation, Pool, PoolName, v1};
use sextant_receipts::{Bearer, Content, Invalid, Trust, issue, looks_like, verify};
use tokio::time::Instant;

use crate::{
    claims::{Unproven, in_the_store},
    denials::{self, Denied},
    index::{Index, State},
};

/// The key that signs.
#[derive(Debug, Clone)]
pub enum Signing {
    /// That of a signer which the cluster's own authority certifies.
    Authority(Authority),
    /// That of a file, which is trusted for itself.
    Key(Arc<Signer>),
    /// There is none.
    Off,
}

/// What a claim counts for that a node shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// The node held it.
    Held {
        /// The claim.
        claim: Claim,
        /// The incarnations before that of its epoch, by its receipt.
        ancestors: Vec<Incarnation>,
    },
    /// Nothing proves it.
    Unproven(Unproven),
}

/// The receipts of a controller, shared.
#[derive(Clone)]
pub struct Receipts(Arc<Shared>);

struct Shared {
    cluster: PoolName,
    signing: Signing,
    /// Claims that are not in the store count only with a receipt.
    required: bool,
    index: Index,
    lines: Mutex<OncePerMinute>,
}

impl Receipts {
    /// Those of `cluster`, whose store `index` follows.
    pub fn new(cluster: PoolName, signing: Signing, required: bool, index: Index) -> Self {
        Self(Arc::new(Shared { cluster, signing, required, index, lines: Mutex::default() }))
    }

    /// What the claim counts for that `bearer` shows, with this receipt.
    pub fn shown(&self, bearer: Bearer<'_>, claim: Claim, receipt: Option<&v1::Receipt>) -> Shown {
        let held = |claim| Shown::Held { claim, ancestors: Vec::new() };
        let (stored, is_here, accepts) = self.0.index.read(|state| {
            let is_here = claim.epoch.incarnation == state.meta().incarnation;
            (in_the_store(state, bearer.node_id, &claim), is_here, accepts_unsigned(state))
        });
        match stored {
            Some(stored) if self.0.required => return held(stored),
            // The store decides on its own claims.
            _ if is_here && !self.0.required => return held(claim),
            _ => {}
        }
        match self.proven(bearer, &claim, receipt) {
            Ok(Content { claim, ancestors, .. }) => Shown::Held { claim, ancestors },
            Err(_) if !self.0.required || accepts => held(claim),
            Err(why) => Shown::Unproven(Unproven { claim, why: why.to_string() }),
        }
    }

    fn proven(
        &self,
        bearer: Bearer<'_>,
        claim: &Claim,
        receipt: Option<&v1::Receipt>,
    ) -> Result<Content, Refused> {
        let receipt = receipt.ok_or(Invalid::Missing)?;
        let content = verify(receipt, &self.trust())?;
        self.0.index.read(|state| denials::check_issuers(state, &issuers(receipt)))?;
        content.covers(&self.0.cluster, bearer, claim.prefix, claim.epoch).map_err(Invalid::from)?;
        Ok(content)
    }

    fn trust(&self) -> Trust {
        match &self.0.signing {
            Signing::Authority(authority) => Trust::Roots(authority.roots()),
            Signing::Key(signer) => Trust::Key(signer.public_key()),
            Signing::Off => Trust::Roots(Vec::new()),
        }
    }

    /// The receipt of a claim that was granted to `bearer`, which has shown another one; `None` if that is as good, or none can be
    /// signed.
    pub fn of_grant(
        &self,
        bearer: Bearer<'_>,
        claim: &Claim,
        shown: Option<&v1::Receipt>,
    ) -> Option<v1::Receipt> {
        let content = self.content(bearer, claim)?;
        let signed = match &self.0.signing {
            Signing::Authority(authority) => {
                let present = Trust::Roots(vec![authority.own_root()]);
                let counts = |shown: &v1::Receipt| {
                    self.0.index.read(|state| denials::check_issuers(state, &issuers(shown))).is_ok()
                };
                if shown.is_some_and(|shown| looks_like(shown, &content, &present) && counts(shown)) {
                    return None;
                }
                authority.signer(SystemTime::now()).and_then(|signer| signed(content, &signer))
            }
            Signing::Key(_) if shown.is_some_and(|it| looks_like(it, &content, &self.trust())) => {
                return None;
            }
            Signing::Key(signer) => signed(content, signer),
            Signing::Off => return None,
        };
        signed.map_err(|error| self.warn(&error)).ok()
    }

    fn content(&self, bearer: Bearer<'_>, claim: &Claim) -> Option<Content> {
        let ancestors = self.0.index.read(|state| {
            let meta = state.meta();
            (meta.incarnation == claim.epoch.incarnation).then(|| meta.ancestors.clone())
        })?;
        let pool = Pool { draining: false, ..claim.pool.clone() };
        Some(Content {
            cluster: self.0.cluster.clone(),
            node: bearer.node.clone(),
            node_id: bearer.node_id,
            claim: Claim { pool, ..claim.clone() },
            ancestors,
            signed: SystemTime::now(),
        })
    }

    fn warn(&self, error: &CertifyError) {
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = lines.admit(&error.to_string(), Instant::now()) {
            tracing::warn!(%error, suppressed, "receipts of claims cannot be signed");
        }
    }
}

/// Why a receipt does not count.
#[derive(Debug, thiserror::Error)]
enum Refused {
    /// It proves nothing.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Its signer was certified by a controller that is revoked.
    #[error("its signer: {0}")]
    Denied(#[from] Denied),
}

/// The issuing certificates of the receipt's signer.
fn issuers(receipt: &v1::Receipt) -> Vec<certificate::Issuer> {
    certificate::issuers(receipt.chain.get(1..).unwrap_or_default())
}

/// Whether an admin lets claims without receipts count in the present recovery window.
fn accepts_unsigned(state: &State) -> bool {
    state.meta().recovering && state.meta().accepts_unsigned
}

fn signed(content: Content, signer: &Signer) -> Result<v1::Receipt, CertifyError> {
    let signed = signer.signs_at(content.signed);
    issue(&Content { signed, ..content }, signer)
}

impl std::fmt::Debug for Receipts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipts").field("required", &self.0.required).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
