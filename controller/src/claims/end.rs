//! The end of a claim: by an operator, by hold-down, or released by its node. Never while it is in use, unless forced.

use sextant_proto::{NodeName, NodeState, PoolName, Prefix, Revision, counted};

use super::{
    Claims, Forgotten, NodeStatus,
    forget::refusal,
    lifecycle::{ATTEMPTS, Holder, HolderError, Verified, of_claim},
    listed,
};
use crate::{
    audit::What,
    format,
    records::{self, Record, VerdictRecord},
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
         once `sextant node list` shows its agent as stopped or down. With --force all peers withdraw {} at once: its \
         containers lose {}, and the host claims again",
        listed(.prefixes), lost(*.all)
    )]
    Up {
        /// The node.
        node: NodeName,
        /// The prefixes of the claims.
        prefixes: Vec<Prefix>,
        /// They are all that the node holds.
        all: bool,
    },
    /// Its host forwards without its agent.
    #[error(
        "node {node} still forwards: its agent is {}, but its host answers its peers; shut the host down, or start \
         sextant-agent there and drain it. With --force all peers withdraw {}, and the next node that claims it has \
         addresses that this host's containers still use",
        if *.stopped { "stopped" } else { "down" }, listed(.prefixes)
    )]
    Forwarding {
        /// The node.
        node: NodeName,
        /// The prefixes of the claims.
        prefixes: Vec<Prefix>,
        /// Its agent was stopped, and not lost.
        stopped: bool,
    },
    /// Too many nodes were forgotten recently.
    #[error("{}", refusal(.tally, *.more, *.nodes))]
    Brake {
        /// The state of the window.
        tally: Tally,
        /// How many more claims were to end.
        more: usize,
        /// Of how many nodes.
        nodes: usize,
    },
    /// The confirmed number differs.
    #[error("--confirm {confirmed}, but the command names {}; confirm exactly that number", counted(*.named, "node"))]
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
    /// The node has no claim in this pool.
    #[error("node {node} holds no claim in pool {pool}; it holds {}", listed(.prefixes))]
    NoClaim {
        /// The node.
        node: NodeName,
        /// The pool.
        pool: PoolName,
        /// What it holds.
        prefixes: Vec<Prefix>,
    },
    /// The change failed.
    #[error(transparent)]
    Holder(#[from] HolderError),
}

/// What containers lose with `all` prefixes of their host, or with some of them.
fn lost(all: bool) -> &'static str {
    if all {
        "every connection"
    } else {
        "the connections of addresses in it; the host's other prefixes stay"
    }
}

/// Which claims of a node are to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// All of them: the node is forgotten.
    Node,
    /// The one in a pool.
    Pool(&'a PoolName),
}

impl Claims {
    /// Ends the claims of a node that has no agent and that no peer sees forwarding; with `force`, of any node.
    ///
    /// # Errors
    /// A [`ForgetError`].
    pub async fn forget(&self, name: &NodeName, force: bool) -> Result<(Vec<Prefix>, Revision), ForgetError> {
        self.end_named(name, What::Forgotten, force).await
    }

    /// Ends the claims of a node that has been down for `hold_down`.
    ///
    /// # Errors
    /// A [`ForgetError`].
    pub async fn hold_down(&self, name: &NodeName) -> Result<(Vec<Prefix>, Revision), ForgetError> {
        self.end_named(name, What::HeldDown, false).await
    }

    async fn end_named(
        &self,
        name: &NodeName,
        what: What,
        force: bool,
    ) -> Result<(Vec<Prefix>, Revision), ForgetError> {
        let Forgotten { mut ended, revision } =
            self.end_all(std::slice::from_ref(name), Scope::Node, what, force, false).await?;
        Ok((ended.pop().map(|(_, prefixes)| prefixes).unwrap_or_default(), revision))
    }

