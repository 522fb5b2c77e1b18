//! The kernel's own limit: prepared messages, of which only the last one asks for an acknowledgement.

use std::net::Ipv6Addr;

use anyhow::ensure;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use sextant_proto::{Prefix, ROUTE_PROTOCOL};

use super::{
    Measured, Step,
    child::{timed, uplink},
};

pub(super) const METRIC: u32 = 512;
pub(super) const MAIN: u32 = 254;
/// The routes' gateways: of the added routes, and of the replaced ones.
pub(super) const GATEWAYS: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, 2)];
pub(super) const MESSAGES_PER_SEND: usize = 1024;
/// Number of dumps; the median counts.
const DUMPS: usize = 9;

/// The `n`-th destination.
pub(super) fn destination(n: u32) -> Prefix {
    let bits = Ipv6Addr::new(0x2001, 0xdb9, 0, 0, 0, 0, 0, 0).to_bits() | u128::from(n) << 64;
    Prefix::containing(Ipv6Addr::from_bits(bits), 64).expect("64 is a prefix length")
}

/// Adds, dumps, replaces and deletes the routes.
pub(super) fn measure(routes: u32) -> anyhow::Result<Measured> {
    let link = uplink()?;
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.set_netlink_get_strict_chk(true)?;
    let mut measured = Measured::default();
    for (step, flags, gateway) in [
        ("add", NLM_F_CREATE | NLM_F_EXCL, Some(GATEWAYS[0])),
        ("replace", NLM_F_REPLACE, Some(GATEWAYS[1])),
        ("delete", 0, None),
    ] {
        let message = |n: u32| encoded(n, link, flags, gateway, n + 1 == routes);
        let messages: Vec<Vec<u8>> = (0..routes).map(message).collect();
        let sends: Vec<Vec<u8>> = messages.chunks(MESSAGES_PER_SEND).map(|chunk| chunk.concat()).collect();
        let ((), took) = timed(|| send_all(&socket, &sends))?;
        measured.steps.insert(step.to_owned(), took);
        if step == "add" {
            measured.steps.insert("dump".to_owned(), dump(&socket, routes)?);
        }
    }
    Ok(measured)
}

pub(super) fn send_all(socket: &Socket, sends: &[Vec<u8>]) -> anyhow::Result<()> {
    for send in sends {
        socket.send(send, 0)?;
    }
    let (answer, _) = socket.recv_from_full()?;
    ensure!(answer.get(16..20) == Some(&[0; 4]), "a route was refused");
    Ok(())
}

/// A dump of all routes of protocol 66, filtered by the kernel; the messages are counted, not parsed.
pub(super) fn dump(socket: &Socket, routes: u32) -> anyhow::Result<Step> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet6;
    message.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    message.header.kind = RouteType::Unspec;
    let request = finished(RouteNetlinkMessage::GetRoute(message), NLM_F_REQUEST | NLM_F_DUMP);
    let mut steps = Vec::new();
    for _ in 0..DUMPS {
        let (count, step) = timed(|| read_dump(socket, &request))?;
        ensure!(count >= routes, "{count} of {routes} routes exist");
        steps.push(step);
    }
    steps.sort_by_key(|step| step.took);
    Ok(steps[DUMPS / 2])
}

fn read_dump(socket: &Socket, request: &[u8]) -> anyhow::Result<u32> {
    socket.send(request, 0)?;
    let (mut count, mut buffer) = (0, vec![0u8; 64 << 10]);
    loop {
        let read = socket.recv(&mut &mut buffer[..], 0)?;
        let mut rest = &buffer[..read];
        while let Some((head, _)) = rest.split_first_chunk::<8>() {
            let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
            // NLMSG_DONE, or an error.
            if matches!(u16::from_ne_bytes([head[4], head[5]]), 2 | 3) {
                return Ok(count);
            }
            count += 1;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// The message that the agent sends.
fn encoded(n: u32, link: u32, flags: u16, gateway: Option<Ipv6Addr>, last: bool) -> Vec<u8> {
    let destination = destination(n);
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet6;
    message.header.destination_prefix_length = destination.len();
    message.header.table = MAIN as u8;
    message.header.protocol = RouteProtocol::Other(ROUTE_PROTOCOL);
    message.header.kind = if gateway.is_some() { RouteType::Unicast } else { RouteType::Unspec };
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::Inet6(destination.addr())),
        RouteAttribute::Table(MAIN),
        RouteAttribute::Priority(METRIC),
    ];
    let message = match gateway {
        Some(gateway) => {
            message.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet6(gateway)));
            message.attributes.push(RouteAttribute::Oif(link));
            RouteNetlinkMessage::NewRoute(message)
        }
        None => RouteNetlinkMessage::DelRoute(message),
    };
    finished(message, NLM_F_REQUEST | flags | if last { NLM_F_ACK } else { 0 })
}

fn finished(message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}
