//! What an admitted connection is made over.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use sextant_identity::{Credentials, Peer, Served};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Plain text, or TLS.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Served<TcpStream>),
}

impl Transport {
    /// Over TLS if there are credentials.
    pub(super) fn new(stream: TcpStream, credentials: Option<&Credentials>) -> Self {
        match credentials {
            Some(credentials) => Self::Tls(Served::new(stream, credentials)),
            None => Self::Plain(stream),
        }
    }

    /// Who is at the other end; none over plain text.
    pub(super) fn peer(&self) -> Option<Peer> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(served) => Some(served.peer().clone()),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(served) => Pin::new(served).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, octets),
            Self::Tls(served) => Pin::new(served).poll_write(context, octets),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(served) => Pin::new(served).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(served) => Pin::new(served).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, octets),
            Self::Tls(served) => Pin::new(served).poll_write_vectored(context, octets),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(served) => served.is_write_vectored(),
        }
    }
}
