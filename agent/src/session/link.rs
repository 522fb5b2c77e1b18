//! The gRPC edge: the only file of the session that uses `tonic`.

use std::{
    net::{Ipv6Addr, SocketAddr},
    sync::{LazyLock, Mutex, PoisonError},
    time::Duration,
};

use prost::Message;
use sextant_daemon::OncePerMinute;
use sextant_identity::Dial;
use sextant_proto::{
    Ack, Claim, Epoch, Incarnation, Mark, Peer, Pool, Revision, VERSION,
    convert::{self, MessageError, required},
    v1::{
        self, agent_message::Message as ToController, agent_service_client::AgentServiceClient,
        claim_response::Outcome,
    },
};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

use super::{Answer, Question, identity::Identity, questions, wishes::Wish};
use crate::{
    cluster::{Change, Delta, Snapshot},
    engine::{AnnouncedClaim, Announcement},
    settings::ControllerUrl,
};

/// Timeout of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of calls that are answered at once.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Capacity of the queue of outgoing messages.
const OUTGOING: usize = 16;

/// An error of a connection to a controller.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error(
        "answers, but not as a sextant-controller ({0}); check the address and port against its --listen"
    )]
    NotAController(String),
    /// Another agent of this node is connected, and answers.
    #[error("{0}")]
    Duplicate(String),
    /// A newer stream of this node replaced this one.
    #[error("{0}")]
    Superseded(String),
    /// The controller refused, with its reason.
    #[error("{0}")]
    Refused(String),
    #[error("stream ended: {0}")]
    StreamEnded(String),
    #[error("lost its store; trying the other controllers")]
    Stale,
    #[error("no message for {0:?}")]
    Silent(Duration),
    #[error("unreadable message: {0}")]
    Malformed(String),
    #[error("{0}")]
    Gap(#[from] crate::cluster::Gap),
}

