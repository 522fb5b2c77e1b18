//! [`FakeStore`]: a store in memory that can be taken away, wiped, and set back to an earlier snapshot, for tests.
//!
//! It passes the conformance suite. What transactions mean is decided where the embedded store decides it. Each client has
//! a line of its own to the store, which tests cut or damage. No task, no clock: tests say how much time passes.

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

/// What a client's line to the store does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Line {
    /// It carries.
    #[default]
    Up,
    /// It carries nothing.
    Cut,
    /// Reads are answered, writes refused: a full disk, or no quorum.
    ReadOnly,
    /// Transactions are done, and their answers lost.
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

    /// A client of it, and what its line does.
    pub fn client(&self) -> (SharedRegistry, watch::Sender<Line>) {
        let (line, receiver) = watch::channel(Line::Up);
        (Arc::new(FakeClient { store: self.clone(), line: receiver }), line)
    }

    /// Time passes: leases end that were not kept alive.
    pub fn elapse(&self, time: Duration) {
        let mut state = self.state();
        state.elapsed += time;
        let now = state.now();
        for lease in state.deadlines.due(now) {
            state.perform(&Work::End(lease));
        }
    }

    /// All that is in it now.
    pub fn snapshot(&self) -> Snapshot {
        self.state().content.clone()
    }

    /// Sets it back to an earlier snapshot, as a restore of etcd does: the revision falls, and all watches end.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.state().replace(snapshot.clone());
    }

    /// Takes all that is in it away, as a new etcd in its place does.
    pub fn wipe(&self) {
        self.state().replace(Snapshot::default());
    }

    /// Forgets the changes up to now, as far as watches go.
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
    line: watch::Receiver<Line>,
}

impl FakeClient {
    /// Waits until the line carries; what it does then.
    async fn line(&self) -> Result<Line, RegistryError> {
        let carries = carries(&mut self.line.clone(), CALL_TIMEOUT).await;
        carries.ok_or_else(|| RegistryError::Unavailable(format!("no answer within {CALL_TIMEOUT:?}")))
    }

    async fn write(&self, work: Work) -> Result<Answer, RegistryError> {
        let line = self.line().await?;
        if line == Line::ReadOnly {
            return Err(RegistryError::Unavailable("no space left on device".into()));
        }
        let answer = self.store.state().perform(&work);
        if line == Line::AnswersLost {
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
        self.line().await?;
        let state = self.store.state();
        Ok(Listing { revision: state.content.revision, entries: state.content.within(range) })
    }

    async fn read(&self, ranges: &[KeyRange]) -> Result<Reading, RegistryError> {
        self.line().await?;
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
        let line = self.line.clone();
        Box::pin(stream::unfold(Some((watch, line)), |open| async move {
            let (mut watch, mut line) = open?;
            loop {
                if carries(&mut line, WATCH_TIMEOUT).await.is_none() {
                    return Some((Err(WatchEnded::Lost(format!("silent for {WATCH_TIMEOUT:?}"))), None));
                }
                tokio::select! {
                    biased;
                    () = is_cut(&mut line) => {}
                    batch = watch.next() => {
                        let batch = batch?;
                        let open = batch.is_ok().then_some((watch, line));
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
        if self.line().await? == Line::ReadOnly {
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

/// Waits until the line carries, and what it does then; none if it does not within `patience`.
async fn carries(line: &mut watch::Receiver<Line>, patience: Duration) -> Option<Line> {
    let carries = line.wait_for(|line| *line != Line::Cut);
    tokio::time::timeout(patience, carries).await.ok()?.ok().map(|line| *line)
}

/// Waits until the line is cut, for ever if nobody is left to cut it.
async fn is_cut(line: &mut watch::Receiver<Line>) {
    if line.wait_for(|line| *line == Line::Cut).await.is_err() {
        std::future::pending::<()>().await;
    }
}
