use std::{collections::BTreeSet, time::Duration};

use super::*;
use crate::registry::{
    Txn,
    embedded::{EmbeddedStore, Options},
};

pub(crate) fn store(dir: &tempfile::TempDir) -> (SharedRegistry, Keys) {
    // Watchers that are more than a few events behind find them compacted.
    let mut options = Options::default();
    options.kept_events = 10;
    let store = EmbeddedStore::open_with(&dir.path().join("store"), options).unwrap();
    let registry: SharedRegistry = Arc::new(store);
    (registry, Keys::new(&"test".parse().unwrap()))
}

pub(crate) async fn put(registry: &SharedRegistry, keys: &Keys, unix_ms: u64, random: u64) {
    let record = AuditRecord {
        unix_ms,
        what: What::Claimed.to_string(),
        node: Some("h1".parse().unwrap()),
        prefix: Some("2001:db8:1::/64".parse().unwrap()),
        pool: None,
        by: "somebody".into(),
        detail: String::new(),
    };
    let ops = vec![Op::put(keys.audit_entry(unix_ms, random), record.encode())];
    registry.commit(Txn { guards: Vec::new(), ops }).await.unwrap();
}

pub(crate) async fn times(registry: &SharedRegistry, keys: &Keys) -> Vec<u64> {
    list(registry, keys).await.unwrap().1.iter().map(|noted| noted.record.unix_ms).collect()
}

/// More entries than the store's ring for watches holds, between two looks: the follower lists anew.
#[tokio::test]
async fn a_follower_survives_compaction_and_tells_each_entry_once() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, keys) = store(&dir);
    put(&registry, &keys, 1, 1).await;
    let mut follow = Follow::new(registry.clone(), keys.clone(), Revision::ZERO);
    assert_eq!(follow.next().await.record.unix_ms, 1);
    // Falls behind while the store is written to.
    for unix_ms in 2..60 {
        put(&registry, &keys, unix_ms, 1).await;
    }
    let mut listed = BTreeSet::new();
    while listed.len() < 58 {
        let next = tokio::time::timeout(Duration::from_secs(20), follow.next()).await.unwrap();
        assert!(listed.insert(next.record.unix_ms), "listed twice: {next:?}");
    }
    assert_eq!(listed, (2..60).collect());
}

#[tokio::test]
async fn a_clock_that_steps_back_neither_reorders_nor_drops_nor_repeats_entries() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, keys) = store(&dir);
    let made = [5000, 9000, 1000, 1000, 20, 7000];
    let (before, after) = made.split_at(3);
    for (random, unix_ms) in (0..).zip(before) {
        put(&registry, &keys, *unix_ms, random).await;
    }
    let mut follow = Follow::new(registry.clone(), keys.clone(), Revision::ZERO);
    let mut followed = vec![follow.next().await.record.unix_ms];
    for (random, unix_ms) in (10..).zip(after) {
        put(&registry, &keys, *unix_ms, random).await;
    }
    // One more tells that none of those before it was listed twice.
    put(&registry, &keys, 1, 99).await;
    while followed.last() != Some(&1) {
        let next = tokio::time::timeout(Duration::from_secs(20), follow.next()).await.unwrap();
        followed.push(next.record.unix_ms);
    }
    assert_eq!(followed, [&made[..], &[1]].concat(), "in the order of the store");
    assert_eq!(times(&registry, &keys).await, followed);
}
