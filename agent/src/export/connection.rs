//! One connection to a neighbour: octets in, messages out.

use std::{io, net::Ipv6Addr, time::Duration};

use bytes::BytesMut;
use rustbgpd_wire::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    sockets,
    wire::reading::{self, Misread},
};

pub(super) struct Connection {
    stream: TcpStream,
    received: BytesMut,
    /// What prefixes are reached by through us, and the link-local address beside it, if any.
    own: Option<(Ipv6Addr, Option<Ipv6Addr>)>,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        let own = sockets::own_addresses(&stream).ok();
        Self { stream, received: BytesMut::new(), own }
    }

    /// The next whole message of what was read; `None` if it is not all there yet.
    pub(super) fn next_message(&mut self) -> Result<Option<Message>, Misread> {
        reading::next_message(&mut self.received)
    }

    /// Our addresses in it; `None` if it broke before they could be read.
    pub(super) fn own(&self) -> Option<(Ipv6Addr, Option<Ipv6Addr>)> {
        self.own
    }

    pub(super) async fn write(&mut self, octets: &[u8], patience: Duration) -> io::Result<()> {
        let written = tokio::time::timeout(patience, self.stream.write_all(octets)).await;
        written.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "it takes no more octets"))?
    }
}

/// How many octets came; 0 at the end. Where there is no connection, none ever comes. Cancel safe.
pub(super) async fn read(connection: &mut Option<Connection>) -> io::Result<usize> {
    match connection {
        Some(connection) => read_from(connection).await,
        None => std::future::pending().await,
    }
}

/// As [`read`], of one that is there. Cancel safe.
pub(super) async fn read_from(connection: &mut Connection) -> io::Result<usize> {
    connection.stream.read_buf(&mut connection.received).await
}
