//! Downloading and restoring backups, in pieces.

use std::pin::Pin;

use futures::{Stream, stream};
use sextant_backup_file::Backup;
use sextant_proto::v1;
use tonic::{Status, Streaming};

use super::Services;
use crate::{
    audit::Actor,
    backup::{self, RestoreError, Turn},
};

/// The size of a piece in octets.
const PIECE: usize = 256 << 10;
/// How long the index may take to reach the restored state.
const SEEN_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

pub(super) type Pieces = Pin<Box<dyn Stream<Item = Result<v1::BackupPiece, Status>> + Send>>;

pub(super) async fn take(services: &Services) -> Result<Pieces, Status> {
    let backup = backup::take(&services.registry, &services.keys, &services.cluster).await?;
    tracing::info!(revision = %backup.revision, claims = backup.claims(), "backup taken");
    let rest = stream::unfold(backup.encode(), |mut rest| async move {
        let piece = rest.split_to(rest.len().min(PIECE));
        (!piece.is_empty()).then_some((Ok(v1::BackupPiece { octets: piece }), rest))
    });
    Ok(Box::pin(rest))
}

pub(super) async fn restore(
    services: &Services,
    mut pieces: Streaming<v1::BackupPiece>,
    by: &Actor,
) -> Result<v1::RestoreResponse, Status> {
    let mut upload = services.uploads.begin()?;
    let timeout = services.connections.idle_timeout();
    let timed_out = |_| Status::deadline_exceeded("no piece of the backup received within the idle time-out");
    while let Some(piece) = tokio::time::timeout(timeout, pieces.message()).await.map_err(timed_out)?? {
        // A piece is small, and this writes into the page cache.
        upload.append(&piece.octets)?;
    }
    let (backup, turn) = tokio::task::spawn_blocking(move || upload.finish())
        .await
        .map_err(|panic| Status::internal(panic.to_string()))??;
    let done = in_own_task(services, backup, turn, by).await?;
    services.index.reaches(done.revision, SEEN_WITHIN).await;
    Ok(v1::RestoreResponse {
        incarnation: done.incarnation.into(),
        revision: done.revision.0,
        put: done.put as u64,
        there: done.there as u64,
    })
}

/// In a task of its own: the restore continues even if the client cancels the call.
async fn in_own_task(
    services: &Services,
    backup: Backup,
    turn: Turn,
    by: &Actor,
) -> Result<backup::Restored, RestoreError> {
    let (registry, keys, by) = (services.registry.clone(), services.keys.clone(), by.clone());
    let restoring = tokio::spawn(async move {
        let restored = backup::restore(&registry, &keys, &backup, &by).await;
        drop(turn);
        restored
    });
    restoring.await.unwrap_or_else(|panic| Err(RestoreError::Changed(format!("the controller ({panic})"))))
}

pub(super) async fn undo(services: &Services, by: &Actor) -> Result<v1::UndoRestoreResponse, Status> {
    let deleted = backup::undo(&services.registry, &services.keys, by).await? as u64;
    tracing::warn!(deleted, "restore undone");
    Ok(v1::UndoRestoreResponse { deleted })
}
