//! The index's content, and what a change of the store means for agents. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use prost::Message;
use sextant_proto::{Control, NodeId, NodeName, Peer, Pool, PoolName, Prefix, Revision, v1};

use super::{
    Snapshot,
    occupied::{Kind, Occupied},
};
use crate::{
    keys::{Key, Keys},
    records::{
        ClaimRecord, ControlRecord, ControllerRecord, FreedRecord, Meta, NodeRecord, Record, RecordError,
        ReservationRecord, SessionRecord, VerdictRecord,
    },
    registry::{Batch, Entry, Event, Listing},
};

/// How many nodes a snapshot's chunk holds.
const PEERS_PER_CHUNK: usize = 1000;

/// A record, and the revisions of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View<R> {
    /// What it says.
    pub record: R,
    /// The revision that made the key.
    pub created: Revision,
    /// The revision that last put it.
    pub modified: Revision,
}

/// All records of the cluster, and what agents see of them.
#[derive(Debug)]
pub struct State {
    keys: Keys,
    /// The last revision that changed what agents see.
    published: Revision,
    meta: Meta,
    control: Control,
    pools: BTreeMap<PoolName, View<Pool>>,
    claims: BTreeMap<Prefix, View<ClaimRecord>>,
    reservations: BTreeMap<Prefix, View<ReservationRecord>>,
    /// The revision that last changed a reservation.
    reservation_set: Option<Revision>,
    /// Prefixes in quarantine.
    freed: BTreeMap<Prefix, View<FreedRecord>>,
    /// What a host had last.
    had: HashMap<NodeId, Prefix>,
    /// What is reserved for a node.
    reserved_for: HashMap<NodeName, Prefix>,
    /// All of claims, reservations and prefixes in quarantine.
    occupied: Occupied,
    nodes: BTreeMap<NodeName, View<NodeRecord>>,
    sessions: BTreeMap<NodeName, View<SessionRecord>>,
    controllers: BTreeMap<String, View<ControllerRecord>>,
    /// By node and controller.
    verdicts: BTreeMap<(NodeName, String), View<VerdictRecord>>,
    peers: BTreeMap<NodeName, Peer>,
}

/// What a batch touched that agents may see.
#[derive(Debug, Default)]
struct Touched {
    meta: bool,
    control: bool,
    pools: BTreeSet<PoolName>,
    nodes: BTreeSet<NodeName>,
}

