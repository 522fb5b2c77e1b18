//! Watches: streams of the ring's changes.
//!
//! A watcher buffers only the changes that it is delivering; it pulls from the ring by the last revision it saw. So catching
//! up and following are the same operation: no change is lost or delivered twice between them.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::stream;
use sextant_proto::Revision;
use tokio::sync::watch;

use super::ring::Ring;
use crate::registry::{Batch, KeyRange, Watch, WatchEnded};

/// The writer's end: it ends all watches when it is dropped.
#[derive(Debug)]
pub struct Publisher {
    ring: Arc<Mutex<Ring>>,
    /// The revision of the last change in the ring.
    newest: watch::Sender<Revision>,
}

/// Creates watches.
#[derive(Debug, Clone)]
pub struct Feed {
    ring: Arc<Mutex<Ring>>,
    newest: watch::Receiver<Revision>,
}

/// A ring of `bound` events after `revision`, its publisher and its feed.
pub fn feed(bound: usize, revision: Revision) -> (Publisher, Feed) {
    let ring = Arc::new(Mutex::new(Ring::new(bound, revision)));
    let (sender, newest) = watch::channel(revision);
    let publisher = Publisher { ring: Arc::clone(&ring), newest: sender };
    (publisher, Feed { ring, newest })
}

impl Publisher {
    /// Publishes the changes of a group to the watchers, in order.
    pub fn publish(&self, batches: impl IntoIterator<Item = Batch>) {
        let mut newest = None;
        {
            let mut ring = lock(&self.ring);
            for batch in batches {
                newest = Some(batch.revision);
                ring.push(batch);
            }
        }
        if let Some(revision) = newest {
            self.newest.send_replace(revision);
        }
    }

    /// Ends all watches that have not seen `revision`: changes bypassed the ring.
    pub fn reset(&self, revision: Revision) {
        lock(&self.ring).reset(revision);
        self.newest.send_replace(revision);
    }
}

impl Feed {
    /// All changes of `range` after revision `after`.
    pub fn watch(&self, range: KeyRange, after: Revision) -> Watch {
        let watcher = Watcher { feed: self.clone(), range, seen: after, fetched: VecDeque::new() };
        Box::pin(stream::unfold(Some(watcher), |watcher| async move {
            let mut watcher = watcher?;
            match watcher.next().await {
                Ok(batch) => Some((Ok(batch), Some(watcher))),
                Err(ended) => Some((Err(ended), None)),
            }
        }))
    }
}

struct Watcher {
    feed: Feed,
    range: KeyRange,
    /// All changes up to it were fetched.
    seen: Revision,
    fetched: VecDeque<Batch>,
}

impl Watcher {
    async fn next(&mut self) -> Result<Batch, WatchEnded> {
        loop {
            if let Some(batch) = self.fetched.pop_front() {
                return Ok(batch);
            }
            // Marked as seen before the ring is read: a later publication wakes this watcher again.
            self.feed.newest.borrow_and_update();
            let more = self.fetch()?;
            if !more && self.fetched.is_empty() {
                let lost = |_| WatchEnded::Lost("the embedded store was closed".to_owned());
                self.feed.newest.changed().await.map_err(lost)?;
            }
        }
    }

    fn fetch(&mut self) -> Result<bool, WatchEnded> {
        let changes = lock(&self.feed.ring).after(self.seen, &self.range);
        let changes = changes.ok_or(WatchEnded::Compacted(self.seen))?;
        self.seen = changes.up_to;
        self.fetched.extend(changes.batches);
        Ok(changes.more)
    }
}

/// The ring stays consistent even if a holder of the lock panicked: each change is one assignment or push.
fn lock(ring: &Mutex<Ring>) -> MutexGuard<'_, Ring> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}