impl From<MessageError> for LinkError {
    fn from(error: MessageError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<prost::DecodeError> for LinkError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// The error of a call's status. These codes show a server that is no gRPC server, or a different one.
fn refused(status: &Status) -> LinkError {
    let reason = || root_cause(status).unwrap_or_else(|| status.message().to_owned());
    match status.code() {
        Code::AlreadyExists => LinkError::Duplicate(status.message().to_owned()),
        Code::Aborted => LinkError::Superseded(status.message().to_owned()),
        Code::Unimplemented => LinkError::NotAController(reason()),
        Code::Unavailable | Code::Cancelled => LinkError::StreamEnded(reason()),
        // A violation of HTTP/2. An error of the connection itself, which has no code of HTTP/2, is Unknown.
        Code::Internal if std::error::Error::source(status).is_some() => LinkError::NotAController(reason()),
        Code::Unknown if std::error::Error::source(status).is_some() => LinkError::StreamEnded(reason()),
        Code::Internal | Code::Unknown if status.message().contains("protocol error") => {
            LinkError::NotAController(reason())
        }
        // An error of the connection, not of the call: the reason is the source.
        _ => LinkError::Refused(reason()),
    }
}

/// The innermost reason of an error; the outer ones are only "transport error".
fn root_cause(error: &dyn std::error::Error) -> Option<String> {
    let mut cause = error.source()?;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Some(cause.to_string())
}

/// The IPv6 addresses of a controller's host name; none if it does not resolve.
async fn addresses(endpoint: &ControllerUrl) -> Vec<Ipv6Addr> {
    let Ok(found) = tokio::net::lookup_host(endpoint.authority()).await else {
        return Vec::new();
    };
    found.filter_map(|address| if let SocketAddr::V6(v6) = address { Some(*v6.ip()) } else { None }).collect()
}

/// A controller's answer to a claim.
pub(super) enum ClaimOutcome {
    /// With its receipt, encoded, if the controller signed one.
    Granted(Claim, Option<Vec<u8>>),
    Fenced(String),
}

/// A message from a controller on a stream.
#[derive(Debug)]
pub(super) enum Incoming {
    Welcome {
        keepalive: Duration,
        silence: Duration,
        controller: String,
    },
    Snapshot(Snapshot),
    Delta(Delta),
    Fenced {
        reason: String,
        /// Of the claim that has ended; a controller of an earlier version does not tell.
        epoch: Option<Epoch>,
    },
    /// An operator's question with its number; none if this agent does not support it.
    Question(u64, Option<Question>),
    /// Where all controllers are reached.
    Controllers(Vec<String>),
    /// The controller has lost its store.
    Stale,
    /// A part of a snapshot, or a keepalive.
    Nothing,
}

/// A connection to a controller.
pub(super) struct Link {
    client: AgentServiceClient<Channel>,
    addresses: Vec<Ipv6Addr>,
    identity: Identity,
}

impl Link {
    pub(super) async fn connect(
        endpoint: &ControllerUrl,
        dial: &dyn Dial,
        identity: Identity,
    ) -> Result<Self, LinkError> {
        let channel =
            Channel::builder(endpoint.uri().clone()).connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
        let connected = dial.dial(channel).await;
        let channel = connected
            .map_err(|error| LinkError::Connect(root_cause(&error).unwrap_or_else(|| error.to_string())))?;
        Ok(Self { client: AgentServiceClient::new(channel), addresses: addresses(endpoint).await, identity })
    }

    /// The IPv6 addresses of the controller.
    pub(super) fn addresses(&self) -> &[Ipv6Addr] {
        &self.addresses
    }

    /// Asks for a claim; `receipt` is that of the held one.
    pub(super) fn claim(
        &self,
        wish: &Wish,
        receipt: Option<Vec<u8>>,
        infrastructure: Vec<Ipv6Addr>,
    ) -> impl Future<Output = Result<ClaimOutcome, LinkError>> + Send + use<> {
        let mut client = self.client.clone();
        let mut request = tonic::Request::new(v1::ClaimRequest {
            node: self.identity.node.to_string(),
            node_id: self.identity.node_id.into(),
            pool: wish.pool.as_ref().map(ToString::to_string).unwrap_or_default(),
            host_len: wish.host_len.unwrap_or(0),
            held: wish.held.as_ref().map(Into::into),
            beside: wish.beside,
            infrastructure: infrastructure.into_iter().map(convert::octets).collect(),
            pool_order: self.identity.pool_order(),
            receipt: receipt.and_then(|octets| v1::Receipt::decode(&octets[..]).ok()),
            accept_pools: self.identity.accept_pools(),
        });
        request.set_timeout(CALL_TIMEOUT);
        async move {
            let response = tokio::time::timeout(CALL_TIMEOUT, client.claim(request)).await;
            let response =
                response.map_err(|_| LinkError::Silent(CALL_TIMEOUT))?.map_err(|status| refused(&status))?;
            let v1::ClaimResponse { outcome, receipt } = response.into_inner();
            match outcome {
                Some(Outcome::Granted(claim)) => {
                    Ok(ClaimOutcome::Granted(claim.try_into()?, receipt.map(|it| it.encode_to_vec())))
                }
                Some(Outcome::Fenced(fenced)) => Ok(ClaimOutcome::Fenced(fenced.reason)),
                None => Err(LinkError::Malformed("claim response without an outcome".into())),
            }
        }
    }

    /// Opens the stream, with the claim of a host, or without one for a router; deltas may continue after `resume`.
    pub(super) async fn sync(
        &mut self,
        claim: Option<&Claim>,
        resume: Option<(Incarnation, Revision)>,
        mark: Option<Mark>,
    ) -> Result<SyncStream, LinkError> {
        let (outgoing, to_send) = mpsc::channel(OUTGOING);
        let (incarnation, revision) = match resume {
            Some((incarnation, revision)) => (incarnation.into(), revision.0),
            None => (bytes::Bytes::new(), 0),
        };
        let hello = v1::Hello {
            node: self.identity.node.to_string(),
            node_id: self.identity.node_id.into(),
            epoch: claim.map(|claim| claim.epoch.into()),
            incarnation,
            revision,
            version: VERSION.into(),
            mark: mark.map(Into::into),
            role: claim.map_or(v1::Role::Router, |_| v1::Role::Unspecified).into(),
            instance: self.identity.instance.into(),
        };
        let _queue_is_empty = outgoing.try_send(message(ToController::Hello(hello)));
        let opened = tokio::time::timeout(CALL_TIMEOUT, self.client.sync(ReceiverStream::new(to_send))).await;
        let response =
            opened.map_err(|_| LinkError::Silent(CALL_TIMEOUT))?.map_err(|status| refused(&status))?;
        let pool_order = self.identity.pool_order();
        Ok(SyncStream { outgoing, incoming: response.into_inner(), pending: None, pool_order })
    }

    /// Waits until all live peers have applied `revision`. Returns those that had not in time.
    pub(super) fn settle(
        &self,
        claim: &Claim,
        revision: Revision,
        timeout: Duration,
    ) -> impl Future<Output = Result<Vec<String>, LinkError>> + Send + use<> {
        let mut client = self.client.clone();
        let request = v1::SettleRequest {
            node: self.identity.node.to_string(),
            node_id: self.identity.node_id.into(),
            epoch: Some(claim.epoch.into()),
            revision: revision.0,
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        };
        async move {
            let response = client.settle(request).await.map_err(|status| refused(&status))?;
            Ok(response.into_inner().laggards)
        }
    }
}

fn message(message: ToController) -> v1::AgentMessage {
    v1::AgentMessage { message: Some(message) }
}

/// An open stream.
pub(super) struct SyncStream {
    outgoing: mpsc::Sender<v1::AgentMessage>,
    incoming: Streaming<v1::ControllerMessage>,
    /// A snapshot whose chunks have not all arrived.
    pending: Option<(v1::SnapshotBegin, u32, Vec<Pool>, Vec<Peer>)>,
    /// The order of this node's claims.
    pool_order: Vec<String>,
}

impl SyncStream {
    /// The next message. Cancel safe.
    pub(super) async fn receive(&mut self) -> Result<Incoming, LinkError> {
        use v1::controller_message::Message as M;
        let received = self.incoming.message().await.map_err(|status| refused(&status))?;
        let received = received.ok_or_else(|| LinkError::StreamEnded("closed by the controller".into()))?;
        match received.message {
            Some(M::Welcome(welcome)) => Ok(Incoming::Welcome {
                keepalive: Duration::from_millis(welcome.keepalive_ms.max(1).into()),
                silence: Duration::from_millis(welcome.silence_ms.max(1).into()),
                controller: welcome.controller,
            }),
            Some(M::SnapshotBegin(begin)) => {
                self.pending = Some((begin, 0, Vec::new(), Vec::new()));
                self.complete()
            }
            Some(M::SnapshotChunk(chunk)) => self.chunk(&chunk),
            Some(M::Delta(delta)) => Ok(Incoming::Delta(parse_delta(v1::Delta::decode(delta)?)?)),
            Some(M::Fenced(fenced)) => {
                let epoch = fenced.epoch.and_then(|epoch| Epoch::try_from(epoch).ok());
                Ok(Incoming::Fenced { reason: fenced.reason, epoch })
            }
            Some(M::Question(question)) => Ok(Incoming::Question(question.id, questions::parse(&question))),
            Some(M::Controllers(controllers)) => Ok(Incoming::Controllers(controllers.urls)),
            Some(M::Keepalive(keepalive)) if keepalive.stale => Ok(Incoming::Stale),
            Some(M::Keepalive(_)) | None => Ok(Incoming::Nothing),
        }
    }

    fn chunk(&mut self, chunk: &bytes::Bytes) -> Result<Incoming, LinkError> {
        let (_, received, pools, peers) = self
            .pending
            .as_mut()
            .ok_or_else(|| LinkError::Malformed("snapshot chunk without a snapshot".into()))?;
        let chunk = v1::SnapshotChunk::decode(chunk.clone())?;
        *received += 1;
        pools.extend(convert::all::<_, Pool>("pools", chunk.pools)?);
        peers.extend(readable_peers(chunk.peers));
        self.complete()
    }

    /// The snapshot, once all its chunks have arrived.
    fn complete(&mut self) -> Result<Incoming, LinkError> {
        let Some((begin, _, pools, peers)) =
            self.pending.take_if(|(begin, received, ..)| *received >= begin.chunks)
        else {
            return Ok(Incoming::Nothing);
        };
        Ok(Incoming::Snapshot(Snapshot {
            incarnation: convert::id("incarnation", &begin.incarnation)?,
            revision: Revision(begin.revision),
            linearizable: begin.linearizable,
            recovering: begin.recovering,
            control: begin.control.map(Into::into).unwrap_or_default(),
            mark: mark(begin.mark)?,
            pools,
            peers,
        }))
    }

    /// Announces the host. Waits while the connection is congested, as all that send.
    pub(super) async fn announce(&self, announcement: &Announcement) -> Result<(), LinkError> {
        let primary = announcement.claims.first();
        let announce = v1::Announce {
            uplinks: announcement.uplinks.iter().map(Into::into).collect(),
            container_prefix: primary
                .and_then(|claim| claim.container_prefixes.first())
                .map(|it| (*it).into()),
            claims: announcement.claims.iter().map(announced_claim).collect(),
            pool_order: self.pool_order.clone(),
        };
        self.send(ToController::Announce(announce)).await
    }

    /// Acknowledges the state of the kernel and the host.
    pub(super) async fn acknowledge(&self, ack: &Ack) -> Result<(), LinkError> {
        self.send(ToController::Ack(ack.into())).await
    }

    /// Reports the end of the drain.
    pub(super) async fn drained(&self, laggards: Vec<String>) -> Result<(), LinkError> {
        self.send(ToController::Drained(v1::Drained { laggards })).await
    }

    /// Answers a question.
    pub(super) async fn answer(&self, id: u64, answer: Result<Answer, String>) -> Result<(), LinkError> {
        self.send(ToController::Answer(questions::message(id, answer))).await
    }

    pub(super) async fn keepalive(&self) -> Result<(), LinkError> {
        self.send(ToController::Keepalive(v1::Keepalive::default())).await
    }

    /// Sends the shutdown notice; returns once the controller has closed the stream.
    pub(super) async fn send_shutdown(&mut self) -> Result<(), LinkError> {
        self.send(ToController::Stopping(v1::Stopping {})).await?;
        while self.incoming.message().await.is_ok_and(|message| message.is_some()) {}
        Ok(())
    }

    async fn send(&self, body: ToController) -> Result<(), LinkError> {
        let sent = self.outgoing.send(message(body)).await;
        sent.map_err(|_| LinkError::StreamEnded("closed by the controller".into()))
    }
}

fn announced_claim(claim: &AnnouncedClaim) -> v1::AnnouncedClaim {
    v1::AnnouncedClaim {
        epoch: Some(claim.epoch.into()),
        container_prefixes: claim.container_prefixes.iter().map(|prefix| (*prefix).into()).collect(),
    }
}

/// Skips unreadable peers: they do not prevent routes to the others (DESIGN I10).
fn readable_peers(peers: Vec<v1::Peer>) -> impl Iterator<Item = Peer> {
    peers.into_iter().filter_map(|peer| {
        let name = peer.name.clone();
        Peer::try_from(peer).inspect_err(|error| warn_of_unreadable(&name, error)).ok()
    })
}

fn warn_of_unreadable(node: &str, error: &MessageError) {
    /// Of all streams: a message comes again with each one.
    static LINES: LazyLock<Mutex<OncePerMinute>> = LazyLock::new(Mutex::default);
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(suppressed) = lines.admit_of(node, &error.to_string(), Instant::now()) {
        tracing::warn!(node, %error, suppressed, "unparseable peer message ignored");
    }
}

fn parse_delta(delta: v1::Delta) -> Result<Delta, LinkError> {
    let changes = delta.changes.into_iter().filter_map(|change| change.change).filter_map(parse_change);
    let changes = changes.collect::<Result<_, _>>()?;
    let mark = mark(delta.mark)?;
    Ok(Delta { since: Revision(delta.since), revision: Revision(delta.revision), mark, changes })
}

fn mark(mark: Option<v1::Mark>) -> Result<Option<Mark>, LinkError> {
    Ok(mark.map(Mark::try_from).transpose()?)
}

fn parse_change(change: v1::change::Change) -> Option<Result<Change, LinkError>> {
    use v1::change::Change as C;
    let parsed = match change {
        C::Pool(pool) => required("pool", Some(pool)).map(Change::Pool),
        C::PoolRemoved(name) => convert::parse("pool_removed", &name).map(Change::PoolRemoved),
        C::Peer(peer) => {
            return readable_peers(vec![peer]).next().map(|peer| Ok(Change::Peer(peer)));
        }
        C::PeerRemoved(name) => convert::parse("peer_removed", &name).map(Change::PeerRemoved),
        C::Recovering(recovering) => Ok(Change::Recovering(recovering)),
        C::Control(control) => Ok(Change::Control(control.into())),
    };
    Some(parsed.map_err(Into::into))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn a_connection_that_breaks_is_no_sign_of_another_server() {
        let broken = Status::from_error(Box::new(io::Error::from(io::ErrorKind::BrokenPipe)));
        assert!(matches!(refused(&broken), LinkError::StreamEnded(_)), "{broken:?}");
        let other = Status::unimplemented("no such service");
        assert!(matches!(refused(&other), LinkError::NotAController(_)));
    }
}
