//! The gRPC edge: the only file that knows `tonic`.

use std::{
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

use prost::Message;
use sextant_daemon::Dial;
use sextant_proto::{
    Claim, Incarnation, InstanceId, Mark, NodeId, NodeName, Peer, Pool, PoolName, Revision, VERSION,
    convert::{self, MessageError, required},
    v1::{self, agent_message::Message as ToController, agent_service_client::AgentServiceClient},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

use super::{Answer, Question, dialogue::Say, questions};
use crate::{
    cluster::{Change, Delta, Snapshot},
    engine::Announcement,
    settings::Endpoint,
};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call that is answered at once may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How many messages may wait to be sent.
const OUTGOING: usize = 16;

/// Why a conversation ended.
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
    /// A newer stream of this node took the place of this one.
    #[error("{0}")]
    Superseded(String),
    /// It refused, with its reason.
    #[error("{0}")]
    Refused(String),
    #[error("the stream ended: {0}")]
    StreamEnded(String),
    #[error("has lost its store; trying the others")]
    Stale,
    #[error("silent for {0:?}")]
    Silent(Duration),
    #[error("sent what cannot be read: {0}")]
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

/// A status of a call. A peer that is no gRPC server, or another one, shows in these codes.
fn refused(status: &Status) -> LinkError {
    let words = || root_cause(status).unwrap_or_else(|| status.message().to_owned());
    match status.code() {
        Code::AlreadyExists => LinkError::Duplicate(status.message().to_owned()),
        Code::Aborted => LinkError::Superseded(status.message().to_owned()),
        Code::Unimplemented => LinkError::NotAController(words()),
        Code::Unavailable | Code::Cancelled => LinkError::StreamEnded(words()),
        Code::Internal | Code::Unknown if std::error::Error::source(status).is_some() => {
            LinkError::NotAController(words())
        }
        Code::Internal | Code::Unknown if status.message().contains("protocol error") => {
            LinkError::NotAController(words())
        }
        // Of the connection, not of the call: its reason is within.
        _ => LinkError::Refused(words()),
    }
}

/// The innermost reason of an error; the outer ones only say "transport error".
fn root_cause(error: &dyn std::error::Error) -> Option<String> {
    let mut cause = error.source()?;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Some(cause.to_string())
}

/// The IPv6 addresses of a controller's host name; none if it does not resolve.
async fn addresses(endpoint: &Endpoint) -> Vec<Ipv6Addr> {
    let Ok(found) = tokio::net::lookup_host(endpoint.authority()).await else {
        return Vec::new();
    };
    found.filter_map(|address| if let SocketAddr::V6(v6) = address { Some(*v6.ip()) } else { None }).collect()
}

/// What a controller says to a claim.
pub(super) enum ClaimOutcome {
    Granted(Claim),
    Fenced(String),
}

/// What a controller says on a stream.
#[derive(Debug)]
pub(super) enum Heard {
    Welcome {
        keepalive: Duration,
        silence: Duration,
        controller: String,
    },
    Snapshot(Snapshot),
    Delta(Delta),
    Fenced(String),
    /// A question of an operator's, and its number; none if this agent does not know such a one.
    Question(u64, Option<Question>),
    /// The controller has lost its store.
    Stale,
    /// Part of something, or a sign of life.
    Nothing,
}

/// A connection to a controller.
pub(super) struct Link {
    client: AgentServiceClient<Channel>,
    addresses: Vec<Ipv6Addr>,
}

impl Link {
    pub(super) async fn connect(endpoint: &Endpoint, dial: &dyn Dial) -> Result<Self, LinkError> {
        let channel =
            Channel::builder(endpoint.uri().clone()).connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
        let connected = dial.dial(channel).await;
        let channel = connected
            .map_err(|error| LinkError::Connect(root_cause(&error).unwrap_or_else(|| error.to_string())))?;
        Ok(Self { client: AgentServiceClient::new(channel), addresses: addresses(endpoint).await })
    }

    /// The IPv6 addresses that the controller may be reached at.
    pub(super) fn addresses(&self) -> &[Ipv6Addr] {
        &self.addresses
    }

    pub(super) async fn claim(
        &mut self,
        node: &NodeName,
        node_id: NodeId,
        pool: Option<&PoolName>,
        host_len: Option<u32>,
        held: Option<&Claim>,
    ) -> Result<ClaimOutcome, LinkError> {
        let request = v1::ClaimRequest {
            node: node.to_string(),
            node_id: node_id.into(),
            pool: pool.map(ToString::to_string).unwrap_or_default(),
            host_len: host_len.unwrap_or(0),
            held: held.map(Into::into),
        };
        let mut request = tonic::Request::new(request);
        request.set_timeout(CALL_TIMEOUT);
        let response = tokio::time::timeout(CALL_TIMEOUT, self.client.claim(request)).await;
        let response =
            response.map_err(|_| LinkError::Silent(CALL_TIMEOUT))?.map_err(|status| refused(&status))?;
        match response.into_inner().outcome {
            Some(v1::claim_response::Outcome::Granted(claim)) => Ok(ClaimOutcome::Granted(claim.try_into()?)),
            Some(v1::claim_response::Outcome::Fenced(fenced)) => Ok(ClaimOutcome::Fenced(fenced.reason)),
            None => Err(LinkError::Malformed("a claim's answer without an outcome".into())),
        }
    }

    /// Opens the stream, of a host by its claim, of a router without one; `resume` is where deltas may go on from.
    pub(super) async fn sync(
        &mut self,
        node: &NodeName,
        node_id: NodeId,
        instance: InstanceId,
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
            node: node.to_string(),
            node_id: node_id.into(),
            epoch: claim.map(|claim| claim.epoch.into()),
            incarnation,
            revision,
            version: VERSION.into(),
            mark: mark.map(Into::into),
            role: claim.map_or(v1::Role::Router, |_| v1::Role::Unspecified).into(),
            instance: instance.into(),
        };
        let _room_for_it = outgoing.try_send(message(ToController::Hello(hello)));
        let opened = tokio::time::timeout(CALL_TIMEOUT, self.client.sync(ReceiverStream::new(to_send))).await;
        let response =
            opened.map_err(|_| LinkError::Silent(CALL_TIMEOUT))?.map_err(|status| refused(&status))?;
        Ok(SyncStream { outgoing, incoming: response.into_inner(), pending: None })
    }

    /// Waits until all live peers have applied `revision`; the answer is those that had not in time.
    pub(super) fn settle(
        &self,
        node: &NodeName,
        node_id: NodeId,
        claim: &Claim,
        revision: Revision,
        timeout: Duration,
    ) -> impl Future<Output = Result<Vec<String>, LinkError>> + Send + use<> {
        let mut client = self.client.clone();
        let request = v1::SettleRequest {
            node: node.to_string(),
            node_id: node_id.into(),
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
    /// A snapshot of which chunks are still to come.
    pending: Option<(v1::SnapshotBegin, u32, Vec<Pool>, Vec<Peer>)>,
}

impl SyncStream {
    /// The next message. Cancel safe.
    pub(super) async fn hear(&mut self) -> Result<Heard, LinkError> {
        use v1::controller_message::Message as M;
        let received = self.incoming.message().await.map_err(|status| refused(&status))?;
        let received = received.ok_or_else(|| LinkError::StreamEnded("the controller closed it".into()))?;
        match received.message {
            Some(M::Welcome(welcome)) => Ok(Heard::Welcome {
                keepalive: Duration::from_millis(welcome.keepalive_ms.max(1).into()),
                silence: Duration::from_millis(welcome.silence_ms.max(1).into()),
                controller: welcome.controller,
            }),
            Some(M::SnapshotBegin(begin)) => {
                self.pending = Some((begin, 0, Vec::new(), Vec::new()));
                self.complete()
            }
            Some(M::SnapshotChunk(chunk)) => self.chunk(&chunk),
            Some(M::Delta(delta)) => Ok(Heard::Delta(parse_delta(v1::Delta::decode(delta)?)?)),
            Some(M::Fenced(fenced)) => Ok(Heard::Fenced(fenced.reason)),
            Some(M::Question(question)) => Ok(Heard::Question(question.id, questions::parse(&question))),
            Some(M::Keepalive(keepalive)) if keepalive.stale => Ok(Heard::Stale),
            Some(M::Keepalive(_)) | None => Ok(Heard::Nothing),
        }
    }

    fn chunk(&mut self, chunk: &bytes::Bytes) -> Result<Heard, LinkError> {
        let (_, received, pools, peers) =
            self.pending.as_mut().ok_or_else(|| LinkError::Malformed("a chunk of no snapshot".into()))?;
        let chunk = v1::SnapshotChunk::decode(chunk.clone())?;
        *received += 1;
        pools.extend(convert::all::<_, Pool>("pools", chunk.pools)?);
        peers.extend(readable_peers(chunk.peers));
        self.complete()
    }

    /// The snapshot, once all of its chunks are there.
    fn complete(&mut self) -> Result<Heard, LinkError> {
        let Some((begin, _, pools, peers)) =
            self.pending.take_if(|(begin, received, ..)| *received >= begin.chunks)
        else {
            return Ok(Heard::Nothing);
        };
        Ok(Heard::Snapshot(Snapshot {
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

    /// Says something. Waits while the connection is congested.
    pub(super) async fn say(&self, say: &Say) -> Result<(), LinkError> {
        match say {
            Say::Announce(announcement) => self.send(announce(announcement)).await,
            Say::Ack(applied) => {
                let ack = v1::Ack {
                    revision: applied.revision.0,
                    failed: applied.failed.iter().map(Into::into).collect(),
                    conflicts: applied.conflicts.iter().map(Into::into).collect(),
                    held: applied.held,
                    verdicts: applied.verdicts.iter().map(Into::into).collect(),
                    bgp: applied.bgp.iter().map(Into::into).collect(),
                    problems: applied.problems.iter().map(Into::into).collect(),
                };
                self.send(ToController::Ack(ack)).await
            }
            Say::Drained(laggards) => {
                self.send(ToController::Drained(v1::Drained { laggards: laggards.clone() })).await
            }
            Say::Settle(..) | Say::Reclaim(_) => Ok(()),
        }
    }

    /// Answers a question.
    pub(super) async fn answer(&self, id: u64, answer: Result<Answer, String>) -> Result<(), LinkError> {
        self.send(ToController::Answer(questions::message(id, answer))).await
    }

    pub(super) async fn keepalive(&self) -> Result<(), LinkError> {
        self.send(ToController::Keepalive(v1::Keepalive::default())).await
    }

    /// Says that the agent was told to stop; returns once the controller has closed the stream.
    pub(super) async fn leave(&mut self) -> Result<(), LinkError> {
        self.send(ToController::Stopping(v1::Stopping {})).await?;
        while self.incoming.message().await.is_ok_and(|message| message.is_some()) {}
        Ok(())
    }

    async fn send(&self, what: ToController) -> Result<(), LinkError> {
        let sent = self.outgoing.send(message(what)).await;
        sent.map_err(|_| LinkError::StreamEnded("it takes no more messages".into()))
    }
}

fn announce(announcement: &Announcement) -> ToController {
    ToController::Announce(v1::Announce {
        uplinks: announcement.uplinks.iter().map(Into::into).collect(),
        container_prefix: Some(announcement.container_prefix.into()),
    })
}

/// One node that cannot be read does not keep the others from being routed to (DESIGN I10).
fn readable_peers(peers: Vec<v1::Peer>) -> impl Iterator<Item = Peer> {
    peers.into_iter().filter_map(|peer| {
        let name = peer.name.clone();
        let warn = |error: &MessageError| tracing::warn!(node = name, %error, "a node cannot be read; it is left out");
        Peer::try_from(peer).inspect_err(warn).ok()
    })
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
