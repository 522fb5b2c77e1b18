//! Restores a backup into a store.
//!
//! The first transaction marks in `meta/store` that a restore is in progress: from then on controllers serve no requests, and
//! agents receive no changes. The last one gives the store a new incarnation. Between them the content is put in chunks, as
//! etcd limits transactions. A restore that is interrupted between them is completed by running it again, or undone by
//! [`undo`], which deletes all keys created since the first transaction, and takes the claims from nodes that were there.

use sextant_backup_file::{Backup, FileError};
use sextant_proto::{Incarnation, Revision, counted};

use super::plan::{Conflict, NoPlan, Plan, has_several_claims, overlapping_claims, plan, take_back};
use crate::{
    audit::{Actor, Event, What},
    keys::Keys,
    records::{Meta, unix_ms},
    registry::{Guard, KeyRange, Op, Outcome, RegistryError, SharedRegistry, Txn},
    store,
};

/// The most operations per transaction (etcd's limit is 128).
const MOST_OPS: usize = 100;
/// The attempts of each step if its outcome is unknown.
const ATTEMPTS: u32 = 8;
/// The most conflicts in a message.
const NAMED: usize = 5;

/// Why a backup cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup itself is invalid.
    #[error("the backup {0}")]
    File(#[from] FileError),
    /// Live records conflict; nothing was changed.
    #[error(
        "the backup conflicts with live records:  {}; forget those nodes, or remove those pools and reservations, first",
        some(.0)
    )]
    Conflicts(Vec<Conflict>),
    /// The store was changed concurrently.
    #[error("{0} changed while it was being restored; {HALF}")]
    Changed(String),
    /// There is nothing to undo.
    #[error("no restore is in progress or was interrupted; there is nothing to undo")]
    NothingToUndo,
    /// The store did not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

const HALF: &str =
    "run `sextant restore FILE` again to finish, or `sextant restore --undo` to take back what was put";

fn some(conflicts: &[Conflict]) -> String {
    let named: Vec<_> = conflicts.iter().take(NAMED).map(ToString::to_string).collect();
    match conflicts.len() - named.len() {
        0 => named.join("; "),
        more => format!("{}; and {more} more", named.join("; ")),
    }
}

/// The result of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The store's new incarnation.
    pub incarnation: Incarnation,
    /// Its revision.
    pub revision: Revision,
    /// The number of keys put.
    pub put: usize,
    /// The number of keys that existed already.
    pub there: usize,
}

/// Puts all missing entries of `backup` into the store, and gives it a new incarnation.
///
/// # Errors
/// A [`RestoreError`]; nothing was changed unless it states otherwise.
pub async fn restore(
    registry: &SharedRegistry,
    keys: &Keys,
    backup: &Backup,
    by: &Actor,
) -> Result<Restored, RestoreError> {
    let put = put_all(registry, keys, backup, by).await?;
    let live = registry.list(&keys.all()).await?;
    if let Some((one, other)) = overlapping_claims(&live, keys) {
        return Err(RestoreError::Changed(format!("claims {one} and {other} overlap: something")));
    }
    let several = has_several_claims(&live, keys);
    let (incarnation, revision) = end(registry, keys, backup, (put, several), by).await?;
    tracing::warn!(%incarnation, put, "backup restored; the store has a new incarnation");
    Ok(Restored { incarnation, revision, put, there: backup.entries.len().saturating_sub(put) })
}

/// Puts all missing entries; returns their number. Entries that another writer puts between the plan and the first transaction
/// are detected half way: the next plan finds them present or in conflict.
async fn put_all(
    registry: &SharedRegistry,
    keys: &Keys,
    backup: &Backup,
    by: &Actor,
) -> Result<usize, RestoreError> {
    let mut put = 0;
    let mut attempt = 1;
    loop {
        let planned = match begin(registry, keys, backup, by).await {
            Err(error @ RestoreError::Conflicts(_)) if attempt > 1 => {
                undo(registry, keys, by).await?;
                return Err(error);
            }
            planned => planned?,
        };
        put += planned.pools.len();
        match put_rest(registry, keys, &planned, &mut put).await {
            Err(RestoreError::Changed(_)) if attempt < ATTEMPTS => attempt += 1,
            done => return done.map(|()| put),
        }
    }
}

