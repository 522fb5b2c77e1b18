//! Backup of the store's persistent content into one file, and restore.
//!
//! [`plan`] plans a restore (pure), [`restore`] applies it. [`automatic`] takes backups periodically, into a [`directory`] whose
//! files have [`names`]. [`upload`] receives one to be restored. Keys with a lease (sessions), the audit entries, join tokens and the keys of
//! nodes are not in a backup. The format of the file is
//! `sextant_backup_file`'s.

mod automatic;
mod directory;
mod names;
mod plan;
mod restore;
mod upload;

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
pub use upload::{Turn, UploadError, Uploads};

/// Takes a backup of the store at one revision.
///
/// # Errors
/// If the store does not answer, or a restore is incomplete.
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

/// Whether the key belongs to the cluster's content, and not to the store itself.
fn lasts(key: &str) -> bool {
    let of_the_store = ["audit/", "lineage/", "doubts/", "tokens/", "identities/"]
        .iter()
        .any(|directory| key.starts_with(directory));
    let of_here = ["meta/store", "meta/elapsed", "meta/pools", "meta/removals", "meta/reservations"];
    !of_the_store && !of_here.contains(&key)
}

#[cfg(test)]
mod tests;
