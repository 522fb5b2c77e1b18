//! The lifecycle of a node (DESIGN §5): announced, draining, drained, and back. Its end is in [`super::end`].

use std::time::Duration;

use sextant_proto::{Epoch, NodeId, NodeName, NodeState, Prefix, Revision, Uplink};

use super::{
    CATCH_UP, Claims, NodeStatus,
    node_status::{Judged, Lost, unknown_history},
};
use crate::{
    audit::{Event, What},
    index::View,
    records::{NodeRecord, Record, unix_ms},
    registry::{Guard, Op, Outcome, RegistryError, Txn},
};

/// The attempts of a change against concurrent changes of the same node.
pub(super) const ATTEMPTS: u32 = 8;

/// Why a node may not act for a claim.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// The claim has ended, or belongs to another node.
    #[error("{0}")]
    Fenced(String),
    /// Concurrent changes of the node won each time.
    #[error("{ATTEMPTS} attempts to change node {0} collided with concurrent changes; try again")]
    Contended(NodeName),
    /// The store did not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Why a node cannot be drained or undrained.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// No such node.
    #[error("node \"{0}\" does not exist; see `sextant node list`")]
    Unknown(NodeName),
    /// The wrong state.
    #[error("node {node} is {state}; {fix}")]
    State {
        /// The node.
        node: NodeName,
        /// Its state.
        state: NodeState,
        /// The fix.
        fix: &'static str,
    },
    /// The change failed.
    #[error(transparent)]
    Holder(#[from] HolderError),
}

/// The holder of a claim, as reported by its agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub node: NodeName,
    /// Its id.
    pub node_id: NodeId,
    /// The epoch of its claim.
    pub epoch: Epoch,
}

/// The result of a change of a node.
enum Step<T> {
    /// Replace the record by this one.
    Put(Box<NodeRecord>),
    /// Nothing to do.
    Done(T),
}

impl Claims {
    /// Checks in the store that `holder` holds its claim (DESIGN I3).
    ///
    /// # Errors
    /// [`HolderError::Fenced`] with the reason if it does not.
    pub async fn verify(&self, holder: &Holder) -> Result<View<NodeRecord>, HolderError> {
        Ok(self.verified(holder).await?.0)
    }

    /// As [`Self::verify`]; returns the whole read.
    pub(super) async fn verified(
        &self,
        holder: &Holder,
    ) -> Result<(View<NodeRecord>, NodeStatus), HolderError> {
        let status = self.node_status(&holder.node).await?;
        if let Some(node) = held(&status, holder)? {
            return Ok((node.clone(), status));
        }
        let (judged, status) = self.judge(&holder.node, holder.node_id, holder.epoch).await?;
        let lost = match status.holds(holder.node_id, holder.epoch) {
            Ok(node) => return Ok((node.clone(), status)),
            Err(lost) => lost,
        };
        match judged {
            // The next claim request decides.
            Judged::Waiting | Judged::Alone => Err(unknown_history().into()),
            Judged::Fenced => {
                let why = match lost {
                    Lost::Name(id, _) => format!("its name belongs to node id {id}"),
                    Lost::Claim(why) => why,
                };
                Err(HolderError::Fenced(format!("node {}: {why}", holder.node)))
            }
        }
    }

    /// The host is set up: a joining node becomes ready. A draining or drained node stays so. `session` is put in the same
    /// transaction, so that peers are notified of both at once. Writes nothing if nothing has changed (DESIGN I8).
    ///
    /// # Errors
    /// A [`HolderError`]; being fenced among them.
    pub async fn announce(
        &self,
        holder: &Holder,
        uplinks: Vec<Uplink>,
        container_prefix: Option<Prefix>,
        session: Option<Op>,
    ) -> Result<(), HolderError> {
        let announced = |node: &NodeRecord| {
            let mut next =
                NodeRecord { uplinks: uplinks.clone(), container_prefix, stopped_unix_ms: 0, ..node.clone() };
            if next.state == NodeState::Joining {
                enter(&mut next, NodeState::Ready);
            }
            next
        };
        if self.announce_by_the_index(holder, &announced, session.clone()).await? {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let node = self.verify(holder).await?;
            let (ops, guard) = self.announcement(holder, &node, &announced(&node.record), session.clone());
            if ops.is_empty() || self.try_commit(Txn { guards: vec![guard], ops }).await?.is_some() {
                return Ok(());
            }
        }
        Err(HolderError::Contended(holder.node.clone()))
    }