/// Marks in the store that a restore is in progress, and puts the pools; returns the remaining plan.
async fn begin(
    registry: &SharedRegistry,
    keys: &Keys,
    backup: &Backup,
    by: &Actor,
) -> Result<Plan, RestoreError> {
    for _ in 0..ATTEMPTS {
        // The set of pools first: a change after it is refused by the guard.
        let set = registry.list(&KeyRange::key(&keys.pool_set())).await?.entries.pop();
        let current = store::read(registry, keys).await?;
        let (meta, modified) = (current.meta.clone(), current.modified);
        let live = registry.list(&keys.all()).await?;
        let mut planned = plan(backup, &live, keys).map_err(|no_plan| match no_plan {
            NoPlan::File(error) => RestoreError::File(error),
            NoPlan::Conflicts(conflicts) => RestoreError::Conflicts(conflicts),
        })?;
        let room = MOST_OPS - 4;
        let few = planned.pools.len() + planned.touched.len() <= room;
        let mut ops: Vec<Op> = std::mem::take(&mut planned.touched);
        if few {
            ops.extend(planned.pools.iter().cloned());
        } else {
            let key = |op: &Op| Guard::Absent(op.key().to_owned());
            let pools = planned.pools.drain(..).map(|op| (key(&op), op));
            planned.rest = pools.chain(planned.rest).collect();
            ops.truncate(room);
        }
        // Whoever claims or reserves by what it knew before is refused.
        ops.extend([keys.pool_set(), keys.reservation_set()].map(|set| Op::put(set, "")));
        let set = match set {
            Some(entry) => Guard::Unchanged(keys.pool_set(), entry.modified),
            None => Guard::Absent(keys.pool_set()),
        };
        let txn = if meta.restoring {
            // The record stays as it is: its revision says since when.
            Txn { guards: vec![Guard::Unchanged(keys.meta(), modified), set], ops }
        } else {
            ops.push(Event::new(What::Restoring).detail(about(backup)).op(keys, by));
            let next = Meta { restoring: true, ..meta };
            let next = if planned.has_several_claims(keys) { next.with_several_claims() } else { next };
            let mut txn = store::change(keys, &next, &current, ops);
            txn.guards.push(set);
            txn
        };
        match registry.commit(txn).await {
            Ok(Outcome::Committed(_)) => return Ok(planned),
            Ok(Outcome::Refused(_)) | Err(RegistryError::Unknown(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(RegistryError::Unavailable("the pools change all the time; try again".into()).into())
}

/// Puts the remaining entries, and counts them.
async fn put_rest(
    registry: &SharedRegistry,
    keys: &Keys,
    planned: &Plan,
    put: &mut usize,
) -> Result<(), RestoreError> {
    for some in planned.transactions(keys, MOST_OPS) {
        put_chunk(registry, some).await?;
        *put += some.len();
    }
    Ok(())
}

async fn put_chunk(registry: &SharedRegistry, some: &[(Guard, Op)]) -> Result<(), RestoreError> {
    let (guards, ops): (Vec<_>, Vec<_>) = some.iter().cloned().unzip();
    let first = ops[0].key().to_owned();
    let mut unknown = false;
    for _ in 0..ATTEMPTS {
        match registry.commit(Txn { guards: guards.clone(), ops: ops.clone() }).await {
            Ok(Outcome::Committed(_)) => return Ok(()),
            // After an unknown outcome: it was done, all of it or nothing.
            Ok(Outcome::Refused(_)) if unknown => return Ok(()),
            Ok(Outcome::Refused(_)) => return Err(RestoreError::Changed(first)),
            Err(RegistryError::Unknown(_)) => unknown = true,
            Err(error) => return Err(error.into()),
        }
    }
    Err(RegistryError::Unavailable(format!("outcomes stay unknown; {HALF}")).into())
}

async fn end(
    registry: &SharedRegistry,
    keys: &Keys,
    backup: &Backup,
    (put, several): (usize, bool),
    by: &Actor,
) -> Result<(Incarnation, Revision), RestoreError> {
    let incarnation = Incarnation::random();
    for _ in 0..ATTEMPTS {
        let current = store::read(registry, keys).await?;
        let (meta, modified) = (&current.meta, current.modified);
        if meta.incarnation == incarnation {
            return Ok((incarnation, modified));
        }
        if !meta.restoring {
            return Err(RestoreError::Changed("meta/store".into()));
        }
        let next = Meta {
            incarnation,
            created_unix_ms: unix_ms(),
            recovering: true,
            replaces: None,
            restoring: false,
            forked: false,
            ancestors: meta.ancestors.clone(),
            format: meta.format,
            accepts_unsigned: false,
        };
        let next = if several { next.with_several_claims() } else { next };
        let next = next.in_place_of(backup.incarnation).in_place_of(meta.incarnation);
        let noted = Event::new(What::Restored).detail(format!("{}, {}", counted(put, "key"), about(backup)));
        let ops = vec![noted.op(keys, by), Op::put(keys.reservation_set(), "")];
        match registry.commit(store::change(keys, &next, &current, ops)).await {
            Ok(Outcome::Committed(revision)) => return Ok((incarnation, revision)),
            Ok(Outcome::Refused(_)) | Err(RegistryError::Unknown(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(RegistryError::Unavailable(format!("outcomes stay unknown; {HALF}")).into())
}

/// Undoes an interrupted restore; returns the number of keys that it deleted or changed.
///
/// # Errors
/// A [`RestoreError`].
pub async fn undo(registry: &SharedRegistry, keys: &Keys, by: &Actor) -> Result<usize, RestoreError> {
    let current = store::read(registry, keys).await?;
    let (meta, since) = (current.meta.clone(), current.modified);
    if !meta.restoring {
        return Err(RestoreError::NothingToUndo);
    }
    let ops = take_back(&registry.list(&keys.all()).await?, keys, since);
    let taken_back = ops.len();
    for some in ops.chunks(MOST_OPS) {
        registry.commit(Txn { guards: Vec::new(), ops: some.to_vec() }).await?;
    }
    let noted = Event::new(What::RestoreUndone).detail(counted(taken_back, "key")).op(keys, by);
    let ops = vec![noted, Op::put(keys.reservation_set(), "")];
    let txn = store::change(keys, &Meta { restoring: false, ..meta }, &current, ops);
    match registry.commit(txn).await? {
        Outcome::Committed(_) => Ok(taken_back),
        Outcome::Refused(_) => Err(RestoreError::Changed("meta/store".into())),
    }
}

fn about(backup: &Backup) -> String {
    format!("backup of {} at revision {} of {}", backup.store, backup.revision, backup.incarnation)
}
