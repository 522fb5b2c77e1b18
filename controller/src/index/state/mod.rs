//! The index's content, and the changes for agents that follow from a change of the store. Pure.

mod chunks;
mod read;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use prost::Message;
use sextant_proto::{Control, NodeId, NodeName, Peer, PeerClaim, Pool, PoolName, Revision, v1};

use self::chunks::chunks;
use super::{Holdings, Names, Snapshot, User, infrastructure};
use crate::{
    elapsed::Elapsed,
    keys::{Key, Keys, Member},
    lineage::History,
    records::{
        ControlRecord, ControllerRecord, DenialRecord, DoubtRecord, HeldClaim, MarkRecord, MemberDenial,
        Meta, NodeIdentity, NodeRecord, Record, RecordError, RemovalsRecord, SessionRecord, VerdictRecord,
    },
    registry::{Batch, Entry, Event, Listing},
};

/// A record, and the revisions of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View<R> {
    /// The record.
    pub record: R,
    /// The create revision.
    pub created: Revision,
    /// The modify revision.
    pub modified: Revision,
}

/// All records of the cluster, and the agents' view of them.
#[derive(Debug)]
pub struct State {
    keys: Keys,
    /// The last revision with changes for agents.
    published: Revision,
    meta: Meta,
    /// As in the store, including fields of newer versions.
    meta_value: Bytes,
    lineage: History,
    doubts: BTreeMap<NodeName, View<DoubtRecord>>,
    control: Control,
    removals: Option<View<RemovalsRecord>>,
    elapsed: Option<View<Elapsed>>,
    pools: BTreeMap<PoolName, View<Pool>>,
    holdings: Holdings,
    nodes: BTreeMap<NodeName, View<NodeRecord>>,
    names: Names,
    denials: BTreeMap<NodeName, View<DenialRecord>>,
    member_denials: BTreeMap<Member, View<MemberDenial>>,
    identities: BTreeMap<NodeName, View<NodeIdentity>>,
    sessions: BTreeMap<NodeName, View<SessionRecord>>,
    controllers: BTreeMap<String, View<ControllerRecord>>,
    /// By node and controller.
    verdicts: BTreeMap<(NodeName, String), View<VerdictRecord>>,
    peers: BTreeMap<NodeName, Peer>,
}

/// The parts of the agents' view that a batch touched.
#[derive(Debug, Default)]
struct Touched {
    meta: bool,
    control: bool,
    mark: bool,
    pools: BTreeSet<PoolName>,
    nodes: BTreeSet<NodeName>,
}

/// An error that stops the index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "meta/store is {0}: the store was wiped or replaced; no changes are sent to agents until the controller restarts"
)]
pub struct StoreReplaced(pub(super) &'static str);

/// The result of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The encoded delta, if there are changes for agents.
    Delta(Option<Bytes>),
    /// A restore has ended: the store must be listed again.
    Anew,
}

impl State {
    /// The state from a `listing` of the whole cluster, for the store `meta`.
    pub fn new(keys: Keys, meta: Meta, listing: &Listing) -> Result<Self, StoreReplaced> {
        let mut state = Self {
            keys,
            published: listing.revision,
            meta_value: meta.encode(),
            meta,
            lineage: History::default(),
            doubts: BTreeMap::new(),
            control: Control::default(),
            removals: None,
            elapsed: None,
            pools: BTreeMap::new(),
            holdings: Holdings::loading(),
            nodes: BTreeMap::new(),
            names: Names::default(),
            denials: BTreeMap::new(),
            member_denials: BTreeMap::new(),
            identities: BTreeMap::new(),
            sessions: BTreeMap::new(),
            controllers: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            peers: BTreeMap::new(),
        };
        let mut touched = Touched::default();
        for entry in &listing.entries {
            state.put(entry, &mut touched)?;
        }
        state.holdings.loaded();
        for name in touched.nodes {
            state.refresh_peer(&name);
        }
        Ok(state)
    }

    /// Applies a batch. During a restore nothing is published to agents.
    pub fn apply(&mut self, batch: &Batch) -> Result<Applied, StoreReplaced> {
        if self.ends_restore(batch) {
            return Ok(Applied::Anew);
        }
        let mut touched = Touched::default();
        for event in &batch.events {
            match event {
                Event::Put(entry) => self.put(entry, &mut touched)?,
                Event::Deleted { key, .. } => self.delete(key, &mut touched)?,
            }
        }
        if self.meta.restoring {
            return Ok(Applied::Delta(None));
        }
        let mark = touched.mark.then(|| self.mark()).flatten().map(Into::into);
        let changes = self.changes(touched);
        if changes.is_empty() {
            return Ok(Applied::Delta(None));
        }
        let delta = v1::Delta { since: self.published.0, revision: batch.revision.0, changes, mark };
        self.published = batch.revision;
        Ok(Applied::Delta(Some(delta.encode_to_vec().into())))
    }

