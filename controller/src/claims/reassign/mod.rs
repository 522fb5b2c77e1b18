//! Moves a node to another prefix: its claim ends and the next one begins in one transaction, so that the node is never
//! without one. Peers must have withdrawn before.

mod destination;

use sextant_proto::{NodeName, NodeState, PoolName, Prefix, Revision};

use super::{
    CATCH_UP, Claims, ForgetError, HolderError, NodeStatus,
    lifecycle::{ATTEMPTS, of_claim},
    node_status::Holding,
};
use crate::{
    audit::What,
    format,
    keys::Space,
    records::{ClaimRecord, HeldClaim, Record, unix_ms},
    registry::{Guard, KeyRange, Op, RegistryError, Txn},
};

use destination::{Destination, destination};

pub use destination::Unavailable;

/// An order to move a node.
#[derive(Debug, Clone)]
pub struct Reassignment {
    /// The node.
    pub node: NodeName,
    /// The pool of the claim that moves; `None`: that of `prefix`, or of the node's only claim.
    pub pool: Option<PoolName>,
    /// The next prefix; `None`: the one that is reserved for the node, else a free one.
    pub prefix: Option<Prefix>,
}

/// The move of a node, made or planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The pool.
    pub pool: PoolName,
    /// The prefix before.
    pub from: Prefix,
    /// The prefix after; the same one if the node holds that already.
    pub to: Prefix,
    /// Peers route to `from`: the node must be drained first.
    pub in_service: bool,
    /// The node's agent is connected.
    pub connected: bool,
    /// Of the change, or of the node's record if nothing was changed.
    pub revision: Revision,
}

