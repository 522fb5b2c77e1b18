//! The one task that writes the index.
//!
//! It waits for the registry's watch. If the watch ends, it lists again and continues; the difference is one delta, so
//! that the chain is not broken. It ends, and the process with it, only if the store itself was replaced.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use futures::StreamExt;
use sextant_daemon::{Failing, Outage, RECOVERED, Recovered, transition};
use sextant_proto::Revision;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    Index, RING_BYTES, Shared,
    ring::Ring,
    state::{Applied, State, StoreReplaced},
};
use crate::{
    keys::{Key, Keys},
    lineage::{Course, course, fork},
    records::{Meta, Record},
    registry::{Batch, Entry, Event, Listing, RegistryError, SharedRegistry, WatchEnded},
};

/// The pause before a new listing after a failure.
const RELIST_DELAY: Duration = Duration::from_millis(500);

/// The writer of an [`Index`].
#[derive(Debug)]
pub struct IndexTask {
    registry: Arc<RegistryHandle>,
    keys: Keys,
    shared: Arc<Shared>,
    seen: watch::Sender<Revision>,
    published: watch::Sender<Revision>,
    denied: watch::Sender<Revision>,
    reconsider: Arc<Notify>,
}

/// Why an index could not be created.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store did not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store was replaced meanwhile.
    #[error(transparent)]
    Replaced(#[from] StoreReplaced),
}

/// Why the task stopped following the watch.
enum Ended {
    Watch(WatchEnded),
    Restore,
    /// The store seems to have been replaced.
    Doubted,
}

/// The step after a batch or a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// It was applied and published; the watch continues.
    Continue,
    /// It was not applied, because a restore has ended: everything is read again.
    Restart,
}

/// The registry, printable.
struct RegistryHandle(SharedRegistry);

impl std::fmt::Debug for RegistryHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.describe())
    }
}

fn tell_not_listed(outage: &mut Outage, error: &RegistryError) {
    if let Some(Failing { failures, for_secs }) = outage.failed(Instant::now()) {
        tracing::warn!(%error, failures, for_secs, "store cannot be listed; retrying");
    }
}

impl Shared {
    fn has_seen(&self, revision: Revision) {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).note(revision, Instant::now());
    }
}

impl IndexTask {
    /// Lists the store `meta`, and creates its index.
    ///
    /// # Errors
    /// If the store does not answer, or was replaced.
    pub async fn start(
        registry: SharedRegistry,
        keys: Keys,
        meta: Meta,
    ) -> Result<(Self, Index), StartError> {
        let listing = registry.list(&keys.all()).await?;
        let state = State::new(keys.clone(), meta, &listing)?;
        let shared = Arc::new(Shared {
            state: RwLock::new(state),
            ring: Mutex::new(Ring::new(listing.revision, RING_BYTES)),
            snapshot: Mutex::new(None),
            recent: Mutex::default(),
        });
        shared.has_seen(listing.revision);
        let (seen, seen_rx) = watch::channel(listing.revision);
        let (published, published_rx) = watch::channel(listing.revision);
        let (denied, denied_rx) = watch::channel(listing.revision);
        let reconsider = Arc::new(Notify::new());
        let index = Index {
            shared: shared.clone(),
            seen: seen_rx,
            published: published_rx,
            denied: denied_rx,
            reconsider: reconsider.clone(),
        };
        let registry = Arc::new(RegistryHandle(registry));
        Ok((Self { registry, keys, shared, seen, published, denied, reconsider }, index))
    }

    /// Follows the store.
    ///
    /// # Errors
    /// If the store was replaced.
    pub async fn run(self) -> Result<(), StoreReplaced> {
        let mut outage = Outage::default();
        loop {
            match self.follow(&mut outage).await? {
                Ended::Watch(ended) => {
                    if let Some(Failing { failures, for_secs }) = outage.failed(Instant::now()) {
                        tracing::warn!(reason = %ended, failures, for_secs, "watch of the store ended; listing again");
                    }
                    transition("index", "following", "listing", "watch ended");
                    if self.relist(&mut outage).await? == Next::Restart {
                        self.read_anew(&mut outage).await?;
                    }
                }
                Ended::Restore => {
                    transition("index", "following", "listing", "restore");
                    self.read_anew(&mut outage).await?;
                }
                Ended::Doubted => {
                    transition("index", "following", "listing", "store doubted");
                    if self.relist(&mut outage).await? == Next::Restart {
                        self.read_anew(&mut outage).await?;
                    }
                }
            }
            transition("index", "listing", "following", "listed");
        }
    }

    async fn follow(&self, outage: &mut Outage) -> Result<Ended, StoreReplaced> {
        let after = *self.seen.borrow();
        let mut watch = self.registry.0.watch(self.keys.all(), after);
        outage.works(Instant::now());
        let recovered = tokio::time::sleep(RECOVERED);
        tokio::pin!(recovered);
        loop {
            // All are cancel safe.
            let next = tokio::select! {
                next = watch.next() => next,
                () = self.reconsider.notified() => return Ok(Ended::Doubted),
                () = &mut recovered, if outage.lasts() => {
                    if let Some(Recovered { failures, after_secs }) = outage.works(Instant::now()) {
                        tracing::info!(failures, after_secs, "store is watched again");
                    }
                    continue;
                }
            };
            match next {
                Some(Ok(batch)) => {
                    if self.apply(&batch)? == Next::Restart {
                        return Ok(Ended::Restore);
                    }
                }
                Some(Err(ended)) => return Ok(Ended::Watch(ended)),
                None => return Ok(Ended::Watch(WatchEnded::Lost("the stream ended".into()))),
            }
        }
    }

