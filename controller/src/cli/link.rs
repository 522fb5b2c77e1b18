//! The gRPC edge: the only file of the command line that knows `tonic`.
//!
//! Controllers are tried in turn. What only asks goes on to the next one whenever one does not answer; what changes
//! something only while it surely has not been heard.

use std::{error::Error, fmt, net::Ipv6Addr, str::FromStr, time::Duration};

use sextant_proto::{
    Incarnation, NodeName, Pool, PoolName, Prefix, Revision,
    convert::{MessageError, all, octets, required},
    plain_text_allowed,
    v1::{self, admin_service_client::AdminServiceClient},
};
use tonic::{
    Code, Response, Status, Streaming,
    transport::{Channel, Uri},
};

use super::{
    answer::{Cluster, Node, PoolUse, Readable, Route, readable_nodes, readable_pools},
    events::Wanted,
    failure::Failure,
    reservations::Reservation,
};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a call that is answered at once may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a trace may take: agents are asked three times, and one that hangs has 9 s each time.
const TRACE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a call may take that reads or writes the whole store.
const WHOLE_TIMEOUT: Duration = Duration::from_secs(600);
/// How many octets of a file one message carries.
const PIECE: usize = 256 << 10;
/// After how much silence a controller is asked for a sign of life, and how long that may take.
const KEEPALIVE: Duration = Duration::from_secs(5);

type Client = AdminServiceClient<Channel>;

/// A controller's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Uri);

/// A text that is no controller's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a controller's address; write it as http://HOST:PORT, e.g. http://[2001:db8::c]:7300"
)]
pub struct EndpointError(String);

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let malformed = || EndpointError(text.to_owned());
        let uri: Uri = text.trim().parse().map_err(|_| malformed())?;
        let is_address = uri.scheme_str() == Some("http")
            && uri.port_u16().is_some()
            && uri.host().is_some_and(|host| !host.is_empty())
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none();
        is_address.then_some(Self(uri)).ok_or_else(malformed)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.0.authority().map_or("", |it| it.as_str()))
    }
}

/// Why an attempt at one controller gave no answer.
#[derive(Debug)]
enum Miss {
    /// It has surely done nothing: another one may be asked, whatever the question.
    Unheard(String),
    /// It, or what it needs, is not there; it may have done what was asked.
    Unavailable(String),
    /// The connection broke while it was at it.
    Lost(String),
    /// It answered, with a refusal.
    Refused(Failure),
}

/// The controllers.
pub(super) struct Link {
    endpoints: Vec<Endpoint>,
    /// Which one is asked.
    turn: usize,
    client: Option<Client>,
}

impl Link {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// If plain text may not go to one of them.
    pub(super) fn new(endpoints: Vec<Endpoint>, insecure: bool) -> Result<Self, Failure> {
        for endpoint in &endpoints {
            plain_text_allowed("--controller", endpoint.0.host().unwrap_or_default(), insecure)?;
        }
        Ok(Self { endpoints, turn: 0, client: None })
    }

