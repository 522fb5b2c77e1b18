//! [`FakeStore`]: a store in memory for tests, which can be disconnected, wiped, and restored from a snapshot.
//!
//! It passes the conformance suite. It shares the semantics of transactions with the embedded store. Each client has
//! a link of its own to the store, which tests disturb. No task, no clock: tests advance the time.

mod content;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use sextant_proto::Revision;
use tokio::sync::watch;

pub use content::Content as Snapshot;

use super::{
    KeyRange, LeaseId, Listing, Outcome, Reading, Registry, RegistryError, SharedRegistry, Txn, Watch,
    WatchEnded,
    embedded::{
        apply::{Answer, Work, perform},
        lease::Deadlines,
        watch::{Feed, Publisher, feed},
    },
};

/// How many events are kept for watchers that are behind.
const KEPT_EVENTS: usize = 4096;
/// How long a call waits for a store that does not answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a watch waits for a store that does not answer.
const WATCH_TIMEOUT: Duration = Duration::from_secs(6);

/// The state of a client's link to the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Link {
    /// Works.
    #[default]
    Up,
    /// Delivers nothing.
    Down,
    /// Reads are answered, writes refused: a full disk, or no quorum.
    ReadOnly,
    /// Transactions are applied, and their answers lost.
    AnswersLost,
}

/// A store in memory. Its clones are the same store.
#[derive(Clone)]
pub struct FakeStore {
    state: Arc<Mutex<State>>,
}

struct State {
    content: Snapshot,
    deadlines: Deadlines,
    begun: Instant,
    elapsed: Duration,
    publisher: Publisher,
    feed: Feed,
}

impl Default for FakeStore {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeStore {
    /// An empty store.
    pub fn new() -> Self {
        let (publisher, feed) = feed(KEPT_EVENTS, Revision::ZERO);
        let (content, deadlines) = (Snapshot::default(), Deadlines::default());
        let state =
            State { content, deadlines, begun: Instant::now(), elapsed: Duration::ZERO, publisher, feed };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A client, and the control of its link.
    pub fn client(&self) -> (SharedRegistry, watch::Sender<Link>) {
        let (link, receiver) = watch::channel(Link::Up);
        (Arc::new(FakeClient { store: self.clone(), link: receiver }), link)
    }

    /// Advances the time: leases without keep-alives end.
    pub fn elapse(&self, time: Duration) {
        let mut state = self.state();
        state.elapsed += time;
        let now = state.now();
        for lease in state.deadlines.due(now) {
            state.perform(&Work::End(lease));
        }
    }

    /// The current content.
    pub fn snapshot(&self) -> Snapshot {
        self.state().content.clone()
    }

    /// Restores a snapshot, as a restore of etcd does: the revision falls, and all watches end.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.state().replace(snapshot.clone());
    }

    /// Deletes the content, as a replacement by a new etcd does.
    pub fn wipe(&self) {
        self.state().replace(Snapshot::default());
    }

    /// Drops the history of changes for watches.
    pub fn compact(&self) {
        let state = self.state();
        state.publisher.reset(state.content.revision);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn now(&self) -> Instant {
        self.begun + self.elapsed
    }

    fn perform(&mut self, work: &Work) -> Answer {
        let Ok(done) = perform(&mut self.content, work);
        let now = self.now();
        match done.answer {
            Answer::Granted(lease, ttl) => self.deadlines.add(lease, ttl, now),
            Answer::Ended(lease) | Answer::NoLease(lease) => self.deadlines.remove(lease),
            Answer::Outcome(_) => {}
        }
        self.publisher.publish(done.batch);
        done.answer
    }

    fn replace(&mut self, content: Snapshot) {
        // No lease of the store before is one of this: etcd's ids are random.
        let content = Snapshot { granted: self.content.granted.max(content.granted), ..content };
        self.deadlines =
            Deadlines::anew(content.leases.iter().map(|(lease, ttl)| (*lease, *ttl)), self.now());
        (self.publisher, self.feed) = feed(KEPT_EVENTS, content.revision);
        self.content = content;
    }
}

/// One client of a [`FakeStore`].
struct FakeClient {
    store: FakeStore,
    link: watch::Receiver<Link>,
}

impl FakeClient {
    /// Waits until the link is not down; its state.
    async fn link(&self) -> Result<Link, RegistryError> {
        let is_up = is_up(&mut self.link.clone(), CALL_TIMEOUT).await;
        is_up.ok_or_else(|| RegistryError::Unavailable(format!("no answer within {CALL_TIMEOUT:?}")))
    }

