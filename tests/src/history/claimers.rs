//! Claimers: concurrent requests of many agents and operators to the controllers, by gRPC.
//!
//! Each has some nodes of its own, and sometimes uses the name of another claimer's node. It resolves an unknown outcome as an
//! agent does: it repeats the request as the same node.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use sextant_proto::{
    Claim, NodeId, NodeName, Revision,
    v1::{
        self, admin_service_client::AdminServiceClient, agent_service_client::AgentServiceClient,
        claim_response::Outcome,
    },
};
use tonic::{Code, Status, transport::Channel, transport::Endpoint};

use super::{Answer, Asked, recorder::Recorder, release::Holder};

/// How many there are.
pub const CLAIMERS: u64 = 64;
/// How many nodes each of them has.
const NODES: usize = 3;
/// Which prefix lengths are asked for; 0 is the pool's own. Some fit some pools only.
const HOST_LENS: [u32; 8] = [0, 0, 0, 0, 62, 68, 72, 80];
/// How long an answer may take before it counts as none.
const TIMEOUT: Duration = Duration::from_secs(4);
/// How long a claimer waits after no answer.
const REST: Duration = Duration::from_millis(100);

/// What all claimers share.
#[derive(Debug)]
pub struct Shared {
    /// Where the controllers are.
    pub urls: Vec<String>,
    /// The pools to claim from.
    pub pools: Vec<&'static str>,
    /// Records all requests.
    pub recorder: Recorder,
    /// They end once this is set.
    pub stop: AtomicBool,
}

/// One of a claimer's nodes, as the claimer knows it.
#[derive(Debug)]
struct Node {
    name: NodeName,
    id: NodeId,
    claim: Option<Claim>,
    /// How many names before this one have left for good.
    generation: u32,
}

/// A task that claims and releases.
#[derive(Debug)]
pub struct Claimer {
    number: u64,
    shared: Arc<Shared>,
    channels: Vec<Channel>,
    random: StdRng,
    nodes: Vec<Node>,
}

impl Claimer {
    /// Claimer `number`, with random choices by `seed`. Must be created on the runtime that runs it.
    ///
    /// # Errors
    /// If a URL is none.
    pub fn new(number: u64, seed: u64, shared: Arc<Shared>) -> anyhow::Result<Self> {
        let channel = |url: &String| {
            let endpoint = Endpoint::from_shared(url.clone())?.connect_timeout(Duration::from_secs(1));
            let alive = endpoint.http2_keep_alive_interval(Duration::from_secs(2));
            Ok(alive.keep_alive_timeout(Duration::from_secs(2)).connect_lazy())
        };
        let channels = shared.urls.iter().map(channel).collect::<anyhow::Result<_>>()?;
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(number));
        let nodes = (0..NODES).map(|slot| Node::new(number, slot, 0, &mut random)).collect();
        Ok(Self { number, shared, channels, random, nodes })
    }

    /// Asks until it is stopped.
    pub async fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let slot = self.random.random_range(0..NODES);
            let answer = self.step(slot).await;
            if matches!(answer, Answer::Unknown(_) | Answer::Refused(_)) {
                tokio::time::sleep(REST).await;
            }
        }
    }

    async fn step(&mut self, slot: usize) -> Answer {
        let lot = self.random.random_range(0..100);
        match self.nodes[slot].claim.clone() {
            // A duplicate of another claimer's node.
            _ if lot < 3 => self.claim_as_duplicate().await,
            None if lot < 20 => self.forget(slot).await,
            None => self.claim(slot).await,
            Some(claim) if slot > 0 && lot < 20 => self.release(slot, claim).await,
            Some(_) if slot > 0 && lot < 70 => self.forget(slot).await,
            // The first node is kept for as long as nobody meddles with it.
            Some(_) => self.claim(slot).await,
        }
    }

    async fn claim(&mut self, slot: usize) -> Answer {
        let channel = self.channel();
        let pool = self.pool();
        let host_len = *HOST_LENS.choose(&mut self.random).expect("there are lengths");
        // Some agents have lost their state directory.
        let held = self.nodes[slot].claim.clone().filter(|_| self.random.random_bool(0.7));
        let node = &mut self.nodes[slot];
        let asked = Asked::Claim { held: held.as_ref().map(|claim| claim.epoch.revision) };
        let mut granted = None;
        let request = v1::ClaimRequest { host_len, ..request(&node.name, node.id, pool, held.as_ref()) };
        let asking = async {
            let (answer, claim) = ask_for_claim(channel, request).await;
            granted = claim;
            answer
        };
        let answer = self.shared.recorder.record((&node.name, node.id), asked, asking).await;
        if matches!(answer, Answer::Granted { .. } | Answer::Fenced) {
            node.claim = granted;
        }
        answer
    }

    /// Claims by a name that is another's, with an id of its own; the claim, if there is one, is left to the other's `forget`.
    async fn claim_as_duplicate(&mut self) -> Answer {
        let (claimer, slot) = (self.random.random_range(0..CLAIMERS), self.random.random_range(0..NODES));
        let duplicate = Node::new(claimer, slot, 0, &mut self.random);
        let request = request(&duplicate.name, duplicate.id, self.pool(), None);
        let channel = self.channel();
        let asking = async { ask_for_claim(channel, request).await.0 };
        self.shared
            .recorder
            .record((&duplicate.name, duplicate.id), Asked::Claim { held: None }, asking)
            .await
    }

    async fn forget(&mut self, slot: usize) -> Answer {
        let channel = self.channel();
        let node = &mut self.nodes[slot];
        let mut admin = AdminServiceClient::new(channel);
        let request = v1::ForgetNodeRequest { name: node.name.to_string(), ..Default::default() };
        let asking = async { forgotten(answered(admin.forget_node(request)).await) };
        let answer = self.shared.recorder.record((&node.name, node.id), Asked::Forget, asking).await;
        if matches!(answer, Answer::Ended(_)) {
            node.claim = None;
        }
        answer
    }

    async fn release(&mut self, slot: usize, claim: Claim) -> Answer {
        let channel = self.channel();
        let (number, node) = (self.number, &mut self.nodes[slot]);
        let asked = Asked::Release(claim.epoch.revision);
        let holder = Holder { channel, node: node.name.clone(), node_id: node.id, claim };
        let answer =
            self.shared.recorder.record((&node.name, node.id), asked, Box::pin(holder.leaves())).await;
        if matches!(answer, Answer::Ended(_)) {
            *node = Node::new(number, slot, node.generation + 1, &mut self.random);
        }
        answer
    }

    fn channel(&mut self) -> Channel {
        self.channels.choose(&mut self.random).expect("there are controllers").clone()
    }

    fn pool(&mut self) -> &'static str {
        self.shared.pools.choose(&mut self.random).expect("there are pools")
    }
}

