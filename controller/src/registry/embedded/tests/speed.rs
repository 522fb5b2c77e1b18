//! Measures commits per second: `cargo test --release speed -- --ignored --nocapture`.

use super::*;

async fn measure(store: &Arc<EmbeddedStore>, committers: u64, each: u64) -> f64 {
    let start = Instant::now();
    let committer = |task: u64| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            for number in 0..each {
                let key = format!("claims/{task:04}-{number:06}");
                let guards = vec![Guard::Absent(key.clone())];
                let ops = vec![Op::put(key, vec![7; 120])];
                let outcome = store.commit(Txn { guards, ops }).await.unwrap();
                assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
            }
        })
    };
    let committers = (0..committers).map(|task| committer(task + 100 * committers));
    for committed in futures::future::join_all(committers).await {
        committed.unwrap();
    }
    start.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed() {
    let testbed = testbed();
    let store = Arc::new(EmbeddedStore::open(&testbed.path).unwrap());
    for (committers, each) in [(1, 2000), (64, 300), (1000, 20)] {
        let took = measure(&store, committers, each).await;
        println!("{committers} committers: {:.0} commits/s", (committers * each) as f64 / took);
    }
    let start = Instant::now();
    let entries = all(&store).await.entries.len();
    println!("list of {entries} entries: {:?}", start.elapsed());
}