    /// Whether the batch completes or undoes a restore.
    fn ends_restore(&self, batch: &Batch) -> bool {
        let key = self.keys.meta();
        let metas = batch.events.iter().filter_map(|event| match event {
            Event::Put(entry) if entry.key == key => Meta::decode(&entry.value).ok(),
            _ => None,
        });
        let here = self.meta.incarnation;
        let follows = |meta: &Meta| meta.incarnation == here || meta.replaces == Some(here);
        metas.last().is_some_and(|meta| {
            // A whole restore may have passed while the watch was lost.
            let unseen = meta.incarnation != here && batch.revision > self.published;
            !meta.restoring && follows(&meta) && (self.meta.restoring || unseen)
        })
    }

    fn put(&mut self, entry: &Entry, touched: &mut Touched) -> Result<(), StoreReplaced> {
        let Some(key) = self.keys.parse(&entry.key) else {
            return Ok(());
        };
        if let Err(error) = self.put_record(key, entry, touched)? {
            // What was known stays: one bad record is no reason to take routes away (DESIGN I5, I10).
            tracing::warn!(key = entry.key, %error, "record of the store cannot be decoded; skipped");
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
            Key::Removals => self.put_removals(entry, touched),
            Key::Elapsed => self.put_elapsed(entry),
            Key::Pool(name) => {
                let before = self.pools.get(&name).map(|pool| pool.record.clone());
                let kept = keep(&mut self.pools, name.clone(), entry);
                if self.pools.get(&name).map(|pool| &pool.record) != before.as_ref() {
                    touched.pools.insert(name);
                }
                kept
            }
            Key::Claim(prefix) => self.holdings.put_claim(prefix, entry).map(|()| {
                let claim = self.holdings.claims().get(&prefix);
                touched.nodes.extend(claim.map(|claim| claim.record.node.clone()));
            }),
            Key::Reservation(prefix) => self.holdings.put_reservation(prefix, entry),
            Key::ReservationSet => {
                self.holdings.put_reservation_set(Some(entry.modified));
                Ok(())
            }
            Key::Freed(prefix) => self.holdings.put_freed(prefix, entry),
            Key::Doubt(node) => keep(&mut self.doubts, node, entry),
            Key::Mark(id) => MarkRecord::decode(&entry.value).map(|mark| {
                self.lineage.put(id, entry.modified, &mark);
                touched.mark = true;
            }),
            Key::Node(name) => {
                touched.nodes.insert(name.clone());
                let before = self.node_id(&name);
                let kept = keep(&mut self.nodes, name.clone(), entry);
                self.names.put(&name, before, self.node_id(&name));
                self.node_stands_on(name);
                kept
            }
            Key::Denial(name) => keep(&mut self.denials, name, entry),
            Key::MemberDenial(member) => keep(&mut self.member_denials, member, entry),
            Key::Identity(name) => keep(&mut self.identities, name, entry),
            Key::Session(name) => {
                touched.nodes.insert(name.clone());
                keep(&mut self.sessions, name, entry)
            }
            Key::Controller(id) => {
                let kept = keep(&mut self.controllers, id.clone(), entry);
                self.controller_stands_on(id);
                kept
            }
            Key::Verdict(node, controller) => keep(&mut self.verdicts, (node, controller), entry),
        };
        Ok(put)
    }

    fn node_id(&self, name: &NodeName) -> Option<NodeId> {
        self.nodes.get(name).map(|node| node.record.node_id)
    }

    fn node_stands_on(&mut self, name: NodeName) {
        let addresses = self.nodes.get(&name).map(|node| infrastructure::of_node(&node.record));
        self.holdings.stand_on(User::Host(name), addresses.unwrap_or_default());
    }

