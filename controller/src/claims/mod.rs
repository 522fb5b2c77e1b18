//! Claims of host prefixes, over any registry (DESIGN I1–I3).
//!
//! The index proposes; guards of transactions decide.

mod accepted;
mod allocate;
mod beside;
mod end;
mod error;
mod first;
mod forget;
mod lifecycle;
mod node_status;
mod propose;
mod quarantine;
mod reassign;
mod recovery;
mod rename;
mod unproven;

use std::{
    net::Ipv6Addr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sextant_daemon::OncePerMinute;
use sextant_proto::{Claim, Epoch, Incarnation, NodeId, NodeName, Peer, Pool, PoolName, Prefix, Revision};
use tokio::time::Instant;

use crate::{
    audit::{Actor, Event, What},
    doubts::{Doubted, Doubter, Lineage},
    format,
    index::{Index, View},
    keys::{Keys, Space},
    lineage::{self},
    records::{ClaimRecord, HeldClaim, NodeRecord, Record, unix_ms},
    registry::{Entry, Guard, Op, Outcome, RegistryError, SharedRegistry, Txn},
};

use forget::Ends;
use node_status::{Holding, Judged, Lost, unknown_history};
use propose::{Proposal, propose};
use rename::has_new_name;

pub use beside::Beside;
pub use end::{ForgetError, Scope};
pub use error::{ClaimError, Copied, listed};
pub use forget::Forgotten;
pub(crate) use lifecycle::of_node;
pub use lifecycle::{AnnouncedClaim, Announcement, DrainError, Holder, HolderError, Verified};
pub use node_status::NodeStatus;
pub use reassign::{Move, ReassignError, Reassignment, Unavailable};
pub(crate) use unproven::in_the_store;
pub use unproven::{AcceptError, Unproven};

/// The attempts of a claim against concurrent claims.
const ATTEMPTS: u32 = 16;
/// How long to wait for the index to see the cause of a refused transaction.
const CATCH_UP: Duration = Duration::from_secs(2);

/// A node's request for a prefix: of one of its claims.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// Its name.
    pub node: NodeName,
    /// Its id.
    pub node_id: NodeId,
    /// The pool it names, or the default one.
    pub pool: Option<PoolName>,
    /// The requested length of the host prefix, or the pool's. A held prefix keeps its length.
    pub host_len: Option<u32>,
    /// The claim that it reports to hold, and that counts: its receipt proves it, or no receipt is required.
    pub held: Option<Claim>,
    /// The incarnations before that of the held claim, by its receipt: claims of those are earlier ones.
    pub ancestors: Vec<Incarnation>,
    /// The claim that it reports to hold in the place of `held`, and that nothing proves.
    pub unproven: Option<Unproven>,
    /// It may hold claims in other pools at the same time. Otherwise it has one claim, in whichever pool.
    pub beside: bool,
    /// The addresses that its host's network stands on: no new prefix contains one of them.
    pub infrastructure: Vec<Ipv6Addr>,
    /// The order of its agent's pools; empty if that does not tell it.
    pub pool_order: Vec<PoolName>,
    /// Its agent takes no new prefix of a pool that is outside of these; empty: of any.
    pub accept_pools: Vec<Prefix>,
}

impl ClaimRequest {
    /// The claim that it reports to hold, whether that counts or not.
    pub fn shown(&self) -> Option<&Claim> {
        self.held.as_ref().or(self.unproven.as_ref().map(|it| &it.claim))
    }

    /// The node, with a doubt because of the claim that it shows.
    fn doubter(&self, claim: Epoch) -> Doubter<'_> {
        Doubter { node: &self.node, node_id: Some(self.node_id), claim: Some(claim) }
    }
}

/// The answer to a claim request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Granted {
    /// The node holds this.
    Claim(Claim),
    /// The reported claim has ended, for this reason: the node withdraws it, then claims without it.
    Fenced(String),
}

