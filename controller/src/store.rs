//! The store's own record: its identity.

use std::time::Duration;

use bytes::Bytes;
use sextant_daemon::{Failing, Outage};
use sextant_proto::{HALF_RESTORED, Incarnation, NodeName, NodeState, Peer, Revision};
use tokio::time::Instant;

use crate::{
    audit::{Actor, Event, What},
    index::{Index, State},
    keys::Keys,
    records::{MarkRecord, Meta, Record},
    registry::{Entry, Guard, KeyRange, Op, Outcome, RegistryError, SharedRegistry, Txn},
    unregistered::{self, RefusedClaims, Unregistered},
};

/// The interval of checks of the recovery window.
const TICK: Duration = Duration::from_secs(1);
/// The attempts of a change of the record against concurrent changes.
const ATTEMPTS: u32 = 8;
/// The most silent nodes with an audit entry of their own (etcd allows 128 operations per transaction).
const MOST_SILENT: usize = 100;

/// The store's record, created if the store is new. A new store may replace a lost one, so its recovery window
/// is open.
///
/// # Errors
/// If the store does not answer, or its record cannot be read.
pub async fn open(registry: &SharedRegistry, keys: &Keys) -> Result<Meta, RegistryError> {
    let key = keys.meta();
    loop {
        let reading = registry.read(&[KeyRange::key(&key), keys.marks()]).await?;
        if let Some(entry) = reading.entry(0) {
            let meta = decoded(&key, entry)?;
            if reading.ranges[1].is_empty() {
                begin_marks(registry, keys, entry).await?;
            }
            return Ok(meta);
        }
        let meta = Meta::new();
        let ops =
            vec![Op::put(&key, meta.encode()), MarkRecord { granted_to: None }.op(keys, rand::random())];
        match registry.commit(Txn { guards: vec![Guard::Absent(key.clone())], ops }).await {
            Ok(Outcome::Committed(_)) => {
                tracing::info!(store = registry.describe(), incarnation = %meta.incarnation, "new store created");
                return Ok(meta);
            }
            // Another controller was faster, or nobody knows: read back.
            Ok(Outcome::Refused(_)) | Err(RegistryError::Unknown(_)) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The history of a store from before marks were put has none: its marks begin now.
async fn begin_marks(registry: &SharedRegistry, keys: &Keys, meta: &Entry) -> Result<(), RegistryError> {
    let guards = vec![Guard::Holds(meta.key.clone(), meta.value.clone()), Guard::RangeAbsent(keys.marks())];
    let ops = vec![MarkRecord { granted_to: None }.op(keys, rand::random())];
    match registry.commit(Txn { guards, ops }).await {
        // Somebody else was faster, or the next start does it.
        Ok(_) | Err(RegistryError::Unknown(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn decoded(key: &str, entry: &Entry) -> Result<Meta, RegistryError> {
    Meta::decode(&entry.value).map_err(|error| RegistryError::Corrupt(format!("{key}: {error}")))
}

/// The store's own record, as it was read.
#[derive(Debug, Clone)]
pub struct Current {
    /// The record.
    pub meta: Meta,
    /// Its modify revision.
    pub modified: Revision,
    value: Bytes,
}

impl Current {
    /// The record of `entry`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(keys: &Keys, entry: &Entry) -> Result<Self, RegistryError> {
        let meta = decoded(&keys.meta(), entry)?;
        Ok(Self { meta, modified: entry.modified, value: entry.value.clone() })
    }
}

/// The store's own record.
///
/// # Errors
/// If the store does not answer, has none, or it cannot be read.
pub async fn read(registry: &SharedRegistry, keys: &Keys) -> Result<Current, RegistryError> {
    let key = keys.meta();
    let entry = registry.list(&KeyRange::key(&key)).await?.entries.pop();
    let entry = entry.ok_or_else(|| RegistryError::Corrupt(format!("{key} is gone")))?;
    Current::of(keys, &entry)
}

/// A transaction that replaces `current` by `meta`, with `ops`. Another store's record, even one that was
/// put at the same revision, is not replaced.
pub fn change(keys: &Keys, meta: &Meta, current: &Current, ops: Vec<Op>) -> Txn {
    let put = Op::put(keys.meta(), meta.encode());
    let holds = Guard::Holds(keys.meta(), current.value.clone());
    let guards = vec![holds, Guard::Unchanged(keys.meta(), current.modified)];
    Txn { guards, ops: std::iter::once(put).chain(ops).collect() }
}

/// Records that the store replaces `lost`, unless it is known already which store it replaces.
///
/// # Errors
/// If the store does not answer.
pub async fn replaces(
    registry: &SharedRegistry,
    keys: &Keys,
    lost: Incarnation,
) -> Result<(), RegistryError> {
    for _ in 0..ATTEMPTS {
        let current = read(registry, keys).await?;
        if current.meta.replaces.is_some() || !current.meta.recovering {
            return Ok(());
        }
        let next = current.meta.clone().in_place_of(lost);
        match registry.commit(change(keys, &next, &current, Vec::new())).await {
            Ok(Outcome::Committed(_)) => {
                tracing::warn!(%lost, "store replaces a lost one; waiting for its nodes to register");
                return Ok(());
            }
            Ok(Outcome::Refused(_)) | Err(RegistryError::Unknown(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(RegistryError::Unavailable("its own record changes all the time; try again".into()))
}

/// Closes the store's recovery window whenever it has been open for `window`. Never ends.
///
/// # Errors
/// None: a store that does not answer is tried again.
pub async fn close_recovery(
    registry: SharedRegistry,
    keys: Keys,
    index: Index,
    refused: RefusedClaims,
    window: Duration,
) -> Result<(), RegistryError> {
    let mut outage = Outage::default();
    loop {
        tokio::time::sleep(TICK).await;
        if !index.read(|state| is_over(state, window)) {
            continue;
        }
        let ending = unregistered::known(&registry, &keys, &index, &refused).await;
        if let Err(error) = finish(&registry, &keys, &index, &Actor::controller(), &ending).await
            && let Some(Failing { failures, for_secs }) = outage.failed(Instant::now())
        {
            tracing::warn!(%error, failures, for_secs, "recovery window cannot be closed; retrying");
        }
    }
}

/// Whether the recovery window is open, and has been for `window`. Neither a clock that was wrong when the store was made
/// nor one that is wrong now opens or closes it.
fn is_over(state: &State, window: Duration) -> bool {
    let meta = state.meta();
    let age = state.elapsed().and_then(|elapsed| elapsed.record.age_of(meta.incarnation));
    meta.recovering && !meta.restoring && age.is_some_and(|age| age >= window)
}

/// The window is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// At which revision.
    pub revision: Revision,
    /// Whether it was open before.
    pub was_open: bool,
    /// Who had not come back.
    pub silent: Vec<NodeName>,
}

/// Closes the store's recovery window now: what is not in the store by then has ended. `ending` are the claims of those that are
/// known, for the audit.
///
/// # Errors
/// If the store does not answer.
pub async fn finish(
    registry: &SharedRegistry,
    keys: &Keys,
    index: &Index,
    by: &Actor,
    ending: &[Unregistered],
) -> Result<Finished, RegistryError> {
    for _ in 0..ATTEMPTS {
        let current = read(registry, keys).await?;
        if current.meta.restoring {
            return Err(RegistryError::Unavailable(HALF_RESTORED.into()));
        }
        if !current.meta.recovering {
            return Ok(Finished { revision: current.modified, was_open: false, silent: Vec::new() });
        }
        let silent = index.read(|state| silent(state, |_| true));
        let mut finished = Event::new(What::RecoveryFinished).detail(still_silent(&silent));
        if !ending.is_empty() {
            finished = finished.detail(format!("not registered: {}", named(ending)));
        }
        let mut noted = vec![finished];
        noted.extend(silent.iter().take(MOST_SILENT).map(|node| Event::new(What::Silent).node(node)));
        let ops = noted.into_iter().map(|event| event.op(keys, by)).collect();
        let closed = Meta { recovering: false, accepts_unsigned: false, ..current.meta.clone() };
        match registry.commit(change(keys, &closed, &current, ops)).await {
            Ok(Outcome::Committed(revision)) => {
                tracing::info!(
                    silent = silent.len(),
                    unregistered = named(ending),
                    "recovery window closed; claims that exist only in the lost store have ended"
                );
                return Ok(Finished { revision, was_open: true, silent });
            }
            Ok(Outcome::Refused(_)) | Err(RegistryError::Unknown(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(RegistryError::Unavailable("its own record changes all the time; try again".into()))
}

/// The nodes of a store that replaces another one that have not registered in it: those without a session, or not `heard` despite
/// one. None in a store that is just new; a drained node is not waited for.
pub fn silent(state: &State, heard: impl Fn(&NodeName) -> bool) -> Vec<NodeName> {
    let nodes = state.peers().values().filter(|_| state.meta().stands_in());
    let is_back = |peer: &Peer| peer.session && heard(&peer.name);
    let silent = nodes.filter(|peer| !is_back(peer) && peer.state() != NodeState::Drained);
    silent.map(|peer| peer.name.clone()).collect()
}

/// Some of the claims.
fn named(claims: &[Unregistered]) -> String {
    let some: Vec<_> = claims.iter().take(10).map(|it| format!("{} {}", it.node, it.prefix)).collect();
    match claims.len() - some.len() {
        0 => some.join(", "),
        more => format!("{} and {more} more", some.join(", ")),
    }
}

fn still_silent(silent: &[NodeName]) -> String {
    let names: Vec<_> = silent.iter().take(10).map(NodeName::as_str).collect();
    match silent.len() {
        0 => String::new(),
        n if n > names.len() => format!("still silent: {} and {} more", names.join(", "), n - names.len()),
        _ => format!("still silent: {}", names.join(", ")),
    }
}