impl Node {
    fn new(claimer: u64, slot: usize, generation: u32, random: &mut StdRng) -> Self {
        let name = format!("n{claimer}-{slot}-{generation}").parse().expect("letters and digits");
        let id = NodeId::try_from(&random.random::<[u8; 16]>()[..]).expect("16 octets");
        Self { name, id, claim: None, generation }
    }
}

fn request(node: &NodeName, node_id: NodeId, pool: &str, held: Option<&Claim>) -> v1::ClaimRequest {
    let (node, pool) = (node.to_string(), pool.to_owned());
    let mut request = v1::ClaimRequest { node, node_id: node_id.into(), pool, ..Default::default() };
    request.held = held.map(Into::into);
    request
}

async fn answered<T>(call: impl Future<Output = Result<tonic::Response<T>, Status>>) -> Result<T, Status> {
    let answer = tokio::time::timeout(TIMEOUT, call).await;
    Ok(answer.map_err(|_| Status::deadline_exceeded("no answer"))??.into_inner())
}

async fn ask_for_claim(channel: Channel, request: v1::ClaimRequest) -> (Answer, Option<Claim>) {
    let outcome = answered(AgentServiceClient::new(channel).claim(request)).await;
    match outcome.map(|response| response.outcome) {
        Ok(Some(Outcome::Granted(claim))) => match Claim::try_from(claim) {
            Ok(claim) => {
                let answer = Answer::Granted { prefix: claim.prefix, epoch: claim.epoch.revision };
                (answer, Some(claim))
            }
            Err(error) => (Answer::Unknown(error.to_string()), None),
        },
        Ok(Some(Outcome::Fenced(_))) => (Answer::Fenced, None),
        Ok(None) => (Answer::Unknown("an empty answer".into()), None),
        Err(status) => (refused(&status), None),
    }
}

fn refused(status: &Status) -> Answer {
    match status.code() {
        Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::NotFound => Answer::Refused(status.to_string()),
        _ => Answer::Unknown(status.to_string()),
    }
}

fn forgotten(outcome: Result<v1::ForgetNodeResponse, Status>) -> Answer {
    match outcome {
        Ok(response) => Answer::Ended(Some(Revision(response.revision))),
        // Whether by this or before.
        Err(status) if status.code() == Code::NotFound => Answer::Ended(None),
        Err(status) => Answer::Unknown(status.to_string()),
    }
}
