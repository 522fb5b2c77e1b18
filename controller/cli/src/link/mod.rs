//! The gRPC edge, with the [`calls`]: the only module of the command line that knows `tonic`.
//!
//! Controllers are tried in turn. A call that only reads goes to the next controller whenever one does not answer; a call that
//! changes something only if the controller certainly did not receive it.

mod calls;

use std::{error::Error, sync::Arc, time::Duration};

use sextant_identity::{ControllerUrl, Credentials, Dial, SharedDial, Tcp, TlsDial};
use sextant_proto::{convert::MessageError, v1::admin_service_client::AdminServiceClient};
use tonic::{Code, Response, Status, Streaming, transport::Channel};

use crate::failure::Failure;

pub(crate) use calls::{EventFilter, Waiting};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an ordinary call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval of HTTP/2 keepalive pings, and the time-out of their answer.
const KEEPALIVE: Duration = Duration::from_secs(5);

type Client = AdminServiceClient<Channel>;

/// The failure of a call to one controller.
#[derive(Debug)]
enum CallError {
    /// The controller did not receive the call: any call may go to another controller.
    NotReceived(String),
    /// The controller or its store is unavailable; it may have executed the call.
    Unavailable(String),
    /// The connection broke during the call.
    Lost(String),
    /// The controller refused the call.
    Refused(Failure),
}

/// Whether a call may be executed more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    Permitted,
    Forbidden,
}

/// The controllers.
pub(crate) struct Link {
    endpoints: Vec<ControllerUrl>,
    dial: SharedDial,
    /// The index of the present endpoint.
    current: usize,
    client: Option<Client>,
}

impl Link {
    /// Without a connection yet; over TLS if there are credentials.
    ///
    /// # Errors
    /// If a URL does not fit them, or would carry plain text past this host without `insecure`.
    pub(crate) fn new(
        endpoints: Vec<ControllerUrl>,
        credentials: Option<Credentials>,
        insecure: bool,
    ) -> Result<Self, Failure> {
        for endpoint in &endpoints {
            endpoint
                .check(credentials.is_some(), insecure)
                .map_err(|error| Failure::Usage(error.to_string()))?;
        }
        let dial: SharedDial = match credentials {
            Some(credentials) => Arc::new(TlsDial::new(Arc::new(credentials))),
            None => Arc::new(Tcp),
        };
        Ok(Self { endpoints, dial, current: 0, client: None })
    }

    /// A call that may be repeated.
    async fn ask<R>(
        &mut self,
        call: impl AsyncFn(Client) -> Result<Response<R>, Status>,
    ) -> Result<R, Failure> {
        self.ask_within(CALL_TIMEOUT, call).await
    }

    async fn ask_within<R>(
        &mut self,
        timeout: Duration,
        call: impl AsyncFn(Client) -> Result<Response<R>, Status>,
    ) -> Result<R, Failure> {
        self.try_each(timeout, Repeat::Permitted, call).await
    }

    /// A call that must be executed at most once.
    async fn change<R>(
        &mut self,
        call: impl AsyncFn(Client) -> Result<Response<R>, Status>,
    ) -> Result<R, Failure> {
        self.change_within(CALL_TIMEOUT, call).await
    }

    async fn change_within<R>(
        &mut self,
        timeout: Duration,
        call: impl AsyncFn(Client) -> Result<Response<R>, Status>,
    ) -> Result<R, Failure> {
        self.try_each(timeout, Repeat::Forbidden, call).await
    }

    /// Tries one controller after the other, until one answers or a repetition is forbidden.
    async fn try_each<R>(
        &mut self,
        timeout: Duration,
        repeat: Repeat,
        call: impl AsyncFn(Client) -> Result<Response<R>, Status>,
    ) -> Result<R, Failure> {
        let mut reasons = Vec::new();
        for _ in 0..self.endpoints.len() {
            let (why, executed_perhaps) = match self.attempt(timeout, &call).await {
                Ok(answer) => return Ok(answer),
                Err(CallError::Refused(failure)) => return Err(failure),
                Err(CallError::NotReceived(why)) => (why, false),
                Err(CallError::Unavailable(why)) => (why, true),
                Err(CallError::Lost(why)) if repeat == Repeat::Forbidden => {
                    (format!("{why}; the change may have been made: check with `sextant status`"), true)
                }
                Err(CallError::Lost(why)) => (why, true),
            };
            self.use_next(&mut reasons, &why);
            if executed_perhaps && repeat == Repeat::Forbidden {
                break;
            }
        }
        Err(Failure::Unavailable(reasons.join("; ")))
    }

    fn endpoint(&self) -> &ControllerUrl {
        &self.endpoints[self.current]
    }

