//! The store: a small transactional key-value store (DESIGN §6).
//!
//! [`Registry`] is the only edge to the stored data. It knows keys and octets only; the modules above define their
//! meaning. Every implementation passes the suite in `conformance`.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;
pub mod etcd;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod txn;

use std::{pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::Stream;
use sextant_proto::Revision;

pub use txn::{Guard, KeyRange, Op, Outcome, Txn};

/// A key with its value, and its create and modify revisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Bytes,
    /// The revision that created the key. A key that is deleted and put again has a new one.
    pub created: Revision,
    /// The revision that last put the key.
    pub modified: Revision,
    /// The lease that the key ends with, if any.
    pub lease: Option<LeaseId>,
}

/// All keys of a range at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The store's revision at the read: not older than the call (linearizable).
    pub revision: Revision,
    /// In key order.
    pub entries: Vec<Entry>,
}

/// The keys of several ranges, all at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The store's revision at the read: not older than the call (linearizable).
    pub revision: Revision,
    /// For each range, in the requested order, its keys in key order.
    pub ranges: Vec<Vec<Entry>>,
}

impl Reading {
    /// The entry of the range at `index`, which was requested as a single key.
    pub fn entry(&self, index: usize) -> Option<&Entry> {
        self.ranges.get(index).and_then(|entries| entries.first())
    }
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The key has a new value.
    Put(Entry),
    /// The key was deleted, or its lease has ended.
    Deleted {
        /// The key.
        key: String,
        /// The revision of the deletion.
        revision: Revision,
    },
}

/// All changes of one revision that fall into the watched range, never split.
///
/// Without changes it means that all changes of the range up to the revision were delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The revision.
    pub revision: Revision,
    /// Its changes, at most one per key.
    pub events: Vec<Event>,
}

/// A lease: keys that were put with it are deleted when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// A failed request to the store.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// The store is unreachable or cannot write. Nothing was applied; a retry may succeed.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// A transaction may or may not have been applied: a read shows which.
    #[error("outcome unknown: {0}")]
    Unknown(String),
    /// The lease does not exist or has ended.
    #[error("lease {} has ended", .0.0)]
    LeaseEnded(LeaseId),
    /// The store's content cannot be read; an operator must repair it.
    #[error("store content: {0}")]
    Corrupt(String),
}

/// Why a store refuses changes. It may still answer reads and keep leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The store, the reason and the fix.
    pub reason: String,
    /// Since when.
    pub since_unix_ms: u64,
}

/// Why a watch ended. The watcher lists the range again, and watches from that revision.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WatchEnded {
    /// The requested revision, or the watcher, is too far behind.
    #[error("compacted: changes since revision {0} are no longer kept")]
    Compacted(Revision),
    /// The store became unavailable.
    #[error("watch lost: {0}")]
    Lost(String),
}

/// A stream of batches in the order of their revisions, without gaps; its last item is its error.
pub type Watch = Pin<Box<dyn Stream<Item = Result<Batch, WatchEnded>> + Send>>;

/// A transactional key-value store with a total order of changes.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// Its name in messages, e.g. `embedded:/var/lib/sextant/store`.
    fn describe(&self) -> String;

    /// The fix if it does not answer; empty if its errors contain one.
    fn fix(&self) -> &'static str {
        ""
    }

    /// Why it refuses changes now, if it does.
    fn refusal(&self) -> Option<Refusal> {
        None
    }

    /// All keys of `range`, linearizable.
    async fn list(&self, range: &KeyRange) -> Result<Listing, RegistryError>;

    /// The keys of all `ranges` at one revision, linearizable: one call reads all inputs of a decision.
    /// For ranges of few keys: etcd answers with one message, of at most 4 MiB.
    async fn read(&self, ranges: &[KeyRange]) -> Result<Reading, RegistryError>;

    /// Applies all of `txn` at one new revision if all its guards hold, else nothing.
    ///
    /// A key may be in at most one of its operations.
    async fn commit(&self, txn: Txn) -> Result<Outcome, RegistryError>;

    /// Every change of `range` after revision `after`, as it happens.
    fn watch(&self, range: KeyRange, after: Revision) -> Watch;

    /// A new lease that ends `ttl` after its last keep-alive. A restart of the store may extend it by up to another
    /// `ttl`, never less.
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, RegistryError>;

    /// Keeps a lease alive for another TTL.
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), RegistryError>;

    /// Ends a lease now, and its keys with it.
    async fn revoke(&self, lease: LeaseId) -> Result<(), RegistryError>;
}

/// A shared registry.
pub type SharedRegistry = Arc<dyn Registry>;
