//! The edge to ICMPv6: router advertisements and solicitations (RFC 4861 §4.1, §4.2) on one interface.

use std::{
    ffi::OsString,
    io::{self, IoSliceMut},
    net::{Ipv6Addr, SocketAddrV6},
    os::{fd::AsRawFd, unix::ffi::OsStringExt},
};

use nix::{
    cmsg_space, libc,
    net::if_::if_nametoindex,
    sys::socket::{
        AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, recvmsg,
        sendto, setsockopt, socket, sockopt,
    },
};
use sextant_proto::link_name_octets;
use tokio::{io::Interest, net::UdpSocket};

use super::{MAX_HOPS, set};

const ADVERTISEMENT: u8 = 134;
/// A router that nobody is to take for a default router, and that says nothing else.
const OURS: [u8; 16] = [ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// `linux/icmpv6.h`.
const ICMPV6_FILTER: libc::c_int = 1;

/// Hears the routers of a link, and is heard by them.
pub(in crate::bgp) struct Link {
    /// Of ICMPv6, which tokio has no type for; nothing of UDP is asked of it.
    socket: UdpSocket,
    index: u32,
}

impl Link {
    /// Of this interface. Wants CAP_NET_RAW.
    pub(in crate::bgp) fn open(interface: &str) -> io::Result<Self> {
        let name = link_name_octets(interface);
        let index = if_nametoindex(name.as_slice())?;
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)?;
        setsockopt(&socket, sockopt::BindToDevice, &OsString::from_vec(name))?;
        setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        setsockopt(&socket, sockopt::Ipv6MulticastHops, &MAX_HOPS)?;
        // What we say is not for ourselves.
        let looped: libc::c_int = 0;
        set(socket.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP, &looped)?;
        // A bit for each type that is not wanted.
        let mut filter = [u32::MAX; 8];
        filter[usize::from(ADVERTISEMENT >> 5)] &= !(1 << (ADVERTISEMENT & 31));
        set(socket.as_raw_fd(), libc::IPPROTO_ICMPV6, ICMPV6_FILTER, &filter)?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, index })
    }

    /// Asks all routers to advertise themselves, and tells them of us.
    pub(in crate::bgp) fn announce(&self) -> io::Result<()> {
        for (octets, to) in [(&SOLICITATION[..], ALL_ROUTERS), (&OURS[..], ALL_NODES)] {
            let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, self.index));
            sendto(self.socket.as_raw_fd(), octets, &to, MsgFlags::empty())?;
        }
        Ok(())
    }

    /// The next router that advertises itself, by its link-local address. Cancel safe.
    pub(in crate::bgp) async fn heard(&self) -> io::Result<Ipv6Addr> {
        loop {
            let heard = self.socket.async_io(Interest::READABLE, || receive(&self.socket)).await?;
            if let Some(router) = heard {
                return Ok(router);
            }
        }
    }
}

/// RFC 4861 §6.1.2. The kernel has checked the checksum.
fn receive(socket: &UdpSocket) -> io::Result<Option<Ipv6Addr>> {
    let mut octets = [0; OURS.len()];
    let mut space = cmsg_space!(libc::c_int);
    let mut parts = [IoSliceMut::new(&mut octets)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let near = message.cmsgs()?.any(|it| matches!(it, ControlMessageOwned::Ipv6HopLimit(MAX_HOPS)));
    let (from, len) = (message.address, message.bytes);
    let valid = near && len == OURS.len() && octets[..2] == [ADVERTISEMENT, 0];
    Ok(from.map(|from| from.ip()).filter(|from| valid && from.is_unicast_link_local()))
}
