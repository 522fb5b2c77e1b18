//! The edge to ICMPv6 on one interface.

use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::AsRawFd,
};

use nix::{
    cmsg_space, libc,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt, sockopt,
    },
};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use super::message::{HOP_LIMIT, SOLICITATION, is_solicitation};

/// All hosts of a link, and all its routers (RFC 4291 §2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Larger than any solicitation that makes sense: the rest is cut off, and makes it invalid.
const LONGEST: usize = 512;

/// Hears the solicitations of a link, and advertises there.
pub struct Link {
    /// Of ICMPv6, which tokio has no type for; nothing of UDP is asked of it.
    socket: UdpSocket,
    index: u32,
}

impl Link {
    /// Of the interface with this name, as the kernel has it, and this index. Wants CAP_NET_RAW.
    pub fn open(name: &[u8], index: u32) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.set_nonblocking(true)?;
        socket.bind_device(Some(name))?;
        socket.attach_filter(&only_solicitations())?;
        socket.set_multicast_hops_v6(HOP_LIMIT.into())?;
        // What we say is not for ourselves.
        socket.set_multicast_loop_v6(false)?;
        setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        socket.join_multicast_v6(&ALL_ROUTERS, index)?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, index })
    }

    /// Sends an advertisement to all, from the link-local address `source` (RFC 4861 §4.2).
    pub fn advertise(&self, octets: &[u8], source: Ipv6Addr) -> io::Result<()> {
        let to = SockaddrIn6::from(SocketAddrV6::new(ALL_NODES, 0, 0, self.index));
        let from = libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr { s6_addr: source.octets() },
            ipi6_ifindex: self.index,
        };
        let control = [ControlMessage::Ipv6PacketInfo(&from)];
        sendmsg(self.socket.as_raw_fd(), &[IoSlice::new(octets)], &control, MsgFlags::empty(), Some(&to))?;
        Ok(())
    }

    /// Returns when a host solicits an advertisement. Cancel safe.
    pub async fn solicited(&self) -> io::Result<()> {
        loop {
            if self.socket.async_io(Interest::READABLE, || receive(&self.socket)).await? {
                return Ok(());
            }
        }
    }
}

/// Receives one message; whether it is a valid solicitation.
fn receive(socket: &UdpSocket) -> io::Result<bool> {
    let mut octets = [0; LONGEST];
    let mut space = cmsg_space!(libc::c_int);
    let mut parts = [IoSliceMut::new(&mut octets)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrIn6>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let hop_limit = message.cmsgs()?.find_map(|it| match it {
        ControlMessageOwned::Ipv6HopLimit(limit) => u8::try_from(limit).ok(),
        _ => None,
    });
    let (from, len) = (message.address, message.bytes);
    let source = from.map_or(Ipv6Addr::UNSPECIFIED, |from| from.ip());
    Ok(hop_limit.is_some_and(|limit| is_solicitation(&octets[..len], source, limit)))
}

/// A classic BPF program over the ICMPv6 message: all others would be so many wake-ups.
fn only_solicitations() -> [SockFilter; 4] {
    let instruction = |code: u32, yes, no, operand| SockFilter::new(code as u16, yes, no, operand);
    [
        instruction(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, SOLICITATION.into()),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ]
}
