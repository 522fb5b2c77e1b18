//! The calls in progress on each connection: from the request to the end of the response.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;
use tonic::codegen::http::{Request, Response};
use tower::{Layer, Service};

use super::Info;

/// The calls of one connection.
#[derive(Debug)]
pub(super) struct Calls(Mutex<Count>);

#[derive(Debug)]
struct Count {
    open: usize,
    any: bool,
    /// When the last call ended, or the connection was opened.
    since: Instant,
}

/// The use of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Without any call so far.
    Never,
    /// No call is in progress.
    Idle,
    /// A call is in progress.
    Busy,
}

/// A call in progress, until it is dropped.
#[derive(Debug)]
pub(super) struct InProgress(Arc<Calls>);

impl Calls {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Count { open: 0, any: false, since: now }))
    }

    pub(super) fn begin(self: &Arc<Self>) -> InProgress {
        let mut count = self.count();
        (count.open, count.any) = (count.open + 1, true);
        InProgress(Arc::clone(self))
    }

    pub(super) fn now(&self) -> Use {
        match *self.count() {
            Count { open: 1.., .. } => Use::Busy,
            Count { any: true, .. } => Use::Idle,
            Count { .. } => Use::Never,
        }
    }

    /// Since when no call is in progress.
    pub(super) fn since(&self) -> Instant {
        self.count().since
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        let mut count = self.0.count();
        (count.open, count.since) = (count.open - 1, Instant::now());
    }
}

/// Counts the calls of each connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CountCalls;

/// A service with counted calls.
#[derive(Debug, Clone)]
pub(crate) struct Counted<S>(S);

impl<S> Layer<S> for CountCalls {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted(inner)
    }
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<Answer<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let info = request.extensions().get::<Info>().cloned();
        let call = info.as_ref().map(|info| info.calls.begin());
        // tonic reads the address of the peer from this extension.
        if let Some(info) = info {
            request.extensions_mut().insert(info.tcp);
            if let Some(peer) = info.peer {
                request.extensions_mut().insert(peer);
            }
        }
        let answer = self.0.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| Answer { body: Box::pin(body), call })) })
    }
}

/// The body of a response; the call ends with it.
#[derive(Debug)]
pub(crate) struct Answer<R> {
    body: Pin<Box<R>>,
    call: Option<InProgress>,
}

impl<R: Body> Body for Answer<R> {
    type Data = R::Data;
    type Error = R::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<R::Data>, R::Error>>> {
        let frame = ready!(self.body.as_mut().poll_frame(context));
        if frame.is_none() {
            self.call = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
