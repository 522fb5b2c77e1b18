//! Checks whether claims were lost, doubled or taken over (DESIGN I1–I3), by the answers to claimers and the store's content.
//!
//! | part | owns |
//! |---|---|
//! | here | the types of a history (pure) |
//! | [`check`] | violations in a history (pure) |
//! | `holding`, `sweep` | the time during which a claim was surely held, and overlaps (pure) |
//! | [`recorder`] | recording a history |
//! | [`stored`] | the store's content at the end |
//! | [`claimers`] | 64 claimers at real controllers, by gRPC |
//! | [`faults`] | controllers and etcd members, and their faults |
//! | [`run`] | the whole run |
//!
//! A missing or inconclusive answer is *unknown*: the request may have taken effect, may take effect later, or never. The
//! checker reports only violations that no such outcome explains.

pub mod check;
pub mod claimers;
pub mod faults;
mod holding;
pub mod recorder;
mod release;
pub mod run;
pub mod stored;
mod sweep;

use sextant_proto::{NodeId, NodeName, PoolName, Prefix, Revision};

/// A point in the order in which the claimers saw things happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

/// What a claimer asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A prefix of a pool for the node, which may name the claim that it holds there.
    Claim {
        /// The pool.
        pool: PoolName,
        /// The epoch of the claim that it holds.
        held: Option<Revision>,
    },
    /// The end of the node's claim in a pool, or of all its claims.
    Forget(Option<PoolName>),
    /// The end of all claims of the node that holds this one.
    Release(Revision),
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The node holds this prefix.
    Granted {
        /// The prefix.
        prefix: Prefix,
        /// Its pool.
        pool: PoolName,
        /// Since when: the claim's create revision.
        epoch: Revision,
    },
    /// The claim that the request named has ended.
    Fenced,
    /// The node or its claim has ended; at this revision, if known.
    Ended(Option<Revision>),
    /// Refused for this reason.
    Refused(String),
    /// No answer, or an inconclusive one.
    Unknown(String),
}

/// A request and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// For which node.
    pub node: NodeName,
    /// The id of the node that asked.
    pub node_id: NodeId,
    /// What.
    pub asked: Asked,
    /// When it was asked.
    pub from: Moment,
    /// When the answer was there. What is unknown may happen later too.
    pub to: Moment,
    /// The answer.
    pub answer: Answer,
}

/// A claim as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredClaim {
    /// Of what.
    pub prefix: Prefix,
    /// From which pool.
    pub pool: PoolName,
    /// Whose, by name.
    pub node: NodeName,
    /// Whose, by id.
    pub node_id: NodeId,
    /// The revision that made it.
    pub epoch: Revision,
}

/// A claim in a node's record, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredNode {
    /// Its name.
    pub node: NodeName,
    /// Its id.
    pub node_id: NodeId,
    /// What it holds.
    pub prefix: Prefix,
    /// From which pool.
    pub pool: PoolName,
}

/// What the store holds, read after everything was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// All claims.
    pub claims: Vec<StoredClaim>,
    /// All claims in the records of nodes.
    pub nodes: Vec<StoredNode>,
}

impl Operation {
    /// Whether it asked for a claim's end, and may have got it.
    fn may_end_a_claim(&self) -> bool {
        let asked = matches!(self.asked, Asked::Forget(_) | Asked::Release(_));
        asked && matches!(self.answer, Answer::Ended(_) | Answer::Unknown(_))
    }

    /// When it can no longer have any effect.
    fn over(&self) -> Moment {
        if matches!(self.answer, Answer::Unknown(_)) { Moment(u64::MAX) } else { self.to }
    }
}
