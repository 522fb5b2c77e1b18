//! A backup file: the persistent content of a store, its format ([`Backup::encode`], [`Backup::decode`]), and writing it.
//!
//! The controller makes backups and restores them; the command line writes and reads the files.

#![warn(missing_docs)]

mod format;
mod whole;

use prost::Message;
use sextant_proto::{Incarnation, Revision, store::v1 as stored};

pub use format::FileError;
pub use whole::{Existing, UNFINISHED, write};

/// The content of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The version of Sextant that wrote it.
    pub version: String,
    /// The cluster's name.
    pub cluster: String,
    /// The name of its store.
    pub store: String,
    /// The incarnation of the store.
    pub incarnation: Incarnation,
    /// The revision of the store.
    pub revision: Revision,
    /// The time of the backup.
    pub unix_ms: u64,
    /// All persistent entries, in key order.
    pub entries: Vec<Kept>,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The key, relative to the cluster's root.
    pub key: String,
    /// Its value.
    pub value: bytes::Bytes,
    /// Its create revision.
    pub created: Revision,
}

impl Backup {
    /// The number of claims.
    pub fn claims(&self) -> usize {
        self.entries.iter().filter(|entry| entry.key.starts_with("claims/")).count()
    }

    /// Whether a node's record in it has the form for claims in several pools: versions before those cannot read it.
    pub fn has_several_claims(&self) -> bool {
        let several =
            |entry: &Kept| stored::Node::decode(&entry.value[..]).is_ok_and(|node| !node.claims.is_empty());
        self.entries.iter().filter(|entry| entry.key.starts_with("nodes/")).any(several)
    }
}
