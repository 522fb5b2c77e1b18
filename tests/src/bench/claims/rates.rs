//! Claims and transactions per second.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use sextant_controller::{
    keys::Keys,
    records::Record,
    registry::{Op, Outcome, Registry, Txn, embedded::EmbeddedStore},
};
use sextant_proto::{
    NodeId, Revision,
    v1::{self, agent_service_client::AgentServiceClient, claim_response},
};
use tokio::runtime::{self, Runtime};
use tonic::transport::{Channel, Endpoint};

use super::{TIMEOUT, transaction};
use crate::{Controller, ControllerOptions, Etcd, Lab, StoreKind};

/// The number of the next node that claims.
static NODES: AtomicU32 = AtomicU32::new(0);
/// How often each rate is measured, alternating, so that neither has the warmer store.
const TURNS: u32 = 2;

/// The store under test, in its lab.
pub(super) struct Place<'a> {
    etcd: Option<Etcd>,
    lab: &'a Lab,
}

/// The measured rates, per second.
#[derive(Debug, Default)]
pub(super) struct Rates {
    pub(super) claims: f64,
    pub(super) bare: f64,
}

/// A store client that commits the transactions without a controller.
#[derive(Clone)]
enum Bare {
    Embedded(Arc<EmbeddedStore>),
    Etcd(Box<etcd_client::KvClient>),
}

impl<'a> Place<'a> {
    pub(super) fn new(lab: &'a Lab, kind: StoreKind) -> anyhow::Result<Self> {
        let etcd = match kind {
            StoreKind::Embedded => None,
            StoreKind::Etcd => Some(lab.etcd(3, &[])?),
        };
        Ok(Self { etcd, lab })
    }

    /// A controller on the store; on etcd, on the member that [`Bare`] uses too.
    fn controller(&self, log: &str) -> anyhow::Result<Controller> {
        let store = self.etcd.as_ref().map(|etcd| format!("etcd:{}", etcd.urls()[0]));
        let args = ["--recovery-window", "0"].map(str::to_owned).to_vec();
        let options = ControllerOptions { store, args, log: log.to_owned(), ..ControllerOptions::default() };
        let controller = self.lab.controller(options)?;
        controller.wait_ready(TIMEOUT)?;
        let host_len = transaction::HOST_LEN.to_string();
        self.lab.cli(&["pool", "add", "main", transaction::POOL, "--host-len", &host_len])?.succeeded()?;
        Ok(controller)
    }
}

/// Measures claims and bare transactions in turns.
pub(super) fn measure(place: &Place<'_>, clients: u32, span: Duration, log: &str) -> anyhow::Result<Rates> {
    // Its threads start in the servers' namespace, and stay there.
    let runtime =
        place.lab.switch().enter(|| runtime::Builder::new_multi_thread().enable_all().build())??;
    let controller = place.controller(log)?;
    let (keys, url) = (Keys::new(&transaction::name("reference")), controller.url());
    let bare = {
        let (path, urls) = (place.lab.dir().join("reference"), place.etcd.as_ref().map(Etcd::urls));
        let open = async move {
            Ok::<_, anyhow::Error>(match urls {
                Some(urls) => {
                    Bare::Etcd(Box::new(etcd_client::Client::connect(&urls[..1], None).await?.kv_client()))
                }
                None => Bare::Embedded(Arc::new(EmbeddedStore::open(&path)?)),
            })
        };
        runtime.block_on(runtime.spawn(open))??
    };
    let pool = runtime.block_on(runtime.spawn(bare.clone().put_pool(keys.clone())))??;
    let channels = channels(&runtime, &url, clients)?;
    let mut rates = Rates::default();
    for _ in 0..TURNS {
        let claims = channels.iter().map(|channel| claims(channel.clone(), span));
        rates.claims += rate(&runtime, claims, span)? / f64::from(TURNS);
        let commits = (0..clients).map(|_| bare.clone().commits(keys.clone(), pool, span));
        rates.bare += rate(&runtime, commits, span)? / f64::from(TURNS);
    }
    Ok(rates)
}

/// Established connections.
fn channels(runtime: &Runtime, url: &str, count: u32) -> anyhow::Result<Vec<Channel>> {
    let endpoint = Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true);
    let connect = async move {
        let mut channels = Vec::new();
        for _ in 0..count {
            channels.push(endpoint.connect().await?);
        }
        anyhow::Ok(channels)
    };
    runtime.block_on(runtime.spawn(connect))?.context("a controller that is ready")
}

/// The total rate of these workers, per second.
fn rate<F>(runtime: &Runtime, workers: impl Iterator<Item = F>, span: Duration) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<u32>> + Send + 'static,
{
    let workers: Vec<_> = workers.map(|worker| runtime.spawn(worker)).collect();
    let mut done = 0;
    for worker in workers {
        done += runtime.block_on(worker)??;
    }
    Ok(f64::from(done) / span.as_secs_f64())
}

async fn claims(channel: Channel, span: Duration) -> anyhow::Result<u32> {
    let (end, mut client, mut done) = (Instant::now() + span, AgentServiceClient::new(channel), 0);
    while Instant::now() < end {
        let request = v1::ClaimRequest {
            node: format!("host{}", NODES.fetch_add(1, Ordering::Relaxed)),
            node_id: NodeId::random().into(),
            ..Default::default()
        };
        match client.claim(request).await?.into_inner().outcome {
            Some(claim_response::Outcome::Granted(_)) => done += 1,
            other => bail!("the claim is not granted: {other:?}"),
        }
    }
    Ok(done)
}

impl Bare {
    /// The pool that the transactions are guarded by.
    async fn put_pool(self, keys: Keys) -> anyhow::Result<Revision> {
        let pool = transaction::pool();
        let (key, value) = (keys.pool(&pool.name), pool.encode());
        Ok(match self {
            Self::Embedded(store) => {
                let txn = Txn { guards: Vec::new(), ops: vec![Op::put(key, value)] };
                match store.commit(txn).await? {
                    Outcome::Committed(revision) => revision,
                    Outcome::Refused(revision) => bail!("refused at {revision}"),
                }
            }
            Self::Etcd(mut client) => {
                let put = client.put(key, value.to_vec(), None).await?;
                let header = put.header().context("a reply without its header")?;
                Revision(header.revision().cast_unsigned())
            }
        })
    }

    async fn commits(mut self, keys: Keys, pool: Revision, span: Duration) -> anyhow::Result<u32> {
        let (end, mut done) = (Instant::now() + span, 0);
        while Instant::now() < end {
            let txn = transaction::claim(&keys, NODES.fetch_add(1, Ordering::Relaxed), pool);
            let committed = match &mut self {
                Self::Embedded(store) => matches!(store.commit(txn).await?, Outcome::Committed(_)),
                Self::Etcd(client) => client.txn(transaction::of_etcd(txn)).await?.succeeded(),
            };
            ensure!(committed, "a transaction was refused");
            done += 1;
        }
        Ok(done)
    }
}
