//! Who holds which host prefix: the claim logic, once, above any registry (DESIGN I1–I3).
//!
//! Every decision that must not be wrong is a guard of a transaction; the index only proposes.

mod allocate;
mod ends;
mod forget;
mod life;
mod propose;
mod quarantine;
mod recovery;
mod standing;

use std::{sync::Arc, time::Duration};

use sextant_proto::{
    Claim, Epoch, Incarnation, NodeId, NodeName, NodeState, Pool, PoolName, Prefix, Revision,
};

use crate::{
    audit::{Actor, Event, What},
    doubts::{Doubted, Lineage},
    index::{Index, View},
    keys::{Keys, Space},
    lineage::{self},
    records::{ClaimRecord, NodeRecord, Record, unix_ms},
    registry::{Entry, Guard, Op, Outcome, RegistryError, SharedRegistry, Txn},
};

use forget::Ends;
use propose::{Proposal, propose};
use standing::{Judged, Lost, unknown_history};

pub use ends::ForgetError;
pub use forget::Forgotten;
pub use life::{DrainError, Holder, HolderError};
pub use standing::Standing;

/// How often a claim is tried against others that claim at the same time.
const ATTEMPTS: u32 = 16;
/// How long the index may take to see what a transaction was refused for.
const CATCH_UP: Duration = Duration::from_secs(2);

/// What a node asks for.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// Its name.
    pub node: NodeName,
    /// Its id.
    pub node_id: NodeId,
    /// The pool it names, or the default one.
    pub pool: Option<PoolName>,
    /// How long its host prefix should be, or as long as the pool says. What it holds stays as long as it is.
    pub host_len: Option<u32>,
    /// What it believes it holds.
    pub held: Option<Claim>,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Granted {
    /// The node holds this.
    Claim(Claim),
    /// What it believed to hold has ended, for this reason: it takes that down, then claims without it.
    Fenced(String),
}

/// Why a node gets no prefix.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The name belongs to another host.
    #[error(
        "node name \"{node}\" belongs to node id {holder} (prefix {prefix}), and this agent's id is {asking}; \
         give this host another --node, or run `sextant node forget {node}` if the other host is gone"
    )]
    NameTaken {
        /// The name.
        node: NodeName,
        /// Who has it.
        holder: NodeId,
        /// What that holds.
        prefix: Prefix,
        /// Who asked.
        asking: NodeId,
    },
    /// There is no pool to claim from.
    #[error("there is no pool; add one: sextant pool add main 2001:db8:1::/48 --host-len 64")]
    NoPool,
    /// No pool has that name.
    #[error("pool \"{name}\" does not exist; pools: {}. Name one of them with --pool, or add it with `sextant pool add`", list(.pools))]
    UnknownPool {
        /// The name asked for.
        name: PoolName,
        /// Those that are.
        pools: Vec<PoolName>,
    },
    /// Several pools, and none named.
    #[error("several pools: {}; name one with --pool, or call one of them \"default\"", list(.0))]
    Ambiguous(Vec<PoolName>),
    /// A store that stands in for another one hands out nothing new while nodes of that one may still come back.
    #[error(
        "the store stands in for another one, and gives no new prefix until its recovery window closes: what it does \
         not know yet may be held by a node that is still to come. It closes by itself; `sextant recover --finish` \
         closes it now, and says who is still silent"
    )]
    Recovering,
    /// A controller that has just started does not know yet whether the store was taken back to a snapshot.
    #[error(
        "the controller has just started, and no agent has confirmed the store's history yet: a prefix that looks free may \
         be held; new prefixes are granted within some seconds"
    )]
    Unconfirmed,
    /// The pool takes no new claims.
    #[error(
        "pool {0} is closed to new claims; open it with `sextant pool undrain {0}`, or name another one with --pool"
    )]
    Closed(PoolName),
    /// No host prefix of that length comes out of the pool.
    #[error(
        "--host-len {host_len} does not fit pool {} {}; give it {} to 126", .pool.name, .pool.prefix, .pool.prefix.len()
    )]
    HostLength {
        /// What was asked for.
        host_len: u32,
        /// The pool.
        pool: Pool,
    },
    /// Every prefix is taken.
    #[error(
        "pool {} {} is exhausted: no /{len} is free beside {claimed} claims and {reserved} reservations (it holds {} host \
         prefixes of /{}){}. End claims of hosts that are gone with `sextant node forget NAME`, or by itself with the \
         controllers' --hold-down; or `sextant pool grow {}`, or add a pool",
        .pool.name, .pool.prefix, .pool.capacity(), .pool.host_len, gone(*without_agent), .pool.name
    )]
    Exhausted {
        /// The pool.
        pool: Pool,
        /// How long a prefix was asked for.
        len: u8,
        /// How many nodes hold prefixes of it.
        claimed: usize,
        /// How many are kept out.
        reserved: usize,
        /// How many of the nodes have no agent.
        without_agent: usize,
    },
    /// Others were faster each time.
    #[error("{ATTEMPTS} attempts to claim collided with others; try again")]
    Contended,
    /// The store did not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl ClaimError {
    /// Whether a person has to act before the node gets a prefix, and nothing else says so: not where the store has trouble, which
    /// is known, nor where the next try may do.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::NameTaken { .. }
            | Self::UnknownPool { .. }
            | Self::Ambiguous(_)
            | Self::Recovering
            | Self::Closed(_)
            | Self::HostLength { .. }
            | Self::Exhausted { .. } => true,
            Self::NoPool | Self::Unconfirmed | Self::Contended | Self::Registry(_) => false,
        }
    }
}

