//! The embedded store as a whole.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;

use super::{faults::Faults, *};
use crate::registry::{
    Event, Guard, WatchEnded,
    conformance::{self, Subject},
};

mod crash;
mod damage;
mod disk;
mod location;
mod opening;
mod speed;

/// Finds one backup, always.
#[derive(Debug)]
struct OneBackup;

impl FindBackup for OneBackup {
    fn newest(&self) -> Option<NamedBackup> {
        Some(NamedBackup { file: "/backups/b".into(), taken: "2026-11-29T09:10:40.123Z".into() })
    }
}

fn with_backup() -> Options {
    Options::with_backups(Some(Arc::new(OneBackup)))
}

/// A temporary directory with the path of a store.
struct Testbed {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

fn testbed() -> Testbed {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    Testbed { _directory: directory, path }
}

async fn put(store: &EmbeddedStore, key: &str, value: &str) -> Result<u64, RegistryError> {
    let ops = vec![Op::put(key, value.to_owned())];
    match store.commit(Txn { guards: vec![], ops }).await? {
        Outcome::Committed(revision) => Ok(revision.0),
        Outcome::Refused(_) => panic!("{key} was refused without guards"),
    }
}

fn with_lease(key: &str, lease: LeaseId) -> Txn {
    let op = Op::Put { key: key.to_owned(), value: "held".into(), lease: Some(lease) };
    Txn { guards: vec![], ops: vec![op] }
}

async fn all(store: &EmbeddedStore) -> Listing {
    let all = KeyRange { from: String::new(), to: "~".to_owned() };
    store.list(&all).await.unwrap()
}

async fn keys(store: &EmbeddedStore) -> Vec<String> {
    all(store).await.entries.into_iter().map(|entry| entry.key).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_conformance_suite_passes() {
    let testbed = testbed();
    conformance::run_all(async |name| {
        let options = Options { kept_events: 1000, ..Options::default() };
        let path = testbed.path.with_file_name(name);
        let store: Arc<dyn Registry> = Arc::new(EmbeddedStore::open_with(&path, options).unwrap());
        Subject {
            registry: store,
            prefix: "case/".to_owned(),
            ttl: Duration::from_millis(500),
            compact: Some(Box::new(|registry| Box::pin(fill(registry)))),
        }
    })
    .await;
}

/// Pushes everything out of the ring.
async fn fill(registry: crate::registry::SharedRegistry) {
    let ops: Vec<Op> = (0..1000).map(|n| Op::put(format!("other/{n}"), "x")).collect();
    registry.commit(Txn { guards: vec![], ops }).await.unwrap();
}

#[tokio::test]
async fn revisions_begin_at_one_and_are_dense() {
    let testbed = testbed();
    let store = EmbeddedStore::open(&testbed.path).unwrap();
    assert_eq!(store.describe(), format!("embedded:{}", testbed.path.display()));
    assert_eq!(all(&store).await.revision, Revision(0));
    assert_eq!(put(&store, "a", "1").await.unwrap(), 1);
    let nothing = Txn { guards: vec![], ops: vec![Op::Delete("x".into())] };
    assert_eq!(store.commit(nothing).await.unwrap(), Outcome::Committed(Revision(1)));
    let refused = Txn { guards: vec![Guard::Absent("a".into())], ops: vec![Op::put("a", "2")] };
    assert_eq!(store.commit(refused).await.unwrap(), Outcome::Refused(Revision(1)));
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    store.revoke(lease).await.unwrap();
    assert_eq!(put(&store, "a", "2").await.unwrap(), 2);
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let testbed = testbed();
    let store = EmbeddedStore::open(&testbed.path).unwrap();
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    put(&store, "a", "1").await.unwrap();
    put(&store, "a", "2").await.unwrap();
    store.commit(with_lease("b", lease)).await.unwrap();
    let before = all(&store).await;
    drop(store);
    let store = EmbeddedStore::open(&testbed.path).unwrap();
    assert_eq!(all(&store).await, before);
    let dates: Vec<_> = before.entries.iter().map(|e| (e.created.0, e.modified.0, e.lease)).collect();
    assert_eq!(dates, [(1, 2, None), (3, 3, Some(lease))]);
    assert_ne!(store.grant(Duration::from_secs(60)).await.unwrap(), lease, "an id is never used again");
    assert_eq!(put(&store, "c", "1").await.unwrap(), 4);
    store.keep_alive(lease).await.unwrap();
    store.revoke(lease).await.unwrap();
    assert_eq!(keys(&store).await, ["a", "c"]);
}

#[tokio::test]
async fn a_restart_gives_a_lease_its_full_ttl_and_then_it_ends() {
    let testbed = testbed();
    let ttl = Duration::from_millis(1500);
    let store = EmbeddedStore::open(&testbed.path).unwrap();
    let lease = store.grant(ttl).await.unwrap();
    store.commit(with_lease("a", lease)).await.unwrap();
    drop(store);
    let opened = Instant::now();
    let store = EmbeddedStore::open(&testbed.path).unwrap();
    let mut watch = store.watch(KeyRange::key("a"), Revision(1));
    let batch = watch.next().await.unwrap().unwrap();
    assert!(opened.elapsed() >= ttl, "it ended {:?} after the restart", opened.elapsed());
    let deleted = Event::Deleted { key: "a".to_owned(), revision: Revision(2) };
    assert_eq!(batch.events, [deleted]);
}

#[tokio::test]
async fn keeping_alive_writes_nothing() {
    let testbed = testbed();
    let store = EmbeddedStore::open(&testbed.path).unwrap();
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    let before = fs::read(&testbed.path).unwrap();
    for _ in 0..100 {
        store.keep_alive(lease).await.unwrap();
    }
    let missing = LeaseId(lease.0 + 1);
    assert!(matches!(store.keep_alive(missing).await, Err(RegistryError::LeaseEnded(of)) if of == missing));
    assert!(fs::read(&testbed.path).unwrap() == before, "the file changed");
}

#[tokio::test]
async fn a_watch_from_before_a_restart_is_compacted_and_one_from_the_restart_continues() {
    let testbed = testbed();
    let store = EmbeddedStore::open(&testbed.path).unwrap();
    put(&store, "a", "1").await.unwrap();
    let current = put(&store, "a", "2").await.unwrap();
    let mut lost = store.watch(KeyRange::key("a"), Revision(current));
    drop(store);
    assert!(matches!(lost.next().await, Some(Err(WatchEnded::Lost(_)))));
    assert!(lost.next().await.is_none());
    let store = EmbeddedStore::open(&testbed.path).unwrap();
    let mut old = store.watch(KeyRange::key("a"), Revision(current - 1));
    assert!(matches!(old.next().await, Some(Err(WatchEnded::Compacted(Revision(1))))));
    let mut new = store.watch(KeyRange::key("a"), Revision(current));
    let next = put(&store, "a", "3").await.unwrap();
    assert_eq!(new.next().await.unwrap().unwrap().revision, Revision(next));
}

#[tokio::test]
async fn a_stalled_watcher_is_compacted() {
    let testbed = testbed();
    let options = Options { kept_events: 10, ..Options::default() };
    let store = EmbeddedStore::open_with(&testbed.path, options).unwrap();
    let mut slow = store.watch(KeyRange::key("a"), Revision(0));
    put(&store, "a", "1").await.unwrap();
    assert_eq!(slow.next().await.unwrap().unwrap().revision, Revision(1));
    for _ in 0..12 {
        put(&store, "a", "2").await.unwrap();
    }
    assert!(matches!(slow.next().await, Some(Err(WatchEnded::Compacted(Revision(1))))));
    assert!(slow.next().await.is_none());
}

#[tokio::test]
async fn a_watcher_without_changes_in_its_range_is_not_compacted() {
    let testbed = testbed();
    let options = Options { kept_events: 10, ..Options::default() };
    let store = EmbeddedStore::open_with(&testbed.path, options).unwrap();
    let mut watch = store.watch(KeyRange::key("a"), Revision(0));
    for _ in 0..30 {
        put(&store, "b", "1").await.unwrap();
        let early = futures::poll!(watch.next());
        assert!(early.is_pending(), "{early:?}");
    }
    put(&store, "a", "1").await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().revision, Revision(31));
}

#[tokio::test]
#[should_panic(expected = "a key is in at most one operation")]
async fn a_key_in_two_operations_panics() {
    let testbed = testbed();
    let store = EmbeddedStore::open(&testbed.path).unwrap();
    let ops = vec![Op::put("a", "1"), Op::Delete("a".into())];
    let _ = store.commit(Txn { guards: vec![], ops }).await;
}
