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
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, received: BytesMut::new() }
    }

    /// The next whole message of what was read; `None` if it is not all there yet.
    pub(super) fn next_message(&mut self) -> Result<Option<Message>, Misread> {
        reading::next_message(&mut self.received)
    }

    /// Our address in it.
    pub(super) fn own_address(&self) -> io::Result<Ipv6Addr> {
        sockets::own_address(&self.stream)
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
