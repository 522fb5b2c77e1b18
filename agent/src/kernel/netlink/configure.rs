//! Requests that change links and addresses.

use std::net::{IpAddr, Ipv6Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage},
    link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};

/// A request, and the flags it needs beside NLM_F_REQUEST and NLM_F_ACK.
pub type Request = (RouteNetlinkMessage, u16);

/// Makes a bridge that is set up. It gets a MAC address of its own: without one it takes the lowest of its ports', which
/// changes as containers come and go, and leaves those that are there with a neighbour entry that leads nowhere.
pub fn create_bridge(name: &str) -> Request {
    let mut message = up(LinkMessage::default());
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(random_mac().to_vec()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
    ];
    (RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// A unicast address of the locally administered kind (IEEE 802, the second-lowest bit of the first octet).
fn random_mac() -> [u8; 6] {
    let mut mac: [u8; 6] = rand::random();
    mac[0] = (mac[0] & !1) | 2;
    mac
}

/// Sets a link up.
pub fn set_up(index: u32) -> Request {
    let mut message = up(LinkMessage::default());
    message.header.index = index;
    (RouteNetlinkMessage::SetLink(message), 0)
}

/// Sets a link down.
pub fn set_down(index: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.change_mask = LinkFlags::Up;
    (RouteNetlinkMessage::SetLink(message), 0)
}

/// Takes a link away.
pub fn delete_link(index: u32) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    (RouteNetlinkMessage::DelLink(message), 0)
}

/// Gives a link an address without duplicate address detection (IFA_F_NODAD).
pub fn add_address(index: u32, addr: Ipv6Addr, len: u8) -> Request {
    let mut message = address(index, addr, len);
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    (RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// Takes an address from a link.
pub fn remove_address(index: u32, addr: Ipv6Addr, len: u8) -> Request {
    (RouteNetlinkMessage::DelAddress(address(index, addr, len)), 0)
}

fn up(mut message: LinkMessage) -> LinkMessage {
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message
}

fn address(index: u32, addr: Ipv6Addr, len: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.prefix_len = len;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Address(IpAddr::V6(addr))];
    message
}
