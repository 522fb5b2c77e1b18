//! The occupied parts of the pools: claims, reservations, quarantined prefixes, and what the cluster stands on. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    net::Ipv6Addr,
};

use sextant_proto::{NodeId, NodeName, Pool, Prefix, Revision};

use super::{
    View,
    infrastructure::{Difference, Infrastructure, User},
    occupied::{Kind, Occupied},
    state::keep,
};
use crate::{
    keys::Keys,
    prefixes::{inside, overlapping},
    records::{ClaimRecord, FreedRecord, RecordError, ReservationRecord},
    registry::Entry,
};

/// All claims, reservations and quarantined prefixes, each also in one search tree of free prefixes.
#[derive(Debug, Default)]
pub struct Holdings {
    claims: BTreeMap<Prefix, View<ClaimRecord>>,
    reservations: BTreeMap<Prefix, View<ReservationRecord>>,
    reservation_set: Option<Revision>,
    freed: BTreeMap<Prefix, View<FreedRecord>>,
    had: HashMap<NodeId, Vec<Prefix>>,
    reserved_for: HashMap<NodeName, Vec<Prefix>>,
    infrastructure: Infrastructure,
    occupied: Occupied,
}

impl Holdings {
    /// For a listing of the whole store: until [`loaded`](Self::loaded) no free prefix must be searched.
    pub(super) fn loading() -> Self {
        Self { occupied: Occupied::loading(), ..Self::default() }
    }

    /// All of the listing is in.
    pub(super) fn loaded(&mut self) {
        self.occupied.loaded();
    }

    /// All claims.
    pub fn claims(&self) -> &BTreeMap<Prefix, View<ClaimRecord>> {
        &self.claims
    }

    /// A claim that overlaps `prefix`.
    pub fn claim_overlapping(&self, prefix: Prefix) -> Option<(Prefix, &View<ClaimRecord>)> {
        overlapping(&self.claims, prefix).next().map(|(other, claim)| (*other, claim))
    }

    /// The number of claims in `pool`.
    pub fn claims_in(&self, pool: &Pool) -> usize {
        inside(&self.claims, pool.prefix).count()
    }

    /// All reservations.
    pub fn reservations(&self) -> &BTreeMap<Prefix, View<ReservationRecord>> {
        &self.reservations
    }

    /// The reservations in `pool`.
    pub fn reservations_in(&self, pool: &Pool) -> impl Iterator<Item = (Prefix, &ReservationRecord)> {
        inside(&self.reservations, pool.prefix).map(|(prefix, view)| (*prefix, &view.record))
    }

    /// The reservation that contains `addr`.
    pub fn reservation_of(&self, addr: Ipv6Addr) -> Option<(Prefix, &ReservationRecord)> {
        let address = Prefix::containing(addr, 128)?;
        overlapping(&self.reservations, address).next().map(|(prefix, view)| (*prefix, &view.record))
    }

    /// The revision that last changed a reservation; `None` if there never was one.
    pub fn reservation_set(&self) -> Option<Revision> {
        self.reservation_set
    }

    /// The reservations for a node, one per pool.
    pub fn reserved_for(&self, node: &NodeName) -> &[Prefix] {
        self.reserved_for.get(node).map_or(&[], Vec::as_slice)
    }

    /// All prefixes in quarantine.
    pub fn freed(&self) -> &BTreeMap<Prefix, View<FreedRecord>> {
        &self.freed
    }

    /// The last holder of `addr`, while it is quarantined.
    pub fn freed_of(&self, addr: Ipv6Addr) -> Option<&FreedRecord> {
        // They may overlap, so it is asked for by each length.
        let around = (0..=128).rev().filter_map(|len| Prefix::containing(addr, len));
        around.filter_map(|prefix| self.freed.get(&prefix)).next().map(|view| &view.record)
    }

    /// The quarantined prefixes that a host held last, the newest first.
    pub fn had(&self, node_id: NodeId) -> &[Prefix] {
        self.had.get(&node_id).map_or(&[], Vec::as_slice)
    }

    /// All occupied prefixes.
    pub fn occupied(&self) -> &Occupied {
        &self.occupied
    }

    /// What the cluster stands on.
    pub fn infrastructure(&self) -> &Infrastructure {
        &self.infrastructure
    }

