//! Pause and resume: what holds for all agents at once (DESIGN I6).

use sextant_proto::Revision;

use crate::{
    audit::{Actor, Event, What},
    keys::Keys,
    records::{ControlRecord, Record},
    registry::{Op, Outcome, RegistryError, SharedRegistry, Txn},
};

/// Freezes every agent's kernel changes, or lets them go on. Saying it again is no mistake: a second resume lets through
/// what has come up since the first.
///
/// # Errors
/// If the store does not answer.
pub async fn put(
    registry: &SharedRegistry,
    keys: &Keys,
    paused: bool,
    by: &Actor,
) -> Result<Revision, RegistryError> {
    let noted = Event::new(if paused { What::Paused } else { What::Resumed }).op(keys, by);
    let ops = vec![Op::put(keys.control(), ControlRecord { paused }.encode()), noted];
    let (Outcome::Committed(revision) | Outcome::Refused(revision)) =
        registry.commit(Txn { guards: Vec::new(), ops }).await?;
    Ok(revision)
}
