//! The embedded store: one file, one controller (DESIGN §6).
//!
//! | part | owns |
//! |---|---|
//! | `writer` | one thread: commits waiting requests as one group, then answers and publishes |
//! | `apply` | the semantics of guards, operations and leases (pure) |
//! | `lease` | the deadlines of leases (pure) |
//! | `ring`, `watch` | the last changes, and watch streams over them |
//! | `file`, `table`, `backend` | the edge to redb: transactions, tables, octets |
//! | `disk_space` | growth of the file, a full disk, the reserve for deletes |
//! | `overlay` | a view of the file for integrity checks, with writes in memory only |
//! | `location` | detection of a moved or replaced file; the lock file |
//! | `panics` | redb's panics on damage, as errors |
//! | `open` | refused files; creation of a new one |
//!
//! The writer's thread waits for requests, for the next lease's end, and, after a failure, for the next retry. It ends when
//! the [`EmbeddedStore`] is dropped; then all watches end with `Lost`. If it panics, [`EmbeddedStore::writer_ended`] returns.
//! Reads take their own snapshot of the file and never wait for the writer.

pub(super) mod apply;
mod backend;
mod disk_space;
#[cfg(test)]
mod faults;
mod file;
pub(super) mod lease;
mod location;
mod open;
mod overlay;
mod panics;
mod ring;
mod table;
#[cfg(test)]
mod tests;
pub(super) mod watch;
mod writer;

use std::{collections::HashSet, io, path::Path, sync::Arc, thread, time::Duration};

use async_trait::async_trait;
use sextant_proto::Revision;
use tokio::sync::{mpsc, oneshot};

pub use self::open::{FindBackup, NamedBackup, OpenError};
use self::{
    apply::{Answer, Work},
    file::File,
    watch::Feed,
    writer::{LastFailure, Reply, Request, Writer},
};
use super::{KeyRange, LeaseId, Listing, Op, Outcome, Reading, Refusal, Registry, RegistryError, Txn, Watch};

/// The length of the writer's queue; callers wait while it is full.
const QUEUE: usize = 4096;

/// Options of the store, apart from its path.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many events are kept in memory for watchers that are behind.
    pub kept_events: usize,
    /// Finds the backup that errors about a damaged or missing file name.
    pub backups: Option<Arc<dyn FindBackup>>,
    /// Faults that tests inject into the file.
    #[cfg(test)]
    faults: faults::Faults,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kept_events: 65_536,
            backups: None,
            #[cfg(test)]
            faults: faults::Faults::default(),
        }
    }
}

impl Options {
    /// Options with a finder of backups.
    pub fn with_backups(backups: Option<Arc<dyn FindBackup>>) -> Self {
        Self { backups, ..Self::default() }
    }
}

/// A store in one file.
#[derive(Debug)]
pub struct EmbeddedStore {
    name: String,
    file: Arc<File>,
    feed: Feed,
    last_failure: LastFailure,
    /// None only while being dropped.
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<thread::JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens the store at `path`; creates the file and its directory if they do not exist.
    ///
    /// Existing leases start with their full TTL. Blocks while the file is read.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, Options::default())
    }

    /// [`EmbeddedStore::open`] with other options.
    pub fn open_with(path: &Path, options: Options) -> Result<Self, OpenError> {
        let (file, loaded) = File::open(
            path,
            options.backups,
            #[cfg(test)]
            options.faults,
        )?;
        let file = Arc::new(file);
        let (publisher, feed) = watch::feed(options.kept_events, loaded.revision);
        let (requests, received) = mpsc::channel(QUEUE);
        let last_failure = LastFailure::default();
        let writer = Writer::new(Arc::clone(&file), loaded, received, publisher, last_failure.clone());
        let writer = spawn(writer).map_err(|error| OpenError::io(path, error))?;
        Ok(Self {
            name: format!("embedded:{}", path.display()),
            file,
            feed,
            last_failure,
            requests: Some(requests),
            writer: Some(writer),
        })
    }

    /// Waits until the writer has ended, which it does only by a panic: the process must end then.
    ///
    /// Cancel safe.
    pub async fn writer_ended(&self) {
        self.requests().closed().await;
    }

    fn requests(&self) -> &mpsc::Sender<Request> {
        self.requests.as_ref().expect("requests are taken away only by drop")
    }

    async fn work(&self, work: Work) -> Result<Answer, RegistryError> {
        self.ask(|reply| Request::Work(work, reply)).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, RegistryError> {
        let (reply, answer) = oneshot::channel();
        let gone = || format!("the writer of {} has ended; restart the controller", self.name);
        if self.requests().send(request(reply)).await.is_err() {
            return Err(RegistryError::Unavailable(gone()));
        }
        answer.await.unwrap_or_else(|_| Err(RegistryError::Unknown(gone())))
    }
}

/// Starts the writer's thread.
fn spawn(writer: Writer) -> io::Result<thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let run = move || runtime.block_on(writer.run());
    thread::Builder::new().name("store-writer".to_owned()).spawn(run)
}

/// Waits for the group that is being written; then another process can open the file.
impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take() {
            // Its panic was logged already.
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Registry for EmbeddedStore {
    fn describe(&self) -> String {
        self.name.clone()
    }

    fn refusal(&self) -> Option<Refusal> {
        self.file.disk_space().refusal().or_else(|| self.last_failure.now())
    }

    async fn list(&self, range: &KeyRange) -> Result<Listing, RegistryError> {
        let mut reading = self.read(std::slice::from_ref(range)).await?;
        let entries = reading.ranges.pop().unwrap_or_default();
        Ok(Listing { revision: reading.revision, entries })
    }

    async fn read(&self, ranges: &[KeyRange]) -> Result<Reading, RegistryError> {
        let (file, ranges) = (Arc::clone(&self.file), ranges.to_vec());
        let read = tokio::task::spawn_blocking(move || file.read(&ranges)).await;
        let ended = |error| RegistryError::Unavailable(format!("reading {} ended: {error}", self.name));
        Ok(read.map_err(ended)??)
    }

    /// # Panics
    /// If a key is in two operations.
    async fn commit(&self, txn: Txn) -> Result<Outcome, RegistryError> {
        let mut keys = HashSet::new();
        let repeated = txn.ops.iter().map(Op::key).find(|key| !keys.insert(*key));
        assert_eq!(repeated, None, "a key is in at most one operation of a transaction");
        match self.work(Work::Commit(txn)).await? {
            Answer::Outcome(outcome) => Ok(outcome),
            Answer::NoLease(lease) => Err(RegistryError::LeaseEnded(lease)),
            answer => unreachable!("a transaction is not answered by {answer:?}"),
        }
    }

    fn watch(&self, range: KeyRange, after: Revision) -> Watch {
        self.feed.watch(range, after)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, RegistryError> {
        match self.work(Work::Grant(ttl)).await? {
            Answer::Granted(lease, _) => Ok(lease),
            answer => unreachable!("a grant is not answered by {answer:?}"),
        }
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.ask(|reply| Request::KeepAlive(lease, reply)).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), RegistryError> {
        match self.work(Work::End(lease)).await? {
            Answer::Ended(_) => Ok(()),
            _ => Err(RegistryError::LeaseEnded(lease)),
        }
    }
}
