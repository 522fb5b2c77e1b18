//! The end of a claim: by an operator, by hold-down, or released by its node. Never while it is in use, unless forced.

use sextant_proto::{NodeName, NodeState, Prefix, Revision};

use super::{
    Claims, Forgotten, NodeStatus, decode,
    forget::refusal,
    lifecycle::{ATTEMPTS, Holder, HolderError, of_node},
};
use crate::{
    audit::What,
    records::VerdictRecord,
    registry::{Guard, Op, Txn},
    removals::Tally,
};

/// Why a node cannot be forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// No such node.
    #[error("node \"{0}\" does not exist; see `sextant node list`")]
    Unknown(NodeName),
    /// Its agent is connected, and would claim again at once.
    #[error(
        "node {node} is up: its agent is connected, or was until recently; stop the agent (or the host) first, and try again \
         once `sextant node list` shows it as down. With --force all peers withdraw {prefix} at once: its containers lose \
         every connection, and the host claims another prefix"
    )]
    Up {
        /// The node.
        node: NodeName,
        /// Its prefix.
        prefix: Prefix,
    },
    /// Its host forwards without its agent.
    #[error(
        "node {node} still forwards: its agent is lost, but its host answers its peers; shut the host down, or start \
         sextant-agent there and drain it. With --force all peers withdraw {prefix}, and the next node that claims it has \
         addresses that this host's containers still use"
    )]
    Forwarding {
        /// The node.
        node: NodeName,
        /// Its prefix.
        prefix: Prefix,
    },
    /// Too many nodes were forgotten recently.
    #[error("{}", refusal(.tally, *.more))]
    Brake {
        /// The state of the window.
        tally: Tally,
        /// How many more were to be forgotten.
        more: usize,
    },
    /// The confirmed number differs.
    #[error("--confirm {confirmed}, but {named} nodes are named; confirm exactly that number")]
    Miscounted {
        /// The confirmed number.
        confirmed: usize,
        /// How many nodes are named.
        named: usize,
    },
    /// Not all were forgotten.
    #[error("{done} of {total} nodes were forgotten, then: {cause}")]
    Interrupted {
        /// The number of forgotten nodes.
        done: usize,
        /// The number of requested nodes.
        total: usize,
        /// The error that stopped it.
        cause: Box<ForgetError>,
    },
    /// The change failed.
    #[error(transparent)]
    Holder(#[from] HolderError),
}

impl Claims {
    /// Ends the claim of a node that has no agent and that no peer sees forwarding; with `force`, of any node.
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
        let Forgotten { prefixes, revision } =
            self.end_all(std::slice::from_ref(name), what, force, false).await?;
        Ok((prefixes[0], revision))
    }

    /// Guards that hold while a node has no agent and no peer sees its host forwarding, from `status` with the node's
    /// session and verdicts.
    pub(super) fn is_gone(
        &self,
        name: &NodeName,
        prefix: Prefix,
        status: &NodeStatus,
    ) -> Result<Vec<Guard>, ForgetError> {
        let [sessions, verdicts] = status.more.as_slice() else {
            unreachable!("a session and verdicts were asked for");
        };
        if !sessions.is_empty() {
            return Err(ForgetError::Up { node: name.clone(), prefix });
        }
        if verdicts.iter().any(|entry| decode::<VerdictRecord>(entry).is_ok_and(|it| it.record.forwarding)) {
            return Err(ForgetError::Forwarding { node: name.clone(), prefix });
        }
        let mut guards = vec![Guard::Absent(self.keys.session(name))];
        if verdicts.is_empty() {
            guards.push(Guard::RangeAbsent(self.keys.verdicts(name)));
        }
        guards.extend(verdicts.iter().map(|entry| Guard::Unchanged(entry.key.clone(), entry.modified)));
        Ok(guards)
    }

    /// Ends the claim of a drained node, at its request.
    ///
    /// # Errors
    /// A [`HolderError`]; being fenced, or not being drained, among them.
    pub async fn release(&self, holder: &Holder) -> Result<Revision, HolderError> {
        for _ in 0..ATTEMPTS {
            let (node, status) = self.verified(holder).await?;
            if node.record.state != NodeState::Drained {
                let why =
                    format!("node {} is {}; drain it before it is released", holder.node, node.record.state);
                return Err(HolderError::Fenced(why));
            }
            if let Some(revision) = self.end(&holder.node, &status, What::Released, Vec::new()).await? {
                return Ok(revision);
            }
        }
        Err(HolderError::Contended(holder.node.clone()))
    }

    /// One attempt to delete a node and its claim; `None` if either changed meanwhile or the node does not exist.
    pub(super) async fn end(
        &self,
        name: &NodeName,
        status: &NodeStatus,
        what: What,
        mut guards: Vec<Guard>,
    ) -> Result<Option<Revision>, HolderError> {
        let Some((more, mut ops)) = self.ending_ops(name, status, what) else { return Ok(None) };
        guards.extend(more);
        ops.extend(self.index.read(|state| state.lineage().ops(&self.keys, None)));
        self.try_commit(Txn { guards, ops }).await
    }

    /// Guards and operations that delete a node and its claim; `None` if the node does not exist.
    pub(super) fn ending_ops(
        &self,
        name: &NodeName,
        status: &NodeStatus,
        what: What,
    ) -> Option<(Vec<Guard>, Vec<Op>)> {
        let node = status.node.as_ref()?;
        let node_key = self.keys.node(name);
        let mut guards =
            vec![status.same_meta(&self.keys), Guard::Unchanged(node_key.clone(), node.modified)];
        let mut ops = vec![Op::Delete(node_key), self.note(of_node(what, name, &node.record))];
        if let Some(claim) = &status.claim {
            let claim_key = self.keys.claim(node.record.prefix);
            guards.push(Guard::Unchanged(claim_key.clone(), claim.modified));
            ops.push(Op::Delete(claim_key));
            ops.extend(self.quarantine(node.record.prefix, name, node.record.node_id));
        }
        ops.push(Op::Delete(self.keys.doubt(name)));
        Some((guards, ops))
    }
}
