//! Neighbour entries as netlink messages, and probes of a neighbour.
//!
//! A request can start a probe (`neigh_add` and `__neigh_update` in net/core/neighbour.c): an entry that is set to NUD_PROBE
//! without a link-layer address keeps its address, and is solicited at once. For an entry without one, NTF_USE starts
//! address resolution, as a packet would.

use std::net::Ipv6Addr;

use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState as WireState,
    },
};
use nix::libc::{
    NUD_DELAY, NUD_FAILED, NUD_INCOMPLETE, NUD_NOARP, NUD_PERMANENT, NUD_PROBE, NUD_REACHABLE, NUD_STALE,
};

use super::{
    super::{Neighbour, NeighbourState},
    batch::Request,
    frame::{Malformed, attribute_values, ipv6_of, u32_of},
};

/// Another program, e.g. a routing daemon, keeps the entry (linux/neighbour.h).
const NTF_EXT_LEARNED: u8 = 0x10;
/// RTM_NEWNEIGH.
pub const RTM_NEWNEIGH: u16 = nix::libc::RTM_NEWNEIGH;
const AF_INET6: u8 = nix::libc::AF_INET6 as u8;
/// `NDA_DST` of linux/neighbour.h.
const NDA_DST: u16 = 1;
/// `NDA_LLADDR` of the same.
const NDA_LLADDR: u16 = 2;

/// The request for a dump of the IPv6 neighbours of a link, or of all links.
pub fn dump_neighbours(link: Option<u32>) -> RouteNetlinkMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.attributes.extend(link.map(NeighbourAttribute::IfIndex));
    RouteNetlinkMessage::GetNeighbour(message)
}

/// Starts a probe of an entry at its link-layer address. Refused with ENOENT if there is no entry, and
/// with EINVAL if it has no such address.
pub fn probe(link: u32, addr: Ipv6Addr) -> Request {
    let mut message = neighbour(link, addr);
    message.header.state = WireState::Probe;
    (RouteNetlinkMessage::NewNeighbour(message), 0)
}

/// Starts address resolution, as a packet to the address would (NTF_USE).
pub fn resolve(link: u32, addr: Ipv6Addr) -> Request {
    let mut message = neighbour(link, addr);
    message.header.flags = NeighbourFlags::Use;
    (RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE)
}

fn neighbour(link: u32, addr: Ipv6Addr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.ifindex = link;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet6(addr)));
    message
}

/// The neighbour of an RTM_NEWNEIGH message (`struct ndmsg`: family, padding, interface, state, flags, type); `None` if it
/// is no IPv6 neighbour.
///
/// # Errors
/// If it is not a neighbour message at all.
pub fn decode(payload: &[u8]) -> Result<Option<Neighbour>, Malformed> {
    let (header, attributes) = payload
        .split_first_chunk::<12>()
        .ok_or_else(|| Malformed(format!("{} octets of a neighbour", payload.len())))?;
    if header[0] != AF_INET6 {
        return Ok(None);
    }
    let (mut addr, mut mac) = (None, None);
    for (kind, value) in attribute_values(attributes) {
        match kind {
            NDA_DST => addr = ipv6_of(value),
            NDA_LLADDR => mac = value.try_into().ok(),
            _ => {}
        }
    }
    Ok(Some(Neighbour {
        link: u32_of(&header[4..8]).unwrap_or(0),
        addr: addr.ok_or_else(|| Malformed("a neighbour message without address".to_owned()))?,
        state: state(u16::from_ne_bytes([header[8], header[9]]), header[10]),
        mac,
    }))
}

/// `flags` are those of the entry (`NTF_…`).
fn state(bits: u16, flags: u8) -> NeighbourState {
    match bits {
        NUD_REACHABLE => NeighbourState::Reachable,
        NUD_STALE | NUD_DELAY => NeighbourState::Stale,
        NUD_INCOMPLETE | NUD_PROBE => NeighbourState::Probing,
        NUD_FAILED => NeighbourState::Failed,
        bits if bits & NUD_PERMANENT != 0 && flags & NTF_EXT_LEARNED == 0 => NeighbourState::Permanent,
        bits if bits & (NUD_PERMANENT | NUD_NOARP) != 0 => NeighbourState::Fixed,
        _ => NeighbourState::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `fe80::1 dev up0 lladdr 02:00:00:00:00:02 PROBE`.
    const PROBED: [u8; 44] = [
        10, 0, 0, 0, 3, 0, 0, 0, 0x10, 0, 0, 1, // ndmsg
        20, 0, 1, 0, 0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, // NDA_DST
        10, 0, 2, 0, 2, 0, 0, 0, 0, 2, 0, 0, // NDA_LLADDR
    ];

    #[test]
    fn a_neighbour_is_read() {
        let read = decode(&PROBED).unwrap().unwrap();
        let addr = "fe80::1".parse().unwrap();
        assert_eq!(
            read,
            Neighbour { link: 3, addr, state: NeighbourState::Probing, mac: Some([2, 0, 0, 0, 0, 2]) }
        );
        let mut other_family = PROBED;
        other_family[0] = 7;
        assert_eq!(decode(&other_family), Ok(None));
        assert!(decode(&PROBED[..8]).is_err());
        assert!(decode(&PROBED[..12]).is_err(), "no address");
    }

    #[test]
    fn every_kernel_state_is_mapped() {
        let all = [
            (0x80, 0, NeighbourState::Permanent),
            (0x80, NTF_EXT_LEARNED, NeighbourState::Fixed),
            (0x40, 0, NeighbourState::Fixed),
            (0, 0, NeighbourState::Unknown),
            (NUD_DELAY, 0, NeighbourState::Stale),
            (NUD_FAILED, 0, NeighbourState::Failed),
        ];
        for (bits, flags, expected) in all {
            assert_eq!(state(bits, flags), expected, "{bits:#x} {flags:#x}");
        }
    }
}