    /// The keys of all records.
    pub(super) fn keys<'a>(&'a self, keys: &'a Keys) -> impl Iterator<Item = String> + 'a {
        let claims = self.claims.keys().map(|&prefix| keys.claim(prefix));
        claims
            .chain(self.reservations.keys().map(|&prefix| keys.reservation(prefix)))
            .chain(self.reservation_set.map(|_| keys.reservation_set()))
            .chain(self.freed.keys().map(|&prefix| keys.freed(prefix)))
    }

    pub(super) fn put_claim(&mut self, prefix: Prefix, entry: &Entry) -> Result<(), RecordError> {
        let known = self.claims.contains_key(&prefix);
        keep(&mut self.claims, prefix, entry)?;
        if !known {
            self.occupied.insert(prefix, Kind::Taken);
        }
        Ok(())
    }

    pub(super) fn remove_claim(&mut self, prefix: Prefix) -> Option<ClaimRecord> {
        let claim = self.claims.remove(&prefix)?;
        self.occupied.remove(prefix, Kind::Taken);
        Some(claim.record)
    }

    pub(super) fn put_reservation(&mut self, prefix: Prefix, entry: &Entry) -> Result<(), RecordError> {
        let before = self.reservations.get(&prefix).map(|view| view.record.node.clone());
        keep(&mut self.reservations, prefix, entry)?;
        match before {
            Some(node) => self.no_longer_for(node.as_ref(), prefix),
            None => self.occupied.insert(prefix, Kind::Taken),
        }
        if let Some(node) = self.reservations.get(&prefix).and_then(|view| view.record.node.clone()) {
            self.reserved_for.entry(node).or_default().insert(0, prefix);
        }
        Ok(())
    }

    pub(super) fn remove_reservation(&mut self, prefix: Prefix) {
        if let Some(gone) = self.reservations.remove(&prefix) {
            self.no_longer_for(gone.record.node.as_ref(), prefix);
            self.occupied.remove(prefix, Kind::Taken);
        }
    }

    fn no_longer_for(&mut self, node: Option<&NodeName>, prefix: Prefix) {
        if let Some(node) = node {
            remove_from(&mut self.reserved_for, node, prefix);
        }
    }

    pub(super) fn put_reservation_set(&mut self, modified: Option<Revision>) {
        self.reservation_set = modified;
    }

    /// `user` stands on exactly these addresses from now on.
    pub(super) fn stand_on(&mut self, user: User, addresses: BTreeSet<Ipv6Addr>) {
        let Difference { new, gone } = self.infrastructure.put(user, addresses);
        // The search tree has no room for a single address; a host prefix contains both of a pair.
        let pair = |addr: Ipv6Addr| Prefix::containing(addr, 127);
        new.into_iter().filter_map(pair).for_each(|pair| self.occupied.insert(pair, Kind::Infrastructure));
        gone.into_iter().filter_map(pair).for_each(|pair| self.occupied.remove(pair, Kind::Infrastructure));
    }

    pub(super) fn put_freed(&mut self, prefix: Prefix, entry: &Entry) -> Result<(), RecordError> {
        let before = self.freed.get(&prefix).map(|view| view.record.node_id);
        keep(&mut self.freed, prefix, entry)?;
        match before {
            Some(node_id) => remove_from(&mut self.had, &node_id, prefix),
            None => self.occupied.insert(prefix, Kind::Quarantined),
        }
        if let Some(view) = self.freed.get(&prefix) {
            self.had.entry(view.record.node_id).or_default().insert(0, prefix);
        }
        Ok(())
    }

    pub(super) fn remove_freed(&mut self, prefix: Prefix) {
        if let Some(freed) = self.freed.remove(&prefix) {
            remove_from(&mut self.had, &freed.record.node_id, prefix);
            self.occupied.remove(prefix, Kind::Quarantined);
        }
    }
}

/// Removes one of the prefixes of `key`.
fn remove_from<K: Eq + Hash>(all: &mut HashMap<K, Vec<Prefix>>, key: &K, prefix: Prefix) {
    if let Some(prefixes) = all.get_mut(key) {
        prefixes.retain(|it| *it != prefix);
        if prefixes.is_empty() {
            all.remove(key);
        }
    }
}
