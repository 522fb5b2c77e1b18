//! The form of the store's records. A record of a later form raises the format that the store's own record notes, which
//! keeps controllers out that cannot read it; once no record needs it, the format is lowered again, for a downgrade.
//!
//! [`put`] writes each record of a node whose form may change, but for a restore, which locks the store.

use std::{convert::Infallible, time::Duration};

use sextant_daemon::{Failing, Outage};
use sextant_proto::NodeName;
use tokio::time::Instant;

use crate::{
    index::{Index, State},
    keys::Keys,
    records::{NodeRecord, Record},
    registry::{Entry, Guard, KeyRange, Op, Outcome, Reading, RegistryError, SharedRegistry, Txn},
    store::{self, Current},
};

/// How often to look whether the format can be lowered.
const TICK: Duration = Duration::from_secs(1);

/// A transaction that writes the record of a node, raising the store's format if it needs that.
pub fn put(state: &State, keys: &Keys, name: &NodeName, node: &NodeRecord) -> Txn {
    let mut ops = vec![Op::put(keys.node(name), node.encode())];
    if node.is_of_first_form() {
        return Txn { guards: Vec::new(), ops };
    }
    ops.push(Op::put(keys.several_claims(), ""));
    if !state.meta().has_several_claims() {
        ops.push(Op::put(keys.meta(), state.meta().clone().with_several_claims().encode()));
    }
    Txn { guards: state.same_record(), ops }
}

/// Lowers the store's format whenever no record needs it any more. Never ends.
///
/// # Errors
/// None: a store that does not answer is tried again.
pub async fn keep_low(registry: SharedRegistry, keys: Keys, index: Index) -> Result<(), Infallible> {
    let mut outage = Outage::default();
    loop {
        tokio::time::sleep(TICK).await;
        if !index.read(is_too_high) {
            continue;
        }
        if let Err(error) = lower(&registry, &keys).await
            && let Some(Failing { failures, for_secs }) = outage.failed(Instant::now())
        {
            tracing::warn!(%error, failures, for_secs, "the store's format cannot be lowered; retrying");
        }
    }
}

fn is_too_high(state: &State) -> bool {
    let meta = state.meta();
    meta.has_several_claims()
        && !meta.restoring
        && state.nodes().values().all(|node| node.record.is_of_first_form())
}

/// Lowers the format if no record in the store needs it.
async fn lower(registry: &SharedRegistry, keys: &Keys) -> Result<(), RegistryError> {
    if let Some(txn) = lowering(registry, keys).await?
        && let Outcome::Committed(_) = registry.commit(txn).await?
    {
        tracing::info!(
            "no node has several prefixes; controllers of earlier versions can use the store again"
        );
    }
    Ok(())
}

/// The transaction that lowers the format, if no record in the store needs it.
///
/// # Errors
/// If the store does not answer.
pub async fn lowering(registry: &SharedRegistry, keys: &Keys) -> Result<Option<Txn>, RegistryError> {
    let several = keys.several_claims();
    let ranges = [KeyRange::key(&keys.meta()), KeyRange::key(&several), keys.nodes()];
    let reading = registry.read(&ranges).await?;
    let Some(current) = reading.entry(0).map(|entry| Current::of(keys, entry)).transpose()? else {
        return Ok(None);
    };
    let needed = !reading.ranges[2].iter().all(is_of_first_form);
    if !current.meta.has_several_claims() || current.meta.restoring || needed {
        return Ok(None);
    }
    let mut txn = store::change(keys, &current.meta.clone().without_several_claims(), &current, Vec::new());
    // A record may get the form meanwhile without a change of the store's own record.
    txn.guards.push(untouched(several, &reading));
    Ok(Some(txn))
}

fn untouched(several: String, reading: &Reading) -> Guard {
    match reading.entry(1) {
        Some(entry) => Guard::Unchanged(several, entry.modified),
        None => Guard::Absent(several),
    }
}

/// A record that cannot be read may have any form.
fn is_of_first_form(entry: &Entry) -> bool {
    NodeRecord::decode(&entry.value).is_ok_and(|node| node.is_of_first_form())
}
