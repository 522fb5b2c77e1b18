//! Links and addresses as netlink messages.

use netlink_packet_route::{AddressFamily, RouteNetlinkMessage, address::AddressMessage, link::LinkMessage};
use nix::libc::{
    IFA_ADDRESS, IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_NOPREFIXROUTE, IFA_F_PERMANENT, IFA_F_TEMPORARY,
    IFA_F_TENTATIVE, IFA_LOCAL, IFF_LOWER_UP, IFF_RUNNING, IFF_UP, IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_DATA,
    IFLA_INFO_KIND, IFLA_INFO_SLAVE_DATA, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU,
};

use sextant_proto::link_name_text;

use super::{
    super::{Address, Link},
    frame::{Malformed, attribute_values, ipv6_of, u32_of, until_nul},
};

/// RTM_NEWLINK.
pub const RTM_NEWLINK: u16 = nix::libc::RTM_NEWLINK;
/// RTM_DELLINK.
pub const RTM_DELLINK: u16 = nix::libc::RTM_DELLINK;
/// RTM_NEWADDR.
pub const RTM_NEWADDR: u16 = nix::libc::RTM_NEWADDR;
/// RTM_DELADDR.
pub const RTM_DELADDR: u16 = nix::libc::RTM_DELADDR;
const AF_UNSPEC: u8 = nix::libc::AF_UNSPEC as u8;
const AF_INET6: u8 = nix::libc::AF_INET6 as u8;
/// All flags; the header holds only the first eight.
const IFA_FLAGS: u16 = 8;
const SCOPE_UNIVERSE: u8 = 0;
const BRIDGE: &str = "bridge";
/// In `IFLA_INFO_DATA` of a bridge, and in `IFLA_INFO_SLAVE_DATA` of its port (linux/if_link.h).
const IFLA_BR_AGEING_TIME: u16 = 4;
const IFLA_BRPORT_LEARNING: u16 = 8;

/// The request for a dump of all links.
pub fn dump_links() -> RouteNetlinkMessage {
    RouteNetlinkMessage::GetLink(LinkMessage::default())
}

/// The request for a dump of all IPv4 addresses.
pub fn dump_ipv4_addresses() -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    RouteNetlinkMessage::GetAddress(message)
}

/// The link of an address message of any family.
///
/// # Errors
/// If it is not an address message at all.
pub fn decode_address_link(payload: &[u8]) -> Result<Option<u32>, Malformed> {
    let link = payload.get(4..8).and_then(u32_of);
    link.map(Some).ok_or_else(|| Malformed(format!("{} octets of an address", payload.len())))
}

/// The request for a dump of all IPv6 addresses.
pub fn dump_addresses() -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet6;
    RouteNetlinkMessage::GetAddress(message)
}

/// The link of an RTM_NEWLINK or RTM_DELLINK message (`struct ifinfomsg`: family, type, index, flags, change); `None` if
/// the message is about something else. When a port leaves a bridge, the kernel sends an RTM_DELLINK of the family
/// AF_BRIDGE, although the link still exists.
///
/// # Errors
/// If it is not a link message at all.
pub fn decode_link(payload: &[u8]) -> Result<Option<Link>, Malformed> {
    let (header, attributes) = payload
        .split_first_chunk::<16>()
        .ok_or_else(|| Malformed(format!("{} octets of a link", payload.len())))?;
    if header[0] != AF_UNSPEC {
        return Ok(None);
    }
    let flags = u32_of(&header[8..12]).unwrap_or(0);
    let mut link = Link {
        index: u32_of(&header[4..8]).unwrap_or(0),
        name: String::new(),
        up: flags & IFF_UP as u32 != 0,
        carrier: flags & IFF_LOWER_UP as u32 != 0,
        running: flags & IFF_RUNNING as u32 != 0,
        ..Link::default()
    };
    for (kind, value) in attribute_values(attributes) {
        match kind {
            IFLA_IFNAME => link.name = link_name_text(until_nul(value)),
            IFLA_ADDRESS => link.mac = value.to_vec(),
            IFLA_MASTER => link.controller = u32_of(value),
            IFLA_MTU => link.mtu = u32_of(value).unwrap_or(0),
            IFLA_LINKINFO => take_info(&mut link, value),
            _ => {}
        }
    }
    link.bridge = link.kind == BRIDGE;
    Ok(Some(link))
}

