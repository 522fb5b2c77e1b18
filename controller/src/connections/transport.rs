//! What an admitted connection is made over.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use sextant_identity::{Credentials, Peer, Served};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::Security;

/// The first octet of a TLS connection: a record with a handshake message (RFC 8446 §5.1). An HTTP/2 client begins with `PRI`.
const HANDSHAKE: u8 = 22;

/// Plain text, or TLS.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Served<TcpStream>),
    /// Its first octet has not arrived.
    Undecided(Option<Undecided>),
}

#[derive(Debug)]
pub(super) struct Undecided {
    stream: TcpStream,
    credentials: Arc<Credentials>,
    peer: Peer,
}

impl Transport {
    pub(super) fn new(stream: TcpStream, security: &Security) -> Self {
        let peer = Peer::default();
        match security {
            Security::PlainText => Self::Plain(stream),
            Security::Tls(credentials) => Self::Tls(Served::new(stream, credentials, peer)),
            Security::Either(credentials) => {
                Self::Undecided(Some(Undecided { stream, credentials: credentials.clone(), peer }))
            }
        }
    }

    /// The other end; none if all connections are plain text.
    pub(super) fn peer(&self) -> Option<Peer> {
        match self {
            Self::Plain(_) | Self::Undecided(None) => None,
            Self::Tls(served) => Some(served.peer().clone()),
            Self::Undecided(Some(undecided)) => Some(undecided.peer.clone()),
        }
    }

    /// Waits for the first octet, which distinguishes the two.
    fn poll_decided(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self::Undecided(undecided) = self else { return Poll::Ready(Ok(())) };
        let Some(it) = undecided else { return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())) };
        let mut first = [0];
        let mut buffer = ReadBuf::new(&mut first);
        ready!(it.stream.poll_peek(context, &mut buffer))?;
        let is_handshake = buffer.filled().first() == Some(&HANDSHAKE);
        if let Some(Undecided { stream, credentials, peer }) = undecided.take() {
            *self = if is_handshake {
                Self::Tls(Served::new(stream, &credentials, peer))
            } else {
                peer.is_over_plain_text();
                Self::Plain(stream)
            };
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let it = self.get_mut();
        ready!(it.poll_decided(context))?;
        match it {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(served) => Pin::new(served).poll_read(context, buffer),
            Self::Undecided(_) => Poll::Pending,
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let it = self.get_mut();
        ready!(it.poll_decided(context))?;
        match it {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, octets),
            Self::Tls(served) => Pin::new(served).poll_write(context, octets),
            Self::Undecided(_) => Poll::Pending,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let it = self.get_mut();
        ready!(it.poll_decided(context))?;
        match it {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(served) => Pin::new(served).poll_flush(context),
            Self::Undecided(_) => Poll::Pending,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let it = self.get_mut();
        ready!(it.poll_decided(context))?;
        match it {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(served) => Pin::new(served).poll_shutdown(context),
            Self::Undecided(_) => Poll::Pending,
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let it = self.get_mut();
        ready!(it.poll_decided(context))?;
        match it {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, octets),
            Self::Tls(served) => Pin::new(served).poll_write_vectored(context, octets),
            Self::Undecided(_) => Poll::Pending,
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(served) => served.is_write_vectored(),
            Self::Undecided(_) => false,
        }
    }
}
