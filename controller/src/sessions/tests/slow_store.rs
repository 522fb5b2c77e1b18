//! A store that answers late.

use async_trait::async_trait;

use super::*;
use crate::registry::{Listing, Reading, Registry, Watch};

/// How long a call takes.
pub(super) const DELAY: Duration = Duration::from_millis(25);

/// How the store answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Each call takes [`DELAY`].
    Late,
    /// Each call takes [`DELAY`], and waits for the calls before it.
    OneByOne,
}

/// A store whose time passes with tokio's, and whose calls take time once it has a pace.
pub(super) struct SlowStore {
    pub(super) inner: SharedRegistry,
    store: FakeStore,
    passed: Mutex<Instant>,
    pace: Mutex<Option<Pace>>,
    turn: tokio::sync::Mutex<()>,
}

impl SlowStore {
    pub(super) fn new() -> Arc<Self> {
        let store = FakeStore::new();
        let (inner, passed, pace) = (store.client().0, Mutex::new(Instant::now()), Mutex::default());
        Arc::new(Self { inner, store, passed, pace, turn: tokio::sync::Mutex::default() })
    }

    pub(super) fn slow_down(&self, pace: Pace) {
        *self.pace.lock().unwrap() = Some(pace);
    }

    async fn call(&self) {
        let pace = *self.pace.lock().unwrap();
        let _turn = if pace == Some(Pace::OneByOne) { Some(self.turn.lock().await) } else { None };
        if pace.is_some() {
            tokio::time::sleep(DELAY).await;
        }
        self.pass();
    }

    /// Ends the leases that are due by now.
    fn pass(&self) {
        let mut passed = self.passed.lock().unwrap();
        self.store.elapse(passed.elapsed());
        *passed = Instant::now();
    }

    /// The sessions in the store.
    pub(super) fn sessions(&self) -> Vec<Entry> {
        self.pass();
        let mut entries = self.store.snapshot().within(&keys().all());
        entries.retain(|entry| entry.key.contains("/sessions/"));
        entries
    }
}

#[async_trait]
impl Registry for SlowStore {
    fn describe(&self) -> String {
        "slow".into()
    }

    async fn list(&self, range: &KeyRange) -> Result<Listing, RegistryError> {
        self.call().await;
        self.inner.list(range).await
    }

    async fn read(&self, ranges: &[KeyRange]) -> Result<Reading, RegistryError> {
        self.call().await;
        self.inner.read(ranges).await
    }

    async fn commit(&self, txn: Txn) -> Result<Outcome, RegistryError> {
        self.call().await;
        self.inner.commit(txn).await
    }

    fn watch(&self, range: KeyRange, after: sextant_proto::Revision) -> Watch {
        self.inner.watch(range, after)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, RegistryError> {
        self.call().await;
        self.inner.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.call().await;
        self.inner.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.call().await;
        self.inner.revoke(lease).await
    }
}
