//! `AgentService`.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::Stream;
use sextant_daemon::{OncePerMinute, Repeats};
use sextant_identity::Credentials;
use sextant_proto::{
    Claim, NodeName, PoolName, Revision,
    convert::{self, required},
    v1::{self, agent_service_server::AgentService, claim_response::Outcome},
};
use sextant_receipts::Bearer;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Services, admission, enroll,
    principal::{actor, principal},
    status::malformed,
    sync,
};
use crate::{
    audit::Actor,
    claims::{ClaimError, ClaimRequest, Granted, Holder},
    controllers::POLL,
    index::State,
    receipts::Shown,
    unregistered::Unregistered,
};

/// The longest time that an agent may wait for its peers.
const MAX_SETTLE: Duration = Duration::from_secs(3600);

/// A node, and a claim of it: the pool, and the revision at which it was granted first. Operators may end as many claims as they
/// like: the next one is another claim. One that its agent asks for again and again, it does not keep.
type Grant = (NodeName, PoolName, Revision);

pub(super) struct Agents {
    services: Services,
    credentials: Option<Arc<Credentials>>,
    /// Grants of claims that their agents did not hold before.
    grants: Mutex<Repeats<Grant>>,
    /// Refused certificates that were logged.
    refused: Mutex<OncePerMinute>,
}

impl Agents {
    pub(super) fn new(services: Services, credentials: Option<Arc<Credentials>>) -> Self {
        Self { services, credentials, grants: Mutex::default(), refused: Mutex::default() }
    }

    /// The outcome of a claim. A refused node is recorded for `sextant status`, unless it holds a prefix of another pool: then
    /// its agent reports the refusal.
    async fn granted(
        &self,
        by: &Actor,
        request: &ClaimRequest,
        from: Option<SocketAddr>,
    ) -> Result<Granted, ClaimError> {
        let granted = match self.second_agent(request, from).await {
            Some(error) => Err(error),
            None => self.services.claims.by(by).claim(request).await,
        };
        self.note_held(request, &granted);
        match &granted {
            Ok(Granted::Claim(_)) => self.services.refusals.end(&request.node, request.node_id),
            Err(error) if error.is_refusal() && !self.holds_another(request) => {
                self.services.refusals.note(&request.node, request.node_id, error.to_string())
            }
            Ok(Granted::Fenced(_)) | Err(_) => {}
        }
        granted
    }

    /// Records whether a claim of another store was refused, for `sextant recover`.
    fn note_held(&self, request: &ClaimRequest, granted: &Result<Granted, ClaimError>) {
        let Some(held) = request.shown() else { return };
        let refused = &self.services.refused_claims;
        let here = self.services.index.read(|state| state.meta().incarnation);
        match granted {
            Ok(_) => refused.end(request.node_id, held.prefix),
            Err(error) if error.is_refusal() && held.epoch.incarnation != here => {
                let (node, pool) = (request.node.clone(), held.pool.name.clone());
                let claim = Unregistered { node, prefix: held.prefix, pool, why: error.to_string() };
                refused.note(request.node_id, claim);
            }
            Err(_) => {}
        }
    }

    /// The error for an agent at `from` if another one with its node id is connected under another name, or is about to: it was
    /// granted its first claim, or renamed, just now. It is reported for the node of the connected one.
    async fn second_agent(&self, request: &ClaimRequest, from: Option<SocketAddr>) -> Option<ClaimError> {
        let (node, asking) = (request.node.clone(), request.node_id);
        let (claims, index) = (&self.services.claims, &self.services.index);
        let former = claims.former_name(&node, asking)?;
        if admission::has_agent(&self.services, &former).await {
            admission::refused(&self.services, &former, from);
            return Some(ClaimError::SameId { node, former, asking });
        }
        let named = index.read(|state| state.nodes().get(&former).map(|node| node.created))?;
        index.is_new(named).then_some(ClaimError::JustNamed { node, former, asking })
    }

    /// Whether the node that asks for one of several claims holds another one.
    fn holds_another(&self, request: &ClaimRequest) -> bool {
        let is_known = |state: &State| {
            let node = state.nodes().get(&request.node);
            node.is_some_and(|node| node.record.node_id == request.node_id)
        };
        request.beside && self.services.index.read(is_known)
    }

