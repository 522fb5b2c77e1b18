//! The store's lasting content in one file, and back.
//!
//! [`file`] is the file's form, [`plan`] what a restore comes to (pure), [`restore`] does it. [`automatic`] takes backups by
//! itself, into a [`directory`] whose files have [`names`]; [`whole`] writes a file. What stands under a lease (who
//! is there now) and the audit are not in a backup.

mod automatic;
mod directory;
mod file;
mod names;
mod plan;
mod restore;
mod whole;

use sextant_proto::{Incarnation, Revision};

use crate::{
    keys::Keys,
    records::{Meta, Record, unix_ms},
    registry::{Entry, RegistryError, SharedRegistry},
};

pub use automatic::{Automatic, Schedule, Taken};
pub use directory::{Directory, DirectoryError};
pub use file::FileError;
pub use plan::Conflict;
pub use restore::{RestoreError, Restored, restore, undo};
pub use whole::{Existing, write};

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
    /// Of all that the store holds at one revision.
    ///
    /// # Errors
    /// If the store does not answer, or is half restored.
    pub async fn take(registry: &SharedRegistry, keys: &Keys, cluster: &str) -> Result<Self, RegistryError> {
        let listing = registry.list(&keys.all()).await?;
        let key = keys.meta();
        let meta = listing.entries.iter().find(|entry| entry.key == key);
        let meta = meta.ok_or_else(|| RegistryError::Corrupt(format!("{key} is gone")))?;
        let meta =
            Meta::decode(&meta.value).map_err(|error| RegistryError::Corrupt(format!("{key}: {error}")))?;
        if meta.restoring {
            return Err(RegistryError::Unavailable(crate::store::HALF_RESTORED.into()));
        }
        Ok(Self {
            version: sextant_proto::VERSION.into(),
            cluster: cluster.into(),
            store: registry.describe(),
            incarnation: meta.incarnation,
            revision: listing.revision,
            unix_ms: unix_ms(),
            entries: listing.entries.iter().filter_map(|entry| kept(keys, entry)).collect(),
        })
    }

    /// How many claims are in it.
    pub fn claims(&self) -> usize {
        self.entries.iter().filter(|entry| entry.key.starts_with("claims/")).count()
    }
}

fn kept(keys: &Keys, entry: &Entry) -> Option<Kept> {
    let key = keys.relative(&entry.key).filter(|key| entry.lease.is_none() && lasts(key))?;
    Some(Kept { key: key.into(), value: entry.value.clone(), created: entry.created })
}

/// Whether what stands under this key is the cluster's, and not the store's own.
fn lasts(key: &str) -> bool {
    let of_the_store = ["audit/", "lineage/", "doubts/"].iter().any(|directory| key.starts_with(directory));
    let of_here = ["meta/store", "meta/elapsed", "meta/pools", "meta/removals", "meta/reservations"];
    !of_the_store && !of_here.contains(&key)
}

#[cfg(test)]
mod tests;
