//! Audit: an entry in the store for each change, with its actor and time, put by the transaction of the change.
//!
//! Entries have keys under `audit/`. Their order is that of the revisions of their keys; the times in them are of wall
//! clocks. Neither agents nor the index see them: [`list`] and [`Follow`] read the store itself. [`crate::sweeper`] keeps them bounded.
//! Calls that were refused have entries too ([`refused`]).

mod follow;
mod record;
mod refused;
mod share;

use std::{fmt, sync::Arc};

use sextant_proto::{NodeName, PoolName, Prefix, Revision};

use crate::{
    keys::Keys,
    records::{Record, unix_ms},
    registry::{Entry, Op, RegistryError, SharedRegistry},
};

pub use follow::Follow;
pub use record::AuditRecord;
pub use refused::{RefusedCall, RefusedCalls};
pub use share::{principal_of, surplus};

/// Who does something, for people to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor(Arc<str>);

impl Actor {
    /// Somebody by this name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The same, where it is a node that has no certificate yet: `node h7 at …` in the place of `nobody at …`.
    pub fn naming(&self, node: &NodeName) -> Self {
        match self.0.strip_prefix("nobody") {
            Some(address) => Self::new(&format!("node {node}{address}")),
            None => self.clone(),
        }
    }

    /// A controller, of its own accord.
    pub fn controller() -> Self {
        Self::new("controller")
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A node got a new host prefix.
    Claimed,
    /// A node registered its claim of a lost store again.
    Reregistered,
    /// A node's host is set up: peers route to it.
    Ready,
    /// A node's addresses have changed.
    Announced,
    /// A node's peers withdraw.
    Draining,
    /// A node's host has withdrawn its routes.
    Drained,
    /// A drained node comes back.
    Undrained,
    /// A node's claim has ended at its own word.
    Released,
    /// A node's claim was ended by hand.
    Forgotten,
    /// A node was moved to another host prefix by hand.
    Reassigned,
    /// A node has another name.
    Renamed,
    /// A node has lost its claim to another that held the prefix later.
    Superseded,
    /// A pool is new.
    PoolAdded,
    /// A pool came back with a node that holds a prefix of it.
    PoolRestored,
    /// A node's agent was stopped.
    Stopped,
    /// A node has lost its claim: it was down for `hold_down`.
    HeldDown,
    /// A prefix is kept out, or for a node.
    Reserved,
    /// It is no longer.
    Unreserved,
    /// A pool was closed to new claims.
    PoolClosed,
    /// It was opened again.
    PoolOpened,
    /// A pool has a shorter prefix, which contains the one that it had.
    PoolGrown,
    /// A pool was removed.
    PoolRemoved,
    /// All agents' changes are frozen.
    Paused,
    /// They go on.
    Resumed,
    /// A restore has begun.
    Restoring,
    /// A restore is whole; the store is another incarnation.
    Restored,
    /// An incomplete restore was undone.
    RestoreUndone,
    /// The store was reverted to an earlier snapshot; it has a new incarnation.
    Forked,
    /// The recovery window is closed.
    RecoveryFinished,
    /// Claims without receipts count until the recovery window closes.
    UnsignedAccepted,
    /// A node did not come back before the recovery window closed.
    Silent,
    /// A call was refused.
    Refused,
    /// A node's streams and calls are refused from now on.
    Revoked,
    /// They are no longer.
    RevocationEnded,
    /// A join token was made.
    TokenCreated,
    /// A join token was ended by hand.
    TokenRevoked,
    /// A host got the certificate of its node for a join token.
    Joined,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Claimed => "claimed",
            Self::Reregistered => "re-registered",
            Self::Ready => "ready",
            Self::Announced => "announced",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Undrained => "undrained",
            Self::Released => "released",
            Self::Forgotten => "forgotten",
            Self::Reassigned => "reassigned",
            Self::Renamed => "renamed",
            Self::Superseded => "superseded",
            Self::PoolAdded => "pool added",
            Self::PoolRestored => "pool restored",
            Self::Stopped => "stopped",
            Self::HeldDown => "ended by hold-down",
            Self::Reserved => "reserved",
            Self::Unreserved => "unreserved",
            Self::PoolClosed => "pool closed",
            Self::PoolOpened => "pool opened",
            Self::PoolGrown => "pool grown",
            Self::PoolRemoved => "pool removed",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Restoring => "restoring",
            Self::Restored => "restored",
            Self::RestoreUndone => "restore undone",
            Self::Forked => "taken back to a snapshot",
            Self::RecoveryFinished => "recovery finished",
            Self::UnsignedAccepted => "unsigned claims accepted",
            Self::Silent => "silent",
            Self::Refused => "call refused",
            Self::Revoked => "revoked",
            Self::RevocationEnded => "revocation ended",
            Self::TokenCreated => "token created",
            Self::TokenRevoked => "token revoked",
            Self::Joined => "joined",
        })
    }
}

