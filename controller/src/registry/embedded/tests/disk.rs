//! Disks that fail and disks that are full.

use std::collections::BTreeMap;

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::*;

/// The reported outcome of each put, to compare with the store's content.
#[derive(Debug, Default)]
struct Reported {
    /// By key: its revision.
    done: BTreeMap<String, u64>,
    refused: Vec<String>,
    unknown: Vec<String>,
}

impl Reported {
    async fn put(&mut self, store: &EmbeddedStore, key: String, value: &str) {
        match put(store, &key, value).await {
            Ok(revision) => {
                self.done.insert(key, revision);
            }
            Err(RegistryError::Unavailable(reason)) => {
                assert!(reason.contains("store \""), "it names the file: {reason}");
                self.refused.push(key);
            }
            Err(RegistryError::Unknown(_)) => self.unknown.push(key),
            Err(error) => panic!("{key}: {error}"),
        }
    }

    /// All acknowledged keys are present, refused ones are not, and the watch delivered exactly the present ones.
    async fn check(&self, store: &EmbeddedStore, context: &str) {
        let listing = all(store).await;
        let found: BTreeMap<String, u64> =
            listing.entries.iter().map(|entry| (entry.key.clone(), entry.modified.0)).collect();
        for (key, revision) in &self.done {
            assert_eq!(found.get(key), Some(revision), "{context}: {key} was acknowledged; {self:?}");
        }
        for key in &self.refused {
            assert_eq!(found.get(key), None, "{context}: {key} was refused; {self:?}");
        }
        for key in found.keys() {
            let known = self.done.contains_key(key) || self.unknown.contains(key);
            assert!(known, "{context}: {key} was never put; {self:?}");
        }
        let mut watch = store.watch(KeyRange { from: String::new(), to: "~".into() }, Revision(0));
        let mut delivered = BTreeMap::new();
        while delivered.len() < found.len() {
            let batch = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
            let batch =
                batch.unwrap_or_else(|_| panic!("{context}: delivered {delivered:?}, found {found:?}"));
            for event in batch.unwrap().unwrap().events {
                let Event::Put(entry) = event else { panic!("{context}: {event:?}") };
                assert_eq!(
                    delivered.insert(entry.key.clone(), entry.modified.0),
                    None,
                    "{context}: delivered twice"
                );
            }
        }
        assert_eq!(delivered, found, "{context}");
        let more = futures::poll!(watch.next());
        assert!(more.is_pending(), "{context}: an additional change: {more:?}");
    }
}

/// Wherever in a transaction the disk fails, for one call or for many, each reported outcome stays true, and the store
/// recovers by itself.
#[tokio::test]
async fn a_store_recovers_from_a_disk_failure_at_any_point() {
    let mut failed = 0;
    let mut unknown = 0;
    for failing in [1, 2, 3, 8, 1000] {
        for left in 0..40 {
            let context = format!("{failing} calls failed after {left}");
            let testbed = testbed();
            let faults = Faults::default();
            let options = Options { faults: faults.clone(), ..Options::default() };
            let store = EmbeddedStore::open_with(&testbed.path, options).unwrap();
            let mut reported = Reported::default();
            reported.put(&store, "a".to_owned(), "before").await;
            faults.set(left, failing);
            for key in ["b", "c", "d"] {
                reported.put(&store, key.to_owned(), &key.repeat(3000)).await;
            }
            failed += u32::from(faults.heal());
            unknown += reported.unknown.len();
            let context = format!("{context}: {reported:?}");
            reported.put(&store, "e".to_owned(), "after").await;
            assert!(reported.done.contains_key("e"), "{context}: it does not recover");
            reported.check(&store, &context).await;
            drop(store);
            let store = EmbeddedStore::open(&testbed.path).unwrap();
            let kept: Vec<String> = keys(&store).await;
            assert!(
                reported.done.keys().all(|key| kept.contains(key)),
                "{context}: lost by a restart: {kept:?}"
            );
        }
    }
    assert!(failed > 50 && unknown > 0, "the failures hit: {failed}, unknown: {unknown}");
}