    async fn write(&self, work: Work) -> Result<Answer, RegistryError> {
        let link = self.link().await?;
        if link == Link::ReadOnly {
            return Err(RegistryError::Unavailable("no space left on device".into()));
        }
        let answer = self.store.state().perform(&work);
        if link == Link::AnswersLost {
            return Err(RegistryError::Unknown("the answer was lost".into()));
        }
        Ok(answer)
    }
}

#[async_trait]
impl Registry for FakeClient {
    fn describe(&self) -> String {
        "fake".into()
    }

    async fn list(&self, range: &KeyRange) -> Result<Listing, RegistryError> {
        self.link().await?;
        let state = self.store.state();
        Ok(Listing { revision: state.content.revision, entries: state.content.within(range) })
    }

    async fn read(&self, ranges: &[KeyRange]) -> Result<Reading, RegistryError> {
        self.link().await?;
        let state = self.store.state();
        let ranges = ranges.iter().map(|range| state.content.within(range)).collect();
        Ok(Reading { revision: state.content.revision, ranges })
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome, RegistryError> {
        match self.write(Work::Commit(txn)).await? {
            Answer::Outcome(outcome) => Ok(outcome),
            Answer::NoLease(lease) => Err(RegistryError::LeaseEnded(lease)),
            answer => unreachable!("a transaction is not answered by {answer:?}"),
        }
    }

    fn watch(&self, range: KeyRange, after: Revision) -> Watch {
        let watch = self.store.state().feed.watch(range, after);
        let link = self.link.clone();
        Box::pin(stream::unfold(Some((watch, link)), |open| async move {
            let (mut watch, mut link) = open?;
            loop {
                if is_up(&mut link, WATCH_TIMEOUT).await.is_none() {
                    return Some((Err(WatchEnded::Lost(format!("silent for {WATCH_TIMEOUT:?}"))), None));
                }
                tokio::select! {
                    biased;
                    () = is_down(&mut link) => {}
                    batch = watch.next() => {
                        let batch = batch?;
                        let open = batch.is_ok().then_some((watch, link));
                        return Some((batch, open));
                    }
                }
            }
        }))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, RegistryError> {
        match self.write(Work::Grant(ttl)).await? {
            Answer::Granted(lease, _) => Ok(lease),
            answer => unreachable!("a grant is not answered by {answer:?}"),
        }
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), RegistryError> {
        if self.link().await? == Link::ReadOnly {
            return Err(RegistryError::Unavailable("no space left on device".into()));
        }
        let mut state = self.store.state();
        let now = state.now();
        if state.deadlines.keep_alive(lease, now) { Ok(()) } else { Err(RegistryError::LeaseEnded(lease)) }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), RegistryError> {
        match self.write(Work::End(lease)).await? {
            Answer::Ended(_) => Ok(()),
            _ => Err(RegistryError::LeaseEnded(lease)),
        }
    }
}

/// Waits until the link is not down; its state, or none after `patience`.
async fn is_up(link: &mut watch::Receiver<Link>, patience: Duration) -> Option<Link> {
    let is_up = link.wait_for(|link| *link != Link::Down);
    tokio::time::timeout(patience, is_up).await.ok()?.ok().map(|link| *link)
}

/// Waits until the link is down; for ever if its control was dropped.
async fn is_down(link: &mut watch::Receiver<Link>) {
    if link.wait_for(|link| *link == Link::Down).await.is_err() {
        std::future::pending::<()>().await;
    }
}
