//! etcd's limits: sizes, its quota, compaction, tokens that end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use sextant_controller::registry::{
    Guard, KeyRange, Op, Outcome, Registry, RegistryError, Txn, WatchEnded,
    etcd::{EtcdStore, Login},
};
use sextant_proto::Revision;

use crate::{
    all,
    cluster::{Cluster, PATIENCE, Plan, until},
    put,
};

fn unavailable<T: std::fmt::Debug>(result: Result<T, RegistryError>, words: &str) {
    let message = format!("{result:?}");
    assert!(
        matches!(&result, Err(RegistryError::Unavailable(why)) if why.contains(words)),
        "{words}: {message}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_too_large_is_refused_with_the_limit() {
    let cluster = Cluster::start(Plan::members(1));
    let store = cluster.store().await;
    let puts = |count: usize| Txn {
        guards: vec![],
        ops: (0..count).map(|n| Op::put(format!("k/{n}"), "1")).collect(),
    };
    assert!(matches!(store.commit(puts(128)).await, Ok(Outcome::Committed(_))));
    unavailable(store.commit(puts(129)).await, "--max-txn-ops");
    let guards = (0..129).map(|n| Guard::Absent(format!("x/{n}"))).collect();
    let ops = vec![Op::put("k/guarded", "1")];
    unavailable(store.commit(Txn { guards, ops }).await, "--max-txn-ops");
    unavailable(put(&store, "k/large", "x".repeat(1_600_000)).await, "--max-request-bytes");
    unavailable(put(&store, "k/larger", "x".repeat(5_000_000)).await, "--max-request-bytes");
    let listing = store.list(&all()).await.unwrap();
    assert_eq!(listing.entries.len(), 128, "nothing of what was refused was done");
    put(&store, "k/0", "2").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_is_reported_until_it_has_space_again() {
    let cluster = Cluster::start(Plan::members(1).flag("--quota-backend-bytes=8388608"));
    let store = cluster.store().await;
    let mut round = 0;
    let full = until("the store is full", async || {
        round += 1;
        match put(&store, "k/fill", format!("{round}").repeat(500_000)).await {
            Ok(_) => Err(format!("{round} rounds")),
            Err(error) => Ok(error),
        }
    })
    .await;
    assert!(matches!(&full, RegistryError::Unavailable(why) if why.contains("alarm disarm")), "{full:?}");
    let listing = store.list(&all()).await.unwrap();
    assert_eq!(listing.entries.len(), 1, "it reads while it is full");
    let revision = listing.revision.to_string();
    cluster.ctl(&["compaction", "--physical", &revision]);
    cluster.ctl(&["defrag"]);
    cluster.ctl(&["alarm", "disarm"]);
    assert!(put(&store, "k/after", "1").await.unwrap() > listing.revision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_keys_are_listed_at_one_revision() {
    const KEYS: usize = 100_000;
    let cluster = Cluster::start(Plan::members(1));
    let store = Arc::new(cluster.store().await);
    fill(&store, KEYS).await;
    // While it is listed, its last key is written, and what it was before is compacted.
    let (lister, start) = (Arc::clone(&store), Instant::now());
    let listing = tokio::spawn(async move { lister.list(&all()).await });
    let mut rounds = 0;
    while !listing.is_finished() {
        let revision = put(&store, "k/099999", "new").await.unwrap();
        rounds += 1;
        if rounds == 10 {
            cluster.ctl(&["compaction", &revision.to_string()]);
        }
    }
    let listing = listing.await.unwrap().unwrap();
    println!("{KEYS} keys listed in {:?}, beside {rounds} writes", start.elapsed());
    assert_eq!(listing.entries.len(), KEYS);
    assert!(listing.entries.iter().enumerate().all(|(n, entry)| entry.key == format!("k/{n:06}")));
    let mut watch = store.watch(all(), store.list(&all()).await.unwrap().revision);
    let revision = put(&store, "other", "1").await.unwrap();
    let start = Instant::now();
    let batch = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    println!("a watch of them is known to be current after {:?}", start.elapsed());
    assert_eq!((batch.revision, batch.events.len()), (revision, 0));
    let newest = listing.entries.iter().map(|entry| entry.modified).max();
    assert!(newest <= Some(listing.revision), "{newest:?} is after {}", listing.revision);
}

async fn fill(store: &Arc<EtcdStore>, keys: usize) {
    const EACH: usize = 100;
    let fill = |first: usize| {
        let ops = (first..first + EACH).map(|n| Op::put(format!("k/{n:06}"), vec![7; 100])).collect();
        let store = Arc::clone(store);
        async move { store.commit(Txn { guards: vec![], ops }).await.unwrap() }
    };
    let fills = futures::stream::iter((0..keys).step_by(EACH).map(fill));
    fills.buffer_unordered(16).for_each(|_| std::future::ready(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_watcher_learns_that_it_missed_changes() {
    const CHANGES: usize = 3000;
    let cluster = Cluster::start(Plan::members(1));
    let store = Arc::new(cluster.store().await);
    let start = put(&store, "k/a", "0").await.unwrap();
    let mut watch = store.watch(all(), Revision(start.0 - 1));
    assert_eq!(watch.next().await.unwrap().unwrap().revision, start);
    // More than the connection and the member keep for who does not read.
    let value = "x".repeat(16 << 10);
    let change = |n: usize| {
        let (store, value) = (Arc::clone(&store), value.clone());
        async move { put(&store, &format!("k/{}", n % 10), value).await.unwrap() }
    };
    let changes: Vec<Revision> =
        futures::stream::iter((0..CHANGES).map(change)).buffer_unordered(16).collect().await;
    let newest = changes.iter().max().unwrap().to_string();
    cluster.ctl(&["compaction", "--physical", &newest]);

    let mut message = start;
    let ended = loop {
        match tokio::time::timeout(PATIENCE, watch.next()).await.expect("it goes on") {
            Some(Ok(batch)) => {
                assert_eq!(batch.revision.0, message.0 + 1, "nothing is left out before it is said");
                message = batch.revision;
            }
            Some(Err(ended)) => break ended,
            None => panic!("the watch ended without an error"),
        }
    };
    assert!(matches!(ended, WatchEnded::Compacted(at) if at == message), "{ended:?} after {message}");
    assert!(watch.next().await.is_none());
    let listing = store.list(&all()).await.unwrap();
    let mut again = store.watch(all(), listing.revision);
    let revision = put(&store, "k/z", "1").await.unwrap();
    assert_eq!(again.next().await.unwrap().unwrap().revision, revision);
}

/// With a role for its own keys alone, and tokens that last for a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_that_end_are_renewed() {
    let mut cluster = Cluster::start(Plan::members(1).flag("--bcrypt-cost=4").flag("--auth-token-ttl=1"));
    let login = |user: &str, password: &str| Login {
        user: user.to_owned(),
        password: password.to_owned(),
        file: None,
    };
    let mut options = cluster.options(&[0]);
    options.login = Some(login("sextant", "secret"));
    // It knows of its login before etcd does.
    let early = cluster.store_with(options.clone()).await;
    put(&early, "k/early", "1").await.unwrap();
    for command in [
        "user add root:secret",
        "user grant-role root root",
        "user add sextant:secret",
        "role add sextant",
        "role add other",
        "role grant-permission sextant readwrite --prefix=true k/",
        "user grant-role sextant sextant",
        "auth enable",
    ] {
        cluster.ctl(&command.split(' ').collect::<Vec<_>>());
    }
    let anonymous = EtcdStore::connect(cluster.options(&[0])).await.unwrap();
    unavailable(anonymous.list(&all()).await, "set its user and password");
    put(&early, "k/early", "2").await.unwrap();
    options.login = Some(login("sextant", "wrong"));
    let wrong = EtcdStore::connect(options.clone()).await.unwrap();
    unavailable(wrong.list(&all()).await, "check the user and password");
    options.login = Some(login("sextant", "secret"));
    let store = cluster.store_with(options).await;
    unavailable(put(&store, "other", "1").await, "role");

    let first = put(&store, "k/a", "1").await.unwrap();
    let mut watch = store.watch(all(), Revision(first.0 - 1));
    assert_eq!(watch.next().await.unwrap().unwrap().revision, first);
    // Being idle is what ends a token, so there is nothing to poll.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let idle = put(&store, "k/a", "2").await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().revision, idle);
    // A change of the user ends its tokens too.
    cluster.ctl(&["--user", "root:secret", "user", "grant-role", "sextant", "other"]);
    let mut second = store.watch(all(), first);
    assert_eq!(second.next().await.unwrap().unwrap().revision, idle);
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    cluster.ctl(&["--user", "root:secret", "user", "revoke-role", "sextant", "other"]);
    let changed = put(&store, "k/a", "3").await.unwrap();
    assert_eq!(second.next().await.unwrap().unwrap().revision, changed);
    // A member that starts anew knows no token.
    cluster.kill(0);
    cluster.run(0);
    until("it is back", async || store.keep_alive(lease).await.map_err(|error| error.to_string())).await;
    put(&store, "k/a", "4").await.unwrap();
    store.revoke(lease).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_of_no_keys_still_knows_the_revision() {
    let cluster = Cluster::start(Plan::members(1));
    let store = cluster.store().await;
    let put_at = put(&store, "k/a", "1").await.unwrap();
    let empty = KeyRange { from: "k/b".to_owned(), to: "k/b".to_owned() };
    let listing = store.list(&empty).await.unwrap();
    assert_eq!((listing.revision, listing.entries), (put_at, vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_another_ca_signed_is_not_trusted() {
    let plan = || Plan { tls: true, ..Plan::members(1) };
    let (cluster, other) = (Cluster::start(plan()), Cluster::planned(plan()));
    drop(cluster.store().await);
    let mut options = cluster.options(&[0]);
    let ca = other.options(&[0]).tls.unwrap().ca;
    options.tls.as_mut().unwrap().ca = ca.clone();
    let store = EtcdStore::connect(options.clone()).await.unwrap();
    unavailable(store.list(&all()).await, "certificate");
    std::fs::write(&ca, "no certificate").unwrap();
    let message = EtcdStore::connect(options.clone()).await.err().unwrap().to_string();
    assert!(message.contains("PEM"), "{message}");
    std::fs::remove_file(&ca).unwrap();
    let message = EtcdStore::connect(options).await.err().unwrap().to_string();
    assert!(message.contains("ca.pem"), "{message}");
}
