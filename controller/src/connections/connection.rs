//! An admitted connection, which ends when the book says so.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::FutureExt;
use sextant_identity::{Credentials, Peer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::{Connections, calls::Calls, transport::Transport};

/// A place below the limit; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: u64,
    pub(super) connections: Connections,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connections.book().open.remove(&self.id);
    }
}

/// An admitted connection.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    info: Info,
    closed: Option<oneshot::Receiver<()>>,
    _slot: Slot,
}

/// The connection of a call.
#[derive(Debug, Clone)]
pub struct Info {
    pub(super) tcp: TcpConnectInfo,
    pub(super) calls: Arc<Calls>,
    /// Who is at the other end; none over plain text.
    pub(super) peer: Option<Peer>,
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        credentials: Option<&Credentials>,
        calls: Arc<Calls>,
        closed: oneshot::Receiver<()>,
        slot: Slot,
    ) -> Self {
        let tcp = stream.connect_info();
        let transport = Transport::new(stream, credentials);
        let info = Info { tcp, calls, peer: transport.peer() };
        Self { transport, info, closed: Some(closed), _slot: slot }
    }
}

impl Connected for Connection {
    type ConnectInfo = Info;

    fn connect_info(&self) -> Info {
        self.info.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(closed) = &mut self.closed
            && closed.poll_unpin(context).is_ready()
        {
            self.closed = None;
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.transport).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write_vectored(context, octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }
}
