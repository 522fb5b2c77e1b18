//! One connection to a neighbour: octets in, messages out.

use std::{
    future::{Future, poll_fn},
    io,
    net::Ipv6Addr,
    os::fd::AsRawFd,
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use sextant_proto::Uplink;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    bgp::{
        peer::ConnectionId,
        sockets,
        wire::{
            Message,
            decode::{self, Misread},
        },
    },
    settings::NeighbourSettings,
};

pub(in crate::bgp) struct Connection {
    id: ConnectionId,
    stream: TcpStream,
    received: BytesMut,
    /// The next hop of prefixes that are reached through this host, and the link-local address beside it, if any.
    own: Option<(Ipv6Addr, Option<Ipv6Addr>)>,
}

impl Connection {
    /// `announced`: what peers have of this host.
    pub(in crate::bgp) fn new(id: ConnectionId, stream: TcpStream, announced: &[Uplink]) -> Self {
        let own = sockets::own_addresses(&stream, announced).ok();
        Self { id, stream, received: BytesMut::new(), own }
    }

    /// Signs with the neighbour's present password from now on.
    pub(in crate::bgp) fn sign(&self, neighbour: &NeighbourSettings) -> io::Result<()> {
        sockets::sign(self.stream.as_raw_fd(), neighbour)
    }

    pub(in crate::bgp) fn id(&self) -> ConnectionId {
        self.id
    }

    /// The next whole message of what was read; `None` if it is not all there yet.
    pub(in crate::bgp) fn next_message(&mut self) -> Result<Option<Message>, Misread> {
        decode::next_message(&mut self.received)
    }

    /// Our addresses in it; `None` if it broke before they could be read.
    pub(in crate::bgp) fn own(&self) -> Option<(Ipv6Addr, Option<Ipv6Addr>)> {
        self.own
    }

    /// Has it end with a reset if something that was sent is not acknowledged: the neighbour is not to read it later.
    pub(in crate::bgp) fn reset_unless_acknowledged(&self) {
        if sockets::is_unacknowledged(&self.stream)
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::debug!(%error, "a BGP connection cannot be reset");
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        pin!(self.stream.read_buf(&mut self.received)).poll(context)
    }

    pub(in crate::bgp) async fn write(&mut self, octets: &[u8], patience: Duration) -> io::Result<()> {
        let written = tokio::time::timeout(patience, self.stream.write_all(octets)).await;
        written.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it takes no more octets"))?
    }
}

/// The next connection on which octets came, and how many; 0 at its end. Only those that `listens` says. Cancel safe.
pub(in crate::bgp) async fn read_any(
    connections: &mut [Connection],
    listens: impl Fn(ConnectionId) -> bool,
) -> (ConnectionId, io::Result<usize>) {
    poll_fn(|context| {
        for connection in connections.iter_mut().filter(|it| listens(it.id)) {
            if let Poll::Ready(read) = connection.poll_read(context) {
                return Poll::Ready((connection.id, read));
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// How the other end, which takes nothing before it is over, sees the end of a connection on which `octets` were said.
    async fn end_after(octets: &[u8]) -> Result<usize, io::ErrorKind> {
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut theirs, _) = listener.accept().await.unwrap();
        let mut connection = Connection::new(ConnectionId(1), ours, &[]);
        let written = connection.write(octets, Duration::from_millis(200)).await;
        assert_eq!(written.is_ok(), octets.is_empty(), "so much is not taken by anybody");
        connection.reset_unless_acknowledged();
        drop(connection);
        theirs.read_to_end(&mut Vec::new()).await.map_err(|error| error.kind())
    }

    #[tokio::test]
    async fn an_unacknowledged_connection_is_reset_and_an_acknowledged_one_is_closed() {
        assert_eq!(end_after(&[]).await, Ok(0));
        assert_eq!(end_after(&vec![7; 64 << 20]).await, Err(io::ErrorKind::ConnectionReset));
    }
}
