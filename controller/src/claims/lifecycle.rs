//! The lifecycle of a node (DESIGN §5): announced, draining, drained, and back. Its end is in [`super::end`].

use std::time::Duration;

use sextant_proto::{Epoch, NodeId, NodeName, NodeState, PoolName, Prefix, Revision, Uplink};

use super::{
    CATCH_UP, Claims, Copied, NodeStatus,
    node_status::{Judged, Lost, unknown_history},
    rename::has_new_name,
};
use crate::{
    audit::{Event, What},
    format,
    index::View,
    records::{HeldClaim, NodeRecord},
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
    /// The claim is that of another node.
    #[error(transparent)]
    Copied(Box<Copied>),
    /// A container prefix is not part of its claim.
    #[error(
        "node {node} announces the container prefix {container}, which is not inside its host prefix {host}; nothing of the \
         announcement is taken"
    )]
    Outside {
        /// The node.
        node: NodeName,
        /// The container prefix.
        container: Prefix,
        /// The host prefix of the claim that it is announced for.
        host: Prefix,
    },
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
    /// The epoch of a claim of it.
    pub epoch: Epoch,
}

/// A holder, as it is in the store.
#[derive(Debug)]
pub struct Verified {
    /// Its node.
    pub node: View<NodeRecord>,
    pub(super) status: NodeStatus,
}

/// What a host has set up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announcement {
    /// Its interfaces towards the other hosts.
    pub uplinks: Vec<Uplink>,
    /// The claims that it is set up for. Peers do not route to the node for its other claims.
    pub claims: Vec<AnnouncedClaim>,
    /// The order of its agent's pools; empty if that does not tell it.
    pub pool_order: Vec<PoolName>,
}

/// A claim that a host is set up for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedClaim {
    /// Since when it is held.
    pub epoch: Epoch,
    /// The prefixes of the host's containers.
    pub container_prefixes: Vec<Prefix>,
}

/// Since when a node holds the claim of each host prefix.
type Held = Vec<(Prefix, Epoch)>;

