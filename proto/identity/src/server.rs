//! The server's side: a connection whose handshake is made while it is read for the first time, so that a slow one delays nobody.

use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{Accept, TlsAcceptor, server::TlsStream};

use crate::{
    certificate::{CertificateError, Holder, chain_holder},
    live::Credentials,
};

/// Who is at the other end of a connection over TLS.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    shown: Arc<OnceLock<Shown>>,
}

#[derive(Debug)]
enum Shown {
    /// No certificate.
    Nothing,
    /// A certificate with this holder. It is read once: a connection has many calls.
    Certificate(Result<Arc<Holder>, CertificateError>),
    /// Plain text is taken beside TLS, and this is plain text.
    PlainText,
}

impl Peer {
    /// Who has shown this certificate with its intermediates, in DER; empty if it has shown none.
    pub fn who_has_shown(chain: Vec<Vec<u8>>) -> Self {
        Self { shown: Arc::new(Shown::of(&chain).into()) }
    }

    /// The connection is plain text after all.
    pub fn is_over_plain_text(&self) {
        let _once = self.shown.set(Shown::PlainText);
    }

    /// Whether the connection is plain text, which is taken beside TLS.
    pub fn is_plain(&self) -> bool {
        matches!(self.shown.get(), Some(Shown::PlainText))
    }

    /// The holder of the certificate that was shown; `None` if none was.
    ///
    /// # Errors
    /// If the certificate is of nobody.
    pub fn holder(&self) -> Result<Option<Arc<Holder>>, CertificateError> {
        match self.shown.get() {
            Some(Shown::Certificate(holder)) => holder.clone().map(Some),
            Some(Shown::Nothing | Shown::PlainText) | None => Ok(None),
        }
    }
}

impl Shown {
    /// By the certificate and its intermediates, in DER; empty if there is none.
    fn of(chain: &[impl AsRef<[u8]>]) -> Self {
        if chain.is_empty() { Self::Nothing } else { Self::Certificate(chain_holder(chain).map(Arc::new)) }
    }
}

/// A connection that is served over TLS.
#[derive(Debug)]
pub struct Served<C> {
    state: State<C>,
    peer: Peer,
}

impl<C> std::fmt::Debug for State<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Shaking(_) => "in handshake",
            Self::Open(_) => "open",
            Self::Failed => "failed",
        })
    }
}

enum State<C> {
    Shaking(Box<Accept<C>>),
    Open(Box<TlsStream<C>>),
    Failed,
}

/// Why a handshake was refused, if the other end's certificate was the reason.
pub fn refusal(error: &io::Error) -> Option<String> {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())?;
    let rustls::Error::InvalidCertificate(why) = inner else { return None };
    Some(format!("the certificate is not accepted: {why}"))
}

impl<C: AsyncRead + AsyncWrite + Unpin> Served<C> {
    /// Serves `connection` with the present credentials; `peer` gets the certificate of the other end.
    pub fn new(connection: C, credentials: &Credentials, peer: Peer) -> Self {
        let acceptor = TlsAcceptor::from(credentials.used().server);
        Self { state: State::Shaking(Box::new(acceptor.accept(connection))), peer }
    }

    /// Who is at the other end: known after the handshake.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The stream, once the handshake is done.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut TlsStream<C>>>> {
        if let State::Shaking(accept) = &mut self.state {
            match ready!(Pin::new(accept.as_mut()).poll(cx)) {
                Ok(stream) => {
                    let certificates = stream.get_ref().1.peer_certificates();
                    let _once = self.peer.shown.set(Shown::of(certificates.unwrap_or_default()));
                    self.state = State::Open(Box::new(stream));
                }
                Err(error) => {
                    tracing::debug!(%error, "TLS handshake failed");
                    self.state = State::Failed;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(match &mut self.state {
            State::Open(stream) => Ok(Pin::new(stream.as_mut())),
            _ => Err(io::ErrorKind::ConnectionAborted.into()),
        })
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncRead for Served<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_read(cx, buf)
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Served<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?.poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            State::Open(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            _ => Poll::Ready(Ok(())),
        }
    }
}