/// The claim logic over a registry.
#[derive(Clone)]
pub struct Claims {
    registry: SharedRegistry,
    keys: Keys,
    index: Index,
    lineage: Lineage,
    quarantine: Duration,
    /// By how many bits a requested host prefix may be shorter than the pool's.
    shorter_host_len: u32,
    by: Actor,
    ends: Arc<Ends>,
    lines: Arc<Mutex<OncePerMinute>>,
}

impl Claims {
    /// Claims in `registry`, proposed from `index`. A freed prefix is not granted again for `quarantine` while others are
    /// free.
    pub fn new(registry: SharedRegistry, keys: Keys, index: Index, quarantine: Duration) -> Self {
        let lineage = Lineage::new(registry.clone(), keys.clone(), index.clone());
        let (by, ends, lines) = (Actor::controller(), Arc::default(), Arc::default());
        let shorter_host_len = u32::MAX;
        Self { registry, keys, index, lineage, quarantine, shorter_host_len, by, ends, lines }
    }

    /// The same; a host prefix that an agent requests may be `bits` bits shorter than its pool's.
    pub fn with_shorter_host_len(self, bits: u32) -> Self {
        Self { shorter_host_len: bits, ..self }
    }

    /// The same, with `by` as the actor of its audit entries.
    pub fn by(&self, by: &Actor) -> Self {
        Self { by: by.clone(), ..self.clone() }
    }

