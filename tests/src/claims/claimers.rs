//! Claimers: each asks for prefixes of mixed lengths for nodes of its own, ends some of them, and keeps book.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use sextant_proto::{
    NodeId,
    convert::required,
    v1::{
        self, admin_service_client::AdminServiceClient, agent_service_client::AgentServiceClient,
        claim_response,
    },
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use super::history::{Asked, Event, Heard};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait after no word came.
const PAUSE: Duration = Duration::from_millis(50);

/// Who is asked: controllers, or the claim logic itself.
pub trait Desk: Clone + Send + Sync + 'static {
    /// The prefix of a node.
    fn claim(&self, node: &str, id: NodeId, host_len: u32) -> impl Future<Output = Heard> + Send;
    /// Ends the node's claim.
    fn end(&self, node: &str) -> impl Future<Output = Heard> + Send;
}

/// What all claimers share.
#[derive(Debug, Default)]
pub struct Book {
    events: Mutex<Vec<Event>>,
    closed: AtomicBool,
}

impl Book {
    /// Has the claimers end.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// All that was asked and heard so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// Claims and ends until the book is closed. The n-th claimer asks another desk whenever it gets no word.
pub async fn run(number: usize, seed: u64, desks: Vec<impl Desk>, book: Arc<Book>, start: Instant) {
    let mut random = StdRng::seed_from_u64(seed.wrapping_add(number as u64));
    let mut turn = number;
    let mut nodes: Vec<(String, NodeId)> = Vec::new();
    while !book.closed.load(Ordering::Relaxed) {
        let desk = &desks[turn % desks.len()];
        let (ends, again) = (random.random_bool(0.4), random.random_bool(0.2));
        let known = (!nodes.is_empty()).then(|| random.random_range(0..nodes.len()));
        let began = start.elapsed();
        let (node, asked, heard) = match known {
            Some(index) if ends => {
                let (node, _) = nodes[index].clone();
                let heard = desk.end(&node).await;
                if heard != Heard::Refused {
                    nodes.swap_remove(index);
                }
                (node, Asked::End, heard)
            }
            Some(index) if again => {
                let (node, id) = nodes[index].clone();
                let heard = desk.claim(&node, id, 0).await;
                (node, Asked::Claim, heard)
            }
            _ => {
                let (node, id) = (format!("c{number}-{}", random.random::<u32>()), NodeId::random());
                let host_len = [0, 0, 0, 62, 68, 72][random.random_range(0..6)];
                nodes.push((node.clone(), id));
                let heard = desk.claim(&node, id, host_len).await;
                (node, Asked::Claim, heard)
            }
        };
        book.note(Event { node, asked, began, ended: start.elapsed(), heard });
        if heard == Heard::Unknown {
            turn += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// A controller.
#[derive(Debug, Clone)]
pub struct Controller(Channel);

impl Controller {
    /// The one at `url`; it is connected to when it is first asked.
    ///
    /// # Errors
    /// If it is no URL.
    pub fn at(url: &str) -> anyhow::Result<Self> {
        let endpoint: Endpoint = url.to_owned().try_into()?;
        Ok(Self(endpoint.connect_timeout(Duration::from_secs(1)).timeout(PATIENCE).connect_lazy()))
    }
}

impl Desk for Controller {
    async fn claim(&self, node: &str, id: NodeId, host_len: u32) -> Heard {
        let request = v1::ClaimRequest {
            node: node.to_owned(),
            node_id: id.into(),
            host_len,
            ..v1::ClaimRequest::default()
        };
        let mut client = AgentServiceClient::new(self.0.clone());
        match tokio::time::timeout(PATIENCE, client.claim(request)).await {
            Ok(Ok(response)) => match response.into_inner().outcome {
                Some(claim_response::Outcome::Granted(claim)) => required("prefix", claim.prefix)
                    .map_or(Heard::Unknown, |prefix| Heard::Done(Some(prefix))),
                _ => Heard::Refused,
            },
            Ok(Err(status)) => refused(&status),
            Err(_) => Heard::Unknown,
        }
    }

    async fn end(&self, node: &str) -> Heard {
        let request = v1::ForgetNodeRequest { name: node.to_owned(), force: false };
        let mut client = AdminServiceClient::new(self.0.clone());
        match tokio::time::timeout(PATIENCE, client.forget_node(request)).await {
            Ok(Ok(_)) => Heard::Done(None),
            // It may have ended when no word came of an earlier attempt.
            Ok(Err(status)) if status.code() == Code::NotFound => Heard::Done(None),
            Ok(Err(status)) => refused(&status),
            Err(_) => Heard::Unknown,
        }
    }
}

fn refused(status: &Status) -> Heard {
    match status.code() {
        Code::ResourceExhausted | Code::InvalidArgument | Code::AlreadyExists | Code::FailedPrecondition => {
            Heard::Refused
        }
        _ => Heard::Unknown,
    }
}
