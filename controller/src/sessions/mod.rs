//! The liveness of agents: streams here, session keys in the store (DESIGN §5).
//!
//! One task renews the controller's lease, which all its sessions are attached to, and ends the sessions of agents that
//! have been silent for `down_after`. If the controller dies, its lease expires, and with it the sessions of the agents that
//! have not moved to another controller.

mod attachment;
mod book;
mod each;
mod ending;
mod lease;
mod taker;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::StreamExt;
use sextant_daemon::{Failing, OncePerMinute, Outage, Readiness, Recovered, systemd::Heartbeat, transition};
use sextant_proto::{Incarnation, InstanceId, NodeName};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};

pub use self::{
    attachment::{Attachment, NewSession},
    lease::Replaces,
};

use self::book::{Book, Present};
use crate::{
    index::Index,
    keys::Keys,
    records::{Record, SessionRecord, TlsMode, unix_ms},
    registry::{Entry, Guard, KeyRange, LeaseId, Op, Outcome, RegistryError, SharedRegistry, Txn},
};

/// The interval of checks for silent agents.
const TICK: Duration = Duration::from_millis(250);
/// The interval of checks for this controller's agents that have sessions at others: linear in the number of agents.
const TICKS_PER_LOOK_ELSEWHERE: u32 = 4;
/// The renewals of a lease per TTL.
const KEEP_ALIVES_PER_TTL: u32 = 4;

/// The number of supersessions of a node's streams that is logged.
const FLAPPING: u32 = 4;

/// The identity of this controller.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Random, new at each start.
    pub id: String,
    /// Its listen address.
    pub address: String,
    /// The records of earlier controllers that it deletes when it starts.
    pub replaces: Replaces,
    /// What it takes.
    pub tls: TlsMode,
}

/// The sessions of this controller's agents.
#[derive(Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

struct Shared {
    registry: SharedRegistry,
    keys: Keys,
    me: Identity,
    down_after: Duration,
    book: Mutex<Book>,
    lease: watch::Sender<Option<LeaseId>>,
    /// When the lease's last renewal was requested.
    renewed: Mutex<Instant>,
    ready: watch::Sender<Result<(), String>>,
    /// Whether the lease was valid at the last renewal.
    lease_kept: AtomicBool,
    /// Since when it is not ready.
    unready_since_unix_ms: Mutex<Option<u64>>,
    heartbeat: Heartbeat,
    lines: Mutex<OncePerMinute>,
    /// The serial numbers of the certificates of agents that have or had a stream here; empty over plain text.
    serials: Mutex<HashMap<NodeName, String>>,
}

/// The stream of another run of a node's agent; see [`Sessions::other_run`].
#[derive(Debug, Clone, Copy)]
pub struct OtherRun(Present);

impl OtherRun {
    /// The instance of the run.
    pub fn instance(&self) -> InstanceId {
        self.0.instance
    }
}

impl Sessions {
    /// The sessions of the controller `me`, lost after `down_after` of silence. [`Sessions::run`] touches `heartbeat`.
    pub fn new(
        registry: SharedRegistry,
        keys: Keys,
        me: Identity,
        down_after: Duration,
        heartbeat: Heartbeat,
    ) -> Self {
        let (book, lease) = (Mutex::default(), watch::Sender::new(None));
        let ready = watch::Sender::new(Err("no lease in the store yet".to_owned()));
        let (lease_kept, unready_since_unix_ms) = (AtomicBool::new(false), Mutex::new(Some(unix_ms())));
        Self {
            shared: Arc::new(Shared {
                registry,
                keys,
                me,
                down_after,
                book,
                lease,
                renewed: Mutex::new(Instant::now()),
                ready,
                lease_kept,
                unready_since_unix_ms,
                heartbeat,
                lines: Mutex::default(),
                serials: Mutex::default(),
            }),
        }
    }

    /// The identity of this controller.
    pub fn identity(&self) -> &Identity {
        &self.shared.me
    }

    /// Whether the controller's lease is valid and the store accepts writes.
    pub fn readiness(&self) -> Readiness {
        self.shared.ready.subscribe()
    }

    /// Whether the controller's lease is valid, even if the store refuses writes.
    pub fn lease_kept(&self) -> bool {
        self.shared.lease_kept.load(Relaxed)
    }