/// Makes the disk fail permanently, and waits until the store is closed.
/// The file keeps the length that redb gives up, and redb must not learn of it: a growth within it would be a truncation to redb.
#[tokio::test]
async fn a_store_that_shrank_grows_again() {
    let testbed = testbed();
    let store = EmbeddedStore::open(&testbed.path).unwrap();
    let key = |n: usize| format!("{n:05}");
    for round in 0..3 {
        let value = "v".repeat(900 + round * 700);
        for from in (0..3000).step_by(100) {
            let ops = (from..from + 100).map(|n| Op::put(key(n), value.clone())).collect();
            store.commit(Txn { guards: vec![], ops }).await.unwrap();
        }
        assert_eq!(all(&store).await.entries.len(), 3000, "round {round}");
        for from in (0..3000).rev().step_by(100) {
            let ops = (from - 99..=from).map(|n| Op::Delete(key(n))).collect();
            store.commit(Txn { guards: vec![], ops }).await.unwrap();
        }
    }
}

async fn fail(store: &EmbeddedStore, faults: &Faults) {
    faults.set(0, u32::MAX);
    while !matches!(put(store, "lost", "x").await, Err(RegistryError::Unavailable(_))) {}
}

async fn next_batch(watch: &mut Watch) -> Result<crate::registry::Batch, WatchEnded> {
    let next = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
    next.expect("a change is delivered").expect("a watch ends with an error")
}

#[tokio::test]
async fn leases_outlive_a_failing_disk_and_end_after_it() {
    let testbed = testbed();
    let faults = Faults::default();
    let options = Options { faults: faults.clone(), ..Options::default() };
    let store = EmbeddedStore::open_with(&testbed.path, options).unwrap();
    let ttl = Duration::from_secs(1);
    let lease = store.grant(ttl).await.unwrap();
    let granted = Instant::now();
    let other = store.grant(Duration::from_secs(60)).await.unwrap();
    store.commit(with_lease("a", lease)).await.unwrap();
    let mut watch = store.watch(KeyRange::key("a"), Revision(1));
    fail(&store, &faults).await;
    while granted.elapsed() < 2 * ttl {
        store.keep_alive(other).await.expect("keeping alive needs no disk");
        let refused = put(&store, "b", "x").await;
        assert!(matches!(refused, Err(RegistryError::Unavailable(_))), "{refused:?}");
        assert!(futures::poll!(watch.next()).is_pending(), "no change is delivered that is not in the file");
    }
    faults.heal();
    let batch = next_batch(&mut watch).await.expect("the lease ends by itself once the disk works");
    assert!(matches!(&batch.events[..], [Event::Deleted { key, .. }] if key == "a"), "{batch:?}");
}

#[tokio::test]
async fn changes_of_another_controller_end_watches_and_are_kept() {
    let testbed = testbed();
    let faults = Faults::default();
    let options = Options { faults: faults.clone(), ..Options::default() };
    let store = EmbeddedStore::open_with(&testbed.path, options).unwrap();
    put(&store, "a", "1").await.unwrap();
    let mut watch = store.watch(KeyRange::key("a"), Revision(1));
    fail(&store, &faults).await;
    // By another path: the first store holds the lock of its own path while it is open.
    let link = testbed.path.with_file_name("link");
    fs::hard_link(&testbed.path, &link).unwrap();
    let other = loop {
        // The first store retries at intervals, and holds the file's lock meanwhile.
        match EmbeddedStore::open(&link) {
            Ok(other) => break other,
            Err(error) => assert!(matches!(error, OpenError::AlreadyOpen(_)), "{error}"),
        }
    };
    let lease = other.grant(Duration::from_secs(60)).await.unwrap();
    for value in ["2", "3", "4"] {
        put(&other, "a", value).await.unwrap();
    }
    let theirs = all(&other).await;
    drop(other);
    faults.heal();
    assert!(matches!(next_batch(&mut watch).await, Err(WatchEnded::Compacted(Revision(1)))));
    assert_eq!(all(&store).await, theirs);
    store.keep_alive(lease).await.unwrap();
    let mut again = store.watch(KeyRange::key("a"), theirs.revision);
    let next = put(&store, "a", "5").await.unwrap();
    assert_eq!(next, theirs.revision.0 + 1);
    assert_eq!(next_batch(&mut again).await.unwrap().revision, Revision(next));
}