    /// The request with the claim that its node shows, as far as that counts. The caller was checked: it may act for the node.
    fn counting(
        &self,
        request: ClaimRequest,
        shown: Option<Claim>,
        receipt: Option<&v1::Receipt>,
    ) -> ClaimRequest {
        let Some(shown) = shown else { return request };
        let bearer = Bearer { node: &request.node, node_id: request.node_id };
        match self.services.receipts.shown(bearer, shown, receipt) {
            Shown::Held { claim, ancestors } => ClaimRequest { held: Some(claim), ancestors, ..request },
            Shown::Unproven(unproven) => ClaimRequest { unproven: Some(unproven), ..request },
        }
    }

    /// Logs a refused certificate. Everybody may ask: each reason is logged once a minute.
    fn note_refused(&self, by: &Actor, why: &str) {
        let mut lines = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = lines.admit(why, Instant::now()) {
            tracing::info!(%by, why, suppressed, "certificate refused");
        }
    }

    /// Logs a node that does not keep its claim, once.
    fn note_grant(&self, node: &NodeName, claim: &Claim) {
        let now = Instant::now();
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        for ((node, pool, _), times) in grants.ended(now) {
            tracing::info!(%node, %pool, times, "claim loop ended");
        }
        let pool = &claim.pool.name;
        if let Some(repeat) = grants.note(&(node.clone(), pool.clone(), claim.epoch.revision), now)
            && repeat.begins
        {
            tracing::warn!(
                %node, %pool, prefix = %claim.prefix, times = repeat.times,
                "claim loop: a claim granted more than three times within a minute to an agent that did not hold it"
            );
        }
    }
}

type Outgoing = Pin<Box<dyn Stream<Item = Result<v1::ControllerMessage, Status>> + Send>>;

#[tonic::async_trait]
impl AgentService for Agents {
    type SyncStream = Outgoing;

    async fn claim(&self, request: Request<v1::ClaimRequest>) -> Result<Response<v1::ClaimResponse>, Status> {
        let caller = principal(request.extensions())?.clone();
        let (by, from) = (actor(&request)?, request.remote_addr());
        let (request, held, receipt) = parse_claim(request.into_inner())?;
        caller.may_act_for(&request.node)?;
        self.services.denials.check(&request.node, Some(request.node_id))?;
        if let Some(former) = self.services.claims.former_name(&request.node, request.node_id) {
            caller.may_act_for(&former)?;
        }
        let request = self.counting(request, held, receipt.as_ref());
        let mut signed = None;
        let outcome = match self.granted(&by, &request, from).await? {
            Granted::Claim(claim) => {
                let (node, pool, prefix, epoch) =
                    (&request.node, &claim.pool.name, claim.prefix, claim.epoch);
                if request.shown().is_none_or(|held| held.epoch != epoch) {
                    tracing::info!(%node, %pool, %prefix, %epoch, "claim granted");
                    self.note_grant(node, &claim);
                } else {
                    tracing::debug!(%node, %pool, %prefix, %epoch, "held claim confirmed");
                }
                let bearer = Bearer { node, node_id: request.node_id };
                signed = self.services.receipts.of_grant(bearer, &claim, receipt.as_ref());
                Outcome::Granted((&claim).into())
            }
            Granted::Fenced(reason) => {
                tracing::info!(node = %request.node, reason, "claim refused: node fenced");
                Outcome::Fenced(v1::Fenced { reason, epoch: request.shown().map(|held| held.epoch.into()) })
            }
        };
        Ok(Response::new(v1::ClaimResponse { outcome: Some(outcome), receipt: signed }))
    }

