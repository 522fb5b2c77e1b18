use std::{future::ready, time::Duration};

use futures::StreamExt;

use super::*;
use crate::registry::{
    Op,
    conformance::{self, Compact, Subject},
};

/// Advances the store's time with the test's.
fn ticking() -> (FakeStore, tokio::task::JoinHandle<()>) {
    let store = FakeStore::new();
    let ticked = store.clone();
    let tick = Duration::from_millis(20);
    let ticking = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(tick);
        loop {
            ticks.tick().await;
            ticked.elapse(tick);
        }
    });
    (store, ticking)
}

#[tokio::test(start_paused = true)]
async fn the_conformance_suite_passes() {
    let (store, _ticking) = ticking();
    conformance::run_all(|name| {
        let compacted = store.clone();
        let compact: Compact = Box::new(move |_| {
            compacted.compact();
            Box::pin(ready(()))
        });
        let (registry, _link) = store.client();
        // The link stays up after its control was dropped.
        let prefix = format!("{name}/");
        ready(Subject { registry, prefix, ttl: Duration::from_secs(1), compact: Some(compact) })
    })
    .await;
}

async fn put(registry: &SharedRegistry, key: &str) -> Result<Outcome, RegistryError> {
    registry.commit(Txn { guards: vec![], ops: vec![Op::put(key, "x")] }).await
}

async fn keys(registry: &SharedRegistry) -> Vec<String> {
    let listing = registry.list(&KeyRange::prefix("k")).await.unwrap();
    listing.entries.into_iter().map(|entry| entry.key).collect()
}

#[tokio::test(start_paused = true)]
async fn a_restore_takes_the_revision_back_and_ends_watches() {
    let store = FakeStore::new();
    let (registry, _link) = store.client();
    put(&registry, "k1").await.unwrap();
    let snapshot = store.snapshot();
    put(&registry, "k2").await.unwrap();
    let mut watch = registry.watch(KeyRange::prefix("k"), Revision(2));
    store.restore(&snapshot);
    assert!(matches!(watch.next().await, Some(Err(WatchEnded::Lost(_)))));
    assert_eq!(keys(&registry).await, ["k1"]);
    assert_eq!(put(&registry, "k3").await.unwrap(), Outcome::Committed(Revision(2)), "the same number again");
    store.wipe();
    assert_eq!(keys(&registry).await, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn links_fail_independently() {
    let store = FakeStore::new();
    let (registry, link) = store.client();
    let (other, _other_link) = store.client();
    let mut watch = registry.watch(KeyRange::prefix("k"), Revision::ZERO);
    link.send_replace(Link::AnswersLost);
    assert!(matches!(put(&registry, "k1").await, Err(RegistryError::Unknown(_))));
    link.send_replace(Link::ReadOnly);
    assert!(matches!(put(&registry, "k2").await, Err(RegistryError::Unavailable(_))));
    assert_eq!(keys(&registry).await, ["k1"], "the first was applied");
    link.send_replace(Link::Down);
    assert!(registry.list(&KeyRange::prefix("k")).await.is_err());
    assert!(matches!(watch.next().await, Some(Err(WatchEnded::Lost(_)))));
    put(&other, "k2").await.unwrap();
    link.send_replace(Link::Up);
    assert_eq!(keys(&registry).await, ["k1", "k2"]);
}