fn take_info(link: &mut Link, info: &[u8]) {
    let inside = |value, wanted| attribute_values(value).find(|(kind, _)| *kind == wanted).map(|(_, it)| it);
    let kind = inside(info, IFLA_INFO_KIND).map(|it| String::from_utf8_lossy(until_nul(it)).into_owned());
    link.kind = kind.unwrap_or_default();
    let (from, wanted) = match link.kind == BRIDGE {
        true => (IFLA_INFO_DATA, IFLA_BR_AGEING_TIME),
        false => (IFLA_INFO_SLAVE_DATA, IFLA_BRPORT_LEARNING),
    };
    link.learns = inside(info, from).and_then(|it| inside(it, wanted)).is_some_and(is_not_zero);
}

fn is_not_zero(value: &[u8]) -> bool {
    value.iter().any(|octet| *octet != 0)
}

/// The address of an RTM_NEWADDR or RTM_DELADDR message (`struct ifaddrmsg`: family, length, flags, scope, index); `None`
/// if it is no IPv6 address.
///
/// # Errors
/// If it is not an address message at all.
pub fn decode_address(payload: &[u8]) -> Result<Option<Address>, Malformed> {
    let (header, attributes) = payload
        .split_first_chunk::<8>()
        .ok_or_else(|| Malformed(format!("{} octets of an address", payload.len())))?;
    if header[0] != AF_INET6 {
        return Ok(None);
    }
    let (mut addr, mut local, mut flags) = (None, None, u32::from(header[2]));
    for (kind, value) in attribute_values(attributes) {
        match kind {
            IFA_ADDRESS => addr = ipv6_of(value),
            // Only on point-to-point links, where IFA_ADDRESS is the other end.
            IFA_LOCAL => local = ipv6_of(value),
            IFA_FLAGS => flags = u32_of(value).unwrap_or(flags),
            _ => {}
        }
    }
    let other_end = addr.filter(|addr| local.is_some_and(|local| local != *addr));
    let addr = local.or(addr).ok_or_else(|| Malformed("an address message without address".to_owned()))?;
    Ok(Some(Address {
        link: u32_of(&header[4..8]).unwrap_or(0),
        addr,
        len: header[1],
        global: header[3] == SCOPE_UNIVERSE,
        tentative: flags & IFA_F_TENTATIVE != 0,
        dad_failed: flags & IFA_F_DADFAILED != 0,
        deprecated: flags & IFA_F_DEPRECATED != 0,
        temporary: flags & IFA_F_TEMPORARY != 0,
        permanent: flags & IFA_F_PERMANENT != 0,
        prefix_route: flags & IFA_F_NOPREFIXROUTE == 0 && other_end.is_none(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut all = [((value.len() + 4) as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
        all.extend(value);
        all.resize(all.len().next_multiple_of(4), 0);
        all
    }

    fn link_with(info: &[Vec<u8>]) -> Link {
        let message = [vec![0; 16], attribute(IFLA_LINKINFO, &info.concat())].concat();
        decode_link(&message).unwrap().unwrap()
    }

    #[test]
    fn bridges_and_their_ports_say_whether_they_learn() {
        let kind = |text: &str| attribute(IFLA_INFO_KIND, text.as_bytes());
        let bridge =
            |time: u32| attribute(IFLA_INFO_DATA, &attribute(IFLA_BR_AGEING_TIME, &time.to_ne_bytes()));
        let port =
            |learning: u8| attribute(IFLA_INFO_SLAVE_DATA, &attribute(IFLA_BRPORT_LEARNING, &[learning]));
        for (info, learns) in [
            (vec![kind("bridge"), bridge(30_000)], true),
            (vec![kind("bridge"), bridge(0)], false),
            (vec![port(1), kind("veth")], true),
            (vec![port(0), kind("veth")], false),
            // Data of another kind.
            (vec![port(0), kind("vxlan"), bridge(30_000)], false),
            // Hardware.
            (vec![port(1)], true),
        ] {
            let link = link_with(&info);
            assert_eq!((link.learns, link.bridge), (learns, link.kind == "bridge"), "{info:?}");
        }
    }
}
