//! Whether claims were ever lost, doubled or seized (DESIGN I1–I3), by what claimers were told and what the store holds.
//!
//! | part | owns |
//! |---|---|
//! | here | what a history is (pure) |
//! | [`check`] | which of them cannot be (pure) |
//! | `holding`, `sweep` | since when, and until when, who surely held what (pure) |
//! | [`recorder`] | putting one down while it happens |
//! | [`stored`] | what the store holds in the end |
//! | [`claimers`] | 64 of them at real controllers, by gRPC |
//! | [`faults`] | the controllers and etcd members, and what is done to them |
//! | [`run`] | all of it together |
//!
//! An answer that did not come, or that does not say what was done, is *unknown*: what was asked may have been done, may be
//! done yet, or never. The checker accuses only of what no such outcome explains.

pub mod check;
pub mod claimers;
pub mod faults;
mod holding;
pub mod recorder;
mod release;
pub mod run;
pub mod stored;
mod sweep;

use sextant_proto::{NodeId, NodeName, Prefix, Revision};

/// A point in the order in which the claimers saw things happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

/// What a claimer asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// A prefix for the node; it may say what it holds already.
    Claim {
        /// The epoch of that.
        held: Option<Revision>,
    },
    /// That whatever the node holds ends.
    Forget,
    /// That this claim of the node ends, and no other.
    Release(Revision),
}

/// What it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The node holds this.
    Granted {
        /// What.
        prefix: Prefix,
        /// Since when: the claim's create revision.
        epoch: Revision,
    },
    /// What it said to hold has ended.
    Fenced,
    /// The node, or its claim, is no more; at this revision, if that was told.
    Ended(Option<Revision>),
    /// It gets nothing, for this reason.
    Refused(String),
    /// No answer, or one that does not tell.
    Unknown(String),
}

/// One thing that was asked for, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// For which node.
    pub node: NodeName,
    /// By whom.
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
    /// Whose, by name.
    pub node: NodeName,
    /// Whose, by id.
    pub node_id: NodeId,
    /// The revision that made it.
    pub epoch: Revision,
}

/// A node as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredNode {
    /// Its name.
    pub node: NodeName,
    /// Its id.
    pub node_id: NodeId,
    /// What it holds.
    pub prefix: Prefix,
}

/// What the store holds, read after everything was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// All claims.
    pub claims: Vec<StoredClaim>,
    /// All nodes.
    pub nodes: Vec<StoredNode>,
}

impl Operation {
    /// Whether it asked for a claim's end, and may have got it.
    fn may_end_a_claim(&self) -> bool {
        let asked = matches!(self.asked, Asked::Forget | Asked::Release(_));
        asked && matches!(self.answer, Answer::Ended(_) | Answer::Unknown(_))
    }

    /// When it can no longer have any effect.
    fn over(&self) -> Moment {
        if matches!(self.answer, Answer::Unknown(_)) { Moment(u64::MAX) } else { self.to }
    }
}
