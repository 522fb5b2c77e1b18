//! Claimers: concurrent requests of many agents and operators to the controllers, by gRPC.
//!
//! Each has some nodes of its own, and sometimes uses the name of another claimer's node. It resolves an unknown outcome as an
//! agent does: it repeats the request as the same node.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::{
    Rng, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, IteratorRandom},
};
use sextant_proto::{
    Claim, NodeId, NodeName, PoolName, Revision,
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
/// From how many pools a node has claims at most.
const POOLS_OF_NODE: usize = 3;
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
    /// The pools that it claims from.
    pools: Vec<&'static str>,
    /// It knows of claims in several pools. Otherwise it has one claim, in whichever pool.
    beside: bool,
    claims: BTreeMap<PoolName, Claim>,
    /// How many names before this one have left for good.
    generation: u64,
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
        let nodes =
            (0..NODES).map(|slot| Node::new([number, slot as u64, 0], &shared.pools, &mut random)).collect();
        Ok(Self { number, shared, channels, random, nodes })
    }

    /// Asks until it is stopped.
    pub async fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let slot = self.random.random_range(0..NODES);
            let answer = Box::pin(self.step(slot)).await;
            if matches!(answer, Answer::Unknown(_) | Answer::Refused(_)) {
                tokio::time::sleep(REST).await;
            }
        }
    }

    async fn step(&mut self, slot: usize) -> Answer {
        let lot = self.random.random_range(0..100);
        match self.nodes[slot].claims.values().choose(&mut self.random).cloned() {
            // A duplicate of another claimer's node.
            _ if lot < 3 => self.claim_as_duplicate().await,
            None if lot < 20 => self.forget(slot, None).await,
            None => Box::pin(self.claim(slot)).await,
            Some(claim) if slot > 0 && lot < 20 => self.release(slot, claim).await,
            Some(claim) if slot > 0 && lot < 40 => self.forget(slot, Some(claim.pool.name)).await,
            Some(_) if slot > 0 && lot < 60 => self.forget(slot, None).await,
            // The first node is kept for as long as nobody meddles with it.
            Some(_) => Box::pin(self.claim(slot)).await,
        }
    }

    async fn claim(&mut self, slot: usize) -> Answer {
        let channel = self.channel();
        let host_len = *HOST_LENS.choose(&mut self.random).expect("there are lengths");
        let node = &mut self.nodes[slot];
        let pool = pool_name(node.pools.choose(&mut self.random).expect("each has pools"));
        // Some agents have lost their state directory.
        let held = node.held(&pool).filter(|_| self.random.random_bool(0.7));
        let lost = held.as_ref().map(|claim| claim.pool.name.clone());
        let asked =
            Asked::Claim { pool: pool.clone(), held: held.as_ref().map(|claim| claim.epoch.revision) };
        let mut granted = None;
        let request = v1::ClaimRequest { host_len, ..node.request(&pool, held.as_ref()) };
        let asking = async {
            let (answer, claim) = Box::pin(ask_for_claim(channel, request)).await;
            granted = claim;
            answer
        };
        let answer = self.shared.recorder.record((&node.name, node.id), asked, asking).await;
        match granted {
            Some(claim) => node.holds(claim),
            None if answer == Answer::Fenced => drop(lost.map(|pool| node.claims.remove(&pool))),
            None => {}
        }
        answer
    }

    /// Claims by a name that is another's, with an id of its own; the claim, if there is one, is left to the other's `forget`.
    async fn claim_as_duplicate(&mut self) -> Answer {
        let (claimer, slot) = (self.random.random_range(0..CLAIMERS), self.random.random_range(0..NODES));
        let duplicate = Node::new([claimer, slot as u64, 0], &self.shared.pools, &mut self.random);
        let pool = pool_name(duplicate.pools[0]);
        let request = duplicate.request(&pool, None);
        let channel = self.channel();
        let asking = async { Box::pin(ask_for_claim(channel, request)).await.0 };
        self.shared
            .recorder
            .record((&duplicate.name, duplicate.id), Asked::Claim { pool, held: None }, asking)
            .await
    }

    async fn forget(&mut self, slot: usize, pool: Option<PoolName>) -> Answer {
        let channel = self.channel();
        let node = &mut self.nodes[slot];
        let mut admin = AdminServiceClient::new(channel);
        let (name, of) = (node.name.to_string(), pool.as_ref().map(ToString::to_string).unwrap_or_default());
        let request = v1::ForgetNodeRequest { name, pool: of, ..Default::default() };
        let asking = async { forgotten(answered(admin.forget_node(request)).await) };
        let asked = Asked::Forget(pool.clone());
        let answer = self.shared.recorder.record((&node.name, node.id), asked, asking).await;
        if matches!(answer, Answer::Ended(_)) {
            node.claims.retain(|held, _| pool.as_ref().is_some_and(|pool| held != pool));
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
            let id = [number, slot as u64, node.generation + 1];
            *node = Node::new(id, &self.shared.pools, &mut self.random);
        }
        answer
    }

    fn channel(&mut self) -> Channel {
        self.channels.choose(&mut self.random).expect("there are controllers").clone()
    }
}

impl Node {
    /// With the claimer's number, the slot and the generation in its name.
    fn new([claimer, slot, generation]: [u64; 3], pools: &[&'static str], random: &mut StdRng) -> Self {
        let name = format!("n{claimer}-{slot}-{generation}").parse().expect("letters and digits");
        let id = NodeId::try_from(&random.random::<[u8; 16]>()[..]).expect("16 octets");
        let beside = random.random_bool(0.8);
        let pools = pools.choose_multiple(random, POOLS_OF_NODE).copied().collect();
        Self { name, id, pools, beside, claims: BTreeMap::new(), generation }
    }

    /// The claim that it may report when it claims in `pool`.
    fn held(&self, pool: &PoolName) -> Option<Claim> {
        let any = || self.claims.values().next().filter(|_| !self.beside);
        self.claims.get(pool).or_else(any).cloned()
    }

    fn holds(&mut self, claim: Claim) {
        if !self.beside {
            self.claims.clear();
        }
        self.claims.insert(claim.pool.name.clone(), claim);
    }

    fn request(&self, pool: &PoolName, held: Option<&Claim>) -> v1::ClaimRequest {
        v1::ClaimRequest {
            node: self.name.to_string(),
            node_id: self.id.into(),
            pool: pool.to_string(),
            held: held.map(Into::into),
            beside: self.beside,
            ..Default::default()
        }
    }
}

fn pool_name(name: &str) -> PoolName {
    name.parse().expect("letters")
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
                let (prefix, pool) = (claim.prefix, claim.pool.name.clone());
                let answer = Answer::Granted { prefix, pool, epoch: claim.epoch.revision };
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
