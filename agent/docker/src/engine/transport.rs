//! Requests over the engine's socket, each over a connection of its own, of whose answer only so much is read: an engine, or what is in
//! its place, that answers without end costs the agent no more memory than that.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bollard::{BollardRequest, errors::Error};
use hyper::{
    Response, Uri,
    body::Incoming,
    client::conn::http1,
    header::{HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};

const MIB: u64 = 1 << 20;
/// Octets of one answer. That of 5,000 containers has about 20 MiB.
pub const ANSWER: u64 = 32 * MIB;
/// Octets of the stream of events, from one event to the next. An event has some hundred.
pub const EVENT: u64 = MIB;

/// What may still be read of an answer.
#[derive(Debug, Clone)]
pub struct Allowance {
    most: u64,
    left: Arc<AtomicU64>,
    exceeded: Arc<AtomicBool>,
}

impl Allowance {
    pub fn new(most: u64) -> Self {
        Self { most, left: Arc::new(AtomicU64::new(most)), exceeded: Arc::default() }
    }

    /// Gives all of it again.
    pub fn renew(&self) {
        self.left.store(self.most, Relaxed);
        self.exceeded.store(false, Relaxed);
    }

    /// What is wrong, if more than that was to be read.
    pub fn exceeded(&self) -> Option<String> {
        self.exceeded.load(Relaxed).then(|| format!("it answers with more than {} MiB", self.most / MIB))
    }

    /// Takes these octets of it.
    fn take(&self, octets: usize) -> io::Result<()> {
        let taken = self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(octets as u64));
        taken.map(drop).map_err(|_| {
            self.exceeded.store(true, Relaxed);
            io::Error::other(self.exceeded().unwrap_or_default())
        })
    }
}

/// A socket of which no more than the allowance is read.
struct Bounded {
    stream: UnixStream,
    allowance: Allowance,
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        Poll::Ready(self.allowance.take(buf.filled().len() - before))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Sends a request; its answer's body is read later.
pub async fn send(
    socket: PathBuf,
    allowance: Allowance,
    mut request: BollardRequest,
) -> Result<Response<Incoming>, Error> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(Bounded { stream, allowance })).await?;
    // The path alone, and the header that HTTP/1.1 demands (RFC 9112, 3.2).
    let path = request.uri().path_and_query().map_or_else(Uri::default, |path| Uri::from(path.clone()));
    *request.uri_mut() = path;
    request.headers_mut().insert(HOST, HeaderValue::from_static("docker"));
    // It ends with the answer, or when that is dropped.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}
