//! The store's own record: which store it is.

use std::time::Duration;

use sextant_proto::Incarnation;

use crate::{
    keys::Keys,
    records::{Meta, Record, unix_ms},
    registry::{Guard, KeyRange, Op, Outcome, RegistryError, SharedRegistry, Txn},
};

/// How often the recovery window is looked at.
const TICK: Duration = Duration::from_secs(1);

/// The store's record, made if the store is new. A new store may stand in for one that was lost, so its recovery window
/// is open.
///
/// # Errors
/// If the store does not answer, or its record cannot be read.
pub async fn open(registry: &SharedRegistry, keys: &Keys) -> Result<Meta, RegistryError> {
    let key = keys.meta();
    loop {
        if let Some(entry) = registry.list(&KeyRange::key(&key)).await?.entries.pop() {
            return Meta::decode(&entry.value)
                .map_err(|error| RegistryError::Corrupt(format!("{key}: {error}")));
        }
        let meta = Meta { incarnation: Incarnation::random(), created_unix_ms: unix_ms(), recovering: true };
        let put = Op::put(&key, meta.encode());
        match registry.commit(Txn { guards: vec![Guard::Absent(key.clone())], ops: vec![put] }).await {
            Ok(Outcome::Committed(_)) => {
                tracing::info!(store = registry.describe(), incarnation = %meta.incarnation, "new store");
                return Ok(meta);
            }
            // Another controller was faster, or nobody knows: read back.
            Ok(Outcome::Refused(_)) | Err(RegistryError::Unknown(_)) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Closes the store's recovery window once it is `window` old. Never ends.
///
/// # Errors
/// None: a store that does not answer is tried again.
pub async fn close_recovery(
    registry: SharedRegistry,
    keys: Keys,
    window: Duration,
) -> Result<(), RegistryError> {
    loop {
        if let Err(error) = close_if_due(&registry, &keys, window).await {
            tracing::warn!(%error, "the recovery window cannot be closed; trying again");
        } else if !is_open(&registry, &keys).await.unwrap_or(true) {
            return std::future::pending().await;
        }
        tokio::time::sleep(TICK).await;
    }
}

async fn is_open(registry: &SharedRegistry, keys: &Keys) -> Result<bool, RegistryError> {
    let entry = registry.list(&KeyRange::key(&keys.meta())).await?.entries.pop();
    Ok(entry.is_none_or(|entry| Meta::decode(&entry.value).is_ok_and(|meta| meta.recovering)))
}

async fn close_if_due(registry: &SharedRegistry, keys: &Keys, window: Duration) -> Result<(), RegistryError> {
    let key = keys.meta();
    let Some(entry) = registry.list(&KeyRange::key(&key)).await?.entries.pop() else {
        return Ok(());
    };
    let meta =
        Meta::decode(&entry.value).map_err(|error| RegistryError::Corrupt(format!("{key}: {error}")))?;
    let age = Duration::from_millis(unix_ms().saturating_sub(meta.created_unix_ms));
    if meta.recovering && age >= window {
        let closed = Meta { recovering: false, ..meta };
        let guards = vec![Guard::Unchanged(key.clone(), entry.modified)];
        registry.commit(Txn { guards, ops: vec![Op::put(key, closed.encode())] }).await?;
        tracing::info!("recovery window closed: what is not in the store by now has ended");
    }
    Ok(())
}