    /// Uses the index instead of a read of the store: guards check that node and claim are unchanged. `false` if
    /// they have changed, or if there is nothing to write.
    async fn announce_by_the_index(
        &self,
        holder: &Holder,
        announced: impl Fn(&NodeRecord) -> NodeRecord,
        session: Option<Op>,
    ) -> Result<bool, HolderError> {
        let Some((node, claim)) = self.held_by_the_index(holder) else {
            return Ok(false);
        };
        let (ops, guard) = self.announcement(holder, &node, &announced(&node.record), session);
        let claim = Guard::Unchanged(self.keys.claim(node.record.prefix), claim);
        Ok(!ops.is_empty() && self.try_commit(Txn { guards: vec![guard, claim], ops }).await?.is_some())
    }

    /// The holder's node and the modify revision of its claim, if it holds it by the index.
    fn held_by_the_index(&self, holder: &Holder) -> Option<(View<NodeRecord>, Revision)> {
        self.index.read(|state| {
            let node =
                state.nodes().get(&holder.node).filter(|node| node.record.node_id == holder.node_id)?;
            let claim = state.claims().get(&node.record.prefix)?;
            let epoch = Epoch { incarnation: state.meta().incarnation, revision: claim.created };
            (epoch == holder.epoch).then(|| (node.clone(), claim.modified))
        })
    }

    /// The operations and the guards of an announcement.
    fn announcement(
        &self,
        holder: &Holder,
        node: &View<NodeRecord>,
        next: &NodeRecord,
        session: Option<Op>,
    ) -> (Vec<Op>, Guard) {
        let key = self.keys.node(&holder.node);
        let news = (*next != node.record).then(|| Op::put(key.clone(), next.encode()));
        let is_ready = next.state != node.record.state;
        let what = if is_ready { What::Ready } else { What::Announced };
        let noted = news.is_some().then(|| self.note(of_node(what, &holder.node, next)));
        (news.into_iter().chain(noted).chain(session).collect(), Guard::Unchanged(key, node.modified))
    }

    /// The host of a draining node has withdrawn its routes.
    ///
    /// # Errors
    /// A [`HolderError`]; being fenced among them.
    pub async fn drained(&self, holder: &Holder, laggards: Vec<String>) -> Result<(), HolderError> {
        let drained = |node: &NodeRecord| {
            if node.state != NodeState::Draining {
                return Step::Done(());
            }
            let mut next = NodeRecord { laggards: laggards.clone(), ..node.clone() };
            enter(&mut next, NodeState::Drained);
            Step::Put(Box::new(next))
        };
        self.change_held(holder, drained).await.map(|_| ())
    }

    /// Makes all peers withdraw a node's routes. A draining or drained node stays so.
    ///
    /// # Errors
    /// A [`DrainError`].
    pub async fn drain(&self, name: &NodeName, timeout: Duration) -> Result<Revision, DrainError> {
        let drain = |node: &NodeRecord| match node.state {
            NodeState::Draining | NodeState::Drained => Ok(None),
            NodeState::Joining => {
                Err("it is not announced yet, so no peer routes to it; try again once it is ready")
            }
            NodeState::Ready => {
                let mut next = NodeRecord { drain_timeout: timeout, laggards: Vec::new(), ..node.clone() };
                enter(&mut next, NodeState::Draining);
                Ok(Some(next))
            }
        };
        self.change_named(name, drain).await
    }

    /// Brings a drained node back: it sets up its host again, and announces itself.
    ///
    /// # Errors
    /// A [`DrainError`].
    pub async fn undrain(&self, name: &NodeName) -> Result<Revision, DrainError> {
        let undrain = |node: &NodeRecord| match node.state {
            NodeState::Joining => Ok(None),
            NodeState::Ready => Err("it is not drained, nothing to undo"),
            NodeState::Draining | NodeState::Drained => {
                let mut next = NodeRecord { laggards: Vec::new(), ..node.clone() };
                enter(&mut next, NodeState::Joining);
                Ok(Some(next))
            }
        };
        self.change_named(name, undrain).await
    }

