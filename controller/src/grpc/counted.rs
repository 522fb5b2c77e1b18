//! A call in progress is counted until its answer ends.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};

use crate::limits::Admitted;

/// The body of a response: the call is counted until it ends.
pub(super) struct Counted {
    body: Body,
    _admitted: Option<Admitted>,
}

impl Counted {
    /// The call of this response was admitted; `None`: it is not counted.
    pub(super) fn new(body: Body, admitted: Option<Admitted>) -> Self {
        Self { body, _admitted: admitted }
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
