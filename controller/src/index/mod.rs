//! The controller's view of the store, and the part of it that is sent to agents.
//!
//! One task ([`task`]) writes it, from the registry's watch; all others read. [`state`] is the pure part: it applies
//! batches and returns the changes for agents. [`ring`] keeps the last changes, encoded once, for all streams.

mod commit;
mod few;
mod holdings;
mod infrastructure;
mod names;
mod occupied;
mod recent;
mod ring;
mod state;
mod task;

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use sextant_proto::{Control, Incarnation, Mark, Revision};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

pub use holdings::Holdings;
pub use infrastructure::{Infrastructure, User};
pub use names::Names;
pub use occupied::{Among, Kind, Occupied};
pub use ring::{Frame, Since};
pub use state::{State, StoreReplaced, View};
pub use task::{IndexTask, StartError};

use few::Few;
use recent::Recent;
use ring::Ring;

/// The octets of deltas that are kept for streams that lag or reconnect.
const RING_BYTES: usize = 32 << 20;

/// The shared, readable index.
#[derive(Debug, Clone)]
pub struct Index {
    shared: Arc<Shared>,
    /// The last applied revision of the store.
    seen: watch::Receiver<Revision>,
    /// The last revision with changes for agents.
    published: watch::Receiver<Revision>,
    /// The last revision that changed which nodes are revoked.
    denied: watch::Receiver<Revision>,
    /// Makes the task list the store again.
    reconsider: Arc<Notify>,
}

#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    ring: Mutex<Ring>,
    snapshot: Mutex<Option<Snapshot>>,
    recent: Mutex<Recent>,
}

/// A snapshot for agents at one revision, encoded.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The store's incarnation.
    pub incarnation: Incarnation,
    /// The revision of the last delta that it includes.
    pub revision: Revision,
    /// Whether the incarnation's recovery window is open.
    pub recovering: bool,
    /// The control settings of all agents.
    pub control: Control,
    /// The last mark of the store's history.
    pub mark: Option<Mark>,
    /// Encoded `SnapshotChunk`s.
    pub chunks: Arc<Vec<Bytes>>,
}

impl Index {
    /// Reads from the state under a read lock; must be short.
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.shared.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The last applied revision of the store. Read [`published`](Self::published) after it.
    pub fn seen(&self) -> Revision {
        *self.seen.borrow()
    }

    /// The last revision with changes for agents.
    pub fn published(&self) -> Revision {
        *self.published.borrow()
    }

    /// Whether a revision may have been made within the last six seconds; it may be one from before this controller's start.
    pub fn is_new(&self, revision: Revision) -> bool {
        let recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.has(revision, Instant::now())
    }

    /// Notifies of each change for agents.
    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.published.clone()
    }

    /// Notifies of each change of which members of the cluster are revoked.
    pub fn subscribe_to_denials(&self) -> watch::Receiver<Revision> {
        self.denied.clone()
    }

    /// The deltas after `revision`, or that they are no longer kept.
    pub fn since(&self, revision: Revision) -> Since {
        self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner).since(revision)
    }

    /// Requests a new listing, after a sign that the store was replaced.
    pub fn reconsider(&self) {
        self.reconsider.notify_one();
    }

    /// Waits until the index has seen `revision` of the store; `false` if it has not within `patience`.
    pub async fn reaches(&self, revision: Revision, patience: Duration) -> bool {
        let mut seen = self.seen.clone();
        let reached = seen.wait_for(|seen| *seen >= revision);
        matches!(tokio::time::timeout(patience, reached).await, Ok(Ok(_)))
    }

    /// The current snapshot, encoded once per revision.
    pub fn snapshot(&self) -> Snapshot {
        let mut cached = self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        self.read(|state| match &*cached {
            Some(snapshot) if snapshot.revision == state.published() => snapshot.clone(),
            _ => cached.insert(state.snapshot()).clone(),
        })
    }
}