    async fn change_held(
        &self,
        holder: &Holder,
        step: impl Fn(&NodeRecord) -> Step<()>,
    ) -> Result<Revision, HolderError> {
        for _ in 0..ATTEMPTS {
            let node = self.verify(holder).await?;
            let next = match step(&node.record) {
                Step::Done(()) => return Ok(node.modified),
                Step::Put(next) => next,
            };
            if let Some(revision) = self.replace(&holder.node, &node, &next).await? {
                return Ok(revision);
            }
        }
        Err(HolderError::Contended(holder.node.clone()))
    }

    async fn change_named(
        &self,
        name: &NodeName,
        step: impl Fn(&NodeRecord) -> Result<Option<NodeRecord>, &'static str>,
    ) -> Result<Revision, DrainError> {
        for _ in 0..ATTEMPTS {
            let status = self.node_status(name).await.map_err(HolderError::from)?;
            let node = status.node.ok_or_else(|| DrainError::Unknown(name.clone()))?;
            let next = step(&node.record);
            let refused = |fix| DrainError::State { node: name.clone(), state: node.record.state, fix };
            let Some(next) = next.map_err(refused)? else {
                return Ok(node.modified);
            };
            if let Some(revision) = self.replace(name, &node, &next).await? {
                return Ok(revision);
            }
        }
        Err(HolderError::Contended(name.clone()).into())
    }

    async fn replace(
        &self,
        name: &NodeName,
        node: &View<NodeRecord>,
        next: &NodeRecord,
    ) -> Result<Option<Revision>, HolderError> {
        let key = self.keys.node(name);
        let guards = vec![Guard::Unchanged(key.clone(), node.modified)];
        let what = match next.state {
            NodeState::Draining => What::Draining,
            NodeState::Drained => What::Drained,
            NodeState::Joining => What::Undrained,
            NodeState::Ready => What::Ready,
        };
        let ops = vec![Op::put(key, next.encode()), self.note(of_node(what, name, next))];
        self.try_commit(Txn { guards, ops }).await
    }

    /// `None`: a guard did not hold or the outcome is unknown; read again and retry.
    pub(super) async fn try_commit(&self, txn: Txn) -> Result<Option<Revision>, HolderError> {
        Ok(self.commit_seen(txn).await?)
    }

    /// As [`Self::try_commit`]. Also refused if the index belongs to another store.
    pub(super) async fn commit_seen(&self, mut txn: Txn) -> Result<Option<Revision>, RegistryError> {
        self.index.read(|state| txn.guards.extend(state.same_store()));
        match self.registry.commit(txn).await {
            Ok(Outcome::Committed(revision)) => {
                self.index.reaches(revision, CATCH_UP).await;
                Ok(Some(revision))
            }
            Ok(Outcome::Refused(_)) | Err(RegistryError::Unknown(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The holder's node, if it holds its claim by `status`. An epoch of another store proves nothing here: its holder must
/// claim again, and is not fenced.
fn held<'a>(status: &'a NodeStatus, holder: &Holder) -> Result<Option<&'a View<NodeRecord>>, RegistryError> {
    let here = status.meta.incarnation;
    if holder.epoch.incarnation != here {
        return Err(RegistryError::Unavailable(format!(
            "the store was replaced, its incarnation is {here}: claim again"
        )));
    }
    Ok(status.holds(holder.node_id, holder.epoch).ok())
}

pub(super) fn of_node(what: What, name: &NodeName, node: &NodeRecord) -> Event {
    let event = Event::new(what).node(name).prefix(node.prefix).pool(&node.pool);
    if node.laggards.is_empty() {
        event
    } else {
        event.detail(format!("not withdrawn in time: {}", node.laggards.join(", ")))
    }
}

fn enter(node: &mut NodeRecord, state: NodeState) {
    node.state = state;
    node.since_unix_ms = unix_ms();
}
