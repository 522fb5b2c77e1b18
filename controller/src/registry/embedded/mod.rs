//! The embedded store: one file, one controller (DESIGN §6).
//!
//! | part | owns |
//! |---|---|
//! | `writer` | one thread: takes what waits, does it as one group, answers and publishes after the file has it |
//! | `apply` | what guards, operations and leases mean (pure) |
//! | `lease` | when leases end (pure) |
//! | `ring`, `watch` | the last changes, and streams of them |
//! | `file`, `table`, `backend` | the edge to redb: transactions, tables, octets |
//! | `room` | room on the disk: growing the file, what is lacking, the reserve of what frees |
//! | `overlay` | the file as it is read for a check, which writes to memory alone |
//! | `placed` | whether the file is still at its path, and the lock of the path |
//! | `panics` | redb's panics on damage, as errors |
//! | `open` | which files are refused; making a new one |
//!
//! The writer's thread waits for requests, for the next lease's end, and, after a failure, for the next try. It ends when
//! the [`EmbeddedStore`] is dropped; then all watches end with `Lost`. If it panics, [`EmbeddedStore::writer_ended`] tells.
//! Reads take their own snapshot of the file and never wait for the writer.

pub(super) mod apply;
mod backend;
#[cfg(test)]
mod faults;
mod file;
pub(super) mod lease;
mod open;
mod overlay;
mod panics;
mod placed;
mod ring;
mod room;
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
    writer::{Reply, Request, Trouble, Writer},
};
use super::{KeyRange, LeaseId, Listing, Op, Outcome, Reading, Refusal, Registry, RegistryError, Txn, Watch};

/// How many requests wait for the writer before askers wait to ask.
const WAITING: usize = 4096;

/// How the store is run, apart from where it is.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many events are kept in memory for watchers that are behind.
    pub kept_events: usize,
    /// Where backups of it are looked for; named where the file is damaged or away.
    pub backups: Option<Arc<dyn FindBackup>>,
    /// Where tests make the file fail.
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
    /// With a place where backups are looked for.
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
    trouble: Trouble,
    /// None only while being dropped.
    requests: Option<mpsc::Sender<Request>>,
    writer: Option<thread::JoinHandle<()>>,
}

impl EmbeddedStore {
    /// Opens the store at `path`; makes it, and its directory, if there is none.
    ///
    /// Leases that were there have their full TTL from now on. Blocks while the file is read.
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
        let (requests, asked) = mpsc::channel(WAITING);
        let trouble = Trouble::default();
        let writer = Writer::new(Arc::clone(&file), loaded, asked, publisher, trouble.clone());
        let writer = spawn(writer).map_err(|error| OpenError::io(path, error))?;
        Ok(Self {
            name: format!("embedded:{}", path.display()),
            file,
            feed,
            trouble,
            requests: Some(requests),
            writer: Some(writer),
        })
    }

    /// Waits until the writer has ended, which it does only by a panic: the process ends then.
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

/// Waits for the group that is being written; the file is free for the next to open it then.
impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take() {
            // It has told of its panic already.
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
        self.file.room().refusal().or_else(|| self.trouble.now())
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
    /// If a key stands in two operations.
    async fn commit(&self, txn: Txn) -> Result<Outcome, RegistryError> {
        let mut keys = HashSet::new();
        let repeated = txn.ops.iter().map(Op::key).find(|key| !keys.insert(*key));
        assert_eq!(repeated, None, "a key stands in at most one operation of a transaction");
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
