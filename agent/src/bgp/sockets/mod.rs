//! The edge to TCP: connections to and from neighbours, with MD5 signatures (RFC 2385) and TTL security (RFC 5082).
//!
//! The one file of the agent with `unsafe`: neither option has a safe wrapper, and MD5 has no place but `setsockopt(2)`.
#![expect(
    unsafe_code,
    reason = "TCP_MD5SIG, IPV6_MINHOPCOUNT, TCP_SAVED_SYN and SIOCOUTQ, which nobody wraps"
)]

pub(super) mod connection;
pub(super) mod discovery;
mod icmp;

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
    time::Duration,
};

use nix::{
    ifaddrs::getifaddrs,
    libc,
    net::if_::{if_indextoname, if_nametoindex},
    sys::socket::{setsockopt, sockopt},
};
use sextant_proto::{Uplink, link_name_octets, link_name_text};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::peer::CONNECT_TIME;
use crate::settings::{BgpSettings, NeighbourSettings, listening_address};

/// Where BGP speakers listen.
pub(super) const BGP_PORT: u16 = 179;
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = CONNECT_TIME;
/// How many connections may wait to be taken.
const BACKLOG: u32 = 128;
/// What a packet from the same link arrives with.
const MAX_HOPS: libc::c_int = 255;
/// `linux/in6.h`.
const IPV6_MINHOPCOUNT: libc::c_int = 73;
/// `linux/tcp.h`.
const TCP_MD5SIG: libc::c_int = 14;
const TCP_SAVE_SYN: libc::c_int = 27;
const TCP_SAVED_SYN: libc::c_int = 28;
/// Where in an IPv6 header the hop limit stands.
const HOP_LIMIT: usize = 7;
const MD5_KEY_LEN: usize = 80;

/// `struct tcp_md5sig` of `linux/tcp.h`.
#[repr(C)]
struct TcpMd5Sig {
    addr: libc::sockaddr_storage,
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    interface: libc::c_int,
    key: [u8; MD5_KEY_LEN],
}

/// Where a neighbour is, by now.
pub(super) fn place(neighbour: &NeighbourSettings) -> io::Result<SocketAddrV6> {
    let scope = match neighbour.interface.as_deref() {
        Some(name) if neighbour.address.is_unspecified() => {
            let words =
                format!("no router has been heard on {name} yet; does it send router advertisements?");
            return Err(io::Error::new(io::ErrorKind::NotFound, words));
        }
        Some(name) => if_nametoindex(link_name_octets(name).as_slice()).map_err(|errno| {
            io::Error::new(io::ErrorKind::NotFound, format!("interface {name}: {}", errno.desc()))
        })?,
        None => 0,
    };
    Ok(SocketAddrV6::new(neighbour.address, BGP_PORT, 0, scope))
}

/// Who has opened a connection: its address, and of a link-local one the interface.
pub(super) fn opener(from: SocketAddr) -> Option<(Ipv6Addr, Option<Arc<str>>)> {
    let SocketAddr::V6(from) = from else { return None };
    let name = || if_indextoname(from.scope_id()).ok().map(|name| link_name_text(name.as_bytes()));
    let interface = from.ip().is_unicast_link_local().then(name).flatten();
    Some((*from.ip(), interface.map(Into::into)))
}

/// Connects to a neighbour, from `source` if there is one.
pub(super) async fn connect(
    neighbour: &NeighbourSettings,
    source: Option<Ipv6Addr>,
) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v6()?;
    sign(socket.as_raw_fd(), neighbour)?;
    secure_hops(socket.as_raw_fd(), neighbour)?;
    let target = place(neighbour)?;
    if let Some(source) = source {
        let scope = if source.is_unicast_link_local() { target.scope_id() } else { 0 };
        socket.bind(SocketAddrV6::new(source, 0, 0, scope).into())?;
    }
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, socket.connect(target.into())).await;
    let stream = connected.map_err(|_| no_answer(neighbour))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn no_answer(neighbour: &NeighbourSettings) -> io::Error {
    let password = match neighbour.password {
        Some(_) => "has it the same password as password-file",
        None => "does it want a password (password-file)",
    };
    let hops = if neighbour.ttl_security {
        "and is it on the same link, and sends with a hop limit of 255 (ttl-security)"
    } else {
        "or ttl-security"
    };
    let words = format!("no answer within {CONNECT_TIMEOUT:?}; is it up, {password}, {hops}?");
    io::Error::new(io::ErrorKind::TimedOut, words)
}

/// A connection stands, and no session comes of it.
pub(super) fn no_session(neighbour: &NeighbourSettings) -> String {
    let hops = if neighbour.ttl_security {
        "does it send with a hop limit of 255 (ttl-security)?"
    } else {
        "does it want ttl-security?"
    };
    format!("it is connected, and after {CONNECT_TIMEOUT:?} there is no session; {hops}")
}

/// Listens for all neighbours: for IPv6 only, and only at the `source` that they have in common.
pub(super) fn listen(settings: &BgpSettings) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    // A daemon for IPv4 may have the port.
    setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    socket.set_reuseaddr(true)?;
    sign_all(&socket, &settings.neighbours)?;
    if settings.neighbours.iter().any(|neighbour| neighbour.ttl_security) {
        set(socket.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, &MAX_HOPS)?;
        // The hop limit of the first segment is to be known: all later ones are dropped in silence.
        let save: libc::c_int = 1;
        set(socket.as_raw_fd(), libc::IPPROTO_TCP, TCP_SAVE_SYN, &save)?;
    }
    let address = listening_address(settings.neighbours.iter().map(|neighbour| neighbour.source));
    socket.bind(SocketAddr::new(address.into(), settings.listen_port))?;
    socket.listen(BACKLOG)
}