    fn controller_stands_on(&mut self, id: String) {
        let addresses = self.controllers.get(&id).map(|it| infrastructure::of_controller(&it.record));
        self.holdings.stand_on(User::Controller(id), addresses.unwrap_or_default());
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
                self.meta_value = entry.value.clone();
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    fn put_control(&mut self, entry: &Entry, touched: &mut Touched) -> Result<(), RecordError> {
        let ControlRecord { paused } = ControlRecord::decode(&entry.value)?;
        let resumed = if paused { self.control.resumed } else { entry.modified };
        let control = Control { paused, resumed, ..self.control };
        touched.control |= control != self.control;
        self.control = control;
        Ok(())
    }

    fn put_removals(&mut self, entry: &Entry, touched: &mut Touched) -> Result<(), RecordError> {
        let record = RemovalsRecord::decode(&entry.value)?;
        touched.control |= self.control.confirmed_removals != record.confirmed;
        self.control.confirmed_removals = record.confirmed;
        self.removals = Some(View { record, created: entry.created, modified: entry.modified });
        Ok(())
    }

    fn put_elapsed(&mut self, entry: &Entry) -> Result<(), RecordError> {
        let record = Elapsed::decode(&entry.value)?;
        self.elapsed = Some(View { record, created: entry.created, modified: entry.modified });
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
            // Agents keep the count that they have.
            Some(Key::Removals) => self.removals = None,
            Some(Key::Elapsed) => self.elapsed = None,
            Some(Key::Pool(name)) => {
                self.pools.remove(&name);
                touched.pools.insert(name);
            }
            Some(Key::Claim(prefix)) => {
                touched.nodes.extend(self.holdings.remove_claim(prefix).map(|claim| claim.node));
            }
            Some(Key::Reservation(prefix)) => self.holdings.remove_reservation(prefix),
            Some(Key::ReservationSet) => self.holdings.put_reservation_set(None),
            Some(Key::Freed(prefix)) => self.holdings.remove_freed(prefix),
            Some(Key::Doubt(node)) => {
                self.doubts.remove(&node);
            }
            Some(Key::Mark(id)) => self.lineage.remove(id),
            Some(Key::Node(name)) => {
                let before = self.nodes.remove(&name).map(|node| node.record.node_id);
                self.names.put(&name, before, None);
                touched.nodes.insert(name);
            }
            Some(Key::Denial(name)) => drop(self.denials.remove(&name)),
            Some(Key::MemberDenial(member)) => drop(self.member_denials.remove(&member)),
            Some(Key::Identity(name)) => drop(self.identities.remove(&name)),
            Some(Key::Session(name)) => {
                self.sessions.remove(&name);
                touched.nodes.insert(name);
            }
            Some(Key::Controller(id)) => {
                self.controllers.remove(&id);
                self.controller_stands_on(id);
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

    /// Recomputes the node's [`Peer`]; returns whether it has changed.
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
        let claims: Vec<_> = node.claims.iter().filter_map(|held| self.claim_of(name, node, held)).collect();
        (!claims.is_empty()).then(|| Peer {
            name: name.clone(),
            claims,
            next_hops: node.next_hops(),
            session: self.sessions.contains_key(name),
            drain_timeout: node.drain_timeout,
        })
    }

    /// A claim of a node, if it is the node's own.
    fn claim_of(&self, name: &NodeName, node: &NodeRecord, held: &HeldClaim) -> Option<PeerClaim> {
        let claim = self.claims().get(&held.prefix).filter(|claim| claim.record.node == *name)?;
        Some(PeerClaim {
            prefix: held.prefix,
            pool: held.pool.clone(),
            claimed: claim.created,
            state: node.state_for(held),
            phase: held.phase,
        })
    }

    /// Encodes the agents' view.
    pub(super) fn snapshot(&self) -> Snapshot {
        let pools = self.pools.values().map(|pool| (&pool.record).into()).collect();
        let chunks = chunks(pools, self.peers.values().map(Into::into)).into_iter();
        let chunks = chunks.map(|chunk| chunk.encode_to_vec().into()).collect();
        Snapshot {
            incarnation: self.meta.incarnation,
            revision: self.published,
            recovering: self.meta.recovering,
            control: self.control,
            mark: self.mark(),
            chunks: Arc::new(chunks),
        }
    }

    /// The keys of all records, and of `meta/store`.
    pub(super) fn known_keys(&self) -> impl Iterator<Item = String> {
        let keys = &self.keys;
        std::iter::once(keys.meta())
            .chain(self.elapsed.as_ref().map(|_| keys.elapsed()))
            .chain(self.pools.keys().map(|name| keys.pool(name)))
            .chain(self.holdings.keys(keys))
            .chain(self.lineage.ids().map(|id| keys.mark(id)))
            .chain(self.doubts.keys().map(|node| keys.doubt(node)))
            .chain(self.nodes.keys().map(|name| keys.node(name)))
            .chain(self.denials.keys().map(|name| keys.denial(name)))
            .chain(self.member_denials.keys().map(|member| keys.member_denial(member)))
            .chain(self.identities.keys().map(|name| keys.identity(name)))
            .chain(self.sessions.keys().map(|name| keys.session(name)))
            .chain(self.controllers.keys().map(|id| keys.controller(id)))
            .chain(self.verdicts.keys().map(|(node, controller)| keys.verdict(node, controller)))
    }
}

pub(super) fn keep<K: Ord, R: Record>(
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
