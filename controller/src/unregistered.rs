//! Claims of a lost store that are not registered in the store that replaces it. They end with its recovery window, and the
//! routes to them go.
//!
//! Two kinds are known here: claims that agents hold and that this controller refused, in memory; and claims that the store had,
//! and that a later holder superseded, of nodes that have not come back, from the audit entries.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sextant_proto::{
    Incarnation, NodeId, NodeName, PoolName, Prefix,
    convert::{self, MOST_POOLS, MessageError},
    v1,
};

use crate::{
    audit::{self, AuditRecord, Noted, What},
    index::{Index, State},
    keys::Keys,
    registry::{RegistryError, SharedRegistry},
};

/// The largest number of refused claims that are kept.
const MOST: usize = 16_384;

/// A claim that is not registered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unregistered {
    /// Its node.
    pub node: NodeName,
    /// The claimed prefix.
    pub prefix: Prefix,
    /// Its pool in the lost store.
    pub pool: PoolName,
    /// The reason, with the fix.
    pub why: String,
}

/// By the node id and the prefix; each with the store that refused it.
type Refused = BTreeMap<(NodeId, Prefix), (Incarnation, Unregistered)>;

/// The held claims that this controller refused to register, shared. Silence of an agent is no end of a refusal: its host may
/// still forward.
#[derive(Clone)]
pub struct RefusedClaims {
    index: Index,
    claims: Arc<Mutex<Refused>>,
}

impl RefusedClaims {
    /// None yet, of the store that `index` follows.
    pub fn new(index: Index) -> Self {
        Self { index, claims: Arc::default() }
    }

    /// The agent of this node id holds `claim`, which was refused.
    pub fn note(&self, node_id: NodeId, claim: Unregistered) {
        let incarnation = self.index.read(|state| state.meta().incarnation);
        let mut claims = self.claims();
        let key = (node_id, claim.prefix);
        let of_node = claims.values().filter(|(_, it)| it.node == claim.node).count();
        if (claims.len() < MOST && of_node < MOST_POOLS) || claims.contains_key(&key) {
            claims.insert(key, (incarnation, claim));
        }
    }

    /// The claim was registered, or its agent was fenced.
    pub fn end(&self, node_id: NodeId, prefix: Prefix) {
        self.claims().remove(&(node_id, prefix));
    }

    /// All that are not registered still. A registration at another controller is seen in the index.
    pub fn list(&self) -> Vec<Unregistered> {
        let mut claims = self.claims();
        self.index.read(|state| {
            let is_its = |id: NodeId, prefix: &Prefix| {
                state.claims().get(prefix).is_some_and(|claim| claim.record.node_id == id)
            };
            let lasts = |incarnation| state.meta().stands_in() && state.meta().incarnation == incarnation;
            claims.retain(|(id, prefix), (incarnation, _)| lasts(*incarnation) && !is_its(*id, prefix));
        });
        claims.values().map(|(_, claim)| claim.clone()).collect()
    }

    fn claims(&self) -> MutexGuard<'_, Refused> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The claims that this controller knows of: those that it refused, and those that were superseded.
pub async fn known(
    registry: &SharedRegistry,
    keys: &Keys,
    index: &Index,
    refused: &RefusedClaims,
) -> Vec<Unregistered> {
    let mut known = refused.list();
    match superseded(registry, keys, index).await {
        Ok(superseded) => known.extend(superseded),
        Err(error) => tracing::debug!(%error, "superseded claims cannot be listed"),
    }
    known
}

/// The claims that were superseded in the present recovery window, of nodes without an agent and without another claim in the
/// pool: such a node holds a claim that the store does not know, or none.
///
/// # Errors
/// If the store does not answer.
pub async fn superseded(
    registry: &SharedRegistry,
    keys: &Keys,
    index: &Index,
) -> Result<Vec<Unregistered>, RegistryError> {
    if !index.read(|state| state.meta().stands_in()) {
        return Ok(Vec::new());
    }
    let (_, all) = audit::list(registry, keys).await?;
    Ok(index.read(|state| in_window(&all).filter_map(|record| still_missing(state, record)).collect()))
}

/// The superseded claims since the present window opened.
fn in_window(all: &[Noted]) -> impl Iterator<Item = &AuditRecord> {
    let bounds = [What::RecoveryFinished, What::Restored, What::Forked].map(|what| what.to_string());
    let begin = all.iter().rposition(|noted| bounds.contains(&noted.record.what)).map_or(0, |at| at + 1);
    let superseded = What::Superseded.to_string();
    all[begin..].iter().map(|noted| &noted.record).filter(move |record| record.what == superseded)
}

fn still_missing(state: &State, record: &AuditRecord) -> Option<Unregistered> {
    let (node, prefix, pool) = (record.node.clone()?, record.prefix?, record.pool.clone()?);
    let has_another = state.nodes().get(&node).is_some_and(|it| it.record.claim_in(&pool).is_some());
    if has_another || state.sessions().contains_key(&node) {
        return None;
    }
    let holder = state.holdings().claim_overlapping(prefix).map(|(_, claim)| claim.record.node.to_string());
    let why = format!(
        "{} held it later; start sextant-agent on {node}, which registers its present claim",
        holder.as_deref().unwrap_or("another node")
    );
    Some(Unregistered { node, prefix, pool, why })
}

/// The claims, for people: some of them.
pub fn listed(claims: &[Unregistered]) -> String {
    let one = |it: &Unregistered| format!("{} of node {} (pool {}): {}", it.prefix, it.node, it.pool, it.why);
    let some: Vec<_> = claims.iter().take(5).map(one).collect();
    match claims.len() - some.len() {
        0 => some.join("; "),
        more => format!("{}; and {more} more", some.join("; ")),
    }
}

impl From<&Unregistered> for v1::UnregisteredClaim {
    fn from(claim: &Unregistered) -> Self {
        let Unregistered { node, prefix, pool, why } = claim;
        let (node, pool) = (node.to_string(), pool.to_string());
        Self { node, prefix: Some((*prefix).into()), pool, why: why.clone() }
    }
}

impl TryFrom<v1::UnregisteredClaim> for Unregistered {
    type Error = MessageError;

    fn try_from(message: v1::UnregisteredClaim) -> Result<Self, MessageError> {
        let v1::UnregisteredClaim { node, prefix, pool, why } = message;
        let (node, pool) = (convert::parse("node", &node)?, convert::parse("pool", &pool)?);
        Ok(Self { node, prefix: convert::required("prefix", prefix)?, pool, why })
    }
}