/// An entry to be written.
#[derive(Debug, Clone)]
pub struct Event {
    what: What,
    node: Option<NodeName>,
    prefix: Option<Prefix>,
    pool: Option<PoolName>,
    detail: String,
}

impl Event {
    /// An event of the kind `what`, without node, prefix, pool or detail.
    pub fn new(what: What) -> Self {
        Self { what, node: None, prefix: None, pool: None, detail: String::new() }
    }

    /// To this node.
    pub fn node(self, node: &NodeName) -> Self {
        Self { node: Some(node.clone()), ..self }
    }

    /// With this prefix.
    pub fn prefix(self, prefix: Prefix) -> Self {
        Self { prefix: Some(prefix), ..self }
    }

    /// In this pool.
    pub fn pool(self, pool: &PoolName) -> Self {
        Self { pool: Some(pool.clone()), ..self }
    }

    /// Details, after those that it has.
    pub fn detail(mut self, detail: impl AsRef<str>) -> Self {
        let separator = if self.detail.is_empty() { "" } else { "; " };
        self.detail.push_str(separator);
        self.detail.push_str(detail.as_ref());
        self
    }

    /// The operation that writes it, with the actor `by`; must be part of the transaction of the change.
    pub fn op(self, keys: &Keys, by: &Actor) -> Op {
        self.op_at(keys, by, unix_ms(), rand::random())
    }

    /// The operation that writes it at the key of this time and random number.
    fn op_at(self, keys: &Keys, by: &Actor, unix_ms: u64, random: u64) -> Op {
        let record = AuditRecord {
            unix_ms,
            what: self.what.to_string(),
            node: self.node,
            prefix: self.prefix,
            pool: self.pool,
            by: by.to_string(),
            detail: self.detail,
        };
        Op::put(keys.audit_entry(unix_ms, random), record.encode())
    }
}

/// An entry as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted {
    /// The revision of the change.
    pub revision: Revision,
    /// Its record.
    pub record: AuditRecord,
}

/// All entries, the newest last, and the revision of the store then.
///
/// # Errors
/// If the store does not answer.
pub async fn list(registry: &SharedRegistry, keys: &Keys) -> Result<(Revision, Vec<Noted>), RegistryError> {
    let listing = registry.list(&keys.audit()).await?;
    let mut noted: Vec<_> = listing.entries.iter().filter_map(noted).collect();
    // By the store's own order: clocks of several controllers differ.
    noted.sort_by_key(|noted| noted.revision);
    Ok((listing.revision, noted))
}

fn noted(entry: &Entry) -> Option<Noted> {
    match AuditRecord::decode(&entry.value) {
        Ok(record) => Some(Noted { revision: entry.created, record }),
        Err(error) => {
            tracing::warn!(key = entry.key, %error, "audit entry cannot be decoded; skipped");
            None
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
