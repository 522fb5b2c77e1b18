//! The edge to UDP (RFC 5881): one socket that hears all neighbours, and one to each of them that speaks.

use std::{
    io::{self, IoSliceMut},
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::AsRawFd,
};

use nix::{
    cmsg_space, libc,
    sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, setsockopt, sockopt},
};
use rand::Rng;
use socket2::{Domain, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use super::packet::LEN;

/// Where BFD's control packets go to (RFC 5881 §4).
pub(super) const PORT: u16 = 3784;
/// What a packet from the same link arrives with (RFC 5881 §5).
const MAX_HOPS: libc::c_int = 255;
/// Network control, as routing protocols have it.
const CLASS: libc::c_int = 0xc0;
/// How many source ports are tried.
const TRIES: usize = 16;
/// Room for a packet with authentication, which is then refused.
const ROOM: usize = 4 * LEN;

/// A datagram of the same link.
#[derive(Debug, Clone, Copy)]
pub(super) struct Datagram {
    pub(super) from: SocketAddrV6,
    octets: [u8; ROOM],
    len: usize,
}

impl Datagram {
    pub(super) fn octets(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

/// Hears all neighbours at `address`.
pub(super) fn listen(address: Ipv6Addr) -> io::Result<UdpSocket> {
    let socket = bind(SocketAddrV6::new(address, PORT, 0, 0))?;
    setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// The next datagram from the same link; those that came through a router are left out. Cancel safe.
pub(super) async fn hear(socket: &UdpSocket) -> io::Result<Datagram> {
    loop {
        let heard = socket.async_io(Interest::READABLE, || receive(socket)).await?;
        if let Some(datagram) = heard {
            return Ok(datagram);
        }
    }
}

fn receive(socket: &UdpSocket) -> io::Result<Option<Datagram>> {
    let mut octets = [0; ROOM];
    let mut space = cmsg_space!(libc::c_int);
    let mut parts = [IoSliceMut::new(&mut octets)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let near = message.cmsgs()?.any(|it| matches!(it, ControlMessageOwned::Ipv6HopLimit(MAX_HOPS)));
    let (from, len) = (message.address, message.bytes);
    let from = from.filter(|_| near).map(|it| SocketAddrV6::new(it.ip(), it.port(), 0, it.scope_id()));
    Ok(from.map(|from| Datagram { from, octets, len }))
}

/// Speaks to a neighbour, and never waits; from an address of ours if one is asked for.
pub(super) fn speak(neighbour: SocketAddrV6, source: Option<Ipv6Addr>) -> io::Result<std::net::UdpSocket> {
    let source = source.unwrap_or(Ipv6Addr::UNSPECIFIED);
    let scope = if source.is_unicast_link_local() { neighbour.scope_id() } else { 0 };
    let socket = bound(SocketAddrV6::new(source, 0, 0, scope))?;
    setsockopt(&socket, sockopt::Ipv6Ttl, &MAX_HOPS)?;
    setsockopt(&socket, sockopt::Ipv6TClass, &CLASS)?;
    socket.set_nonblocking(true)?;
    socket.connect(SocketAddrV6::new(*neighbour.ip(), PORT, 0, neighbour.scope_id()))?;
    Ok(socket)
}

/// On a port that the RFC allows, which no other session has.
fn bound(at: SocketAddrV6) -> io::Result<std::net::UdpSocket> {
    let mut refused = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..TRIES {
        let port = rand::rng().random_range(49152..=65535);
        match bind(SocketAddrV6::new(*at.ip(), port, 0, at.scope_id())) {
            Ok(socket) => return Ok(socket),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// For IPv6 only: a daemon for IPv4 may have the port.
fn bind(address: SocketAddrV6) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
    socket.set_only_v6(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