impl Announcement {
    /// The node once this is announced. A draining or drained node stays so.
    fn announced(&self, name: &NodeName, node: &NodeRecord, held: &Held) -> Result<NodeRecord, HolderError> {
        let next = NodeRecord { uplinks: self.uplinks.clone(), stopped_unix_ms: 0, ..node.clone() };
        let mut next = next.in_order(&self.pool_order);
        for claim in &mut next.claims {
            let epoch = held.iter().find(|(prefix, _)| *prefix == claim.prefix).map(|(_, epoch)| *epoch);
            let announced = self.claims.iter().find(|announced| Some(announced.epoch) == epoch);
            claim.announced = announced.is_some();
            claim.container_prefixes = announced.map(|it| it.container_prefixes.clone()).unwrap_or_default();
            let host = claim.prefix;
            if let Some(&container) = claim.container_prefixes.iter().find(|it| !host.covers(**it)) {
                return Err(HolderError::Outside { node: name.clone(), container, host });
            }
        }
        let any = next.claims.iter().any(|claim| claim.announced);
        match next.state {
            NodeState::Joining if any => next.enter(NodeState::Ready),
            NodeState::Ready if !any => next.enter(NodeState::Joining),
            _ => {}
        }
        Ok(next)
    }
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
        Ok(self.verified(holder).await?.node)
    }

    /// As [`Self::verify`], without a read of the store where the index has the claim already.
    ///
    /// # Errors
    /// As there.
    pub async fn verify_by_the_index(&self, holder: &Holder) -> Result<(), HolderError> {
        match self.held_by_the_index(holder) {
            Some(_) => Ok(()),
            None => self.verify(holder).await.map(|_| ()),
        }
    }

    /// As [`Self::verify`]; returns the whole read.
    pub(super) async fn verified(&self, holder: &Holder) -> Result<Verified, HolderError> {
        let status = self.node_status(&holder.node).await?;
        of_this_store(&status, holder)?;
        if let Some(verified) = verified(status, holder) {
            return Ok(verified);
        }
        let (judged, status) = self.judge(holder, None).await?;
        let lost = status.holds(holder.node_id, holder.epoch).err();
        match (lost, judged) {
            (None, _) => verified(status, holder).ok_or_else(|| HolderError::Contended(holder.node.clone())),
            (Some(_), Judged::Renamed(now)) => Err(has_new_name(&holder.node, &now).into()),
            (Some(_), Judged::Copied(copied)) => Err(HolderError::Copied(copied)),
            // The next claim request decides.
            (Some(_), Judged::Waiting | Judged::Alone) => Err(unknown_history().into()),
            (Some(lost), Judged::Fenced) => {
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
        announcement: &Announcement,
        session: Option<Op>,
    ) -> Result<(), HolderError> {
        if self.announce_by_the_index(holder, announcement, session.clone()).await? {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let Verified { node, status } = self.verified(holder).await?;
            let held = status.holdings().map(|it| (it.held.prefix, status.epoch_of(it))).collect();
            let next = announcement.announced(&holder.node, &node.record, &held)?;
            let txn = self.announcement(holder, &node, &next, session.clone());
            if txn.ops.is_empty() || self.try_commit(txn).await?.is_some() {
                return Ok(());
            }
        }
        Err(HolderError::Contended(holder.node.clone()))
    }

    /// Uses the index instead of a read of the store: a guard checks that the node, and so its claims, are unchanged. `false` if
    /// they have changed, or if there is nothing to write.
    async fn announce_by_the_index(
        &self,
        holder: &Holder,
        announcement: &Announcement,
        session: Option<Op>,
    ) -> Result<bool, HolderError> {
        let Some((node, held)) = self.held_by_the_index(holder) else {
            return Ok(false);
        };
        let next = announcement.announced(&holder.node, &node.record, &held)?;
        let txn = self.announcement(holder, &node, &next, session);
        Ok(!txn.ops.is_empty() && self.try_commit(txn).await?.is_some())
    }

    /// The holder's node and its claims, if it holds its claim by the index.
    fn held_by_the_index(&self, holder: &Holder) -> Option<(View<NodeRecord>, Held)> {
        self.index.read(|state| {
            let node =
                state.nodes().get(&holder.node).filter(|node| node.record.node_id == holder.node_id)?;
            let epoch = |revision| Epoch { incarnation: state.meta().incarnation, revision };
            let claims = state.peers().get(&holder.node)?.claims.iter();
            let held: Held = claims.map(|claim| (claim.prefix, epoch(claim.claimed))).collect();
            let holds = held.iter().any(|(_, epoch)| *epoch == holder.epoch);
            holds.then(|| (node.clone(), held))
        })
    }

    /// The transaction of an announcement; without operations if nothing has changed.
    fn announcement(
        &self,
        holder: &Holder,
        node: &View<NodeRecord>,
        next: &NodeRecord,
        session: Option<Op>,
    ) -> Txn {
        let key = self.keys.node(&holder.node);
        let mut guards = vec![Guard::Unchanged(key.clone(), node.modified)];
        if *next == node.record {
            return Txn { guards, ops: session.into_iter().collect() };
        }
        let was =
            |claim: &HeldClaim| node.record.claim_of(claim.prefix).map(|claim| node.record.state_for(claim));
        let is_ready = |claim: &&HeldClaim| {
            next.state_for(claim) == NodeState::Ready && was(claim) != Some(NodeState::Ready)
        };
        let ready = next.claims.iter().filter(is_ready);
        let mut notes: Vec<_> =
            ready.map(|claim| self.note(of_claim(What::Ready, &holder.node, next, claim))).collect();
        if notes.is_empty() {
            notes.push(self.note(of_node(What::Announced, &holder.node, next)));
        }
        let put = self.index.read(|state| format::put(state, &self.keys, &holder.node, next));
        guards.extend(put.guards);
        Txn { guards, ops: put.ops.into_iter().chain(notes).chain(session).collect() }
    }

    /// The host of a draining node has withdrawn its routes.
    ///
    /// # Errors
    /// A [`HolderError`]; being fenced among them.
    pub async fn drained(&self, holder: &Holder, laggards: Vec<NodeName>) -> Result<(), HolderError> {
        let laggards: Vec<_> = laggards.iter().map(ToString::to_string).collect();
        let drained = |node: &NodeRecord| {
            if node.state != NodeState::Draining {
                return Step::Done(());
            }
            let mut next = NodeRecord { laggards: laggards.clone(), ..node.clone() };
            next.enter(NodeState::Drained);
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
                next.enter(NodeState::Draining);
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
                next.enter(NodeState::Joining);
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
        let unchanged = Guard::Unchanged(self.keys.node(name), node.modified);
        let what = match next.state {
            NodeState::Draining => What::Draining,
            NodeState::Drained => What::Drained,
            NodeState::Joining => What::Undrained,
            NodeState::Ready => What::Ready,
        };
        let mut put = self.index.read(|state| format::put(state, &self.keys, name, next));
        put.guards.push(unchanged);
        put.ops.push(self.note(of_node(what, name, next)));
        self.try_commit(put).await
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

/// An epoch of another store proves nothing here: its holder must claim again, and is not fenced.
fn of_this_store(status: &NodeStatus, holder: &Holder) -> Result<(), RegistryError> {
    let here = status.meta.incarnation;
    if holder.epoch.incarnation == here {
        return Ok(());
    }
    Err(RegistryError::Unavailable(format!("the store was replaced, its incarnation is {here}: claim again")))
}

/// The holder, if it holds its claim by `status`.
fn verified(status: NodeStatus, holder: &Holder) -> Option<Verified> {
    let holds = status.holds(holder.node_id, holder.epoch).is_ok();
    let node = status.node.clone().filter(|_| holds)?;
    Some(Verified { node, status })
}

/// An event of a node, with its primary claim; the others are in the details.
pub(crate) fn of_node(what: What, name: &NodeName, node: &NodeRecord) -> Event {
    let Some((primary, others)) = node.claims.split_first() else { return Event::new(what).node(name) };
    let event = of_claim(what, name, node, primary);
    if others.is_empty() {
        return event;
    }
    let other = |claim: &HeldClaim| format!("{} in pool {}", claim.prefix, claim.pool);
    event.detail(format!("also {}", others.iter().map(other).collect::<Vec<_>>().join(", ")))
}

/// An event of one claim of a node.
pub(super) fn of_claim(what: What, name: &NodeName, node: &NodeRecord, claim: &HeldClaim) -> Event {
    let event = Event::new(what).node(name).prefix(claim.prefix).pool(&claim.pool);
    match what {
        What::Drained if !node.laggards.is_empty() => {
            event.detail(format!("not withdrawn in time: {}", node.laggards.join(", ")))
        }
        _ => event,
    }
}
