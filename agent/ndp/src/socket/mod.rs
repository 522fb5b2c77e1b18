//! The edge to one interface: its neighbour discovery, as packets. A raw ICMPv6 socket would not do: it sees no solicitation that is
//! sent to an address of a container.

mod link_layer;

use std::{io, mem::MaybeUninit};

use nix::sys::socket::{
    setsockopt,
    sockopt::{RcvBuf, RcvBufForce},
};
use sextant_proto::Prefix;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{io::Interest, net::UdpSocket};

use crate::{
    filter,
    message::{Mac, Message, decode},
};

/// The longest packet without the option for jumbograms: options of any number are read on links of any MTU.
const LONGEST: usize = 40 + 0xffff;

/// Octets of messages that wait: some ten thousand of them.
const ROOM: usize = 8 << 20;

/// Hears and sends neighbour discovery on one interface.
#[derive(Debug)]
pub struct Port {
    /// Of packets, which tokio has no type for; nothing of UDP is asked of it.
    socket: UdpSocket,
    link: u32,
}

impl Port {
    /// On the interface with this index. Needs CAP_NET_RAW. `all_groups`: solicitations are heard whatever group of addresses they
    /// are sent to; an interface passes those of its own groups only.
    pub fn open(link: u32, all_groups: bool) -> io::Result<Self> {
        // No protocol yet: nothing is heard until the filter is in place.
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(0)))?;
        socket.set_nonblocking(true)?;
        make_room(&socket);
        socket.attach_filter(&filter::program(Some(&[])))?;
        socket.bind(&link_layer::of_link(link)?)?;
        if all_groups {
            link_layer::hear_all_groups(&socket, link)?;
        }
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, link })
    }

    /// Hears what is said of these prefixes only; of any, without.
    pub fn listen_for(&self, prefixes: Option<&[Prefix]>) -> io::Result<()> {
        SockRef::from(&self.socket).attach_filter(&filter::program(prefixes))
    }

    /// Sends an IPv6 packet to the neighbour with this link-layer address.
    pub fn send(&self, to: Mac, packet: &[u8]) -> io::Result<()> {
        SockRef::from(&self.socket).send_to(packet, &link_layer::of_neighbour(self.link, to)?)?;
        Ok(())
    }

    /// Waits for messages, and passes up to `most` of them to `take`, each with the link-layer address of its sender. Returns how
    /// many packets were invalid. Cancel safe.
    pub async fn receive(&self, most: usize, mut take: impl FnMut(Mac, Message)) -> io::Result<u64> {
        let mut invalid = 0;
        self.socket.readable().await?;
        for _ in 0..most {
            match self.socket.try_io(Interest::READABLE, || receive(&SockRef::from(&self.socket))) {
                Ok(Some((mac, message))) => take(mac, message),
                Ok(None) => invalid += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(invalid)
    }
}

/// A thousand containers may speak at once. Beyond `net.core.rmem_max`, this needs CAP_NET_ADMIN; without, there is less room.
fn make_room(socket: &Socket) {
    if setsockopt(socket, RcvBufForce, &ROOM).is_err() {
        let _ = setsockopt(socket, RcvBuf, &ROOM);
    }
}

/// Receives one packet; `None` if it is no valid message of a neighbour.
fn receive(socket: &Socket) -> io::Result<Option<(Mac, Message)>> {
    let mut buffer = [MaybeUninit::uninit(); LONGEST];
    let (len, from) = socket.recv_from(&mut buffer)?;
    let message = decode(link_layer::initialized(&buffer, len)).ok();
    Ok(link_layer::sender(&from).zip(message))
}