    fn apply(&self, batch: &Batch) -> Result<Next, StoreReplaced> {
        let delta = {
            let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
            let Applied::Delta(delta) = state.apply(batch)? else {
                return Ok(Next::Restart);
            };
            if let Some(delta) = &delta {
                // Under the state's lock, so that a snapshot and the ring never disagree.
                self.shared
                    .ring
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(batch.revision, delta.clone());
            }
            delta
        };
        // In this order: an agent that has all published changes must not count as one that has all seen changes.
        if delta.is_some() {
            self.published.send_replace(batch.revision);
        }
        if batch.events.iter().any(|event| self.is_denial(event)) {
            self.denied.send_replace(batch.revision);
        }
        self.shared.has_seen(batch.revision);
        self.seen.send_replace(batch.revision);
        Ok(Next::Continue)
    }

    fn is_denial(&self, event: &Event) -> bool {
        let (Event::Put(Entry { key, .. }) | Event::Deleted { key, .. }) = event;
        matches!(self.keys.parse(key), Some(Key::Denial(_) | Key::MemberDenial(_)))
    }

    /// Lists the store again after a restore; every stream gets a new snapshot.
    async fn read_anew(&self, outage: &mut Outage) -> Result<(), StoreReplaced> {
        loop {
            match self.registry.0.list(&self.keys.all()).await {
                Ok(listing) => return self.replace(&listing),
                Err(error) => tell_not_listed(outage, &error),
            }
            tokio::time::sleep(RELIST_DELAY).await;
        }
    }

    fn replace(&self, listing: &Listing) -> Result<(), StoreReplaced> {
        let key = self.keys.meta();
        let entry = listing.entries.iter().find(|entry| entry.key == key);
        let known = self.shared.state.read().unwrap_or_else(PoisonError::into_inner).meta().clone();
        let here = known.incarnation;
        let meta = entry.and_then(|entry| Meta::decode(&entry.value).ok()).unwrap_or(known);
        if meta.incarnation != here && meta.replaces != Some(here) {
            return Err(StoreReplaced("another one"));
        }
        tracing::info!(incarnation = %meta.incarnation, "store restored; listing again");
        let state = State::new(self.keys.clone(), meta, listing)?;
        {
            // In the order that readers take them.
            let mut snapshot = self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
            let mut shared = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
            let mut ring = self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner);
            (*snapshot, *shared, *ring) = (None, state, Ring::new(listing.revision, RING_BYTES));
        }
        self.published.send_replace(listing.revision);
        self.denied.send_replace(listing.revision);
        self.shared.has_seen(listing.revision);
        self.seen.send_replace(listing.revision);
        Ok(())
    }

    async fn relist(&self, outage: &mut Outage) -> Result<Next, StoreReplaced> {
        loop {
            match self.registry.0.list(&self.keys.all()).await {
                Ok(listing) => match self.course(&listing) {
                    Course::On => return self.apply(&self.difference(listing)),
                    Course::Successor => return Ok(Next::Restart),
                    Course::Back(why) => match self.fork(&why).await {
                        Ok(()) => return Ok(Next::Restart),
                        Err(error) => {
                            if let Some(Failing { failures, for_secs }) = outage.failed(Instant::now()) {
                                tracing::warn!(
                                    %error, why, failures, for_secs,
                                    "store reverted to a snapshot; new incarnation cannot be written; retrying"
                                );
                            }
                        }
                    },
                },
                Err(error) => tell_not_listed(outage, &error),
            }
            tokio::time::sleep(RELIST_DELAY).await;
        }
    }

    /// Compares the listing with the known history. Agents receive no deletes from a reverted store (DESIGN I6).
    fn course(&self, listing: &Listing) -> Course {
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        course(state.meta().incarnation, state.lineage(), &self.keys, *self.seen.borrow(), listing)
    }

    async fn fork(&self, why: &str) -> Result<(), RegistryError> {
        let here = self.shared.state.read().unwrap_or_else(PoisonError::into_inner).meta().incarnation;
        fork(&self.registry.0, &self.keys, here, why).await
    }

    /// The difference from the state to `listing`, as one batch.
    fn difference(&self, listing: Listing) -> Batch {
        let state = self.shared.state.read().unwrap_or_else(PoisonError::into_inner);
        let listed: std::collections::HashSet<&str> =
            listing.entries.iter().map(|entry| entry.key.as_str()).collect();
        let gone: Vec<Event> = state
            .known_keys()
            .filter(|key| !listed.contains(key.as_str()))
            .map(|key| Event::Deleted { key, revision: listing.revision })
            .collect();
        let revision = listing.revision;
        Batch { revision, events: listing.entries.into_iter().map(Event::Put).chain(gone).collect() }
    }
}
