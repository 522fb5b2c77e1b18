//! That a watch knows how far it is, though the store goes on elsewhere.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::StreamExt;
use sextant_controller::registry::{Registry, etcd::EtcdStore};
use sextant_proto::Revision;

use crate::{
    all,
    cluster::{Cluster, PATIENCE, Plan},
    put,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_watch_reaches_the_reported_revision() {
    let cluster = Cluster::start(Plan::members(1));
    let store = cluster.store().await;
    let start = store.list(&all()).await.unwrap().revision;
    let mut watch = store.watch(all(), start);
    let mut longest = Duration::ZERO;
    for round in 0..20 {
        let revision = put(&store, "other", format!("{round}")).await.unwrap();
        let asked = Instant::now();
        let batch = tokio::time::timeout(PATIENCE, watch.next()).await.expect("it tells").unwrap().unwrap();
        assert_eq!((batch.revision, batch.events), (revision, vec![]));
        longest = longest.max(asked.elapsed());
    }
    println!("the longest: {longest:?}");
    assert!(longest < Duration::from_secs(2), "reported after {longest:?}");
    // By another client, of whose writes this one hears nothing.
    let revision = cluster.ctl(&["put", "other", "x", "-w", "fields"]);
    let revision = revision.lines().find_map(|line| line.strip_prefix("\"Revision\" : ")).unwrap();
    let batch = tokio::time::timeout(PATIENCE, watch.next()).await.expect("it tells").unwrap().unwrap();
    assert_eq!(batch.revision.to_string(), revision);
    // Nothing happens: nothing is reported.
    let quiet = tokio::time::timeout(Duration::from_secs(1), watch.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

/// A batch at a revision means that all changes up to it were reported. It must never come before them, however much is
/// written beside the range.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_comes_after_the_changes_up_to_its_revision() {
    const ROUNDS: usize = 400;
    let cluster = Cluster::start(Plan::members(1));
    let store = Arc::new(cluster.store().await);
    let start = store.list(&all()).await.unwrap().revision;
    let inside = Arc::new(Mutex::new(Vec::new()));
    let writers: Vec<_> = (0..4)
        .map(|number| tokio::spawn(write(Arc::clone(&store), number, ROUNDS, Arc::clone(&inside))))
        .collect();
    let watches: Vec<_> = (0..4).map(|_| tokio::spawn(tell(Arc::clone(&store), start))).collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let end = put(&store, "other", "end").await.unwrap();
    let mut inside = inside.lock().unwrap().clone();
    inside.sort();
    for watch in watches {
        let batches = tokio::time::timeout(PATIENCE, watch).await.expect("it gets to the end").unwrap();
        assert!(batches.last().is_some_and(|(revision, _)| *revision >= end));
        assert!(batches.is_sorted_by(|one, next| one.0 < next.0), "in order, each once");
        let changes: Vec<Revision> =
            batches.iter().filter(|(_, events)| *events > 0).map(|(at, _)| *at).collect();
        assert_eq!(changes, inside, "each change, once, in order");
        assert!(batches.len() > changes.len(), "there were batches that only say how far it is");
    }
}

async fn write(store: Arc<EtcdStore>, number: usize, rounds: usize, inside: Arc<Mutex<Vec<Revision>>>) {
    for round in 0..rounds {
        if (round * 7 + number).is_multiple_of(20) {
            let revision = put(&store, &format!("k/{number}"), format!("{round}")).await.unwrap();
            inside.lock().unwrap().push(revision);
        } else {
            put(&store, &format!("other/{number}"), format!("{round}")).await.unwrap();
        }
    }
}

/// All that a watch tells, up to the writers' end.
async fn tell(store: Arc<EtcdStore>, start: Revision) -> Vec<(Revision, usize)> {
    let mut watch = store.watch(all(), start);
    let mut batches = Vec::new();
    loop {
        let batch = watch.next().await.unwrap().unwrap();
        batches.push((batch.revision, batch.events.len()));
        let entries =
            store.list(&sextant_controller::registry::KeyRange::key("other")).await.unwrap().entries;
        if entries.first().is_some_and(|entry| entry.modified <= batch.revision) {
            return batches;
        }
    }
}
