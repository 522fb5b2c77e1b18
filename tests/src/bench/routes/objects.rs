//! Routes through kernel nexthop objects, one object per route, as each host has a next hop of its own: the cost of creating
//! them, of moving all hosts, and of removing all. The messages are prepared, as in [`super::bare`].

use std::net::Ipv6Addr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use sextant_proto::ROUTE_PROTOCOL;

use super::{
    Measured,
    bare::{GATEWAYS, MAIN, MESSAGES_PER_SEND, METRIC, destination, send_all},
    child::{timed, uplink},
};

const AF_INET6: u8 = nix::libc::AF_INET6 as u8;
// linux/rtnetlink.h and linux/nexthop.h.
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTA_DST: u16 = 1;
const RTA_PRIORITY: u16 = 6;
const RTA_TABLE: u16 = 15;
const RTA_NH_ID: u16 = 30;
const NHA_ID: u16 = 1;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
const RTN_UNICAST: u8 = 1;

/// Adds objects and routes; replaces all objects, which moves their routes; deletes routes and objects.
pub(super) fn measure(routes: u32) -> anyhow::Result<Measured> {
    let link = uplink()?;
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut measured = Measured::default();
    let create = NLM_F_CREATE | NLM_F_EXCL;
    let object = |n, gateway: Ipv6Addr, flags| {
        let attributes = [
            (NHA_ID, id(n).to_vec()),
            (NHA_OIF, link.to_ne_bytes().to_vec()),
            (NHA_GATEWAY, gateway.octets().to_vec()),
        ];
        message(RTM_NEWNEXTHOP, flags, &nhmsg(ROUTE_PROTOCOL), &attributes)
    };
    let route = |n, kind, flags| message(kind, flags, &rtmsg(kind), &of_route(n, kind));
    let no_object = |n| message(RTM_DELNEXTHOP, 0, &nhmsg(0), &[(NHA_ID, id(n).to_vec())]);
    let each = |one: &dyn Fn(u32) -> Vec<u8>| (0..routes).map(one).collect::<Vec<_>>();
    let objects = each(&|n| object(n, GATEWAYS[0], create));
    for (step, messages) in [
        ("add", [objects, each(&|n| route(n, RTM_NEWROUTE, create))].concat()),
        ("replace", each(&|n| object(n, GATEWAYS[1], NLM_F_CREATE | NLM_F_REPLACE))),
        ("delete", [each(&|n| route(n, RTM_DELROUTE, 0)), each(&no_object)].concat()),
    ] {
        let sends = in_sends(messages);
        let ((), took) = timed(|| send_all(&socket, &sends))?;
        measured.steps.insert(step.to_owned(), took);
    }
    Ok(measured)
}

/// Groups messages as the bare sends do; the last message asks for an acknowledgement.
fn in_sends(mut messages: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    if let Some(last) = messages.last_mut() {
        last[6] |= NLM_F_ACK as u8;
    }
    messages.chunks(MESSAGES_PER_SEND).map(|chunk| chunk.concat()).collect()
}

/// The id of an object; 0 means no object.
fn id(n: u32) -> [u8; 4] {
    (n + 1).to_ne_bytes()
}

/// `struct nhmsg`: family, scope, protocol, reserved, flags. A removal must not name a protocol.
fn nhmsg(protocol: u8) -> [u8; 8] {
    [AF_INET6, 0, protocol, 0, 0, 0, 0, 0]
}

/// `struct rtmsg`: family, lengths, tos, table, protocol, scope, type, flags.
fn rtmsg(kind: u16) -> [u8; 12] {
    let route_type = if kind == RTM_NEWROUTE { RTN_UNICAST } else { 0 };
    [AF_INET6, 64, 0, 0, MAIN as u8, ROUTE_PROTOCOL, 0, route_type, 0, 0, 0, 0]
}

fn of_route(n: u32, kind: u16) -> Vec<(u16, Vec<u8>)> {
    let object = (kind == RTM_NEWROUTE).then(|| (RTA_NH_ID, id(n).to_vec()));
    let key = [
        (RTA_DST, destination(n).addr().octets().to_vec()),
        (RTA_TABLE, MAIN.to_ne_bytes().to_vec()),
        (RTA_PRIORITY, METRIC.to_ne_bytes().to_vec()),
    ];
    key.into_iter().chain(object).collect()
}

fn message(kind: u16, flags: u16, header: &[u8], attributes: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(header);
    for (kind, value) in attributes {
        bytes.extend((4 + value.len() as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        // All values are multiples of four octets long, so they need no padding.
        bytes.extend(value);
    }
    let len = bytes.len() as u32;
    bytes[..4].copy_from_slice(&len.to_ne_bytes());
    bytes
}