    /// Since when the controller is not ready; none while it is.
    pub fn unready_since_unix_ms(&self) -> Option<u64> {
        *self.shared.unready_since_unix_ms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The silence after which an agent counts as lost.
    pub fn down_after(&self) -> Duration {
        self.shared.down_after
    }

    /// The stream of another run of `node`'s agent that is connected here: `instance` may replace it if it does not answer.
    pub fn other_run(&self, node: &NodeName, instance: Option<InstanceId>) -> Option<OtherRun> {
        self.book().other_run(node, instance).map(OtherRun)
    }

    /// A new stream of `node`, of the run `instance` of its agent. An older one is superseded. `None` if there is
    /// one of another run now, other than `silent`, which did not answer.
    pub fn attach(
        &self,
        node: &NodeName,
        instance: Option<InstanceId>,
        silent: Option<OtherRun>,
    ) -> Option<Attachment> {
        let now = Instant::now();
        let (stream, superseded, taker) = {
            let mut book = self.book();
            let other = book.other_run(node, instance);
            if other.is_some() && other != silent.map(|silent| silent.0) {
                return None;
            }
            book.attach(node, instance, now)
        };
        self.tell_flapping(node);
        let (sessions, node) = (self.clone(), node.clone());
        Some(Attachment { sessions, node, instance, stream, last_frame: now, superseded, taker })
    }

    /// The agent of `node`, which has a stream now, has a certificate with this serial number; an empty one over plain text.
    pub fn shows(&self, node: &NodeName, serial: &str) {
        let before = self.serials().insert(node.clone(), serial.to_owned());
        if before.is_some_and(|before| before != serial) {
            self.book().session_outdated(node);
        }
    }

    fn serials(&self) -> MutexGuard<'_, HashMap<NodeName, String>> {
        self.shared.serials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another agent of `node`, at `from`, was refused because the connected one answers.
    pub fn refused(&self, node: &NodeName, from: &str) {
        if let Some(times) = self.book().refused(node, from, Instant::now()) {
            tracing::warn!(
                %node, from, times,
                "duplicate agent refused: another host has this node id (a cloned disk?), and the connected agent still answers"
            );
        }
    }

    /// The address of another agent of `node` that is refused because the connected one answers.
    pub fn duplicate(&self, node: &NodeName) -> Option<String> {
        self.duplicates().remove(node)
    }

    /// The nodes with a refused duplicate agent, and its address.
    pub fn duplicates(&self) -> HashMap<NodeName, String> {
        self.book().duplicates(Instant::now())
    }

    /// Renews the lease and maintains its sessions; never ends.
    ///
    /// # Errors
    /// None: calls to a store that does not answer are retried.
    pub async fn run(self, index: Index) -> Result<(), RegistryError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut kept_alive, mut ticks) = (Instant::now(), 0);
        let (mut leasing, mut ending) = (Outage::default(), Outage::default());
        let mut kept = self.shared.ready.borrow().clone();
        let mut store = incarnation(&index);
        loop {
            tick.tick().await;
            self.shared.heartbeat.beat();
            if store != incarnation(&index) {
                // The sessions may have been lost with the previous store: all are put again, under a new lease.
                store = incarnation(&index);
                self.shared.lease.send_replace(None);
            }
            let period = self.shared.down_after / KEEP_ALIVES_PER_TTL;
            if self.lease().is_none() || kept_alive.elapsed() >= period {
                let begun = Instant::now();
                match self.keep_lease().await {
                    Ok(()) => {
                        kept_alive = begun;
                        kept = Ok(());
                    }
                    Err(error) => {
                        if let Some(Failing { failures, for_secs }) = leasing.failed(Instant::now()) {
                            tracing::warn!(%error, failures, for_secs, "controller lease cannot be renewed; retrying");
                        }
                        kept = Err(error.to_string());
                    }
                }
            }
            self.tell_ready(&kept);
            if kept.is_ok()
                && let Some(Recovered { failures, after_secs }) = leasing.works(Instant::now())
            {
                tracing::info!(failures, after_secs, "controller lease renewed again");
            }
            self.end_lost(&mut ending).await;
            ticks = (ticks + 1) % TICKS_PER_LOOK_ELSEWHERE;
            if ticks == 0 {
                self.supersede_moved(&index);
                self.put_missing(&index).await;
            }
        }
    }

    /// Supersedes streams of nodes that have a newer session at another controller.
    fn supersede_moved(&self, index: &Index) {
        let me = &self.shared.me.id;
        let elsewhere: HashMap<_, _> = index.read(|state| {
            let others = state.sessions().iter().filter(|(_, session)| session.record.controller != *me);
            others.map(|(node, session)| (node.clone(), session.record.instance)).collect()
        });
        // Not within the index: who reads that may ask the book.
        let superseded = self.book().seen_elsewhere(&elsewhere, Instant::now());
        for node in superseded {
            tracing::info!(%node, "stream superseded: the agent connected to another controller");
            self.tell_flapping(&node);
        }
    }

    /// The recent supersessions of `node`'s streams at this controller.
    pub fn superseded(&self, node: &NodeName) -> u32 {
        u32::try_from(self.book().superseded(node, Instant::now())).unwrap_or(u32::MAX)
    }

    /// Logs a suspected duplicate node id, at exponentially growing counts and at most once a minute.
    fn tell_flapping(&self, node: &NodeName) {
        let superseded = self.superseded(node);
        if superseded < FLAPPING || !superseded.is_power_of_two() {
            return;
        }
        let mut lines = self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = lines.admit_of(node.as_str(), "", Instant::now()) {
            tracing::warn!(
                %node, superseded, suppressed,
                "agent superseded repeatedly: two agents have this node id (a cloned disk?), or its connection is unstable"
            );
        }
    }

    /// Records whether the lease is `kept` and the store accepts changes, or why not.
    fn tell_ready(&self, kept: &Result<(), String>) {
        self.shared.lease_kept.store(kept.is_ok(), Relaxed);
        let refused = || self.shared.registry.refusal().map_or(Ok(()), |refusal| Err(refusal.reason));
        let now = kept.clone().and_then(|()| refused());
        self.shared.ready.send_if_modified(|before| {
            let changed = *before != now;
            match (&before, &now) {
                (Ok(()), Err(_)) => transition("lease", "kept", "not kept", "store"),
                (Err(_), Ok(())) => transition("lease", "not kept", "kept", "store"),
                _ => {}
            }
            *before = now;
            changed
        });
        let mut since = self.shared.unready_since_unix_ms.lock().unwrap_or_else(PoisonError::into_inner);
        *since = match (&*self.shared.ready.borrow(), *since) {
            (Ok(()), _) => None,
            (Err(_), since) => since.or_else(|| Some(unix_ms())),
        };
    }

    /// Restores sessions of connected agents that are missing in the store: another controller that was frozen may have
    /// ended them as its own.
    async fn put_missing(&self, index: &Index) {
        let Some(lease) = self.lease() else { return };
        let there = index.read(|state| state.sessions().keys().cloned().collect());
        let missing = self.book().missing(&there, Instant::now());
        // A node that was forgotten has no session to come back to.
        let claimed = |node: &NodeName| index.read(|state| state.peers().contains_key(node));
        let put = async |node| (self.put_own_session(&node, lease).await, node);
        let mut results = pin!(self.each(missing.into_iter().filter(claimed), put));
        while let Some((put, node)) = results.next().await {
            match put {
                Ok(()) => tracing::info!(%node, "session was missing in the store; restored"),
                Err(error) => tracing::debug!(%node, %error, "missing session cannot be restored; retrying"),
            }
        }
    }

    /// Puts the node's session with `lease`, unless its agent has moved to another controller.
    async fn put_own_session(&self, node: &NodeName, lease: LeaseId) -> Result<(), RegistryError> {
        let key = self.shared.keys.session(node);
        let guard = match self.entry(&key).await? {
            None => Guard::Absent(key),
            Some(entry) if self.is_mine(&entry) => Guard::Unchanged(key, entry.modified),
            Some(_) => return Ok(()),
        };
        let instance = self.book().instance(node);
        let txn = Txn { guards: vec![guard], ops: vec![self.session_op(node, lease, instance)] };
        if let Outcome::Committed(_) = self.shared.registry.commit(txn).await? {
            self.book().session_put(node, lease, instance);
        }
        Ok(())
    }

    /// Whether a session in the store belongs to this controller.
    fn is_mine(&self, entry: &Entry) -> bool {
        SessionRecord::decode(&entry.value).is_ok_and(|session| session.controller == self.shared.me.id)
    }

    fn session_op(&self, node: &NodeName, lease: LeaseId, instance: Option<InstanceId>) -> Op {
        let serial = self.serials().get(node).cloned().unwrap_or_default();
        let session = SessionRecord { controller: self.shared.me.id.clone(), instance, serial };
        Op::Put { key: self.shared.keys.session(node), value: session.encode(), lease: Some(lease) }
    }

    async fn put_session(
        &self,
        node: &NodeName,
        lease: LeaseId,
        instance: Option<InstanceId>,
    ) -> Result<(), RegistryError> {
        let ops = vec![self.session_op(node, lease, instance)];
        self.shared.registry.commit(Txn { guards: Vec::new(), ops }).await?;
        self.book().session_put(node, lease, instance);
        Ok(())
    }

    async fn entry(&self, key: &str) -> Result<Option<Entry>, RegistryError> {
        Ok(self.shared.registry.list(&KeyRange::key(key)).await?.entries.pop())
    }

    /// The lease of this controller's keys, while it has one.
    pub fn lease(&self) -> Option<LeaseId> {
        *self.shared.lease.borrow()
    }

    fn renewed(&self) -> MutexGuard<'_, Instant> {
        self.shared.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn incarnation(index: &Index) -> Incarnation {
    index.read(|state| state.meta().incarnation)
}