    /// Guards that hold while a node is revoked, or has no agent and no peer sees its host forwarding, from `status` with the node's
    /// session and verdicts.
    pub(super) fn is_gone(
        &self,
        name: &NodeName,
        prefixes: &[Prefix],
        status: &NodeStatus,
    ) -> Result<Vec<Guard>, ForgetError> {
        let [sessions, verdicts] = status.more.as_slice() else {
            unreachable!("a session and verdicts were asked for");
        };
        // Its agent cannot come back, and its host may go on forwarding.
        let denied = self.index.read(|state| state.denials().get(name).map(|denial| denial.modified));
        if let Some(denied) = denied {
            return Ok(vec![Guard::Unchanged(self.keys.denial(name), denied)]);
        }
        if !sessions.is_empty() {
            let held = status.node.as_ref().map_or(0, |node| node.record.claims.len());
            let all = prefixes.len() == held;
            return Err(ForgetError::Up { node: name.clone(), prefixes: prefixes.to_vec(), all });
        }
        let records = verdicts.iter().filter_map(|entry| VerdictRecord::decode(&entry.value).ok());
        if records::seen(&records.collect::<Vec<_>>()).is_some_and(|seen| seen.forwarding) {
            let stopped = status.node.as_ref().is_some_and(|node| node.record.stopped_unix_ms > 0);
            return Err(ForgetError::Forwarding { node: name.clone(), prefixes: prefixes.to_vec(), stopped });
        }
        let mut guards = vec![Guard::Absent(self.keys.session(name))];
        if verdicts.is_empty() {
            guards.push(Guard::RangeAbsent(self.keys.verdicts(name)));
        }
        guards.extend(verdicts.iter().map(|entry| Guard::Unchanged(entry.key.clone(), entry.modified)));
        Ok(guards)
    }

    /// Ends the claims of a drained node, at its request.
    ///
    /// # Errors
    /// A [`HolderError`]; being fenced, or not being drained, among them.
    pub async fn release(&self, holder: &Holder) -> Result<Revision, HolderError> {
        for _ in 0..ATTEMPTS {
            let Verified { node, status, .. } = self.verified(holder).await?;
            if node.record.state != NodeState::Drained {
                let why =
                    format!("node {} is {}; drain it before it is released", holder.node, node.record.state);
                return Err(HolderError::Fenced(why));
            }
            let all = node.record.prefixes();
            if let Some(revision) = self.end(&holder.node, &status, &all, What::Released).await? {
                return Ok(revision);
            }
        }
        Err(HolderError::Contended(holder.node.clone()))
    }

    /// One attempt to end claims of a node; `None` if the node changed meanwhile or does not exist.
    pub(super) async fn end(
        &self,
        name: &NodeName,
        status: &NodeStatus,
        ended: &[Prefix],
        what: What,
    ) -> Result<Option<Revision>, HolderError> {
        let Some((guards, mut ops)) = self.ending_ops(name, status, ended, what) else { return Ok(None) };
        ops.extend(self.index.read(|state| state.lineage().ops(&self.keys, None)));
        self.try_commit(Txn { guards, ops }).await
    }

    /// Guards and operations that end claims of a node, and delete the node with its last one; `None` if it does not exist.
    pub(super) fn ending_ops(
        &self,
        name: &NodeName,
        status: &NodeStatus,
        ended: &[Prefix],
        what: What,
    ) -> Option<(Vec<Guard>, Vec<Op>)> {
        let node = status.node.as_ref()?;
        let node_key = self.keys.node(name);
        let mut guards =
            vec![status.same_meta(&self.keys), Guard::Unchanged(node_key.clone(), node.modified)];
        let mut ops = match node.record.without(ended) {
            Some(left) => {
                let put = self.index.read(|state| format::put(state, &self.keys, name, &left));
                guards.extend(put.guards);
                put.ops
            }
            None => vec![Op::Delete(node_key), Op::Delete(self.keys.doubt(name))],
        };
        let claims = node.record.claims.iter().filter(|claim| ended.contains(&claim.prefix));
        ops.extend(claims.map(|claim| self.note(of_claim(what, name, &node.record, claim))));
        for holding in status.holdings().filter(|holding| ended.contains(&holding.held.prefix)) {
            let prefix = holding.held.prefix;
            let claim_key = self.keys.claim(prefix);
            guards.push(Guard::Unchanged(claim_key.clone(), holding.claim.modified));
            ops.push(Op::Delete(claim_key));
            ops.extend(self.quarantine(prefix, name, node.record.node_id));
        }
        Some((guards, ops))
    }
}
