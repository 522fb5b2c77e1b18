//! A backup file: the lasting content of a store, its format ([`Backup::encode`], [`Backup::decode`]), and writing it.
//!
//! The controller makes backups and restores them; the command line writes and reads the files.

#![warn(missing_docs)]

mod format;
mod whole;

use sextant_proto::{Incarnation, Revision};

pub use format::FileError;
pub use whole::{Existing, UNFINISHED, write};

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The version of Sextant that made it.
    pub version: String,
    /// The cluster's name.
    pub cluster: String,
    /// The store that it is of, in words.
    pub store: String,
    /// The incarnation of that.
    pub incarnation: Incarnation,
    /// The revision of that.
    pub revision: Revision,
    /// When it was made.
    pub unix_ms: u64,
    /// All that lasts, in key order.
    pub entries: Vec<Kept>,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// After the cluster's root.
    pub key: String,
    /// Its value.
    pub value: bytes::Bytes,
    /// The revision that made it.
    pub created: Revision,
}

impl Backup {
    /// How many claims are in it.
    pub fn claims(&self) -> usize {
        self.entries.iter().filter(|entry| entry.key.starts_with("claims/")).count()
    }
}