#[tokio::test]
async fn acknowledged_changes_are_on_the_disk() {
    let testbed = testbed();
    let faults = Faults::default();
    let options = Options { faults: faults.clone(), ..Options::default() };
    let store = EmbeddedStore::open_with(&testbed.path, options).unwrap();
    for round in 0..100 {
        put(&store, &round.to_string(), &"x".repeat(5000)).await.unwrap();
        assert_eq!(faults.unsynced(), 0, "writes that were not synced before the answer of round {round}");
    }
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    assert_eq!(faults.unsynced(), 0, "after a grant");
    store.revoke(lease).await.unwrap();
    assert_eq!(faults.unsynced(), 0, "after a revoke");
    assert!(faults.synced() > 100, "each was synced: {}", faults.synced());
}

/// Runs the body in a thread with a file system of its own at `path`, of `size` octets.
fn on_small_disk(path: &Path, size: usize, body: impl FnOnce() + Send + 'static) {
    let path = path.to_owned();
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("run this test as root");
        mount::<str, _, str, str>(None, "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None).unwrap();
        let options = format!("size={size},mode=700");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(&*options)).unwrap();
        body();
    });
    thread.join().unwrap();
}

/// All threads of the runtime inherit the mount namespace of the one that starts them.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Fills the disk.
fn take_all(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
}

#[test]
fn a_full_disk_refuses_changes_until_space_is_freed() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_owned();
    on_small_disk(directory.path(), 64 << 20, move || runtime().block_on(fill_and_free(root)));
}

async fn fill_and_free(root: PathBuf) {
    let ballast = root.join("ballast");
    let store = EmbeddedStore::open(&root.join("store")).unwrap();
    let mut reported = Reported::default();
    reported.put(&store, "first".to_owned(), "x").await;
    let value = "v".repeat(20_000);
    for round in 0..3 {
        take_all(&ballast);
        let mut number = 0;
        while reported.refused.len() < 3 * (round + 1) {
            reported.put(&store, format!("{round}/{number:04}"), &value).await;
            number += 1;
            assert!(number < 2000, "the disk is not full: {reported:?}");
        }
        let refused = put(&store, "no", &value).await.unwrap_err().to_string();
        assert!(refused.contains("MiB more: ") && refused.contains("os error 28"), "{refused}");
        assert!(refused.contains("free space on its file system"), "{refused}");
        reported.check(&store, "full").await;
        fs::remove_file(&ballast).unwrap();
        reported.put(&store, format!("{round}/space"), &value).await;
        assert!(reported.done.contains_key(&format!("{round}/space")), "it recovers once there is space");
        reported.check(&store, "space again").await;
    }
    assert_eq!(reported.unknown, Vec::<String>::new(), "each outcome was determined");
    drop(store);
    let store = EmbeddedStore::open(&root.join("store")).unwrap();
    assert_eq!(keys(&store).await, reported.done.into_keys().collect::<Vec<_>>());
}

/// Deletes `key` and puts a small record, as commands do.
async fn delete(store: &EmbeddedStore, key: &str) -> Result<Outcome, RegistryError> {
    let ops = vec![Op::Delete(key.to_owned()), Op::put(format!("note/{key}"), vec![7; 150])];
    store.commit(Txn { guards: Vec::new(), ops }).await
}

