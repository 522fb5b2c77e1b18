//! A call in progress is counted until its answer ends, and ends when its caller is revoked.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body, codegen::http::HeaderMap};

use crate::limits::Admitted;

/// Ends with the reason when a call must not go on.
pub(super) type Ending = Pin<Box<dyn Future<Output = Status> + Send>>;

/// The body of a response: the call is counted until it ends.
pub(super) struct Counted {
    body: Body,
    _admitted: Option<Admitted>,
    ending: Option<Ending>,
    is_cut: bool,
}

impl Counted {
    /// The call of this response was admitted; `None`: it is not counted.
    pub(super) fn new(body: Body, admitted: Option<Admitted>, ending: Option<Ending>) -> Self {
        Self { body, _admitted: admitted, ending, is_cut: false }
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.is_cut {
            return Poll::Ready(None);
        }
        if let Some(Poll::Ready(status)) = self.ending.as_mut().map(|ending| ending.as_mut().poll(context)) {
            self.is_cut = true;
            return Poll::Ready(Some(trailers(&status).map(Frame::trailers)));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.is_cut || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn trailers(status: &Status) -> Result<HeaderMap, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(trailers)
}
