//! The rest of a refused request. It is read before the answer: an answer that ends a stream earlier resets it (RFC 9113 §8.1), and what
//! is still on its way then counts as an error of the client, until the connection with all its other calls is closed.

use std::{error::Error, time::Duration};

use http_body::Body;
use http_body_util::{BodyExt, Limited};

/// So many octets are read, and then no more.
const MOST: usize = 64 << 10;
/// A request that goes on for longer, as that of a stream, is reset.
const WITHIN: Duration = Duration::from_millis(100);

/// Reads what is left of a request, within limits.
pub(super) async fn read<B: Body<Error: Into<Box<dyn Error + Send + Sync>>>>(body: B) {
    // A client that goes on, or sends more, is not waited for.
    let _more = tokio::time::timeout(WITHIN, Limited::new(body, MOST).collect()).await;
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use bytes::Bytes;
    use http_body::Frame;
    use tokio::time::Instant;

    use super::*;

    /// Frames of a KiB; `None`: the sender goes on later.
    struct Frames(Vec<Option<()>>, usize);

    impl Body for &mut Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let frames = self.get_mut();
            match frames.0.get(frames.1) {
                None => Poll::Ready(None),
                Some(None) => Poll::Pending,
                Some(Some(())) => {
                    frames.1 += 1;
                    Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 1024])))))
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_read_to_its_end_within_limits() {
        let mut whole = Frames(vec![Some(()); 3], 0);
        let began = Instant::now();
        read(&mut whole).await;
        assert_eq!((whole.1, began.elapsed()), (3, Duration::ZERO));

        let mut large = Frames(vec![Some(()); 1000], 0);
        read(&mut large).await;
        assert_eq!(large.1, 65, "one more than the limit");

        let mut stream = Frames(vec![Some(()), None], 0);
        read(&mut stream).await;
        assert_eq!((stream.1, began.elapsed()), (1, WITHIN));
    }
}
