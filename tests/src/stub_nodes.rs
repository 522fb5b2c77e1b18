//! Nodes without hosts: they claim a prefix and announce themselves over gRPC, so that real agents have many peers. Nothing
//! answers at their next hops.
//!
//! Their streams end at once, unless they are opened again as [`Streams`]. The controller must have a long `--down-after`, so that
//! they count as up.

use std::{net::Ipv6Addr, ops::RangeInclusive};

use anyhow::{Context, bail};
use sextant_proto::{
    NodeId,
    v1::{
        AgentMessage, Announce, Claim, ClaimRequest, ControllerMessage, Hello, InterfaceAddress, Prefix,
        Uplink, agent_message::Message, agent_service_client::AgentServiceClient, claim_response::Outcome,
        controller_message::Message as FromController,
    },
};
use tokio::{
    runtime::{self, Runtime},
    sync::mpsc,
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Streaming,
    transport::{Channel, Endpoint},
};

use crate::{Controller, Namespace};

/// How many join at the same time.
const CONCURRENT: u32 = 16;
/// `--down-after` for a controller with stub nodes, in seconds.
pub const DOWN_AFTER: &str = "86400";

/// The next hop of the `n`-th node: on the link of the lab's hosts.
pub fn next_hop(n: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits((0x2001_0db8 << 96) | (1 << 48) | u128::from(n))
}

/// Makes the nodes `c<N>` of these numbers claim a prefix and announce themselves.
///
/// # Errors
/// If the controller refuses one.
pub fn join(controller: &Controller, numbers: RangeInclusive<u32>) -> anyhow::Result<()> {
    join_at(controller.namespace(), controller.url(), numbers).map(drop)
}

/// As [`join`], at the controller with this URL, which is reached from the namespace.
///
/// # Errors
/// If the controller refuses one.
pub fn join_at(
    namespace: &Namespace,
    url: String,
    numbers: RangeInclusive<u32>,
) -> anyhow::Result<Vec<StubNode>> {
    let joined = namespace.enter(|| {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(all_join(url, numbers))
    });
    joined?.context("stub nodes")
}

/// A node that has joined.
pub struct StubNode {
    name: String,
    id: NodeId,
    claim: Claim,
}

/// A stream of each of some nodes, over a connection of its own, which nobody reads beyond the welcome.
pub struct Streams {
    _runtime: Runtime,
    _open: Vec<(mpsc::Sender<AgentMessage>, Streaming<ControllerMessage>)>,
}

impl Streams {
    /// Connects all of `nodes`.
    ///
    /// # Errors
    /// If the controller does not take or welcome one.
    pub fn open(namespace: &Namespace, url: &str, nodes: &[StubNode]) -> anyhow::Result<Self> {
        namespace.enter(|| {
            // Its threads stay in the network namespace that they are created in.
            let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            let mut open = Vec::new();
            for some in nodes.chunks(CONCURRENT as usize) {
                let connecting = some.iter().map(|node| connected(url.to_owned(), node));
                let connected = runtime.block_on(futures::future::try_join_all(connecting));
                open.extend(connected.with_context(|| format!("after {} streams", open.len()))?);
            }
            Ok(Self { _runtime: runtime, _open: open })
        })?
    }
}

async fn connected(
    url: String,
    node: &StubNode,
) -> anyhow::Result<(mpsc::Sender<AgentMessage>, Streaming<ControllerMessage>)> {
    let channel = Endpoint::from_shared(url)?.connect().await?;
    let (outgoing, to_send) = mpsc::channel(2);
    let hello = Message::Hello(hello(node.name.clone(), node.id, &node.claim));
    outgoing.send(AgentMessage { message: Some(hello) }).await?;
    let mut stream = AgentServiceClient::new(channel).sync(ReceiverStream::new(to_send)).await?.into_inner();
    match stream.message().await?.and_then(|message| message.message) {
        Some(FromController::Welcome(_)) => Ok((outgoing, stream)),
        other => bail!("node {}: {other:?} instead of a welcome", node.name),
    }
}

async fn all_join(url: String, numbers: RangeInclusive<u32>) -> anyhow::Result<Vec<StubNode>> {
    let channel = Endpoint::from_shared(url)?.connect().await?;
    let mut joining = JoinSet::new();
    for first in 0..CONCURRENT {
        let share = numbers.clone().skip(first as usize).step_by(CONCURRENT as usize);
        let client = AgentServiceClient::new(channel.clone());
        joining.spawn(async move {
            let mut joined = Vec::new();
            for n in share {
                joined.push(one_joins(client.clone(), n).await.with_context(|| format!("c{n}"))?);
            }
            anyhow::Ok(joined)
        });
    }
    let mut all = Vec::new();
    while let Some(joined) = joining.join_next().await {
        all.extend(joined??);
    }
    Ok(all)
}

async fn one_joins(mut client: AgentServiceClient<Channel>, n: u32) -> anyhow::Result<StubNode> {
    let (node, node_id) = (format!("c{n}"), NodeId::random());
    let request = ClaimRequest { node: node.clone(), node_id: node_id.into(), ..ClaimRequest::default() };
    let Some(Outcome::Granted(claim)) = client.claim(request).await?.into_inner().outcome else {
        bail!("the claim is not granted");
    };
    let (outgoing, to_send) = mpsc::channel(2);
    for message in
        [Message::Hello(hello(node.clone(), node_id, &claim)), Message::Announce(announce(n, &claim)?)]
    {
        outgoing.send(AgentMessage { message: Some(message) }).await?;
    }
    drop(outgoing);
    let mut stream = client.sync(ReceiverStream::new(to_send)).await?.into_inner();
    // The controller ends the stream when it has processed all messages.
    while stream.message().await?.is_some() {}
    Ok(StubNode { name: node, id: node_id, claim })
}

/// Asks for deltas only: the snapshots of n nodes would contain n² entries.
fn hello(node: String, node_id: NodeId, claim: &Claim) -> Hello {
    let epoch = claim.epoch.clone().unwrap_or_default();
    Hello {
        node,
        node_id: node_id.into(),
        incarnation: epoch.incarnation.clone(),
        revision: epoch.revision,
        epoch: Some(epoch),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mark: None,
        role: 0,
        ..Hello::default()
    }
}

fn announce(n: u32, claim: &Claim) -> anyhow::Result<Announce> {
    let address = InterfaceAddress { address: next_hop(n).octets().to_vec().into(), length: 64 };
    let pool = claim.pool.as_ref().context("a claim without pool")?;
    let host = claim.prefix.clone().context("a claim without prefix")?;
    Ok(Announce {
        uplinks: vec![Uplink { interface: "eth0".to_owned(), addresses: vec![address] }],
        container_prefix: Some(Prefix { length: pool.container_len, ..host }),
        ..Announce::default()
    })
}
