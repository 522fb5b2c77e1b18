//! The store's lasting content in one file, and back.
//!
//! [`plan`] is what a restore comes to (pure), [`restore`] does it. [`automatic`] takes backups by itself, into a
//! [`directory`] whose files have [`names`]. What stands under a lease (who is there now) and the audit are not in a backup.
//! The format of the file is `sextant_backup_file`'s.

mod automatic;
mod directory;
mod names;
mod plan;
mod restore;

use sextant_backup_file::{Backup, Kept};
use sextant_proto::HALF_RESTORED;

use crate::{
    keys::Keys,
    records::{Meta, Record, unix_ms},
    registry::{Entry, RegistryError, SharedRegistry},
};

pub use automatic::{Automatic, Schedule, Taken};
pub use directory::{Directory, DirectoryError};
pub use plan::Conflict;
pub use restore::{RestoreError, Restored, restore, undo};

/// A backup of all that the store holds at one revision.
///
/// # Errors
/// If the store does not answer, or is half restored.
pub async fn take(registry: &SharedRegistry, keys: &Keys, cluster: &str) -> Result<Backup, RegistryError> {
    let listing = registry.list(&keys.all()).await?;
    let key = keys.meta();
    let meta = listing.entries.iter().find(|entry| entry.key == key);
    let meta = meta.ok_or_else(|| RegistryError::Corrupt(format!("{key} is gone")))?;
    let meta =
        Meta::decode(&meta.value).map_err(|error| RegistryError::Corrupt(format!("{key}: {error}")))?;
    if meta.restoring {
        return Err(RegistryError::Unavailable(HALF_RESTORED.into()));
    }
    Ok(Backup {
        version: sextant_proto::VERSION.into(),
        cluster: cluster.into(),
        store: registry.describe(),
        incarnation: meta.incarnation,
        revision: listing.revision,
        unix_ms: unix_ms(),
        entries: listing.entries.iter().filter_map(|entry| kept(keys, entry)).collect(),
    })
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