/// Puts values until the disk is full.
async fn fill(store: &EmbeddedStore) {
    for number in 0..5000 {
        match put(store, &format!("fill/{:016x}/{number}", rand::random::<u64>()), &"v".repeat(2000)).await {
            Ok(_) => {}
            Err(RegistryError::Unavailable(_)) => return,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the disk is not full");
}

async fn expect_refusal(store: &EmbeddedStore, refuses: bool) {
    let begun = Instant::now();
    while store.refusal().is_some() != refuses {
        assert!(begun.elapsed() < Duration::from_secs(10), "refusal: {:?}", store.refusal());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn deletes_succeed_on_a_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_owned();
    on_small_disk(directory.path(), 16 << 20, move || runtime().block_on(fill_and_delete(root)));
}

async fn fill_and_delete(root: PathBuf) {
    let (path, ballast, reserve) = (root.join("store"), root.join("ballast"), root.join("store.reserve"));
    let mut store = EmbeddedStore::open(&path).unwrap();
    assert_eq!(fs::metadata(&reserve).unwrap().len(), 1 << 20, "the reserve is made");
    assert_eq!(store.refusal(), None);
    for number in 0..200 {
        put(&store, &format!("k/{number:03}"), &"v".repeat(200)).await.unwrap();
    }
    take_all(&ballast);
    fill(&store).await;
    let refusal = store.refusal().expect("a refused growth is known");
    let words = ["store\"", "cannot grow", "MiB more", "os error 28", "free space"];
    assert!(words.iter().all(|word| refusal.reason.contains(word)), "{refusal:?}");
    for number in 0..60 {
        let key = format!("k/{number:03}");
        delete(&store, &key).await.unwrap_or_else(|error| panic!("{key}: {error}"));
        // Freed space is used at once.
        fill(&store).await;
    }
    // Together, and after a restart.
    let (deleted, added) = futures::join!(delete(&store, "k/060"), put(&store, "more", "v"));
    assert!(deleted.is_ok() && added.is_err(), "{deleted:?}, {added:?}");
    drop(store);
    store = EmbeddedStore::open(&path).unwrap();
    let again = store.refusal().expect("a file with holes is known after a restart");
    assert!(again.reason.contains("MiB more"), "{again:?}");
    for number in 61..80 {
        delete(&store, &format!("k/{number:03}")).await.unwrap();
        assert!(put(&store, "more", "v").await.is_err());
    }
    let lease = store.grant(Duration::from_secs(60)).await;
    assert!(matches!(lease, Err(RegistryError::Unavailable(_))), "{lease:?}");
    assert!(fs::metadata(&reserve).unwrap().len() < 1 << 20, "the reserve was needed");
    // Without any request the store detects the free space by itself.
    fs::remove_file(&ballast).unwrap();
    expect_refusal(&store, false).await;
    put(&store, "more", &"v".repeat(2000)).await.unwrap();
    let begun = Instant::now();
    while fs::metadata(&reserve).unwrap().len() < 1 << 20 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the reserve is filled again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let kept = keys(&store).await;
    assert_eq!(kept.iter().filter(|key| key.starts_with("k/")).count(), 120);
    assert_eq!(kept.iter().filter(|key| key.starts_with("note/")).count(), 80);
    drop(store);
    let store = EmbeddedStore::open(&path).unwrap();
    assert_eq!(keys(&store).await, kept);
}

/// After a disk failure, the refusal is reported until a write succeeds; an idle store attempts one.
#[tokio::test]
async fn a_refusal_is_reported_until_a_write_succeeds() {
    let testbed = testbed();
    let faults = Faults::default();
    let options = Options { faults: faults.clone(), ..Options::default() };
    let store = EmbeddedStore::open_with(&testbed.path, options).unwrap();
    assert_eq!(store.refusal(), None);
    fail(&store, &faults).await;
    let refusal = store.refusal().expect("the refusal is known");
    assert!(refusal.reason.contains("store \""), "{refusal:?}");
    faults.heal();
    expect_refusal(&store, false).await;
    put(&store, "a", "1").await.unwrap();
}

#[test]
fn a_new_store_on_a_full_disk_is_an_error_and_leaves_no_files() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_owned();
    on_small_disk(directory.path(), 64 << 10, move || {
        let error = EmbeddedStore::open(&root.join("store")).unwrap_err().to_string();
        assert!(error.contains("os error 28") && error.contains("free space"), "{error}");
        let left = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["store.lock"], "no unfinished file is left");
    });
}