fn gone(without_agent: usize) -> String {
    match without_agent {
        0 => String::new(),
        n => format!("; {n} of the claims are of nodes whose agents are gone"),
    }
}

fn list(names: &[PoolName]) -> String {
    names.iter().map(PoolName::as_str).collect::<Vec<_>>().join(", ")
}

/// The claim logic over a registry.
#[derive(Clone)]
pub struct Claims {
    registry: SharedRegistry,
    keys: Keys,
    index: Index,
    lineage: Lineage,
    quarantine: Duration,
    by: Actor,
    ends: Arc<Ends>,
}

impl Claims {
    /// Claims in `registry`, proposing by `index`. A freed prefix is not handed out again for `quarantine` while others are
    /// free.
    pub fn new(registry: SharedRegistry, keys: Keys, index: Index, quarantine: Duration) -> Self {
        let lineage = Lineage::new(registry.clone(), keys.clone(), index.clone());
        Self { registry, keys, index, lineage, quarantine, by: Actor::controller(), ends: Arc::default() }
    }

    /// Itself, with all that it does done by `by`.
    pub fn by(&self, by: &Actor) -> Self {
        Self { by: by.clone(), ..self.clone() }
    }

    /// Whether the store's history is the one that nodes know.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    fn note(&self, event: Event) -> Op {
        event.op(&self.keys, &self.by)
    }

    /// The host prefix of a node: what it holds, or a new one.
    ///
    /// # Errors
    /// A [`ClaimError`] that says what can be done.
    pub async fn claim(&self, request: &ClaimRequest) -> Result<Granted, ClaimError> {
        for attempt in 0..ATTEMPTS {
            self.come_back(request).await?;
            // That a node which nobody has heard of holds nothing is a guard of the claim: no need to ask first.
            let is_new = attempt == 0 && request.held.is_none() && self.is_unknown(&request.node);
            if !is_new && let Some(granted) = self.held(request).await? {
                return Ok(granted);
            }
            self.restore_pool(request).await;
            if let Some(fenced) = self.settle_with_holder(request).await? {
                return Ok(fenced);
            }
            if let Some(claim) = self.try_new(request, attempt).await? {
                return Ok(Granted::Claim(claim));
            }
        }
        Err(ClaimError::Contended)
    }

    fn is_unknown(&self, node: &NodeName) -> bool {
        self.index.read(|state| !state.nodes().contains_key(node))
    }

    /// What the node holds by the store itself, read linearizably; `None` if it holds nothing and was not fenced.
    async fn held(&self, request: &ClaimRequest) -> Result<Option<Granted>, ClaimError> {
        let standing = self.standing(&request.node).await?;
        if let Some(held) = &request.held
            && let Some(doubt) = lineage::foreign(&standing.meta, held.epoch.incarnation)
            && self.lineage.doubted(&request.node, doubt).await == Doubted::Waiting
        {
            return Err(unknown_history().into());
        }
        match self.stands(request, &standing)? {
            Stands::Granted(claim) => Ok(Some(Granted::Claim(claim))),
            Stands::Nothing => Ok(None),
            Stands::Lost(epoch, _) => self.lost(request, epoch).await,
        }
    }

    /// The node believes to hold what it does not. It is fenced if that ended in this store; one whose claim this store never
    /// had has it back if it is free.
    async fn lost(&self, request: &ClaimRequest, epoch: Epoch) -> Result<Option<Granted>, ClaimError> {
        let (judged, standing) = self.judge(&request.node, request.node_id, epoch).await?;
        let why = match self.stands(request, &standing)? {
            Stands::Granted(claim) => return Ok(Some(Granted::Claim(claim))),
            Stands::Nothing => return Ok(None),
            Stands::Lost(_, why) => why,
        };
        let is_free = standing.node.is_none() && self.is_free(request);
        match judged {
            Judged::Waiting | Judged::Alone if is_free => Ok(None),
            Judged::Waiting => Err(unknown_history().into()),
            Judged::Fenced | Judged::Alone => Ok(Some(Granted::Fenced(why))),
        }
    }

    fn is_free(&self, request: &ClaimRequest) -> bool {
        let held = request.held.as_ref().map(|held| held.prefix);
        held.is_some_and(|held| self.index.read(|state| state.holdings().claim_overlapping(held).is_none()))
    }

    /// What `standing` says of the node that asks.
    fn stands(&self, request: &ClaimRequest, standing: &Standing) -> Result<Stands, ClaimError> {
        let of_here = |epoch: &Epoch| epoch.incarnation == standing.meta.incarnation;
        let held = request.held.as_ref().map(|held| held.epoch).filter(of_here);
        // Without an epoch of this store: whatever the node holds.
        let epoch = held.or_else(|| standing.epoch());
        let Some(epoch) = epoch else {
            return match &standing.node {
                Some(node) if node.record.node_id != request.node_id => {
                    Err(name_taken(request, node.record.node_id, node.record.prefix))
                }
                _ => Ok(Stands::Nothing),
            };
        };
        match standing.holds(request.node_id, epoch) {
            Ok(node) => self.claim_of(standing, node, epoch).map(Stands::Granted),
            Err(Lost::Name(holder, prefix)) => Err(name_taken(request, holder, prefix)),
            Err(Lost::Claim(why)) => Ok(Stands::Lost(epoch, why)),
        }
    }

    fn claim_of(
        &self,
        standing: &Standing,
        node: &View<NodeRecord>,
        epoch: Epoch,
    ) -> Result<Claim, ClaimError> {
        let Some(pool) = &standing.pool else {
            let pools = self.index.read(|state| state.pools().keys().cloned().collect());
            return Err(ClaimError::UnknownPool { name: node.record.pool.clone(), pools });
        };
        Ok(granted(node.record.prefix, epoch, pool.record.clone()))
    }

    /// One attempt at a new claim; `None` if another was faster.
    async fn try_new(&self, request: &ClaimRequest, attempt: u32) -> Result<Option<Claim>, ClaimError> {
        let Proposal { pool, prefix, reservation_set } =
            self.index.read(|state| propose(state, request, attempt))?;
        self.may_hand_out(request, prefix)?;
        let (incarnation, txn) = self.claim_txn(request, &pool, prefix, reservation_set);
        match self.registry.commit(txn).await {
            Ok(Outcome::Committed(revision)) => {
                Ok(Some(granted(prefix, Epoch { incarnation, revision }, pool.record)))
            }
            Ok(Outcome::Refused(revision)) => {
                if !self.index.reaches(revision, CATCH_UP).await {
                    // It follows the store no longer, or another one.
                    self.index.reconsider();
                }
                Ok(None)
            }
            // Read back: the next attempt finds the claim if it was made.
            Err(RegistryError::Unknown(reason)) => {
                tracing::warn!(%prefix, node = %request.node, reason, "outcome of a claim is unknown; reading back");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn claim_txn(
        &self,
        request: &ClaimRequest,
        pool: &View<Pool>,
        prefix: Prefix,
        reservation_set: Option<Revision>,
    ) -> (Incarnation, Txn) {
        let keys = &self.keys;
        let now = unix_ms();
        let claim = ClaimRecord {
            node: request.node.clone(),
            node_id: request.node_id,
            pool: pool.record.name.clone(),
            claimed_unix_ms: now,
            prior: Self::prior(request, prefix),
        };
        let node = NodeRecord {
            node_id: request.node_id,
            prefix,
            pool: pool.record.name.clone(),
            state: NodeState::Joining,
            uplinks: Vec::new(),
            container_prefix: None,
            since_unix_ms: now,
            drain_timeout: Duration::ZERO,
            laggards: Vec::new(),
            stopped_unix_ms: 0,
        };
        let shortest = pool.record.prefix.len();
        let mut guards = vec![
            Guard::Absent(keys.node(&request.node)),
            Guard::Unchanged(keys.pool(&pool.record.name), pool.modified),
        ];
        guards.extend(keys.nothing_overlaps(Space::Claims, prefix, shortest));
        // One guard for all reservations: the proposal knows each of them at this revision.
        let set = keys.reservation_set();
        guards.push(match reservation_set {
            Some(revision) => Guard::Unchanged(set, revision),
            None => Guard::Absent(set),
        });
        let mut ops = vec![
            Op::put(keys.claim(prefix), claim.encode()),
            Op::put(keys.node(&request.node), node.encode()),
            self.note(claimed(request, &pool.record.name, prefix)),
        ];
        let incarnation = self.index.read(|state| {
            guards.extend(state.same_store());
            ops.extend(state.lineage().ops(keys, Some(request.node_id)));
            state.meta().incarnation
        });
        (incarnation, Txn { guards, ops })
    }
}

/// What the store says of a node that asks for its prefix.
enum Stands {
    /// It holds this.
    Granted(Claim),
    /// It holds nothing, and believes to hold nothing of this store.
    Nothing,
    /// It does not hold what it believes to hold since then, for this reason.
    Lost(Epoch, String),
}

fn granted(prefix: Prefix, epoch: Epoch, pool: Pool) -> Claim {
    // Whether others may claim from it is nothing to who holds.
    let pool = Pool { draining: false, ..pool };
    Claim { prefix, epoch, pool }
}

fn name_taken(request: &ClaimRequest, holder: NodeId, prefix: Prefix) -> ClaimError {
    ClaimError::NameTaken { node: request.node.clone(), holder, prefix, asking: request.node_id }
}

fn decode<R: Record>(entry: &Entry) -> Result<View<R>, RegistryError> {
    let record =
        R::decode(&entry.value).map_err(|error| RegistryError::Corrupt(format!("{}: {error}", entry.key)))?;
    Ok(View { record, created: entry.created, modified: entry.modified })
}

fn claimed(request: &ClaimRequest, pool: &PoolName, prefix: Prefix) -> Event {
    let held = request.held.as_ref().filter(|held| held.prefix == prefix);
    let event = match held {
        Some(held) => Event::new(What::Reregistered).detail(format!("held since {}", held.epoch)),
        None => Event::new(What::Claimed),
    };
    event.node(&request.node).prefix(prefix).pool(pool)
}

#[cfg(test)]
mod replaced;
#[cfg(test)]
mod sequences;
#[cfg(test)]
mod tests;
