//! The controller's view of the store, and what of it every agent sees.
//!
//! One task ([`task`]) writes it, fed by the registry's watch; everybody else reads. [`state`] is the pure part: it takes
//! batches and answers with what has changed for agents. [`ring`] keeps the last changes, encoded once, for all streams.

mod holdings;
mod occupied;
mod ring;
mod state;
mod task;

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use sextant_proto::{Control, Incarnation, Mark, Revision};
use tokio::sync::{Notify, watch};

pub use holdings::Holdings;
pub use occupied::{Among, Kind, Occupied};
pub use ring::{Frame, Since};
pub use state::{State, StoreReplaced, View};
pub use task::{IndexTask, StartError};

use ring::Ring;

/// How many octets of deltas are kept for streams that lag or come back.
const RING_BYTES: usize = 32 << 20;

/// The shared, readable index.
#[derive(Debug, Clone)]
pub struct Index {
    shared: Arc<Shared>,
    /// The last revision of the store that the index has seen.
    seen: watch::Receiver<Revision>,
    /// The last revision that changed what agents see.
    published: watch::Receiver<Revision>,
    /// Has the task list the store anew.
    reconsider: Arc<Notify>,
}

#[derive(Debug)]
struct Shared {
    state: RwLock<State>,
    ring: Mutex<Ring>,
    snapshot: Mutex<Option<Snapshot>>,
}

/// Everything that agents see at one revision, encoded.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The store's incarnation.
    pub incarnation: Incarnation,
    /// The revision of the last delta that is in it.
    pub revision: Revision,
    /// Whether the incarnation's recovery window is open.
    pub recovering: bool,
    /// What holds for all agents.
    pub control: Control,
    /// The last mark of the store's history.
    pub mark: Option<Mark>,
    /// Encoded `SnapshotChunk`s.
    pub chunks: Arc<Vec<Bytes>>,
}

impl Index {
    /// Reads from the state, without anybody writing meanwhile; must be short.
    pub fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.shared.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The last revision of the store that the index has seen. What is [`published`](Self::published) is read after it.
    pub fn seen(&self) -> Revision {
        *self.seen.borrow()
    }

    /// The last revision that changed what agents see.
    pub fn published(&self) -> Revision {
        *self.published.borrow()
    }

    /// Changes whenever what agents see does.
    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.published.clone()
    }

    /// The deltas after `revision`, or that they are no longer kept.
    pub fn since(&self, revision: Revision) -> Since {
        self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner).since(revision)
    }

    /// Somebody has seen that the store is not the one that the index is of: it is listed anew, and judged.
    pub fn reconsider(&self) {
        self.reconsider.notify_one();
    }

    /// Waits until the index has seen `revision` of the store; `false` if it has not within `patience`.
    pub async fn reaches(&self, revision: Revision, patience: Duration) -> bool {
        let mut seen = self.seen.clone();
        let reached = seen.wait_for(|seen| *seen >= revision);
        matches!(tokio::time::timeout(patience, reached).await, Ok(Ok(_)))
    }

    /// The present snapshot, encoded once for all who ask at one revision.
    pub fn snapshot(&self) -> Snapshot {
        let mut cached = self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        self.read(|state| match &*cached {
            Some(snapshot) if snapshot.revision == state.published() => snapshot.clone(),
            _ => cached.insert(state.snapshot()).clone(),
        })
    }
}
