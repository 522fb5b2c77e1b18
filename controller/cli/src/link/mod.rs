//! The gRPC edge: with [`calls`], what can be asked for, the only room of the command line that knows `tonic`.
//!
//! Controllers are tried in turn. What only asks goes on to the next one whenever one does not answer; what changes
//! something only while it surely has not been heard.

mod calls;

use std::{error::Error, fmt, str::FromStr, time::Duration};

use sextant_proto::{
    convert::MessageError, plain_text_allowed, v1::admin_service_client::AdminServiceClient,
};
use tonic::{
    Code, Response, Status, Streaming,
    transport::{Channel, Uri},
};

use crate::failure::Failure;

pub(crate) use calls::{Waiting, Wanted};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a call that is answered at once may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// After how much silence a controller is asked for a sign of life, and how long that may take.
const KEEPALIVE: Duration = Duration::from_secs(5);

type Client = AdminServiceClient<Channel>;

/// A controller's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Uri);

/// A text that is no controller's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a controller's address; write it as http://HOST:PORT, e.g. http://[2001:db8::c:1]:7300"
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
pub(crate) struct Link {
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
    pub(crate) fn new(endpoints: Vec<Endpoint>, insecure: bool) -> Result<Self, Failure> {
        for endpoint in &endpoints {
            plain_text_allowed("--controller", endpoint.0.host().unwrap_or_default(), insecure)?;
        }
        Ok(Self { endpoints, turn: 0, client: None })
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
pub(crate) struct Following<M> {
    stream: Streaming<M>,
    endpoint: Endpoint,
}

impl<M> Following<M> {
    /// The next one; `None` after the last.
    pub(crate) async fn next<T: TryFrom<M, Error = MessageError>>(&mut self) -> Result<Option<T>, Failure> {
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
    let fix = "is sextant-controller running there? Name another one with --controller";
    let channel = connected
        .map_err(|_| Miss::Unheard(format!("cannot connect within {CONNECT_TIMEOUT:?}; {fix}")))?
        .map_err(|error| Miss::Unheard(format!("cannot connect: {}; {fix}", root_cause(&error))))?;
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
            match miss(&Status::new(code, "why, and the fix")) {
                Miss::Refused(failure) => {
                    assert_eq!(failure.exit_code(), exit_code, "{code}");
                    assert_eq!(failure.to_string(), "why, and the fix");
                }
                other => panic!("{code}: {other:?}"),
            }
        }
        assert!(matches!(
            miss(&Status::unavailable("the store is full")),
            Miss::Unavailable(text) if text == "the store is full"
        ));
    }
}
