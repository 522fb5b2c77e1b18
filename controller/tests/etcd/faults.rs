//! What goes wrong with members: frozen, killed, cut off from the others, not there at all.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::StreamExt;
use sextant_controller::registry::{
    Event, Guard, Listing, Op, Outcome, Registry, RegistryError, Txn, WatchEnded, etcd::EtcdStore,
};
use sextant_proto::Revision;

use crate::{
    all,
    cluster::{Cluster, HASTY_READ, PATIENCE, Plan, until},
    put,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_not_there_is_unavailable_until_it_is() {
    let mut cluster = Cluster::planned(Plan::members(1));
    let store = EtcdStore::connect(cluster.options(&[0])).await.unwrap();
    assert_eq!(store.describe(), format!("etcd:{}", cluster.url(0)));
    let start = Instant::now();
    let listed = store.list(&all()).await;
    assert!(matches!(&listed, Err(RegistryError::Unavailable(why)) if why.contains("refused")), "{listed:?}");
    let committed = put(&store, "k/a", "1").await;
    assert!(matches!(committed, Err(RegistryError::Unavailable(_))), "nothing was sent: {committed:?}");
    let watched = store.watch(all(), Revision::ZERO).next().await;
    assert!(matches!(watched, Some(Err(WatchEnded::Lost(_)))), "{watched:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "reported after {:?}", start.elapsed());
    cluster.run(0);
    until("the store answers", async || put(&store, "k/a", "1").await.map_err(|error| error.to_string()))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_member_is_left() {
    let cluster = Cluster::start(Plan::members(3));
    let leader = cluster.leader().await;
    let [frozen, other] = [1, 2].map(|step| (leader + step) % 3);
    let store = cluster.store_with(cluster.hasty_options(&[frozen, leader, other])).await;
    let before = put(&store, "k/before", "1").await.unwrap();
    let mut watch = store.watch(all(), Revision(before.0 - 1));
    assert_eq!(watch.next().await.unwrap().unwrap().revision, before);
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();

    cluster.freeze(frozen);
    let listed = until("a list", async || store.list(&all()).await.map_err(|error| error.to_string())).await;
    assert_eq!(listed.entries.len(), 1);
    // Each call that waited for the frozen member would take longer than the time-out of a read. On a loaded machine others may, too.
    let during = until("calls that do not wait for it", async || {
        let start = Instant::now();
        let during = put(&store, "k/during", "1").await.map_err(|error| error.to_string())?;
        store.keep_alive(lease).await.map_err(|error| error.to_string())?;
        let took = start.elapsed();
        if took < HASTY_READ { Ok(during) } else { Err(format!("{took:?}")) }
    })
    .await;

    let ended = tokio::time::timeout(PATIENCE, watch.next()).await.expect("the watch ends");
    assert!(matches!(ended, Some(Err(WatchEnded::Lost(_)))), "{ended:?}");
    until("a watch at another member", async || {
        let mut again = store.watch(all(), Revision(during.0 - 1));
        let batch = tokio::time::timeout(PATIENCE, again.next()).await.map_err(|_| "nothing".to_owned())?;
        match batch {
            Some(Ok(batch)) if batch.revision == during => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    cluster.thaw(frozen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_without_the_others_ends_its_watches() {
    let cluster = Cluster::start(Plan::members(3));
    let store = cluster.store_with(cluster.hasty_options(&[0])).await;
    let put_at = put(&store, "k/a", "1").await.unwrap();
    let mut watch = store.watch(all(), put_at);
    assert!(futures::poll!(watch.next()).is_pending());
    [1, 2].into_iter().for_each(|member| cluster.freeze(member));
    // Nothing but guards, which this member could compare by itself, with what may be old.
    let guards = vec![Guard::Absent("k/b".to_owned())];
    let compared = store.commit(Txn { guards, ops: vec![] }).await;
    assert!(compared.is_err(), "it compares with a quorum: {compared:?}");
    let ended = tokio::time::timeout(PATIENCE, watch.next()).await.expect("the watch ends");
    assert!(matches!(ended, Some(Err(WatchEnded::Lost(_)))), "{ended:?}");
    let listed = store.list(&all()).await;
    assert!(matches!(listed, Err(RegistryError::Unavailable(_))), "it reads with a quorum: {listed:?}");
    [1, 2].into_iter().for_each(|member| cluster.thaw(member));
    until("the store answers", async || {
        store.list(&all()).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

/// What a writer knows of one claim.
struct Claim {
    key: String,
    value: String,
    /// None if nobody knows.
    outcome: Option<Outcome>,
}

async fn claimer(
    store: Arc<EtcdStore>,
    number: usize,
    done: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) -> Vec<Claim> {
    let mut claims = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let key = format!("k/{number}-{:06}", claims.len());
        let value = format!("{number}/{}", claims.len());
        let txn = Txn { guards: vec![Guard::Absent(key.clone())], ops: vec![Op::put(&key, value.clone())] };
        let outcome = match store.commit(txn).await {
            Ok(outcome) => {
                done.fetch_add(1, Ordering::Relaxed);
                Some(outcome)
            }
            Err(RegistryError::Unknown(_)) => None,
            // Surely not done; the next one is another.
            Err(RegistryError::Unavailable(_)) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            Err(error) => panic!("{key}: {error}"),
        };
        claims.push(Claim { key, value, outcome });
    }
    claims
}

/// Follows the store as the index does; what it holds in the end.
async fn follow(
    store: Arc<EtcdStore>,
    until: Arc<std::sync::Mutex<Option<Revision>>>,
) -> BTreeMap<String, Revision> {
    let mut seen = Revision::ZERO;
    'list: loop {
        let Ok(Listing { revision, entries }) = store.list(&all()).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        assert!(revision >= seen, "a listing at {revision} after a batch at {seen}");
        seen = revision;
        let mut state: BTreeMap<_, _> =
            entries.into_iter().map(|entry| (entry.key, entry.modified)).collect();
        let mut watch = store.watch(all(), seen);
        loop {
            if until.lock().unwrap().is_some_and(|end| seen >= end) {
                return state;
            }
            match watch.next().await {
                Some(Ok(batch)) => {
                    assert!(batch.revision > seen, "{} after {seen}", batch.revision);
                    seen = batch.revision;
                    for event in batch.events {
                        match event {
                            Event::Put(entry) => drop(state.insert(entry.key, entry.modified)),
                            Event::Deleted { key, .. } => drop(state.remove(&key)),
                        }
                    }
                }
                Some(Err(WatchEnded::Lost(_))) => continue 'list,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_leaders_lose_no_acknowledged_commit() {
    const KILLS: usize = 3;
    const BETWEEN: usize = 300;
    let mut cluster = Cluster::start(Plan::members(3));
    let store = Arc::new(cluster.store_with(cluster.hasty_options(&[0, 1, 2])).await);
    let (done, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let end = Arc::new(std::sync::Mutex::new(None));
    let follower = tokio::spawn(follow(Arc::clone(&store), Arc::clone(&end)));
    let claimers: Vec<_> = (0..8)
        .map(|number| tokio::spawn(claimer(Arc::clone(&store), number, Arc::clone(&done), Arc::clone(&stop))))
        .collect();
    for _ in 0..KILLS {
        more(&done, BETWEEN).await;
        let leader = cluster.leader().await;
        cluster.kill(leader);
        more(&done, BETWEEN).await;
        cluster.run(leader);
        until("it is back", async || {
            cluster.try_ctl(leader, &["--command-timeout=1s", "endpoint", "health"]).map(drop)
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut claims = Vec::new();
    for claimer in claimers {
        claims.extend(claimer.await.unwrap());
    }
    let listing = store.list(&all()).await.unwrap();
    *end.lock().unwrap() = Some(listing.revision);
    // Outside of what is watched, so that the watch has to find out by itself that it is current.
    put(&store, "other", "1").await.unwrap();
    settle(&claims, &listing);
    let state = tokio::time::timeout(PATIENCE, follower).await.expect("the follower gets there").unwrap();
    let listed: BTreeMap<_, _> =
        listing.entries.into_iter().map(|entry| (entry.key, entry.modified)).collect();
    assert_eq!(state, listed, "what was followed is what is there");
}

async fn more(done: &AtomicUsize, count: usize) {
    let start = done.load(Ordering::Relaxed);
    until("commits go on", async || {
        let now = done.load(Ordering::Relaxed) - start;
        (now >= count).then_some(()).ok_or_else(|| format!("{now} of {count}"))
    })
    .await;
}

/// Each outcome must be what is there.
fn settle(claims: &[Claim], listing: &Listing) {
    let there: BTreeMap<&str, _> = listing.entries.iter().map(|entry| (entry.key.as_str(), entry)).collect();
    let mut unknown = [0, 0];
    for claim in claims {
        let found = there.get(claim.key.as_str());
        match claim.outcome {
            Some(Outcome::Committed(revision)) => {
                let entry = found
                    .unwrap_or_else(|| panic!("{} was acknowledged at {revision}, and is gone", claim.key));
                assert_eq!(
                    (entry.modified, &*entry.value),
                    (revision, claim.value.as_bytes()),
                    "{}",
                    claim.key
                );
            }
            Some(Outcome::Refused(_)) => {
                panic!("{} is nobody else's, but was refused: it was done twice", claim.key)
            }
            None => {
                assert!(found.is_none_or(|entry| *entry.value == *claim.value.as_bytes()), "{}", claim.key);
                unknown[usize::from(found.is_some())] += 1;
            }
        }
    }
    println!(
        "{} claims; of the unknown ones {} were done, {} were not",
        claims.len(),
        unknown[1],
        unknown[0]
    );
}