    pub(super) async fn add_pool(&mut self, pool: &Pool) -> Result<Revision, Failure> {
        let request = v1::AddPoolRequest { pool: Some(pool.into()) };
        let call = async |mut client: Client| client.add_pool(request.clone()).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(super) async fn pools(&mut self) -> Result<Readable<PoolUse>, Failure> {
        let call = async |mut client: Client| client.list_pools(v1::ListPoolsRequest {}).await;
        Ok(readable_pools(self.ask(call).await?.pools))
    }

    pub(super) async fn remove_pool(&mut self, name: &PoolName) -> Result<Revision, Failure> {
        let request = v1::RemovePoolRequest { name: name.to_string() };
        let call = async |mut client: Client| client.remove_pool(request.clone()).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(super) async fn drain_pool(&mut self, name: &PoolName, drain: bool) -> Result<Revision, Failure> {
        let request = v1::DrainPoolRequest { name: name.to_string(), undrain: !drain };
        let call = async |mut client: Client| client.drain_pool(request.clone()).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(super) async fn grow_pool(&mut self, name: &PoolName, to: Prefix) -> Result<Revision, Failure> {
        let request = v1::GrowPoolRequest { name: name.to_string(), prefix: Some(to.into()) };
        let call = async |mut client: Client| client.grow_pool(request.clone()).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(super) async fn reserve(
        &mut self,
        prefix: Prefix,
        node: &str,
        reason: &str,
    ) -> Result<Revision, Failure> {
        let (prefix, node, reason) = (Some(prefix.into()), node.to_owned(), reason.to_owned());
        let reservation = v1::Reservation { prefix, node, reason, ..v1::Reservation::default() };
        let request = v1::ReserveRequest { reservation: Some(reservation) };
        let call = async |mut client: Client| client.reserve(request.clone()).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(super) async fn unreserve(&mut self, prefix: Prefix) -> Result<Revision, Failure> {
        let request = v1::UnreserveRequest { prefix: Some(prefix.into()) };
        let call = async |mut client: Client| client.unreserve(request.clone()).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(super) async fn reservations(&mut self) -> Result<Vec<Reservation>, Failure> {
        let call = async |mut client: Client| client.list_reservations(v1::ListReservationsRequest {}).await;
        Ok(all("reservations", self.ask(call).await?.reservations)?)
    }

    pub(super) async fn nodes(&mut self) -> Result<Readable<Node>, Failure> {
        let call = async |mut client: Client| client.list_nodes(v1::ListNodesRequest {}).await;
        Ok(readable_nodes(self.ask(call).await?.nodes))
    }

    pub(super) async fn drain_node(
        &mut self,
        name: &NodeName,
        timeout: Duration,
    ) -> Result<Revision, Failure> {
        let request = v1::DrainNodeRequest { name: name.to_string(), timeout_ms: millis(timeout) };
        let call = async |mut client: Client| client.drain_node(request.clone()).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(super) async fn undrain_node(&mut self, name: &NodeName) -> Result<Revision, Failure> {
        let request = v1::UndrainNodeRequest { name: name.to_string() };
        let call = async |mut client: Client| client.undrain_node(request.clone()).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    /// The prefix that is free now, and the revision of that.
    pub(super) async fn forget_node(
        &mut self,
        name: &NodeName,
        force: bool,
    ) -> Result<(Prefix, Revision), Failure> {
        let request = v1::ForgetNodeRequest { name: name.to_string(), force };
        let call = async |mut client: Client| client.forget_node(request.clone()).await;
        let forgotten = self.change(call).await?;
        Ok((required("prefix", forgotten.prefix)?, Revision(forgotten.revision)))
    }

    pub(super) async fn pause(&mut self) -> Result<Revision, Failure> {
        let call = async |mut client: Client| client.pause(v1::PauseRequest {}).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(super) async fn resume(&mut self) -> Result<Revision, Failure> {
        let call = async |mut client: Client| client.resume(v1::ResumeRequest {}).await;
        Ok(Revision(self.change(call).await?.revision))
    }

    pub(super) async fn routes(&mut self, node: Option<&NodeName>) -> Result<Vec<Route>, Failure> {
        let request = v1::ListRoutesRequest { node: node.map(ToString::to_string).unwrap_or_default() };
        let call = async |mut client: Client| client.list_routes(request.clone()).await;
        Ok(all("routes", self.ask(call).await?.routes)?)
    }

    pub(super) async fn cluster(&mut self) -> Result<Cluster, Failure> {
        let call = async |mut client: Client| client.status(v1::StatusRequest {}).await;
        Ok(self.ask(call).await?.try_into()?)
    }

    pub(super) async fn plan(&mut self, node: &NodeName) -> Result<v1::Plan, Failure> {
        let request = v1::PlanNodeRequest { name: node.to_string() };
        let call = async |mut client: Client| client.plan_node(request.clone()).await;
        Ok(required("plan", self.ask(call).await?.plan)?)
    }

    pub(super) async fn trace(
        &mut self,
        from: &NodeName,
        to: &NodeName,
    ) -> Result<v1::TraceResponse, Failure> {
        let request = v1::TraceRequest { from: from.to_string(), to: to.to_string() };
        let call = async |mut client: Client| client.trace(request.clone()).await;
        self.ask_within(TRACE_TIMEOUT, call).await
    }

    /// Events after those of `after`, which is of this incarnation.
    pub(super) async fn events(
        &mut self,
        wanted: &Wanted,
        after: Option<(Incarnation, Revision)>,
    ) -> Result<Following<v1::Event>, Failure> {
        let (incarnation, after) = after.map_or_else(Default::default, |(it, after)| (it.into(), after.0));
        let request = v1::EventsRequest {
            follow: wanted.follow,
            node: wanted.node.as_ref().map(ToString::to_string).unwrap_or_default(),
            after,
            incarnation,
            last: wanted.last.unwrap_or_default(),
        };
        let call = async |mut client: Client| client.events(request.clone()).await;
        let stream = self.ask(call).await?;
        Ok(Following { stream, endpoint: self.endpoint().clone() })
    }

    /// A backup file's octets.
    pub(super) async fn backup(&mut self) -> Result<Vec<u8>, Failure> {
        let call = async |mut client: Client| client.backup(v1::BackupRequest {}).await;
        let stream = self.ask_within(WHOLE_TIMEOUT, call).await?;
        let mut pieces = Following { stream, endpoint: self.endpoint().clone() };
        let mut octets = Vec::new();
        while let Some(Piece(piece)) = pieces.next().await? {
            octets.extend_from_slice(&piece);
        }
        Ok(octets)
    }

    pub(super) async fn restore(&mut self, octets: &[u8]) -> Result<v1::RestoreResponse, Failure> {
        let pieces: Vec<_> = octets
            .chunks(PIECE)
            .map(|piece| v1::BackupPiece { octets: bytes::Bytes::copy_from_slice(piece) })
            .collect();
        let call = async |mut client: Client| client.restore(futures::stream::iter(pieces.clone())).await;
        self.change_within(WHOLE_TIMEOUT, call).await
    }

    /// How many keys were taken away again.
    pub(super) async fn undo_restore(&mut self) -> Result<u64, Failure> {
        let call = async |mut client: Client| client.undo_restore(v1::UndoRestoreRequest {}).await;
        Ok(self.change_within(WHOLE_TIMEOUT, call).await?.deleted)
    }

    pub(super) async fn finish_recovery(&mut self) -> Result<v1::FinishRecoveryResponse, Failure> {
        let call = async |mut client: Client| client.finish_recovery(v1::FinishRecoveryRequest {}).await;
        self.change(call).await
    }

    pub(super) async fn explain(&mut self, address: Ipv6Addr) -> Result<v1::ExplainResponse, Failure> {
        let request = v1::ExplainRequest { address: octets(address) };
        let call = async |mut client: Client| client.explain(request.clone()).await;
        self.ask(call).await
    }

    /// `None` stands for the last revision that agents see, and for ever.
    pub(super) async fn wait(
        &mut self,
        revision: Option<Revision>,
        timeout: Option<Duration>,
    ) -> Result<Waiting, Failure> {
        let request = v1::WaitRequest {
            revision: revision.unwrap_or_default().0,
            timeout_ms: timeout.map_or(0, millis),
        };
        let call = async |mut client: Client| client.wait(request).await;
        let stream = self.ask(call).await?;
        let endpoint = self.endpoint().clone();
        Ok(Waiting { stream, endpoint })
    }

    /// Something that may be asked twice.
    async fn ask<R>(
        &mut self,
        call: impl AsyncFn(Client) -> Result<Response<R>, Status>,
    ) -> Result<R, Failure> {
        self.ask_within(CALL_TIMEOUT, call).await
    }

    async fn ask_within<R>(
        &mut self,
        patience: Duration,
        call: impl AsyncFn(Client) -> Result<Response<R>, Status>,
    ) -> Result<R, Failure> {
        let mut reasons = Vec::new();
        for _ in 0..self.endpoints.len() {
            match self.attempt(patience, &call).await {
                Ok(answer) => return Ok(answer),
                Err(Miss::Refused(failure)) => return Err(failure),
                Err(Miss::Unheard(why) | Miss::Unavailable(why) | Miss::Lost(why)) => {
                    self.pass_over(&mut reasons, &why);
                }
            }
        }
        Err(Failure::Unavailable(reasons.join("; ")))
    }

    /// Something that is to be done once.
    async fn change<R>(
        &mut self,
        call: impl AsyncFn(Client) -> Result<Response<R>, Status>,
    ) -> Result<R, Failure> {
        self.change_within(CALL_TIMEOUT, call).await
    }

    async fn change_within<R>(
        &mut self,
        patience: Duration,
        call: impl AsyncFn(Client) -> Result<Response<R>, Status>,
    ) -> Result<R, Failure> {
        let mut reasons = Vec::new();
        for _ in 0..self.endpoints.len() {
            match self.attempt(patience, &call).await {
                Ok(answer) => return Ok(answer),
                Err(Miss::Refused(failure)) => return Err(failure),
                Err(Miss::Unheard(why)) => self.pass_over(&mut reasons, &why),
                Err(Miss::Unavailable(why)) => {
                    self.pass_over(&mut reasons, &why);
                    break;
                }
                Err(Miss::Lost(why)) => {
                    let why = format!("{why}; it may have done it all the same: look with `sextant status`");
                    self.pass_over(&mut reasons, &why);
                    break;
                }
            }
        }
        Err(Failure::Unavailable(reasons.join("; ")))
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoints[self.turn]
    }

    fn pass_over(&mut self, reasons: &mut Vec<String>, why: &str) {
        reasons.push(format!("controller {}: {why}", self.endpoint()));
        self.client = None;
        self.turn = (self.turn + 1) % self.endpoints.len();
    }

    async fn attempt<R>(
        &mut self,
        patience: Duration,
        call: &impl AsyncFn(Client) -> Result<Response<R>, Status>,
    ) -> Result<R, Miss> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => connect(self.endpoint()).await?,
        };
        self.client = Some(client.clone());
        let answer = tokio::time::timeout(patience, call(client)).await;
        let answer = answer
            .map_err(|_| Miss::Lost(format!("takes connections, but gave no answer within {patience:?}")))?;
        Ok(answer.map_err(|status| miss(&status))?.into_inner())
    }
}

/// Messages of a controller, as they come.
pub(super) struct Following<M> {
    stream: Streaming<M>,
    endpoint: Endpoint,
}

/// A piece of a file.
struct Piece(bytes::Bytes);

impl TryFrom<v1::BackupPiece> for Piece {
    type Error = MessageError;

    fn try_from(message: v1::BackupPiece) -> Result<Self, MessageError> {
        Ok(Self(message.octets))
    }
}

/// Progress of agents.
pub(super) type Waiting = Following<v1::WaitProgress>;

impl<M> Following<M> {
    /// The next one; `None` after the last.
    pub(super) async fn next<T: TryFrom<M, Error = MessageError>>(&mut self) -> Result<Option<T>, Failure> {
        let endpoint = &self.endpoint;
        let message = self.stream.message().await.map_err(|status| match miss(&status) {
            Miss::Refused(failure) => failure,
            Miss::Unheard(why) | Miss::Unavailable(why) | Miss::Lost(why) => {
                Failure::Unavailable(format!("controller {endpoint}: {why}"))
            }
        })?;
        Ok(message.map(T::try_from).transpose()?)
    }
}

async fn connect(endpoint: &Endpoint) -> Result<Client, Miss> {
    let channel = Channel::builder(endpoint.0.clone())
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .tcp_nodelay(true);
    // The connector's own time-out does not cover name resolution.
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, channel.connect()).await;
    let mend = "is sextant-controller running there? Name another one with --controller";
    let channel = connected
        .map_err(|_| Miss::Unheard(format!("cannot connect within {CONNECT_TIMEOUT:?}; {mend}")))?
        .map_err(|error| Miss::Unheard(format!("cannot connect: {}; {mend}", root_cause(&error))))?;
    // A large cluster's routes pass the default of 4 MiB.
    Ok(Client::new(channel).max_decoding_message_size(usize::MAX))
}

/// What a status means to who asked. A peer that is no gRPC server, or another one, shows in these codes.
fn miss(status: &Status) -> Miss {
    let (text, broken) = (status.message().to_owned(), status.source().is_some());
    let alien = || {
        let cause = if broken { root_cause(status) } else { text.clone() };
        Miss::Unheard(format!(
            "answers, but not as a sextant-controller ({cause}); check the address and port against its --listen"
        ))
    };
    match status.code() {
        Code::Unimplemented => alien(),
        Code::Internal | Code::Unknown if broken || text.contains("protocol error") => alien(),
        Code::Unavailable | Code::Cancelled | Code::Unknown if broken => {
            Miss::Lost(format!("the connection is lost: {}", root_cause(status)))
        }
        Code::Unavailable | Code::Cancelled => Miss::Unavailable(text),
        Code::InvalidArgument | Code::OutOfRange => Miss::Refused(Failure::Usage(text)),
        Code::NotFound => Miss::Refused(Failure::NotFound(text)),
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => {
            Miss::Refused(Failure::Conflict(text))
        }
        Code::DeadlineExceeded => Miss::Refused(Failure::TimedOut(text)),
        code if text.is_empty() => Miss::Refused(Failure::Failed(code.description().to_owned())),
        _ => Miss::Refused(Failure::Failed(text)),
    }
}

/// The innermost reason of an error; the outer ones only say "transport error".
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// At least 1: 0 stands for another time on the wire.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked() {
        for good in ["http://[::1]:7300", "http://c1.example:7300/"] {
            assert!(good.parse::<Endpoint>().is_ok(), "{good}");
        }
        for bad in ["", "[::1]:7300", "https://[::1]:7300", "http://[::1]", "http:///x", "http://h:1/x", "ü"]
        {
            let error = bad.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains("http://HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn plain_text_past_loopback_is_refused() {
        let endpoints: Vec<Endpoint> = vec!["http://[2001:db8::c]:7300".parse().unwrap()];
        let failure = Link::new(endpoints.clone(), false).err().unwrap();
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.to_string().contains("--insecure"), "{failure}");
        assert!(Link::new(endpoints, true).is_ok());
    }

    #[test]
    fn statuses_become_exit_codes_with_their_text() {
        for (code, exit_code) in [
            (Code::InvalidArgument, 2),
            (Code::NotFound, 3),
            (Code::AlreadyExists, 4),
            (Code::FailedPrecondition, 4),
            (Code::Aborted, 4),
            (Code::DeadlineExceeded, 6),
            (Code::ResourceExhausted, 1),
            (Code::Internal, 1),
        ] {
            match miss(&Status::new(code, "why, and the mend")) {
                Miss::Refused(failure) => {
                    assert_eq!(failure.exit_code(), exit_code, "{code}");
                    assert_eq!(failure.to_string(), "why, and the mend");
                }
                other => panic!("{code}: {other:?}"),
            }
        }
        assert!(matches!(
            miss(&Status::unavailable("the store is full")),
            Miss::Unavailable(text) if text == "the store is full"
        ));
    }

    #[test]
    fn zero_is_not_sent_for_a_time() {
        assert_eq!(millis(Duration::ZERO), 1);
    }
}
