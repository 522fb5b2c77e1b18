//! Claims per second, beside etcd's own transactions in the same run, and a controller with many nodes (DESIGN §9).

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Parser;
use etcd_client::{Client, Compare, CompareOp, TxnOp};
use sextant_controller::{
    claims::{ClaimRequest, Claims, Granted},
    index::IndexTask,
    keys::Keys,
    pools::Pools,
    records::{ClaimRecord, NodeRecord, Record},
    registry::{
        Op, SharedRegistry, Txn,
        embedded::EmbeddedStore,
        etcd::{EtcdOptions, EtcdStore},
    },
    store,
};
use sextant_proto::{NodeId, NodeState, Pool, Prefix};
use tokio::runtime;

use super::numbers::Usage;
use crate::{ControllerOptions, Lab, SECONDS, catalogue, demo::columns};

/// How many claim at once.
const CLAIMERS: usize = 64;
/// How long each is measured, and how often.
const SPAN: Duration = Duration::from_secs(3);
const ROUNDS: u32 = 2;
const POOL: &str = "2001:db8:8000::/40";
/// How many octets the records of a claim and a node have together, and how many guards a claim has.
const VALUES: [usize; 2] = [50, 60];
/// How many operations one transaction has at most (etcd's own limit is 128).
const BATCH: usize = 100;

static NAMES: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug, Parser)]
#[command(name = "tests/bench claims")]
struct Options {
    /// How many nodes a controller is started with
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    nodes: u32,
}

/// Measures, and prints what came of it.
///
/// # Errors
/// If a claim is not granted.
pub fn run() -> anyhow::Result<()> {
    let arguments = std::iter::once("tests/bench claims".to_owned()).chain(catalogue::options());
    let options = Options::try_parse_from(arguments)?;
    let lab = Lab::new("bench claims")?;
    let etcd = lab.etcd(3, &[])?;
    let threads = || runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = lab.switch().enter(threads)??;
    let embedded: SharedRegistry = Arc::new(EmbeddedStore::open(&lab.dir().join("claims"))?);
    let at_etcd = EtcdOptions::new(etcd.urls());
    let remote: SharedRegistry = Arc::new(runtime.block_on(runtime.spawn(EtcdStore::connect(at_etcd)))??);
    let (mut ours, mut theirs, mut local) = (0.0, 0.0, 0.0);
    let (local_claims, remote_claims) = (
        runtime.block_on(runtime.spawn(claims(embedded)))??,
        runtime.block_on(runtime.spawn(claims(remote)))??,
    );
    let client = runtime.block_on(runtime.spawn(Client::connect(etcd.urls(), None)))??;
    for _ in 0..ROUNDS {
        let share = 1.0 / f64::from(ROUNDS);
        theirs += share * rate(&runtime, |end| plain(client.clone(), end))?;
        ours += share * rate(&runtime, |end| claim(remote_claims.clone(), end))?;
        local += share * rate(&runtime, |end| claim(local_claims.clone(), end))?;
    }
    println!("{CLAIMERS} claim at once, pool {POOL}, each a /64:");
    print(&[
        ("embedded", format!("{local:.0} claims/s (target 2,000)")),
        ("etcd, 3 members", format!("{ours:.0} claims/s")),
        ("etcd's own", format!("{theirs:.0} transactions/s of as many guards and puts, by etcd-client")),
        ("ratio", format!("{:.2} (target 0.5)", ours / theirs)),
    ]);
    drop(etcd);
    many_nodes(&lab, &runtime, options.nodes)
}

fn print(rows: &[(&str, String)]) {
    let rows: Vec<_> = rows.iter().map(|(name, text)| vec![(*name).to_owned(), text.clone()]).collect();
    println!("{}", columns(&rows, |_| false));
}

/// The claim logic over a store with the pool.
async fn claims(registry: SharedRegistry) -> anyhow::Result<Claims> {
    let keys = Keys::new(&"default".parse()?);
    let meta = store::open(&registry, &keys).await?;
    let (task, index) = IndexTask::start(registry.clone(), keys.clone(), meta).await?;
    // Ends with the runtime.
    tokio::spawn(task.run());
    let pool = Pool::new("main".parse()?, POOL.parse()?, 64, 80)?;
    Pools::new(registry.clone(), keys.clone(), index.clone()).add(&pool).await?;
    Ok(Claims::new(registry, keys, index, 3600 * SECONDS))
}

