//! One connection to a neighbour: octets in, messages out.

use std::{io, net::Ipv6Addr, time::Duration};

use bytes::BytesMut;
use rustbgpd_wire::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::bgp::{
    sockets,
    wire::decode::{self, Misread},
};

pub(in crate::bgp) struct Connection {
    stream: TcpStream,
    received: BytesMut,
    /// What prefixes are reached by through us, and the link-local address beside it, if any.
    own: Option<(Ipv6Addr, Option<Ipv6Addr>)>,
}

impl Connection {
    pub(in crate::bgp) fn new(stream: TcpStream) -> Self {
        let own = sockets::own_addresses(&stream).ok();
        Self { stream, received: BytesMut::new(), own }
    }

    /// The next whole message of what was read; `None` if it is not all there yet.
    pub(in crate::bgp) fn next_message(&mut self) -> Result<Option<Message>, Misread> {
        decode::next_message(&mut self.received)
    }

    /// Our addresses in it; `None` if it broke before they could be read.
    pub(in crate::bgp) fn own(&self) -> Option<(Ipv6Addr, Option<Ipv6Addr>)> {
        self.own
    }

    /// Makes it end without a trace if nothing that we said has arrived: an OPEN that arrives long after we gave it up, with
    /// the reason for that, would only end the session that there is by then.
    pub(in crate::bgp) fn take_back(&self) {
        if sockets::is_unheard(&self.stream)
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::debug!(%error, "a BGP connection that was not heard will linger");
        }
    }

    pub(in crate::bgp) async fn write(&mut self, octets: &[u8], patience: Duration) -> io::Result<()> {
        let written = tokio::time::timeout(patience, self.stream.write_all(octets)).await;
        written.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it takes no more octets"))?
    }
}

/// How many octets came; 0 at the end. Where there is no connection, none ever comes. Cancel safe.
pub(in crate::bgp) async fn read(connection: &mut Option<Connection>) -> io::Result<usize> {
    match connection {
        Some(connection) => read_from(connection).await,
        None => std::future::pending().await,
    }
}

/// As [`read`], of one that is there. Cancel safe.
pub(in crate::bgp) async fn read_from(connection: &mut Connection) -> io::Result<usize> {
    connection.stream.read_buf(&mut connection.received).await
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
        let mut connection = Connection::new(ours);
        let written = connection.write(octets, Duration::from_millis(200)).await;
        assert_eq!(written.is_ok(), octets.is_empty(), "so much is not taken by anybody");
        connection.take_back();
        drop(connection);
        theirs.read_to_end(&mut Vec::new()).await.map_err(|error| error.kind())
    }

    #[tokio::test]
    async fn what_did_not_arrive_is_taken_back_and_what_did_ends_in_peace() {
        assert_eq!(end_after(&[]).await, Ok(0));
        assert_eq!(end_after(&vec![7; 64 << 20]).await, Err(io::ErrorKind::ConnectionReset));
    }
}
