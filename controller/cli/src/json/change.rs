//! The outcomes of commands that change or wait for something.

use serde::Serialize;
use sextant_proto::{Incarnation, NodeName, NodeState, PoolName, Prefix, Revision};

use super::status::Unregistered;
use crate::answer;

/// A pool was added, changed or removed.
#[derive(Debug, Serialize)]
pub(crate) struct PoolChanged<'a> {
    pub(crate) name: &'a PoolName,
    pub(crate) revision: Revision,
}

/// A node is draining, drained, joining or ready.
#[derive(Debug, Serialize)]
pub(crate) struct NodeChanged<'a> {
    pub(crate) name: &'a NodeName,
    pub(crate) state: NodeState,
    pub(crate) revision: Revision,
    pub(crate) laggards: &'a [NodeName],
}

/// A node is revoked, or permitted again.
#[derive(Debug, Serialize)]
pub(crate) struct NodeRevoked<'a> {
    pub(crate) name: &'a NodeName,
    pub(crate) revoked: bool,
    pub(crate) holds_claim: bool,
    pub(crate) revision: Revision,
}

/// Claims of a node ended.
#[derive(Debug, Serialize)]
pub(crate) struct ForgottenNode<'a> {
    pub(crate) name: &'a NodeName,
    pub(crate) prefix: Option<Prefix>,
    pub(crate) prefixes: &'a [Prefix],
    pub(crate) revision: Revision,
}

/// A node has another prefix.
#[derive(Debug, Serialize)]
pub(crate) struct NodeReassigned<'a> {
    pub(crate) name: &'a NodeName,
    pub(crate) pool: &'a PoolName,
    pub(crate) from: Prefix,
    pub(crate) to: Prefix,
    pub(crate) state: NodeState,
    pub(crate) revision: Revision,
    pub(crate) laggards: &'a [NodeName],
}

/// A reservation was made or ended.
#[derive(Debug, Serialize)]
pub(crate) struct ReservationChanged {
    pub(crate) prefix: Prefix,
    pub(crate) revision: Revision,
}

/// A pause began or ended.
#[derive(Debug, Serialize)]
pub(crate) struct Paused {
    pub(crate) paused: bool,
    pub(crate) revision: Revision,
}

/// A backup was written.
#[derive(Debug, Serialize)]
pub(crate) struct BackupWritten {
    pub(crate) file: String,
    pub(crate) octets: usize,
    pub(crate) claims: usize,
    pub(crate) keys: usize,
    pub(crate) incarnation: Incarnation,
    pub(crate) revision: Revision,
    pub(crate) unix_ms: u64,
}

/// A backup was restored.
#[derive(Debug, Serialize)]
pub(crate) struct Restored {
    pub(crate) incarnation: Incarnation,
    pub(crate) revision: u64,
    pub(crate) put: u64,
    pub(crate) there: u64,
}

/// A restore was undone.
#[derive(Debug, Serialize)]
pub(crate) struct Undone {
    pub(crate) deleted: u64,
}

/// Claims without receipts count until the recovery window closes.
#[derive(Debug, Serialize)]
pub(crate) struct UnsignedAccepted {
    pub(crate) accepts_unsigned: bool,
    pub(crate) revision: Revision,
}

/// The recovery window.
#[derive(Debug, Serialize)]
pub(crate) struct Recovery<'a> {
    pub(crate) recovering: bool,
    pub(crate) was_open: bool,
    pub(crate) silent: &'a [NodeName],
    pub(crate) unregistered: Vec<Unregistered<'a>>,
}

/// The progress of the live agents towards a revision.
#[derive(Debug, Serialize)]
pub(crate) struct Waited<'a> {
    revision: Revision,
    applied: u32,
    live: u32,
    done: bool,
    laggards: &'a [NodeName],
}

impl<'a> From<&'a answer::Waited> for Waited<'a> {
    fn from(it: &'a answer::Waited) -> Self {
        let answer::Waited { revision, applied, live, done, laggards } = it;
        Self { revision: *revision, applied: *applied, live: *live, done: *done, laggards }
    }
}
