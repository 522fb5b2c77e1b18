//! Proxy entries of the neighbour table: addresses of others that the kernel answers for on a link (`ip -6 neighbour add proxy`).
//!
//! They have no notifications, and are lost when their link goes down. The kernel keeps a protocol for each since 5.4.

use std::net::Ipv6Addr;

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage},
    route::RouteProtocol as WireProtocol,
};

use super::{
    super::{ProxyEntry, RouteProtocol},
    batch::Request,
    frame::{Malformed, attribute_values, ipv6_of, u32_of},
};

const AF_INET6: u8 = nix::libc::AF_INET6 as u8;
/// `NTF_PROXY` of linux/neighbour.h.
const NTF_PROXY: u8 = 0x08;
const NTF_ROUTER: u8 = 0x80;
/// `NDA_DST` and `NDA_PROTOCOL` of the same.
const NDA_DST: u16 = 1;
const NDA_PROTOCOL: u16 = 12;

/// The request for a dump of the IPv6 proxy entries of all links.
pub fn dump() -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.flags = NeighbourFlags::Proxy;
    RouteNetlinkMessage::GetNeighbour(message)
}

/// Adds an entry of our protocol, whose answers say that this host forwards. An existing one becomes like that.
pub fn add(link: u32, addr: Ipv6Addr) -> Request {
    let mut message = entry(link, addr);
    message.header.flags |= NeighbourFlags::Router;
    message.attributes.push(NeighbourAttribute::Protocol(WireProtocol::from(RouteProtocol::OURS.0)));
    (RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE)
}

/// Removes an entry. Refused with ENOENT if there is none.
pub fn remove(link: u32, addr: Ipv6Addr) -> Request {
    (RouteNetlinkMessage::DelNeighbour(entry(link, addr)), 0)
}

fn entry(link: u32, addr: Ipv6Addr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.ifindex = link;
    message.header.flags = NeighbourFlags::Proxy;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet6(addr)));
    message
}

/// The entry of a message of the dump (`struct ndmsg`: family, padding, interface, state, flags, type); `None` if it is no IPv6 one.
///
/// # Errors
/// If it is no neighbour message at all.
pub fn decode(payload: &[u8]) -> Result<Option<ProxyEntry>, Malformed> {
    let (header, attributes) = payload
        .split_first_chunk::<12>()
        .ok_or_else(|| Malformed(format!("{} octets of a proxy entry", payload.len())))?;
    if header[0] != AF_INET6 || header[10] & NTF_PROXY == 0 {
        return Ok(None);
    }
    let (mut addr, mut protocol) = (None, 0);
    for (kind, value) in attribute_values(attributes) {
        match kind {
            NDA_DST => addr = ipv6_of(value),
            NDA_PROTOCOL => protocol = value.first().copied().unwrap_or_default(),
            _ => {}
        }
    }
    let addr = addr.ok_or_else(|| Malformed("a proxy entry without address".to_owned()))?;
    let (link, router) = (u32_of(&header[4..8]).unwrap_or(0), header[10] & NTF_ROUTER != 0);
    Ok(Some(ProxyEntry { link, addr, protocol: RouteProtocol(protocol), router }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `2001:db8::c003 dev up0 router proxy proto 66`.
    const ENTRY: [u8; 40] = [
        10, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0x88, 0, // ndmsg
        20, 0, 1, 0, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xc0, 3, // NDA_DST
        5, 0, 12, 0, 66, 0, 0, 0, // NDA_PROTOCOL
    ];

    #[test]
    fn an_entry_is_read() {
        let addr = "2001:db8::c003".parse().unwrap();
        let expected = ProxyEntry { link: 3, addr, protocol: RouteProtocol::OURS, router: true };
        assert_eq!(decode(&ENTRY), Ok(Some(expected)));
        assert_eq!(decode(&ENTRY[..32]).unwrap().unwrap().protocol, RouteProtocol(0));
        let mut other = ENTRY;
        other[10] = 8;
        assert!(!decode(&other).unwrap().unwrap().router);
        let mut neighbour = ENTRY;
        neighbour[10] = 0;
        assert_eq!(decode(&neighbour), Ok(None));
        assert!(decode(&ENTRY[..8]).is_err() && decode(&ENTRY[..12]).is_err());
    }
}