    fn use_next(&mut self, reasons: &mut Vec<String>, why: &str) {
        reasons.push(format!("controller {}: {why}", self.endpoint()));
        self.client = None;
        self.current = (self.current + 1) % self.endpoints.len();
    }

    async fn attempt<R>(
        &mut self,
        timeout: Duration,
        call: &impl AsyncFn(Client) -> Result<Response<R>, Status>,
    ) -> Result<R, CallError> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => connect(self.dial.as_ref(), self.endpoint()).await?,
        };
        self.client = Some(client.clone());
        let answer = tokio::time::timeout(timeout, call(client)).await;
        let answer = answer.map_err(|_| {
            CallError::Lost(format!("accepts connections, but did not answer within {timeout:?}"))
        })?;
        Ok(answer.map_err(|status| call_error(&status))?.into_inner())
    }
}

/// A stream of messages from a controller.
pub(crate) struct Following<M> {
    stream: Streaming<M>,
    endpoint: ControllerUrl,
}

impl<M> Following<M> {
    /// The next one; `None` after the last.
    pub(crate) async fn next<T: TryFrom<M, Error = MessageError>>(&mut self) -> Result<Option<T>, Failure> {
        let endpoint = &self.endpoint;
        let message = self.stream.message().await.map_err(|status| match call_error(&status) {
            CallError::Refused(failure) => failure,
            CallError::NotReceived(why) | CallError::Unavailable(why) | CallError::Lost(why) => {
                Failure::Unavailable(format!("controller {endpoint}: {why}"))
            }
        })?;
        Ok(message.map(T::try_from).transpose()?)
    }
}

async fn connect(dial: &dyn Dial, endpoint: &ControllerUrl) -> Result<Client, CallError> {
    let channel = Channel::builder(endpoint.uri().clone())
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .tcp_nodelay(true);
    // The connector's time-out does not cover name resolution.
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, dial.dial(channel)).await;
    let fix = "is sextant-controller running there? Set another one with --controller";
    let channel = connected
        .map_err(|_| CallError::NotReceived(format!("cannot connect within {CONNECT_TIMEOUT:?}; {fix}")))?
        .map_err(|error| CallError::NotReceived(format!("cannot connect: {}; {fix}", root_cause(&error))))?;
    // The routes of a large cluster exceed the default of 4 MiB.
    Ok(Client::new(channel).max_decoding_message_size(usize::MAX))
}

/// The meaning of a status for the caller. The codes also reveal a peer that is not a sextant-controller.
fn call_error(status: &Status) -> CallError {
    let (text, broken) = (status.message().to_owned(), status.source().is_some());
    let other_server = || {
        let cause = if broken { root_cause(status) } else { text.clone() };
        CallError::NotReceived(format!(
            "answers, but not as a sextant-controller ({cause}); check the address and port against its --listen"
        ))
    };
    match status.code() {
        Code::Unimplemented => other_server(),
        // A violation of HTTP/2. An error of the connection itself, which has no code of HTTP/2, is Unknown.
        Code::Internal if broken => other_server(),
        Code::Internal | Code::Unknown if text.contains("protocol error") => other_server(),
        Code::Unavailable | Code::Cancelled | Code::Unknown if broken => {
            CallError::Lost(format!("connection lost: {}", root_cause(status)))
        }
        Code::Unavailable | Code::Cancelled => CallError::Unavailable(text),
        Code::InvalidArgument | Code::OutOfRange => CallError::Refused(Failure::Usage(text)),
        Code::NotFound => CallError::Refused(Failure::NotFound(text)),
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => {
            CallError::Refused(Failure::Conflict(text))
        }
        Code::DeadlineExceeded => CallError::Refused(Failure::TimedOut(text)),
        code if text.is_empty() => CallError::Refused(Failure::Failed(code.description().to_owned())),
        _ => CallError::Refused(Failure::Failed(text)),
    }
}

/// The innermost cause of an error; the outer texts are only "transport error".
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
    fn plain_text_beyond_loopback_is_refused() {
        let endpoints: Vec<ControllerUrl> = vec!["http://[2001:db8::c]:7300".parse().unwrap()];
        let failure = Link::new(endpoints.clone(), None, false).err().unwrap();
        assert_eq!(failure.exit_code(), 2);
        assert!(failure.to_string().contains("--insecure"), "{failure}");
        assert!(Link::new(endpoints, None, true).is_ok());
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
            match call_error(&Status::new(code, "reason, and the fix")) {
                CallError::Refused(failure) => {
                    assert_eq!(failure.exit_code(), exit_code, "{code}");
                    assert_eq!(failure.to_string(), "reason, and the fix");
                }
                other => panic!("{code}: {other:?}"),
            }
        }
        assert!(matches!(
            call_error(&Status::unavailable("the store is full")),
            CallError::Unavailable(text) if text == "the store is full"
        ));
    }
}
