//! Backups out and in, in pieces.

use std::pin::Pin;

use futures::{Stream, stream};
use sextant_backup_file::Backup;
use sextant_proto::v1;
use tonic::{Status, Streaming};

use super::Rooms;
use crate::{
    audit::Actor,
    backup::{self, RestoreError},
};

/// How many octets a piece has.
const PIECE: usize = 256 << 10;
/// The largest backup that is taken in: some millions of nodes.
const LARGEST: usize = 1 << 30;
/// How long the index may take to see that the store is another one.
const SEEN_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

pub(super) type Pieces = Pin<Box<dyn Stream<Item = Result<v1::BackupPiece, Status>> + Send>>;

pub(super) async fn take(rooms: &Rooms) -> Result<Pieces, Status> {
    let backup = backup::take(&rooms.registry, &rooms.keys, &rooms.cluster).await?;
    tracing::info!(revision = %backup.revision, claims = backup.claims(), "backup taken");
    let rest = stream::unfold(backup.encode(), |mut rest| async move {
        let piece = rest.split_to(rest.len().min(PIECE));
        (!piece.is_empty()).then_some((Ok(v1::BackupPiece { octets: piece }), rest))
    });
    Ok(Box::pin(rest))
}

pub(super) async fn restore(
    rooms: &Rooms,
    mut pieces: Streaming<v1::BackupPiece>,
    by: &Actor,
) -> Result<v1::RestoreResponse, Status> {
    let mut octets = Vec::new();
    let patience = rooms.connections.idle_timeout();
    let silent = |_| Status::deadline_exceeded("no piece of the backup within the time for idle connections");
    while let Some(piece) = tokio::time::timeout(patience, pieces.message()).await.map_err(silent)?? {
        if octets.len() + piece.octets.len() > LARGEST {
            return Err(Status::invalid_argument(format!("the backup is larger than {LARGEST} octets")));
        }
        octets.extend_from_slice(&piece.octets);
    }
    let backup = Backup::decode(&octets).map_err(RestoreError::from)?;
    drop(octets);
    let done = in_its_own_time(rooms, backup, by).await?;
    rooms.index.reaches(done.revision, SEEN_WITHIN).await;
    Ok(v1::RestoreResponse {
        incarnation: done.incarnation.into(),
        revision: done.revision.0,
        put: done.put as u64,
        there: done.there as u64,
    })
}

/// To its end, though who asked for it may go: a call that is given up is dropped where it waits.
async fn in_its_own_time(
    rooms: &Rooms,
    backup: Backup,
    by: &Actor,
) -> Result<backup::Restored, RestoreError> {
    let (registry, keys, by) = (rooms.registry.clone(), rooms.keys.clone(), by.clone());
    let restoring = tokio::spawn(async move { backup::restore(&registry, &keys, &backup, &by).await });
    restoring.await.unwrap_or_else(|panic| Err(RestoreError::Changed(format!("the controller ({panic})"))))
}

pub(super) async fn undo(rooms: &Rooms, by: &Actor) -> Result<v1::UndoRestoreResponse, Status> {
    let deleted = backup::undo(&rooms.registry, &rooms.keys, by).await? as u64;
    tracing::warn!(deleted, "restore taken back");
    Ok(v1::UndoRestoreResponse { deleted })
}