    async fn sync(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Outgoing>, Status> {
        let caller = principal(request.extensions())?.clone();
        let claims = self.services.claims.by(&actor(&request)?);
        let services = Services { claims, ..self.services.clone() };
        let from = request.remote_addr();
        let stream = sync::open(services, &caller, from, request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn settle(
        &self,
        request: Request<v1::SettleRequest>,
    ) -> Result<Response<v1::SettleResponse>, Status> {
        let caller = principal(request.extensions())?.clone();
        let v1::SettleRequest { node, node_id, epoch, revision, timeout_ms } = request.into_inner();
        let holder = parse_holder(&node, &node_id, epoch)?;
        caller.may_act_for(&holder.node)?;
        self.services.denials.check(&holder.node, Some(holder.node_id))?;
        self.services.claims.verify(&holder).await?;
        let (revision, timeout) = (Revision(revision), Duration::from_millis(timeout_ms).min(MAX_SETTLE));
        let settled = settled(&self.services, revision, &holder.node);
        let laggards = match tokio::time::timeout(timeout, settled).await {
            Ok(()) => Vec::new(),
            Err(_) => names(&self.services.acks.progress(revision, Some(&holder.node)).laggards),
        };
        Ok(Response::new(v1::SettleResponse { laggards }))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseResponse>, Status> {
        let caller = principal(request.extensions())?.clone();
        let by = actor(&request)?;
        let v1::ReleaseRequest { node, node_id, epoch } = request.into_inner();
        let holder = parse_holder(&node, &node_id, epoch)?;
        caller.may_act_for(&holder.node)?;
        self.services.denials.check(&holder.node, Some(holder.node_id))?;
        let revision = self.services.claims.by(&by).release(&holder).await?.0;
        Ok(Response::new(v1::ReleaseResponse { revision }))
    }

    async fn enroll(
        &self,
        request: Request<v1::EnrollRequest>,
    ) -> Result<Response<v1::EnrollResponse>, Status> {
        let (by, credentials) = (actor(&request)?, self.credentials.as_deref());
        let enrolled = enroll::enroll(&self.services, credentials, request.into_inner(), &by).await;
        if let Err(refused) = &enrolled {
            self.note_refused(&by, refused.message());
        }
        Ok(Response::new(enrolled?))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let caller = principal(request.extensions())?;
        Ok(Response::new(enroll::renew(&self.services, caller, request.get_ref()).await?))
    }
}

/// Waits until all live agents except that of `except` have applied `revision`.
async fn settled(services: &Services, revision: Revision, except: &NodeName) {
    let mut changes = services.acks.watch();
    loop {
        let others = services.others.refresh().await;
        if services.acks.progress(revision, Some(except)).laggards.is_empty() {
            return;
        }
        let poll = if others { POLL } else { MAX_SETTLE };
        let _timed_out = tokio::time::timeout(poll, changes.next()).await;
    }
}

pub(super) fn names(nodes: &[NodeName]) -> Vec<String> {
    nodes.iter().map(ToString::to_string).collect()
}

/// The request, with the claim that its node shows and the receipt of that, which are not judged yet.
type Parsed = (ClaimRequest, Option<Claim>, Option<v1::Receipt>);

fn parse_claim(message: v1::ClaimRequest) -> Result<Parsed, Status> {
    let v1::ClaimRequest {
        node,
        node_id,
        pool,
        held,
        host_len,
        beside,
        infrastructure,
        pool_order,
        receipt,
        accept_pools,
    } = message;
    let pool = (!pool.is_empty()).then(|| convert::parse("pool", &pool)).transpose();
    let held = held.map(|held| required("held", Some(held))).transpose().map_err(malformed)?;
    let request = ClaimRequest {
        node: convert::parse("node", &node).map_err(malformed)?,
        node_id: convert::id("node_id", &node_id).map_err(malformed)?,
        pool: pool.map_err(malformed)?,
        host_len: (host_len > 0).then_some(host_len),
        held: None,
        ancestors: Vec::new(),
        unproven: None,
        beside,
        infrastructure: convert::addresses("infrastructure", infrastructure).map_err(malformed)?,
        pool_order: convert::pool_order(&pool_order).map_err(malformed)?,
        accept_pools: convert::accept_pools(accept_pools).map_err(malformed)?,
    };
    Ok((request, held, receipt))
}

pub(super) fn parse_holder(node: &str, node_id: &[u8], epoch: Option<v1::Epoch>) -> Result<Holder, Status> {
    Ok(Holder {
        node: convert::parse("node", node).map_err(malformed)?,
        node_id: convert::id("node_id", node_id).map_err(malformed)?,
        epoch: required("epoch", epoch).map_err(malformed)?,
    })
}
