//! How a claim ends: by hand, by time, at the node's own word. Never while it is in use, unless a person insists.

use sextant_proto::{NodeName, NodeState, Prefix, Revision};

use super::{
    Claims, decode,
    life::{ATTEMPTS, Holder, HolderError, of_node},
};
use crate::{
    audit::What,
    index::View,
    records::{ClaimRecord, NodeRecord, VerdictRecord},
    registry::{Guard, KeyRange, Op, Txn},
};

/// Why a node is not forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// No such node.
    #[error("node \"{0}\" does not exist; see `sextant node list`")]
    Unknown(NodeName),
    /// Its agent is there, and would claim anew at once.
    #[error(
        "node {node} is up: its agent is connected, or was a moment ago; stop the agent (or the host) first, and try again \
         once `sextant node list` shows it as down. With --force all peers withdraw {prefix} at once: its containers lose \
         every connection, and the host claims another prefix"
    )]
    Up {
        /// The node.
        node: NodeName,
        /// What it holds.
        prefix: Prefix,
    },
    /// Its host is there without its agent.
    #[error(
        "node {node} still forwards: its agent is gone, but its host answers its peers; shut the host down, or start \
         sextant-agent there and drain it. With --force all peers withdraw {prefix}, and whoever claims it next has \
         addresses that this host's containers still use"
    )]
    Forwarding {
        /// The node.
        node: NodeName,
        /// What it holds.
        prefix: Prefix,
    },
    /// The change failed.
    #[error(transparent)]
    Holder(#[from] HolderError),
}

impl Claims {
    /// Ends the claim of a node whose agent is gone, and whose host no peer sees forwarding; with `force` of any node.
    ///
    /// # Errors
    /// A [`ForgetError`].
    pub async fn forget(&self, name: &NodeName, force: bool) -> Result<(Prefix, Revision), ForgetError> {
        self.end_named(name, What::Forgotten, force).await
    }

    /// Ends the claim of a node that has been down for `hold_down`.
    ///
    /// # Errors
    /// A [`ForgetError`].
    pub async fn hold_down(&self, name: &NodeName) -> Result<(Prefix, Revision), ForgetError> {
        self.end_named(name, What::HeldDown, false).await
    }

    async fn end_named(
        &self,
        name: &NodeName,
        what: What,
        force: bool,
    ) -> Result<(Prefix, Revision), ForgetError> {
        for _ in 0..ATTEMPTS {
            let node = self.node(name).await.map_err(HolderError::from)?;
            let node = node.ok_or_else(|| ForgetError::Unknown(name.clone()))?;
            let guards = if force { Vec::new() } else { self.is_gone(name, node.record.prefix).await? };
            if let Some(revision) = self.end(name, &node, what, guards).await? {
                return Ok((node.record.prefix, revision));
            }
        }
        Err(HolderError::Contended(name.clone()).into())
    }

    /// Guards that hold while a node's agent is gone, and no peer sees its host forwarding.
    async fn is_gone(&self, name: &NodeName, prefix: Prefix) -> Result<Vec<Guard>, ForgetError> {
        let (session, verdicts) = (self.keys.session(name), self.keys.verdicts(name));
        let sessions = self.registry.list(&KeyRange::key(&session)).await.map_err(HolderError::from)?;
        if !sessions.entries.is_empty() {
            return Err(ForgetError::Up { node: name.clone(), prefix });
        }
        let said = self.registry.list(&verdicts).await.map_err(HolderError::from)?.entries;
        if said.iter().any(|entry| decode::<VerdictRecord>(entry).is_ok_and(|it| it.record.forwarding)) {
            return Err(ForgetError::Forwarding { node: name.clone(), prefix });
        }
        let mut guards = vec![Guard::Absent(session)];
        if said.is_empty() {
            guards.push(Guard::RangeAbsent(verdicts));
        }
        guards.extend(said.into_iter().map(|entry| Guard::Unchanged(entry.key, entry.modified)));
        Ok(guards)
    }

    /// Ends the claim of a drained node, at its own word.
    ///
    /// # Errors
    /// A [`HolderError`]; being fenced, or not being drained, among them.
    pub async fn release(&self, holder: &Holder) -> Result<Revision, HolderError> {
        for _ in 0..ATTEMPTS {
            let node = self.verify(holder).await?;
            if node.record.state != NodeState::Drained {
                let why =
                    format!("node {} is {}; drain it before it is released", holder.node, node.record.state);
                return Err(HolderError::Fenced(why));
            }
            if let Some(revision) = self.end(&holder.node, &node, What::Released, Vec::new()).await? {
                return Ok(revision);
            }
        }
        Err(HolderError::Contended(holder.node.clone()))
    }

    /// One attempt to delete a node and its claim; `None` if either changed meanwhile.
    pub(super) async fn end(
        &self,
        name: &NodeName,
        node: &View<NodeRecord>,
        what: What,
        mut guards: Vec<Guard>,
    ) -> Result<Option<Revision>, HolderError> {
        let (node_key, claim_key) = (self.keys.node(name), self.keys.claim(node.record.prefix));
        let claim = self.registry.list(&KeyRange::key(&claim_key)).await?.entries.pop();
        guards.push(Guard::Unchanged(node_key.clone(), node.modified));
        let mut ops = vec![Op::Delete(node_key), self.note(of_node(what, name, &node.record))];
        if let Some(claim) = claim {
            let is_its_own = decode::<ClaimRecord>(&claim)?.record.node == *name;
            if is_its_own {
                guards.push(Guard::Unchanged(claim_key.clone(), claim.modified));
                ops.push(Op::Delete(claim_key));
                ops.extend(self.rests(node.record.prefix, name, node.record.node_id));
            }
        }
        self.try_commit(Txn { guards, ops }).await
    }
}