async fn claim(claims: Claims, end: Instant) -> anyhow::Result<usize> {
    let mut done = 0;
    while Instant::now() < end {
        let request = ClaimRequest {
            node: format!("n{}", NAMES.fetch_add(1, Ordering::Relaxed)).parse()?,
            node_id: NodeId::random(),
            pool: None,
            host_len: None,
            held: None,
        };
        match claims.claim(&request).await? {
            Granted::Claim(_) => done += 1,
            Granted::Fenced(why) => bail!(why),
        }
    }
    Ok(done)
}

/// A transaction as that of a claim, by a plain loop.
async fn plain(client: Client, end: Instant) -> anyhow::Result<usize> {
    let (mut done, mut kv) = (0, client.kv_client());
    let absent = |key: String| Compare::create_revision(key, CompareOp::Equal, 0);
    let guards = 24 / 2 + 3;
    while Instant::now() < end {
        let name = NAMES.fetch_add(1, Ordering::Relaxed);
        let keys = (0..guards).map(|n| format!("plain/claims/{name:032x}-{}", 64 - n));
        let puts = VALUES
            .iter()
            .enumerate()
            .map(|(n, len)| TxnOp::put(format!("plain/claims/{name:032x}-{}", 64 - n), vec![7; *len], None));
        let puts: Vec<_> = puts.collect();
        let txn = etcd_client::Txn::new().when(keys.map(absent).collect::<Vec<_>>()).and_then(puts);
        anyhow::ensure!(kv.txn(txn).await?.succeeded(), "a key was there");
        done += 1;
    }
    Ok(done)
}

fn rate<F>(runtime: &runtime::Runtime, run: impl Fn(Instant) -> F) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<usize>> + Send + 'static,
{
    let (began, end) = (Instant::now(), Instant::now() + SPAN);
    let running: Vec<_> = (0..CLAIMERS).map(|_| runtime.spawn(run(end))).collect();
    let mut done = 0;
    for claimer in running {
        done += runtime.block_on(claimer)??;
    }
    Ok(done as f64 / began.elapsed().as_secs_f64())
}

/// A controller that is started on a store of so many nodes.
fn many_nodes(lab: &Lab, runtime: &runtime::Runtime, nodes: u32) -> anyhow::Result<()> {
    let path = lab.dir().join("controller-1");
    let registry: SharedRegistry = Arc::new(EmbeddedStore::open(&path)?);
    runtime.block_on(runtime.spawn(fill(registry, nodes)))??;
    let began = Instant::now();
    let controller =
        lab.controller(ControllerOptions { log: "info".into(), ..ControllerOptions::default() })?;
    controller.wait_ready(120 * SECONDS)?;
    let ready = began.elapsed();
    let used = Usage::of(controller.process.pid())?;
    println!("a controller with {nodes} claimed nodes:");
    print(&[
        ("ready after", format!("{:.2} s", ready.as_secs_f64())),
        ("memory", format!("{:.0} MiB", used.rss as f64 / f64::from(1 << 20))),
        ("of it a node", format!("{:.1} KiB", used.rss as f64 / 1024.0 / f64::from(nodes))),
    ]);
    Ok(())
}

async fn fill(registry: SharedRegistry, nodes: u32) -> anyhow::Result<()> {
    let claims = claims(registry.clone()).await?;
    drop(claims);
    let keys = Keys::new(&"default".parse()?);
    let pool: Prefix = POOL.parse()?;
    let mut ops = Vec::new();
    for n in 0..nodes {
        let (node, node_id) = (format!("node{n}").parse()?, NodeId::random());
        let prefix = pool.nth(64, n.into()).context("the pool is too small")?;
        let claim = ClaimRecord { node, node_id, pool: "main".parse()?, claimed_unix_ms: 1 };
        let record = NodeRecord {
            node_id,
            prefix,
            pool: claim.pool.clone(),
            state: NodeState::Ready,
            uplinks: Vec::new(),
            container_prefix: prefix.nth(80, 0),
            since_unix_ms: 1,
            drain_timeout: Duration::ZERO,
            laggards: Vec::new(),
        };
        ops.push(Op::put(keys.node(&claim.node), record.encode()));
        ops.push(Op::put(keys.claim(prefix), claim.encode()));
        if ops.len() >= BATCH || n + 1 == nodes {
            registry.commit(Txn { guards: Vec::new(), ops: std::mem::take(&mut ops) }).await?;
        }
    }
    Ok(())
}
