//! How many commits a second, beside a plain loop of etcd-client's transactions on the same member in the same run;
//! measured, not judged: `cargo test --release --test etcd speed -- --ignored --nocapture`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use etcd_client::{Client, Compare, CompareOp, TxnOp};
use sextant_controller::registry::{Guard, Op, Outcome, Registry, Txn, etcd::EtcdStore};

use crate::cluster::{Cluster, Plan};

/// How long each is run.
const SPAN: Duration = Duration::from_secs(3);

static KEYS: AtomicUsize = AtomicUsize::new(0);

fn key() -> String {
    format!("claims/{:032x}-64", KEYS.fetch_add(1, Ordering::Relaxed))
}

async fn ours(store: Arc<EtcdStore>, end: Instant) -> usize {
    let mut done = 0;
    while Instant::now() < end {
        let key = key();
        let guards = vec![Guard::Absent(key.clone())];
        let ops = vec![Op::put(key, vec![7; 120])];
        let outcome = store.commit(Txn { guards, ops }).await.unwrap();
        assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
        done += 1;
    }
    done
}

async fn plain(client: Client, end: Instant) -> usize {
    let mut done = 0;
    let mut kv = client.kv_client();
    while Instant::now() < end {
        let key = key();
        let txn = etcd_client::Txn::new()
            .when([Compare::create_revision(key.as_str(), CompareOp::Equal, 0)])
            .and_then([TxnOp::put(key, vec![7; 120], None)]);
        assert!(kv.txn(txn).await.unwrap().succeeded());
        done += 1;
    }
    done
}

async fn rate<F>(committers: usize, run: impl Fn(Instant) -> F) -> f64
where
    F: Future<Output = usize> + Send + 'static,
{
    let end = Instant::now() + SPAN;
    let running: Vec<_> = (0..committers).map(|_| tokio::spawn(run(end))).collect();
    let mut done = 0;
    for committer in running {
        done += committer.await.unwrap();
    }
    done as f64 / SPAN.as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed() {
    for members in [1, 3] {
        let plan = Plan { durable: true, ..Plan::members(members) };
        let cluster = Cluster::start(plan);
        let store = Arc::new(cluster.store().await);
        let client = Client::connect([cluster.url(0)], None).await.unwrap();
        for committers in [1, 64, 256] {
            // One after the other, twice, so that neither has the warmer store.
            let (mut plain_rate, mut our_rate) = (0.0, 0.0);
            for _ in 0..2 {
                plain_rate += rate(committers, |end| plain(client.clone(), end)).await / 2.0;
                our_rate += rate(committers, |end| ours(Arc::clone(&store), end)).await / 2.0;
            }
            println!(
                "{members} members, {committers} committers: {our_rate:.0}/s; etcd-client's loop {plain_rate:.0}/s; \
                 ratio {:.2}",
                our_rate / plain_rate
            );
        }
    }
}
