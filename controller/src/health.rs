//! The health of this controller and its store, checked on request.
//!
//! One bounded read of the store tells whether what the controller knows is still true. Nothing is remembered but since when
//! each problem is there.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sextant_proto::{Problem, Revision};

use crate::{
    index::Index,
    keys::Keys,
    records::unix_ms,
    registry::{KeyRange, RegistryError, SharedRegistry},
    sessions::Sessions,
};

/// The timeout of the store for an operator's request.
pub const OPERATOR_TIMEOUT: Duration = Duration::from_secs(2);
/// The timeout of the store for another controller's request.
pub const CONTROLLER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait for the index to reach the store's revision.
const INDEX_TIMEOUT: Duration = Duration::from_millis(500);
/// A problem that was absent for this long counts as new when it is seen again.
const REMEMBERED_MS: u64 = 30_000;

/// The store gives no answer.
const STORE_UNAVAILABLE: &str = "store-unavailable";
/// The store refuses changes.
const STORE_REFUSES: &str = "store-refuses-changes";
/// The controller does not follow the store.
const INDEX_STALE: &str = "index-stale";
/// The controller's lease is not renewed: its sessions may have ended.
const LEASE_NOT_KEPT: &str = "lease-not-kept";

/// The inputs of the check.
#[derive(Clone)]
pub struct Health {
    registry: SharedRegistry,
    keys: Keys,
    index: Index,
    sessions: Sessions,
    noted: Arc<Mutex<BTreeMap<&'static str, Noted>>>,
}

/// When a problem was first and last seen.
#[derive(Debug, Clone, Copy)]
struct Noted {
    since_unix_ms: u64,
    last_unix_ms: u64,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What the controller knows of the store may no longer be true.
    pub stale: bool,
}

impl Health {
    /// For this controller.
    pub fn new(registry: SharedRegistry, keys: Keys, index: Index, sessions: Sessions) -> Self {
        Self { registry, keys, index, sessions, noted: Arc::default() }
    }

    /// Whether the lease is kept in the store, which takes changes: what is known without asking the store.
    pub fn store_is_ready(&self) -> bool {
        self.registry.refusal().is_none() && self.sessions.readiness().borrow().is_ok()
    }

    /// Checks. `patience` is the timeout of the store.
    pub async fn check(&self, patience: Duration) -> State {
        let store = match self.ask(patience).await {
            Err(saw) => Some((STORE_UNAVAILABLE, saw)),
            Ok(revision) => self.behind(revision).await.map(|saw| (INDEX_STALE, saw)),
        };
        let refusal = self.registry.refusal();
        let unready = || self.sessions.readiness().borrow().clone().err();
        let lease =
            || unready().map(|why| (LEASE_NOT_KEPT, format!("the controller's lease is not renewed: {why}")));
        let doubt = if refusal.is_none() { store.or_else(lease) } else { store };
        let refused = refusal.map(|refusal| Problem {
            what: STORE_REFUSES.to_owned(),
            saw: refusal.reason,
            fix: String::new(),
            since_unix_ms: refusal.since_unix_ms,
        });
        let stale = doubt.is_some();
        let since_unix_ms = self.note(doubt.as_ref().map(|(what, _)| *what), unix_ms());
        let doubt = doubt.map(|(what, saw)| Problem {
            what: what.to_owned(),
            saw,
            fix: self.registry.fix().to_owned(),
            since_unix_ms,
        });
        State { problems: doubt.into_iter().chain(refused).collect(), stale }
    }

    /// The store's revision, or the problem.
    async fn ask(&self, patience: Duration) -> Result<Revision, String> {
        let key = KeyRange::key(&self.keys.meta());
        let store = self.registry.describe();
        match tokio::time::timeout(patience, self.registry.list(&key)).await {
            Ok(Ok(listing)) => Ok(listing.revision),
            Ok(Err(RegistryError::Unavailable(why))) => Err(format!("store unavailable: {store}: {why}")),
            Ok(Err(error)) => Err(format!("store {store}: {error}")),
            Err(_) => Err(format!("store unavailable: {store} gave no answer within {patience:?}")),
        }
    }

    async fn behind(&self, revision: Revision) -> Option<String> {
        let reached = self.index.reaches(revision, INDEX_TIMEOUT).await;
        (!reached).then(|| {
            let seen = self.index.seen();
            format!("the controller lags behind its store: it has revision {seen} of {revision}")
        })
    }

    /// Records that only the problem `what` exists; returns since when.
    fn note(&self, what: Option<&'static str>, now_unix_ms: u64) -> u64 {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.retain(|known, it| Some(*known) == what && it.last_unix_ms + REMEMBERED_MS >= now_unix_ms);
        let Some(what) = what else { return now_unix_ms };
        let first = Noted { since_unix_ms: now_unix_ms, last_unix_ms: now_unix_ms };
        let it = noted.entry(what).or_insert(first);
        it.last_unix_ms = now_unix_ms;
        // The lease is kept in the background: what keeps it from that may have begun long before somebody asked.
        let unready = self.sessions.unready_since_unix_ms().unwrap_or(now_unix_ms);
        it.since_unix_ms = it.since_unix_ms.min(unready);
        it.since_unix_ms
    }
}