    /// The check of the store's history against the nodes'.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// Whether a warning about this object is due; see [`OncePerMinute`].
    fn admit_line(&self, object: &str, text: &str) -> Option<u64> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.admit_of(object, text, Instant::now())
    }

    fn note(&self, event: Event) -> Op {
        event.op(&self.keys, &self.by)
    }

    /// The host prefix of a node: the held one or a new one.
    ///
    /// # Errors
    /// A [`ClaimError`] with its fix.
    pub async fn claim(&self, request: &ClaimRequest) -> Result<Granted, ClaimError> {
        for attempt in 0..ATTEMPTS {
            self.is_whole()?;
            self.rename(request).await?;
            if let Some(shown) = &request.unproven {
                return self.unproven(request, shown).await;
            }
            self.come_back(request).await?;
            // A guard of the claim checks that an unknown node holds nothing: no read is needed first.
            let is_new = attempt == 0 && request.held.is_none() && self.is_unknown(&request.node);
            if !is_new && let Some(granted) = self.held(request).await? {
                return Ok(granted);
            }
            self.restore_pool(request).await?;
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

    /// The node's claim by a linearizable read; `None` if it holds nothing and was not fenced.
    async fn held(&self, request: &ClaimRequest) -> Result<Option<Granted>, ClaimError> {
        let status = self.node_status(&request.node).await?;
        if let Some(held) = &request.held
            && let Some(doubt) = lineage::foreign(&status.meta, held.epoch.incarnation)
            && self.lineage.doubted(request.doubter(held.epoch), doubt).await == Doubted::Waiting
        {
            return Err(unknown_history().into());
        }
        match self.registration(request, &status)? {
            Registration::Granted(claim) => Ok(Some(Granted::Claim(claim))),
            Registration::Nothing => Ok(None),
            Registration::Lost(epoch, _) => self.lost(request, epoch).await,
        }
    }

    /// The node does not hold the claim that it reports. It is fenced if that ended in this store; a claim that this store never
    /// had is granted again if its prefix is free.
    async fn lost(&self, request: &ClaimRequest, epoch: Epoch) -> Result<Option<Granted>, ClaimError> {
        let holder = Holder { node: request.node.clone(), node_id: request.node_id, epoch };
        let held = request.held.as_ref().map(|held| held.prefix);
        let (judged, status) = self.judge(&holder, held).await?;
        let why = match self.registration(request, &status)? {
            Registration::Granted(claim) => return Ok(Some(Granted::Claim(claim))),
            Registration::Nothing => return Ok(None),
            Registration::Lost(_, why) => why,
        };
        if let Judged::Copied(copied) = judged {
            return Err(ClaimError::Copied(copied));
        }
        let has_another = self.wanted(request, &status).is_some();
        let is_free = !has_another && self.is_free(request);
        match judged {
            Judged::Waiting | Judged::Alone if is_free => Ok(None),
            Judged::Waiting => Err(unknown_history().into()),
            Judged::Renamed(now) => Err(has_new_name(&request.node, &now).into()),
            Judged::Fenced | Judged::Alone | Judged::Copied(_) => Ok(Some(Granted::Fenced(why))),
        }
    }

    fn is_free(&self, request: &ClaimRequest) -> bool {
        let held = request.held.as_ref().map(|held| held.prefix);
        held.is_some_and(|held| self.index.read(|state| state.holdings().claim_overlapping(held).is_none()))
    }

    /// The registration of the requesting node by `status`.
    fn registration(&self, request: &ClaimRequest, status: &NodeStatus) -> Result<Registration, ClaimError> {
        let of_here = |epoch: &Epoch| epoch.incarnation == status.meta.incarnation;
        if let Some(epoch) = request.held.as_ref().map(|held| held.epoch).filter(of_here) {
            return match status.holds(request.node_id, epoch) {
                Ok(holding) => self.claim_of(status, holding).map(Registration::Granted),
                Err(Lost::Name(holder, prefixes)) => Err(name_taken(request, holder, prefixes)),
                Err(Lost::Claim(why)) => Ok(Registration::Lost(epoch, why)),
            };
        }
        if let Some(node) = status.node.as_ref().filter(|node| node.record.node_id != request.node_id) {
            return Err(name_taken(request, node.record.node_id, node.record.prefixes()));
        }
        match self.wanted(request, status) {
            Some(holding) => self.claim_of(status, holding).map(Registration::Granted),
            None => Ok(Registration::Nothing),
        }
    }

    /// The claim that the node holds already, of those that the request may mean: that of the prefix that it reports; else the one
    /// in its pool; and of a node that has one claim, or that names no pool, whatever it holds. The pool of a claim of another store
    /// may have another name here, and its name another pool.
    fn wanted<'a>(&self, request: &ClaimRequest, status: &'a NodeStatus) -> Option<Holding<'a>> {
        let held = request.held.as_ref();
        let elsewhere = held.filter(|held| held.epoch.incarnation != status.meta.incarnation);
        let here =
            elsewhere.and_then(|held| self.index.read(|state| recovery::pool_here(state, held).cloned()));
        let named = || request.pool.clone().or_else(|| held.map(|held| held.pool.name.clone()));
        let pool = here.or_else(named);
        let of_prefix =
            status.holdings().find(|holding| Some(holding.held.prefix) == held.map(|it| it.prefix));
        let in_pool = of_prefix.or_else(|| pool.as_ref().and_then(|pool| status.holding_in(pool)));
        let any = || status.holdings().next().filter(|_| !request.beside || pool.is_none());
        in_pool.or_else(any)
    }

    fn claim_of(&self, status: &NodeStatus, holding: Holding<'_>) -> Result<Claim, ClaimError> {
        let Holding { held, pool, .. } = holding;
        let Some(pool) = pool else {
            let pools = self.index.read(|state| state.pools().keys().cloned().collect());
            return Err(ClaimError::UnknownPool { name: held.pool.clone(), pools });
        };
        Ok(granted(held.prefix, status.epoch_of(holding), pool.record.clone()))
    }

    /// One attempt at a new claim; `None` if a concurrent claim won.
    async fn try_new(&self, request: &ClaimRequest, attempt: u32) -> Result<Option<Claim>, ClaimError> {
        let Proposal { pool, prefix, reservation_set } = self
            .index
            .read(|state| propose(state, request, self.shorter_host_len, attempt))
            .map_err(|it| self.explained(request, it))?;
        self.may_hand_out(request, prefix).map_err(|it| self.explained(request, it))?;
        // If the index shows another node of this name, or is behind, a guard refuses the claim.
        let (before, has_one) = self.index.read(|state| {
            let before = state.nodes().get(&request.node).filter(|it| it.record.node_id == request.node_id);
            let claimed = state.peers().get(&request.node).filter(|_| before.is_some());
            let has_one = |peer: &Peer| !request.beside || peer.claim_in(&pool.record.name).is_some();
            (before.cloned(), claimed.is_some_and(has_one))
        });
        if has_one {
            return Ok(None);
        }
        let (incarnation, txn) = self.claim_txn(request, before.as_ref(), &pool, prefix, reservation_set);
        match self.registry.commit(txn).await {
            Ok(Outcome::Committed(revision)) => {
                let claim = granted(prefix, Epoch { incarnation, revision }, pool.record);
                if before.is_none() {
                    self.keep_one_name(request, &claim).await?;
                }
                Ok(Some(claim))
            }
            Ok(Outcome::Refused(revision)) => {
                if !self.index.reaches(revision, CATCH_UP).await {
                    // The index has stopped, or follows another store.
                    self.index.reconsider();
                }
                Ok(None)
            }
            // The next attempt reads the claim if it was committed.
            Err(RegistryError::Unknown(reason)) => {
                if let Some(suppressed) = self.admit_line("unknown outcome", &reason) {
                    tracing::warn!(
                        %prefix, node = %request.node, reason, suppressed,
                        "outcome of a claim unknown; reading the store"
                    );
                }
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn claim_txn(
        &self,
        request: &ClaimRequest,
        before: Option<&View<NodeRecord>>,
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
        let held = HeldClaim::new(prefix, pool.record.name.clone());
        let node_key = keys.node(&request.node);
        let (node, unchanged) = match before {
            Some(before) => {
                let node = before.record.with_claim(held).in_order(&request.pool_order);
                (node, Guard::Unchanged(node_key, before.modified))
            }
            None => (NodeRecord::new(request.node_id, held), Guard::Absent(node_key)),
        };
        let shortest = pool.record.prefix.len();
        let mut guards = vec![unchanged, Guard::Unchanged(keys.pool(&pool.record.name), pool.modified)];
        guards.extend(keys.nothing_overlaps(Space::Claims, prefix, shortest));
        // One guard for all reservations: the proposal is based on all of them at this revision.
        let set = keys.reservation_set();
        guards.push(match reservation_set {
            Some(revision) => Guard::Unchanged(set, revision),
            None => Guard::Absent(set),
        });
        let mut ops = vec![
            Op::put(keys.claim(prefix), claim.encode()),
            self.note(claimed(request, &pool.record.name, prefix)),
        ];
        let incarnation = self.index.read(|state| {
            guards.extend(state.same_store());
            let put = format::put(state, keys, &request.node, &node);
            guards.extend(put.guards);
            ops.extend(put.ops);
            ops.extend(state.lineage().ops(keys, Some(request.node_id)));
            state.meta().incarnation
        });
        (incarnation, Txn { guards, ops })
    }
}

/// The registration of a node in the store.
enum Registration {
    /// It holds this claim.
    Granted(Claim),
    /// It holds nothing, and reports no claim of this store.
    Nothing,
    /// It does not hold the claim of this epoch that it reports, for this reason.
    Lost(Epoch, String),
}

fn granted(prefix: Prefix, epoch: Epoch, pool: Pool) -> Claim {
    // A drain of the pool does not concern its holders.
    let pool = Pool { draining: false, ..pool };
    Claim { prefix, epoch, pool }
}

fn name_taken(request: &ClaimRequest, holder: NodeId, prefixes: Vec<Prefix>) -> ClaimError {
    ClaimError::NameTaken { node: request.node.clone(), holder, prefixes, asking: request.node_id }
}

fn granted_under(request: &ClaimRequest, former: &NodeName, node: &NodeRecord, holder: NodeId) -> ClaimError {
    ClaimError::Renamed {
        node: request.node.clone(),
        holder,
        former: former.clone(),
        prefixes: node.prefixes(),
        asking: request.node_id,
    }
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
mod address_plan;
#[cfg(test)]
mod announced;
#[cfg(test)]
mod copies;
#[cfg(test)]
mod infrastructure;
#[cfg(test)]
mod renamed;
#[cfg(test)]
mod replaced;
#[cfg(test)]
mod sequences;
#[cfg(test)]
mod several;
#[cfg(test)]
mod shown;
#[cfg(test)]
mod tests;
