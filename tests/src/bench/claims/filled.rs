//! A controller's start on a store with many nodes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use sextant_controller::{
    keys::Keys,
    records::Record,
    registry::{
        Op, Outcome, Registry, SharedRegistry, Txn,
        embedded::EmbeddedStore,
        etcd::{EtcdOptions, EtcdStore},
    },
    store,
};
use tokio::runtime;

use super::{TIMEOUT, transaction};
use crate::{ControllerOptions, Etcd, Lab, StoreKind, bench::numbers::Usage};

/// Nodes per transaction: each needs two operations, and etcd allows 128.
const CHUNK: u32 = 60;

/// The start of one controller.
#[derive(Debug)]
pub(super) struct Ready {
    /// The time from its start until it was ready.
    pub(super) ready: Duration,
    /// The resources that it had used then.
    pub(super) usage: Usage,
}

/// The starts on an empty store and on a filled one.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) empty: Ready,
    pub(super) full: Ready,
}

pub(super) fn measure(kind: StoreKind, nodes: u32, log: &str) -> anyhow::Result<Start> {
    let lab = Lab::new("bench claims, filled store")?;
    let etcd = match kind {
        StoreKind::Embedded => None,
        StoreKind::Etcd => Some(lab.etcd(3, &[])?),
    };
    let empty = start(&lab, etcd.as_ref(), log, 0)?;
    fill(&lab, etcd.as_ref(), nodes)?;
    let full = start(&lab, etcd.as_ref(), log, nodes)?;
    Ok(Start { empty, full })
}

/// Starts the real binary and waits until it is ready; checks that it knows all nodes.
fn start(lab: &Lab, etcd: Option<&Etcd>, log: &str, nodes: u32) -> anyhow::Result<Ready> {
    let (store, began) = (etcd.map(Etcd::store), Instant::now());
    let options = ControllerOptions { store, log: log.to_owned(), ..ControllerOptions::default() };
    let controller = lab.controller(options)?;
    controller.wait_ready(TIMEOUT)?;
    let (ready, usage) = (began.elapsed(), Usage::of(controller.process.pid())?);
    let pools = lab.cli_json(&["pool", "list"])?;
    let claimed = pools[0]["claimed"].as_u64().unwrap_or_default();
    ensure!(
        claimed == u64::from(nodes),
        "{nodes} nodes are stored, but the controller knows {claimed}: {pools}"
    );
    controller.process.terminate(TIMEOUT)?;
    Ok(Ready { ready, usage })
}

fn fill(lab: &Lab, etcd: Option<&Etcd>, nodes: u32) -> anyhow::Result<()> {
    let runtime = lab.switch().enter(|| runtime::Builder::new_multi_thread().enable_all().build())??;
    let (urls, path) = (etcd.map(Etcd::urls), lab.dir().join("controller-1"));
    let filled = async move {
        let store: SharedRegistry = match urls {
            Some(urls) => Arc::new(EtcdStore::connect(EtcdOptions::new(urls)).await?),
            None => Arc::new(EmbeddedStore::open(&path)?),
        };
        let keys = Keys::new(&transaction::name("default"));
        store::open(&store, &keys).await?;
        let pool = transaction::pool();
        put(&*store, vec![Op::put(keys.pool(&pool.name), pool.encode())]).await?;
        let numbers: Vec<_> = (0..nodes).collect();
        for chunk in numbers.chunks(CHUNK as usize) {
            put(
                &*store,
                chunk.iter().flat_map(|number| transaction::records(&keys, *number, true)).collect(),
            )
            .await?;
        }
        anyhow::Ok(())
    };
    runtime.block_on(runtime.spawn(filled))?
}

async fn put(store: &dyn Registry, ops: Vec<Op>) -> anyhow::Result<()> {
    let outcome = store.commit(Txn { guards: Vec::new(), ops }).await?;
    ensure!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    Ok(())
}
