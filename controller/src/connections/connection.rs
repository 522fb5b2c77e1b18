//! An admitted connection, which ends when the book says so.

use std::{
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use futures::FutureExt;
use sextant_identity::{Peer, Subject};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
};
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::{Connections, Security, calls::Calls, transport::Transport};
use crate::audit::{Actor, RefusedCall};

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
    is_closed: bool,
    /// Who is at the other end was looked at.
    identified: bool,
    slot: Slot,
}

impl Connection {
    /// It is to be closed once `closed` is ready.
    pub(super) fn new(
        stream: TcpStream,
        security: &Security,
        calls: Arc<Calls>,
        closed: oneshot::Receiver<()>,
        slot: Slot,
    ) -> Self {
        let tcp = stream.connect_info();
        let transport = Transport::new(stream, security);
        let info = Info { tcp, calls, peer: transport.peer() };
        Self { transport, info, closed: Some(closed), is_closed: false, identified: false, slot }
    }

    /// An error once the connection is to be closed. Whatever its task waits for, this wakes it: while the handshake lasts, that is to
    /// write.
    fn poll_open(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let closed = self.closed.as_mut().is_some_and(|closed| closed.poll_unpin(context).is_ready());
        if closed {
            self.closed = None;
            self.is_closed = true;
        }
        if self.is_closed { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    /// The same result; if the certificate of the other end was not accepted, that is noted for the audit. The handshake is made by
    /// the first call, of whatever kind.
    fn noted<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result
            && let Some(why) = sextant_identity::refusal(error)
        {
            self.note_refused(why);
        }
        result
    }

    fn note_refused(&self, why: String) {
        let principal = "nobody".to_owned();
        let address = self.info.tcp.remote_addr();
        let by = address.map_or_else(|| principal.clone(), |it| format!("{principal} at {}", it.ip()));
        let call = "TLS handshake".to_owned();
        let call = RefusedCall { principal, node: None, by: Actor::new(&by), call, why };
        self.slot.connections.shared.refused_calls.note(call);
    }

    /// Whether the member at the other end, once it is known, may have one more connection. Controllers have no limit.
    fn is_within_limit(&mut self) -> bool {
        let holder = self.info.peer.as_ref().and_then(|peer| peer.holder().ok().flatten());
        let Some(holder) = holder.filter(|_| !self.identified) else { return true };
        self.identified = true;
        let (subject, connections) = (&holder.identity.subject, &self.slot.connections);
        let most = connections.shared.of_member;
        let within = matches!(subject, Subject::Controller(_))
            || connections.book().identify(self.slot.id, subject.to_string(), most);
        if !within {
            connections.shared.refused.fetch_add(1, Relaxed);
            tracing::debug!(member = %subject, most, "connection refused: its member has reached its limit");
        }
        within
    }
}

/// The connection of a call.
#[derive(Debug, Clone)]
pub struct Info {
    pub(super) tcp: TcpConnectInfo,
    pub(super) calls: Arc<Calls>,
    /// Who is at the other end; none over plain text.
    pub(super) peer: Option<Peer>,
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
        self.poll_open(context)?;
        let read = Pin::new(&mut self.transport).poll_read(context, buffer);
        ready!(self.noted(read))?;
        if !self.identified && !self.is_within_limit() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_open(context)?;
        let written = Pin::new(&mut self.transport).poll_write(context, octets);
        self.noted(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_open(context)?;
        let flushed = Pin::new(&mut self.transport).poll_flush(context);
        self.noted(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_open(context)?;
        let written = Pin::new(&mut self.transport).poll_write_vectored(context, octets);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }
}
