//! The content of a store in a map; a lease's keys are found by a scan.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use bytes::Bytes;
use sextant_proto::Revision;

use crate::registry::{
    Entry, KeyRange, LeaseId,
    embedded::apply::{self, KeyMeta},
};

/// The content of a store in memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Content {
    pub(in crate::registry) revision: Revision,
    pub(in crate::registry) entries: BTreeMap<String, Entry>,
    pub(in crate::registry) leases: BTreeMap<LeaseId, Duration>,
    pub(in crate::registry) granted: u64,
}

impl Content {
    /// The store's revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The entries of a range, in key order.
    pub fn within(&self, range: &KeyRange) -> Vec<Entry> {
        let inside = self.entries.iter().filter(|(key, _)| range.contains(key));
        inside.map(|(_, entry)| entry.clone()).collect()
    }

    fn lease_of(&self, key: &str) -> Option<LeaseId> {
        self.entries.get(key).and_then(|entry| entry.lease)
    }
}

impl apply::Content for Content {
    type Error = Infallible;

    fn revision(&self) -> Revision {
        self.revision
    }

    fn set_revision(&mut self, revision: Revision) {
        self.revision = revision;
    }

    fn key_meta(&self, key: &str) -> Result<Option<KeyMeta>, Infallible> {
        Ok(self.entries.get(key).map(|entry| KeyMeta {
            created: entry.created,
            modified: entry.modified,
            lease: entry.lease,
        }))
    }

    fn value(&self, key: &str) -> Result<Option<Bytes>, Infallible> {
        Ok(self.entries.get(key).map(|entry| entry.value.clone()))
    }

    fn any_in(&self, range: &KeyRange) -> Result<bool, Infallible> {
        Ok(self.entries.keys().any(|key| range.contains(key)))
    }

    fn has_lease(&self, lease: LeaseId) -> Result<bool, Infallible> {
        Ok(self.leases.contains_key(&lease))
    }

    fn keys_of(&self, lease: LeaseId) -> Result<Vec<String>, Infallible> {
        let of = |entry: &&Entry| entry.lease == Some(lease);
        Ok(self.entries.values().filter(of).map(|entry| entry.key.clone()).collect())
    }

    fn put(&mut self, entry: &Entry, before: Option<LeaseId>) -> Result<(), Infallible> {
        assert_eq!(self.lease_of(&entry.key), before, "the lease before of {}", entry.key);
        self.entries.insert(entry.key.clone(), entry.clone());
        Ok(())
    }

    fn delete(&mut self, key: &str, before: Option<LeaseId>) -> Result<(), Infallible> {
        assert_eq!(self.lease_of(key), before, "the lease before of {key}");
        self.entries.remove(key).expect("only an existing key is deleted");
        Ok(())
    }

    fn add_lease(&mut self, ttl: Duration) -> Result<LeaseId, Infallible> {
        self.granted += 1;
        self.leases.insert(LeaseId(self.granted), ttl);
        Ok(LeaseId(self.granted))
    }

    fn remove_lease(&mut self, lease: LeaseId) -> Result<(), Infallible> {
        assert_eq!(self.keys_of(lease)?, Vec::<String>::new(), "a lease goes after its keys");
        self.leases.remove(&lease);
        Ok(())
    }
}
