//! A netlink socket, in the network namespace of the thread that opens it.

use std::{future::poll_fn, io, os::fd::AsFd};

use netlink_sys::{AsyncSocket, Socket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};
use nix::sys::socket::{
    getsockopt, setsockopt,
    sockopt::{RcvBuf, RcvBufForce},
};
use socket2::{SockFilter, SockRef};

use super::options;

/// Size of the receive buffer, in bytes; the kernel doubles it for its bookkeeping.
pub const RECEIVE_BUFFER: usize = 4 << 20;
/// Larger than the kernel's datagrams: 32 KiB, unless a single message is longer.
const DATAGRAM: usize = 64 << 10;

/// A socket that is connected to the kernel.
pub struct KernelSocket {
    inner: TokioSocket,
    port: u32,
    room: usize,
}

impl KernelSocket {
    /// A socket of the routing family, in the multicast groups `groups` (RTNLGRP_*). Its receive buffer is `receive_buffer` bytes, or
    /// less if the process may not have more.
    pub fn open(groups: &[u32], receive_buffer: usize) -> io::Result<Self> {
        Self::open_of(NETLINK_ROUTE, groups, receive_buffer)
    }

    /// The same of another family, like NETLINK_NETFILTER. All have strict checking of dump requests and extended acknowledgements if
    /// the kernel has them.
    pub fn open_of(family: isize, groups: &[u32], receive_buffer: usize) -> io::Result<Self> {
        let mut inner = TokioSocket::new(family)?;
        let socket = inner.socket_mut();
        options::explain_errors(socket);
        options::filter_dumps(socket);
        set_receive_buffer(socket, receive_buffer)?;
        let port = socket.bind_auto()?.port_number();
        socket.connect(&SocketAddr::new(0, 0))?;
        for group in groups {
            socket.add_membership(*group)?;
        }
        let room = getsockopt(&socket.as_fd(), RcvBuf)?;
        Ok(Self { inner, port, room })
    }

    /// Its netlink port: the kernel's id of the sender.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// The size of the receive buffer, with the kernel's bookkeeping.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Sends messages as one datagram. The kernel has processed them when this returns.
    pub async fn send(&self, messages: &[u8]) -> io::Result<()> {
        let sent = poll_fn(|cx| self.inner.poll_send(cx, messages)).await?;
        if sent == messages.len() {
            Ok(())
        } else {
            Err(io::Error::other(format!("{sent} of {} bytes were sent", messages.len())))
        }
    }

    /// Receives one datagram into `buffer`, and replaces its content. Cancel safe.
    ///
    /// # Errors
    /// ENOBUFS if datagrams were lost; the others stay in the queue.
    pub async fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        prepare(buffer);
        poll_fn(|cx| self.inner.poll_recv(cx, buffer)).await?;
        whole(buffer)
    }

    /// Drops messages for which `filter`, a classic BPF program over the message with its header, returns 0.
    pub fn attach_filter(&self, filter: &[SockFilter]) -> io::Result<()> {
        SockRef::from(&self.inner.socket_ref().as_fd()).attach_filter(filter)
    }

    /// Discards datagrams that were received and not read.
    pub fn discard_received(&self) -> io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            prepare(&mut buffer);
            match self.inner.socket_ref().recv(&mut buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_overrun(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether the kernel dropped datagrams because the receive buffer was full.
pub fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::libc::ENOBUFS)
}

fn prepare(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.reserve(DATAGRAM);
}

/// A datagram that fills the buffer may be truncated.
fn whole(buffer: &[u8]) -> io::Result<()> {
    if buffer.len() < DATAGRAM {
        Ok(())
    } else {
        Err(io::Error::other(format!("a datagram is longer than {DATAGRAM} bytes")))
    }
}

fn set_receive_buffer(socket: &Socket, size: usize) -> io::Result<()> {
    // The first option needs CAP_NET_ADMIN in the initial user namespace; the second is limited by net.core.rmem_max.
    setsockopt(&socket.as_fd(), RcvBufForce, &size)
        .or_else(|_| setsockopt(&socket.as_fd(), RcvBuf, &size))?;
    Ok(())
}