/// What the index cannot go on with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "meta/store is {0}: the store was wiped or replaced; nothing more is told to agents until the controller starts anew"
)]
pub struct StoreReplaced(&'static str);

impl State {
    /// The state that `listing` of the whole cluster says, made for the store `meta`.
    pub fn new(keys: Keys, meta: Meta, listing: &Listing) -> Result<Self, StoreReplaced> {
        let mut state = Self {
            keys,
            published: listing.revision,
            meta,
            control: Control::default(),
            pools: BTreeMap::new(),
            claims: BTreeMap::new(),
            reservations: BTreeMap::new(),
            reservation_set: None,
            freed: BTreeMap::new(),
            had: HashMap::new(),
            reserved_for: HashMap::new(),
            occupied: Occupied::default(),
            nodes: BTreeMap::new(),
            sessions: BTreeMap::new(),
            controllers: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            peers: BTreeMap::new(),
        };
        let mut touched = Touched::default();
        for entry in &listing.entries {
            state.put(entry, &mut touched)?;
        }
        for name in touched.nodes {
            state.refresh_peer(&name);
        }
        Ok(state)
    }

    /// Takes a batch in; the answer is the encoded delta, if agents see any of it.
    pub fn apply(&mut self, batch: &Batch) -> Result<Option<Bytes>, StoreReplaced> {
        let mut touched = Touched::default();
        for event in &batch.events {
            match event {
                Event::Put(entry) => self.put(entry, &mut touched)?,
                Event::Deleted { key, .. } => self.delete(key, &mut touched)?,
            }
        }
        let changes = self.changes(touched);
        if changes.is_empty() {
            return Ok(None);
        }
        let delta = v1::Delta { since: self.published.0, revision: batch.revision.0, changes };
        self.published = batch.revision;
        Ok(Some(delta.encode_to_vec().into()))
    }

    fn put(&mut self, entry: &Entry, touched: &mut Touched) -> Result<(), StoreReplaced> {
        let Some(key) = self.keys.parse(&entry.key) else {
            return Ok(());
        };
        if let Err(error) = self.put_record(key, entry, touched)? {
            // What was known stays: one bad record is no reason to take routes away (DESIGN I5, I10).
            tracing::warn!(key = entry.key, %error, "record of the store cannot be read; it is left out");
        }
        Ok(())
    }

    fn put_record(
        &mut self,
        key: Key,
        entry: &Entry,
        touched: &mut Touched,
    ) -> Result<Result<(), RecordError>, StoreReplaced> {
        let put = match key {
            Key::Meta => return self.put_meta(entry, touched),
            Key::Control => self.put_control(entry, touched),
            Key::Pool(name) => {
                let before = self.pools.get(&name).map(|pool| pool.record.clone());
                let kept = keep(&mut self.pools, name.clone(), entry);
                if self.pools.get(&name).map(|pool| &pool.record) != before.as_ref() {
                    touched.pools.insert(name);
                }
                kept
            }
            Key::Claim(prefix) => {
                keep_prefix(&mut self.claims, &mut self.occupied, prefix, entry).map(|()| {
                    touched.nodes.extend(self.claims.get(&prefix).map(|claim| claim.record.node.clone()));
                })
            }
            Key::Reservation(prefix) => {
                self.reserved_for.retain(|_, reserved| *reserved != prefix);
                let kept = keep_prefix(&mut self.reservations, &mut self.occupied, prefix, entry);
                let node = self.reservations.get(&prefix).and_then(|view| view.record.node.clone());
                self.reserved_for.extend(node.map(|node| (node, prefix)));
                kept
            }
            Key::ReservationSet => {
                self.reservation_set = Some(entry.modified);
                Ok(())
            }
            Key::Freed(prefix) => {
                let known = self.freed.contains_key(&prefix);
                let kept = keep(&mut self.freed, prefix, entry);
                if kept.is_ok() && !known {
                    self.occupied.insert(prefix, Kind::Resting);
                }
                let had = self.freed.get(&prefix).map(|view| (view.record.node_id, prefix));
                self.had.extend(had);
                kept
            }
            Key::Node(name) => {
                touched.nodes.insert(name.clone());
                keep(&mut self.nodes, name, entry)
            }
            Key::Session(name) => {
                touched.nodes.insert(name.clone());
                keep(&mut self.sessions, name, entry)
            }
            Key::Controller(id) => keep(&mut self.controllers, id, entry),
            Key::Verdict(node, controller) => keep(&mut self.verdicts, (node, controller), entry),
        };
        Ok(put)
    }

    fn put_meta(
        &mut self,
        entry: &Entry,
        touched: &mut Touched,
    ) -> Result<Result<(), RecordError>, StoreReplaced> {
        match Meta::decode(&entry.value) {
            Ok(meta) if meta.incarnation != self.meta.incarnation => Err(StoreReplaced("another one")),
            Ok(meta) => {
                touched.meta |= meta.recovering != self.meta.recovering;
                self.meta = meta;
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    fn put_control(&mut self, entry: &Entry, touched: &mut Touched) -> Result<(), RecordError> {
        let ControlRecord { paused } = ControlRecord::decode(&entry.value)?;
        let resumed = if paused { self.control.resumed } else { entry.modified };
        let control = Control { paused, resumed };
        touched.control |= control != self.control;
        self.control = control;
        Ok(())
    }

    fn delete(&mut self, key: &str, touched: &mut Touched) -> Result<(), StoreReplaced> {
        match self.keys.parse(key) {
            None => {}
            Some(Key::Meta) => return Err(StoreReplaced("gone")),
            Some(Key::Control) => {
                touched.control |= self.control.paused;
                self.control.paused = false;
            }
            Some(Key::Pool(name)) => {
                self.pools.remove(&name);
                touched.pools.insert(name);
            }
            Some(Key::Claim(prefix)) => {
                if let Some(claim) = self.claims.remove(&prefix) {
                    self.occupied.remove(prefix, Kind::Taken);
                    touched.nodes.insert(claim.record.node);
                }
            }
            Some(Key::Reservation(prefix)) => {
                let gone = self.reservations.remove(&prefix);
                if gone.is_some() {
                    self.reserved_for.retain(|_, reserved| *reserved != prefix);
                    self.occupied.remove(prefix, Kind::Taken);
                }
            }
            Some(Key::ReservationSet) => self.reservation_set = None,
            Some(Key::Freed(prefix)) => {
                if let Some(freed) = self.freed.remove(&prefix) {
                    if self.had.get(&freed.record.node_id) == Some(&prefix) {
                        self.had.remove(&freed.record.node_id);
                    }
                    self.occupied.remove(prefix, Kind::Resting);
                }
            }
            Some(Key::Node(name)) => {
                self.nodes.remove(&name);
                touched.nodes.insert(name);
            }
            Some(Key::Session(name)) => {
                self.sessions.remove(&name);
                touched.nodes.insert(name);
            }
            Some(Key::Controller(id)) => {
                self.controllers.remove(&id);
            }
            Some(Key::Verdict(node, controller)) => {
                self.verdicts.remove(&(node, controller));
            }
        }
        Ok(())
    }

    fn changes(&mut self, touched: Touched) -> Vec<v1::Change> {
        use v1::change::Change;
        let mut changes = Vec::new();
        if touched.meta {
            changes.push(Change::Recovering(self.meta.recovering));
        }
        if touched.control {
            changes.push(Change::Control(self.control.into()));
        }
        for name in touched.pools {
            changes.push(match self.pools.get(&name) {
                Some(pool) => Change::Pool((&pool.record).into()),
                None => Change::PoolRemoved(name.to_string()),
            });
        }
        for name in touched.nodes {
            if self.refresh_peer(&name) {
                changes.push(match self.peers.get(&name) {
                    Some(peer) => Change::Peer(peer.into()),
                    None => Change::PeerRemoved(name.to_string()),
                });
            }
        }
        changes.into_iter().map(|change| v1::Change { change: Some(change) }).collect()
    }

    /// Makes the node's [`Peer`] anew; whether it has changed.
    fn refresh_peer(&mut self, name: &NodeName) -> bool {
        let now = self.peer_of(name);
        let before = match now.clone() {
            Some(peer) => self.peers.insert(name.clone(), peer),
            None => self.peers.remove(name),
        };
        before != now
    }

    fn peer_of(&self, name: &NodeName) -> Option<Peer> {
        let node = &self.nodes.get(name)?.record;
        let claim = self.claims.get(&node.prefix).filter(|claim| claim.record.node == *name)?;
        Some(Peer {
            name: name.clone(),
            prefix: node.prefix,
            claimed: claim.created,
            pool: node.pool.clone(),
            state: node.state,
            next_hops: node.next_hops(),
            session: self.sessions.contains_key(name),
            drain_timeout: node.drain_timeout,
        })
    }

    /// Encodes all that agents see.
    pub(super) fn snapshot(&self) -> Snapshot {
        let peers: Vec<v1::Peer> = self.peers.values().map(Into::into).collect();
        let pools = self.pools.values().map(|pool| (&pool.record).into()).collect();
        let first = v1::SnapshotChunk { pools, peers: Vec::new() };
        let rest = peers
            .chunks(PEERS_PER_CHUNK)
            .map(|peers| v1::SnapshotChunk { pools: Vec::new(), peers: peers.to_vec() });
        let chunks = std::iter::once(first).chain(rest).map(|chunk| chunk.encode_to_vec().into()).collect();
        Snapshot {
            incarnation: self.meta.incarnation,
            revision: self.published,
            recovering: self.meta.recovering,
            control: self.control,
            chunks: Arc::new(chunks),
        }
    }

    /// The keys of all records, and of `meta/store`.
    pub(super) fn known_keys(&self) -> impl Iterator<Item = String> {
        let keys = &self.keys;
        std::iter::once(keys.meta())
            .chain(self.pools.keys().map(|name| keys.pool(name)))
            .chain(self.claims.keys().map(|&prefix| keys.claim(prefix)))
            .chain(self.reservations.keys().map(|&prefix| keys.reservation(prefix)))
            .chain(self.reservation_set.map(|_| keys.reservation_set()))
            .chain(self.freed.keys().map(|&prefix| keys.freed(prefix)))
            .chain(self.nodes.keys().map(|name| keys.node(name)))
            .chain(self.sessions.keys().map(|name| keys.session(name)))
            .chain(self.controllers.keys().map(|id| keys.controller(id)))
            .chain(self.verdicts.keys().map(|(node, controller)| keys.verdict(node, controller)))
    }

    /// The last revision that changed what agents see.
    pub fn published(&self) -> Revision {
        self.published
    }

    /// The store's own record.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// What holds for all agents.
    pub fn control(&self) -> Control {
        self.control
    }

    /// All pools.
    pub fn pools(&self) -> &BTreeMap<PoolName, View<Pool>> {
        &self.pools
    }

    /// All claims.
    pub fn claims(&self) -> &BTreeMap<Prefix, View<ClaimRecord>> {
        &self.claims
    }

    /// All reservations.
    pub fn reservations(&self) -> &BTreeMap<Prefix, View<ReservationRecord>> {
        &self.reservations
    }

    /// The revision that last changed a reservation; `None` if there never was one.
    pub fn reservation_set(&self) -> Option<Revision> {
        self.reservation_set
    }

    /// All prefixes in quarantine.
    pub fn freed(&self) -> &BTreeMap<Prefix, View<FreedRecord>> {
        &self.freed
    }

    /// What of the prefixes in quarantine a host had last.
    pub fn had(&self, node_id: NodeId) -> Option<Prefix> {
        self.had.get(&node_id).copied()
    }

    /// What is reserved for a node.
    pub fn reserved_for(&self, node: &NodeName) -> Option<Prefix> {
        self.reserved_for.get(node).copied()
    }

    /// All that is spoken for.
    pub fn occupied(&self) -> &Occupied {
        &self.occupied
    }

    /// All nodes.
    pub fn nodes(&self) -> &BTreeMap<NodeName, View<NodeRecord>> {
        &self.nodes
    }

    /// All sessions.
    pub fn sessions(&self) -> &BTreeMap<NodeName, View<SessionRecord>> {
        &self.sessions
    }

    /// All controllers.
    pub fn controllers(&self) -> &BTreeMap<String, View<ControllerRecord>> {
        &self.controllers
    }

    /// What controllers' agents see of nodes whose agents are gone, by node and controller.
    pub fn verdicts(&self) -> &BTreeMap<(NodeName, String), View<VerdictRecord>> {
        &self.verdicts
    }

    /// What all controllers' agents together see of `node`: that it forwards, if any of them says so. The time is that of
    /// the first who said it.
    pub fn verdict(&self, node: &NodeName) -> Option<VerdictRecord> {
        let of_node = self.verdicts.range((node.clone(), String::new())..);
        let records: Vec<_> =
            of_node.take_while(|((of, _), _)| of == node).map(|(_, verdict)| verdict.record).collect();
        let forwarding = records.iter().any(|record| record.forwarding);
        let agreeing = records.into_iter().filter(|record| record.forwarding == forwarding);
        agreeing.min_by_key(|record| record.since_unix_ms)
    }

    /// All nodes as agents see them.
    pub fn peers(&self) -> &BTreeMap<NodeName, Peer> {
        &self.peers
    }

    /// How many claims lie in `pool`.
    pub fn claims_in(&self, pool: &Pool) -> usize {
        inside(&self.claims, pool.prefix).count()
    }

    /// The reservations in `pool`.
    pub fn reservations_in(&self, pool: &Pool) -> impl Iterator<Item = (Prefix, &ReservationRecord)> {
        inside(&self.reservations, pool.prefix).map(|(prefix, view)| (*prefix, &view.record))
    }
}

/// What of `records` is in `prefix`.
fn inside<T>(records: &BTreeMap<Prefix, T>, prefix: Prefix) -> impl Iterator<Item = (&Prefix, &T)> {
    let last = Prefix::containing(prefix.last_addr(), 128).unwrap_or(prefix);
    records.range(prefix..=last)
}

/// As [`keep`], for prefixes that are not to be handed out from then on.
fn keep_prefix<R: Record>(
    records: &mut BTreeMap<Prefix, View<R>>,
    occupied: &mut Occupied,
    prefix: Prefix,
    entry: &Entry,
) -> Result<(), RecordError> {
    let known = records.contains_key(&prefix);
    keep(records, prefix, entry)?;
    if !known {
        occupied.insert(prefix, Kind::Taken);
    }
    Ok(())
}

fn keep<K: Ord, R: Record>(
    records: &mut BTreeMap<K, View<R>>,
    key: K,
    entry: &Entry,
) -> Result<(), RecordError> {
    let record = R::decode(&entry.value)?;
    records.insert(key, View { record, created: entry.created, modified: entry.modified });
    Ok(())
}

#[cfg(test)]
mod tests;