/// Why a node is not moved.
#[derive(Debug, thiserror::Error)]
pub enum ReassignError {
    /// No such node.
    #[error("node \"{0}\" does not exist; see `sextant node list`")]
    Unknown(NodeName),
    /// The node has no claim in this pool.
    #[error("node {node} holds no claim in pool {pool}{}; {}", .prefix.map(contains).unwrap_or_default(), held(.claims, .pool))]
    NoClaim {
        /// The node.
        node: NodeName,
        /// The pool.
        pool: PoolName,
        /// The named prefix, if that selects the pool.
        prefix: Option<Prefix>,
        /// What it holds.
        claims: Vec<(PoolName, Prefix)>,
    },
    /// The node has claims in several pools.
    #[error("node {node} holds prefixes of the pools {}; select one with --pool", super::error::list(.pools))]
    Several {
        /// The node.
        node: NodeName,
        /// The pools.
        pools: Vec<PoolName>,
    },
    /// No pool contains the prefix.
    #[error(
        "{prefix} is in no pool; node {node} has prefixes of the pools {} (sextant pool list)",
        super::error::list(.pools)
    )]
    NoPool {
        /// The named prefix.
        prefix: Prefix,
        /// The node.
        node: NodeName,
        /// Its pools.
        pools: Vec<PoolName>,
    },
    /// Peers route to it.
    #[error("node {node} is {state}, and peers may route to it; drain it first: sextant node drain {node}")]
    InService {
        /// The node.
        node: NodeName,
        /// Its state.
        state: NodeState,
    },
    /// Its host forwards without its agent.
    #[error(
        "node {0} still forwards: its agent is not connected, but its host answers its peers; start sextant-agent there, \
         and try again"
    )]
    Forwarding(NodeName),
    /// The prefix cannot be had.
    #[error(transparent)]
    Unavailable(#[from] Box<Unavailable>),
    /// No new prefix is granted at the moment.
    #[error(transparent)]
    Claim(#[from] super::ClaimError),
    /// The change failed.
    #[error(transparent)]
    Holder(#[from] HolderError),
}

fn contains(prefix: Prefix) -> String {
    format!(", which contains {prefix}")
}

/// What the node holds instead of a claim in `pool`, and how it gets one.
fn held(claims: &[(PoolName, Prefix)], pool: &PoolName) -> String {
    let claims: Vec<_> = claims.iter().map(|(pool, prefix)| format!("{prefix} of pool {pool}")).collect();
    let claims = claims.join(", ");
    format!(
        "it holds {claims}: name one of its pools or a prefix in it, or add {pool} to --pool of sextant-agent there, \
         which then claims a prefix of {pool} too"
    )
}

impl From<RegistryError> for ReassignError {
    fn from(error: RegistryError) -> Self {
        Self::Holder(error.into())
    }
}

/// A decision about a move, and what must hold for it.
struct Decision {
    planned: Move,
    destination: Option<Destination>,
    status: NodeStatus,
    guards: Vec<Guard>,
}

impl Claims {
    /// What [`Self::reassign`] would do once the node is drained. Changes nothing.
    ///
    /// # Errors
    /// A [`ReassignError`].
    pub async fn plan_reassign(&self, order: &Reassignment) -> Result<Move, ReassignError> {
        let Decision { planned, status, .. } = self.decide(order, 0).await?;
        if planned.from != planned.to && planned.in_service && !planned.connected {
            self.may_move(&planned, &order.node, NodeState::Draining, &status)?;
        }
        Ok(planned)
    }

    /// Moves a node, to which no peer routes, to another prefix of a pool, and returns it to service with that. A node that holds
    /// the named prefix already stays as it is.
    ///
    /// # Errors
    /// A [`ReassignError`]; nothing was changed.
    pub async fn reassign(&self, order: &Reassignment) -> Result<Move, ReassignError> {
        let mut tried: Option<Move> = None;
        for attempt in 0..ATTEMPTS {
            let mut decision = self.decide(order, attempt).await?;
            let revision = decision.planned.revision;
            // The outcome of the last attempt was unknown.
            if let Some(done) = tried.filter(|tried| tried.to == decision.planned.from) {
                return Ok(Move { revision, ..done });
            }
            let Some(destination) = decision.destination.take() else { return Ok(decision.planned) };
            if decision.planned.in_service {
                let state = decision.status.node.as_ref().map_or(NodeState::Ready, |node| node.record.state);
                decision.guards = self.may_move(&decision.planned, &order.node, state, &decision.status)?;
            }
            let Some(txn) = self.move_txn(&order.node, &decision, &destination) else { break };
            if let Some(revision) = self.commit_seen(txn).await? {
                return Ok(Move { revision, ..decision.planned });
            }
            tried = Some(decision.planned);
        }
        Err(HolderError::Contended(order.node.clone()).into())
    }

    async fn decide(&self, order: &Reassignment, attempt: u32) -> Result<Decision, ReassignError> {
        let name = &order.node;
        let liveness = [KeyRange::key(&self.keys.session(name)), self.keys.verdicts(name)];
        let status = self.node_status_with(name, &liveness).await?;
        let node = status.node.as_ref().ok_or_else(|| ReassignError::Unknown(name.clone()))?;
        self.catch_up().await?;
        let holding = self.moving(order, &status)?;
        let state = node.record.state_for(holding.held);
        let mut planned = Move {
            pool: holding.held.pool.clone(),
            from: holding.held.prefix,
            to: holding.held.prefix,
            in_service: matches!(state, NodeState::Ready | NodeState::Draining),
            connected: status.more.first().is_some_and(|sessions| !sessions.is_empty()),
            revision: node.modified,
        };
        let mut destination = None;
        if order.prefix != Some(planned.from) {
            self.hands_out()?;
            let found = self.index.read(|state| self::destination(state, order, &planned, attempt));
            destination = Some(found.map_err(Box::new)?);
        }
        planned.to = destination.as_ref().map_or(planned.to, |destination| destination.prefix);
        Ok(Decision { planned, destination, status, guards: Vec::new() })
    }

    /// Waits for the index to have what the store has now: it is what prefixes are chosen from.
    async fn catch_up(&self) -> Result<(), RegistryError> {
        let stored = self.registry.list(&KeyRange::key(&self.keys.meta())).await?.revision;
        self.index.reaches(stored, CATCH_UP).await;
        Ok(())
    }

    /// The claim that the order is about.
    fn moving<'a>(&self, order: &Reassignment, status: &'a NodeStatus) -> Result<Holding<'a>, ReassignError> {
        let node = &order.node;
        let pool_of = |prefix| {
            self.index.read(|state| {
                let pools = state.pools().values().map(|pool| &pool.record);
                crate::reservations::pool_of(pools, prefix).cloned()
            })
        };
        let of_prefix = || pool_of(order.prefix?);
        if let Some(pool) = order.pool.clone().or_else(of_prefix) {
            let no_claim = || ReassignError::NoClaim {
                node: node.clone(),
                pool: pool.clone(),
                prefix: order.prefix.filter(|_| order.pool.is_none()),
                claims: status.holdings().map(|it| (it.held.pool.clone(), it.held.prefix)).collect(),
            };
            return status.holding_in(&pool).ok_or_else(no_claim);
        }
        let mut all = status.holdings();
        match (all.next(), all.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(ReassignError::Unknown(node.clone())),
            _ => {
                let (node, pools) =
                    (node.clone(), status.holdings().map(|it| it.held.pool.clone()).collect());
                Err(match order.prefix {
                    Some(prefix) => ReassignError::NoPool { prefix, node, pools },
                    None => ReassignError::Several { node, pools },
                })
            }
        }
    }

    /// Guards that hold while no peer routes to a node in `state` that has not drained.
    fn may_move(
        &self,
        planned: &Move,
        name: &NodeName,
        state: NodeState,
        status: &NodeStatus,
    ) -> Result<Vec<Guard>, ReassignError> {
        let in_service = || ReassignError::InService { node: name.clone(), state };
        if state != NodeState::Draining {
            return Err(in_service());
        }
        self.is_gone(name, &[planned.from], status).map_err(|error| match error {
            ForgetError::Forwarding { .. } => ReassignError::Forwarding(name.clone()),
            _ => in_service(),
        })
    }

    /// The transaction of a move; `None` if the claim is not in the store.
    fn move_txn(&self, name: &NodeName, decision: &Decision, destination: &Destination) -> Option<Txn> {
        let Decision { planned, status, guards, .. } = decision;
        let (keys, node) = (&self.keys, status.node.as_ref()?);
        let Destination { pool, prefix, reservation_set } = destination;
        let holding = status.holding_in(&planned.pool)?;
        let held = HeldClaim::new(*prefix, planned.pool.clone());
        let next = node.record.moved(planned.from, held.clone());
        let claim = ClaimRecord {
            node: name.clone(),
            node_id: node.record.node_id,
            pool: planned.pool.clone(),
            claimed_unix_ms: unix_ms(),
            prior: None,
        };
        let mut guards = guards.clone();
        guards.extend([
            status.same_meta(keys),
            Guard::Unchanged(keys.node(name), node.modified),
            Guard::Unchanged(keys.claim(planned.from), holding.claim.modified),
            Guard::Unchanged(keys.pool(&planned.pool), pool.modified),
            match reservation_set {
                Some(revision) => Guard::Unchanged(keys.reservation_set(), *revision),
                None => Guard::Absent(keys.reservation_set()),
            },
        ]);
        guards.extend(keys.nothing_overlaps(Space::Claims, *prefix, pool.record.prefix.len()));
        let note = of_claim(What::Reassigned, name, &next, &held).detail(format!("from {}", planned.from));
        let mut ops = vec![
            Op::Delete(keys.claim(planned.from)),
            Op::put(keys.claim(*prefix), claim.encode()),
            self.note(note),
        ];
        ops.extend(self.quarantine(planned.from, name, node.record.node_id));
        self.index.read(|state| {
            let put = format::put(state, keys, name, &next);
            guards.extend(put.guards);
            ops.extend(put.ops);
            ops.extend(state.lineage().ops(keys, Some(node.record.node_id)));
        });
        Some(Txn { guards, ops })
    }
}

#[cfg(test)]
mod tests;