/// Makes a connection that a neighbour has opened like one that was opened to it.
pub(super) fn accept(stream: &TcpStream, neighbour: &NeighbourSettings) -> io::Result<()> {
    stream.set_nodelay(true)?;
    match first_hop_limit(stream.as_raw_fd())? {
        Some(hops) if neighbour.ttl_security && libc::c_int::from(hops) < MAX_HOPS => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "it connected with a hop limit of {hops}; with ttl-security it must be on the same link, and send with 255"
            ),
        )),
        _ => secure_hops(stream.as_raw_fd(), neighbour),
    }
}

/// With what the first segment of a connection that was opened to us arrived, if the kernel has kept that.
fn first_hop_limit(fd: RawFd) -> io::Result<Option<u8>> {
    let mut syn = [0u8; 256];
    let mut len = libc::socklen_t::try_from(syn.len()).map_err(io::Error::other)?;
    // SAFETY: `syn` is valid for writing `len` octets, and the kernel writes no more, and their count to `len`.
    let done =
        unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, TCP_SAVED_SYN, syn.as_mut_ptr().cast(), &mut len) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let kept = usize::try_from(len).map_err(io::Error::other)? > HOP_LIMIT && syn[0] >> 4 == 6;
    Ok(kept.then_some(syn[HOP_LIMIT]))
}

/// Whether something that was sent is not acknowledged: the neighbour has no room for the connection yet, or is gone.
pub(super) fn is_unacknowledged(stream: &TcpStream) -> bool {
    let mut waiting: libc::c_int = 0;
    // SAFETY: `waiting` is valid for writing the one int that TIOCOUTQ, which is SIOCOUTQ, writes (tcp(7)).
    let done = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &mut waiting) };
    done == 0 && waiting > 0
}

/// Our address in the session; of one over link-local addresses a global one of the same interface, and that one beside it: the
/// one that peers have as their next hop, if any. Where there is no global one, it stands alone.
pub(super) fn own_addresses(
    stream: &TcpStream,
    announced: &[Uplink],
) -> io::Result<(Ipv6Addr, Option<Ipv6Addr>)> {
    let own = match stream.local_addr()? {
        SocketAddr::V6(address) => address,
        SocketAddr::V4(address) => return Ok((address.ip().to_ipv6_mapped(), None)),
    };
    if !own.ip().is_unicast_link_local() {
        return Ok((*own.ip(), None));
    }
    let name = if_indextoname(own.scope_id())?;
    let uplink = announced.iter().find(|uplink| *link_name_octets(&uplink.interface) == *name.as_bytes());
    let known = uplink.and_then(|uplink| uplink.addresses.iter().find(|it| !it.addr.is_unicast_link_local()));
    if let Some(known) = known {
        return Ok((known.addr, Some(*own.ip())));
    }
    let on_interface = getifaddrs()?.filter(|it| it.interface_name.as_bytes() == name.as_bytes());
    let addresses = on_interface.filter_map(|it| it.address.as_ref()?.as_sockaddr_in6().map(|it| it.ip()));
    let global = addresses.into_iter().find(|it| !it.is_unicast_link_local());
    Ok(global.map_or((*own.ip(), None), |global| (global, Some(*own.ip()))))
}

fn secure_hops(fd: RawFd, neighbour: &NeighbourSettings) -> io::Result<()> {
    if !neighbour.ttl_security {
        return Ok(());
    }
    set(fd, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, &MAX_HOPS)?;
    set(fd, libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT, &MAX_HOPS)
}

/// As [`sign`], for all of them.
pub(super) fn sign_all(socket: &impl AsRawFd, neighbours: &[NeighbourSettings]) -> io::Result<()> {
    neighbours.iter().try_for_each(|neighbour| sign(socket.as_raw_fd(), neighbour))
}

/// Segments to and from the neighbour are signed from now on, with its present password. The kernel accepts another one at any
/// time, so that a session stays if both ends change it.
pub(super) fn sign(fd: RawFd, neighbour: &NeighbourSettings) -> io::Result<()> {
    let Some(password) = &neighbour.password else {
        return Ok(());
    };
    let octets = password.octets();
    let mut key = [0; MD5_KEY_LEN];
    key[..octets.len()].copy_from_slice(&octets);
    let key_len = u16::try_from(octets.len()).map_err(io::Error::other)?;
    let addr = storage(SocketAddrV6::new(neighbour.address, 0, 0, 0));
    let option = TcpMd5Sig { addr, flags: 0, prefix_len: 0, key_len, interface: 0, key };
    set(fd, libc::IPPROTO_TCP, TCP_MD5SIG, &option)
}

fn storage(address: SocketAddrV6) -> libc::sockaddr_storage {
    let v6 = libc::sockaddr_in6 {
        sin6_family: u16::try_from(libc::AF_INET6).unwrap_or_default(),
        sin6_port: address.port().to_be(),
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
        sin6_scope_id: 0,
    };
    // SAFETY: all zeros is a valid sockaddr_storage, and it is made to hold any socket address.
    unsafe {
        let mut storage: libc::sockaddr_storage = std::mem::zeroed();
        std::ptr::from_mut(&mut storage).cast::<libc::sockaddr_in6>().write(v6);
        storage
    }
}

fn set<T>(fd: RawFd, level: libc::c_int, name: libc::c_int, option: &T) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: `option` is valid for reading its own size, and the kernel only reads it.
    let done = unsafe { libc::setsockopt(fd, level, name, std::ptr::from_ref(option).cast(), len) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_structure_has_its_size() {
        assert_eq!(size_of::<TcpMd5Sig>(), 216);
    }
}
