//! Pause and resume: the control settings of all agents (DESIGN I6).

use sextant_proto::Revision;

use crate::{
    audit::{Actor, Event, What},
    keys::Keys,
    records::{ControlRecord, Record, RemovalsRecord},
    registry::{Guard, KeyRange, Op, Outcome, RegistryError, SharedRegistry, Txn},
};

/// How often a resume is tried against nodes that are forgotten at the same time.
const ATTEMPTS: u32 = 32;

/// Freezes every agent's kernel changes, or lets them go on. Saying it again is no mistake: a second resume lets through
/// what has come up since the first. A resume also starts a new window of the brake.
///
/// # Errors
/// If the store does not answer.
pub async fn put(
    registry: &SharedRegistry,
    keys: &Keys,
    paused: bool,
    by: &Actor,
) -> Result<Revision, RegistryError> {
    for _ in 0..ATTEMPTS {
        let noted = Event::new(if paused { What::Paused } else { What::Resumed }).op(keys, by);
        let ops = vec![Op::put(keys.control(), ControlRecord { paused }.encode()), noted];
        let mut txn = Txn { guards: Vec::new(), ops };
        if !paused {
            empty_window(registry, keys, &mut txn).await?;
        }
        if let Outcome::Committed(revision) = registry.commit(txn).await? {
            return Ok(revision);
        }
    }
    Err(RegistryError::Unavailable("concurrent changes won each time; try again".into()))
}

/// Makes `txn` empty the window of recently forgotten nodes; replaces a record that cannot be decoded.
async fn empty_window(registry: &SharedRegistry, keys: &Keys, txn: &mut Txn) -> Result<(), RegistryError> {
    let key = keys.removals();
    if let Some(entry) = registry.list(&KeyRange::key(&key)).await?.entries.pop() {
        let confirmed = RemovalsRecord::decode(&entry.value).map_or(0, |record| record.confirmed);
        txn.guards.push(Guard::Unchanged(key.clone(), entry.modified));
        txn.ops.push(Op::put(key, RemovalsRecord { recent: Vec::new(), confirmed }.encode()));
    }
    Ok(())
}
