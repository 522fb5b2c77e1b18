//! Deletes old audit entries: by age, in elapsed time, and by number, of which each principal has a share.
//!
//! One task, [`Sweeper::run`]: it sweeps at its start, once an hour, and whenever a good part of what is kept has been
//! written since, which it sees by a watch. Of several controllers the one with the lowest id sweeps; while they do not
//! agree on who that is, two may, which does no harm. It never ends: a store that does not answer is tried again.

use std::{convert::Infallible, time::Duration};

use futures::StreamExt;
use sextant_proto::Revision;
use tokio::time::Instant;

use crate::{
    audit::{AuditRecord, principal_of, surplus},
    index::Index,
    keys::Keys,
    records::Record,
    registry::{Entry, Event, Op, RegistryError, SharedRegistry, Txn},
};

/// How often to sweep without any news.
const PERIOD: Duration = Duration::from_secs(3600);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// How many entries one transaction deletes at most (etcd's own limit is 128).
const MOST_OPS: usize = 100;
/// The number of new entries that triggers a sweep.
const LEAST_NEWS: usize = 100;

/// What is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// The most entries; some more may exist until the next sweep.
    pub entries: usize,
    /// The longest age.
    pub age: Duration,
}

/// Keeps the entries bounded.
pub struct Sweeper {
    registry: SharedRegistry,
    keys: Keys,
    index: Index,
    me: String,
    keep: Keep,
}

impl Sweeper {
    /// The sweeper of the controller `me`.
    pub fn new(registry: SharedRegistry, keys: Keys, index: Index, me: String, keep: Keep) -> Self {
        Self { registry, keys, index, me, keep }
    }

    /// Sweeps whenever there is something to sweep.
    ///
    /// # Errors
    /// None: a store that does not answer is tried again.
    pub async fn run(self) -> Result<(), Infallible> {
        loop {
            if let Err(error) = self.sweep_if_mine().await {
                tracing::debug!(%error, "old audit entries cannot be deleted; retrying");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            self.news().await;
        }
    }

    async fn sweep_if_mine(&self) -> Result<(), RegistryError> {
        let first = self.index.read(|state| state.controllers().keys().next().cloned());
        if first.is_some_and(|first| first != self.me) {
            return Ok(());
        }
        let elapsed = self.index.read(|state| state.elapsed().map(|view| view.record.clone()));
        let since = |revision| elapsed.as_ref().map_or(Duration::ZERO, |elapsed| elapsed.since(revision));
        sweep(&self.registry, &self.keys, self.keep, since).await.map(|_| ())
    }

    /// Waits until much was written, or the time has come, or the watch has ended.
    async fn news(&self) {
        let enough = (self.keep.entries / 10).max(LEAST_NEWS);
        let mut watch = self.registry.watch(self.keys.audit(), self.index.seen());
        let deadline = Instant::now() + PERIOD;
        let mut written = 0;
        while written < enough {
            match tokio::time::timeout_at(deadline, watch.next()).await {
                Ok(Some(Ok(batch))) => {
                    written += batch.events.iter().filter(|event| matches!(event, Event::Put(_))).count();
                }
                Ok(_) => return tokio::time::sleep(RETRY).await,
                Err(_) => return,
            }
        }
    }
}

/// Deletes entries that are too old or too many; returns their number.
///
/// # Errors
/// If the store does not answer; entries deleted so far stay deleted.
async fn sweep(
    registry: &SharedRegistry,
    keys: &Keys,
    keep: Keep,
    since: impl Fn(Revision) -> Duration,
) -> Result<usize, RegistryError> {
    let mut entries: Vec<Entry> = registry.list(&keys.audit()).await?.entries;
    // By the store's own order: the time in the keys is that of a wall clock, which may have been wrong.
    entries.sort_by_key(|entry| entry.created);
    let kept = entries.split_off(entries.partition_point(|entry| since(entry.created) >= keep.age));
    let mut gone = entries;
    let actors: Vec<String> = kept.iter().map(actor).collect();
    let too_many = surplus(actors.iter().map(|by| principal_of(by)), keep.entries);
    gone.extend(too_many.into_iter().map(|at| kept[at].clone()));
    for some in gone.chunks(MOST_OPS) {
        let ops = some.iter().map(|entry| Op::Delete(entry.key.clone())).collect();
        registry.commit(Txn { guards: Vec::new(), ops }).await?;
    }
    if !gone.is_empty() {
        tracing::debug!(entries = gone.len(), "old audit entries deleted");
    }
    Ok(gone.len())
}

/// The actor of an entry; none of one that cannot be decoded.
fn actor(entry: &Entry) -> String {
    AuditRecord::decode(&entry.value).map(|record| record.by).unwrap_or_default()
}

#[cfg(test)]
mod tests;
