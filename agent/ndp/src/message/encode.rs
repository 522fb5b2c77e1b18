//! What is sent.

use std::net::Ipv6Addr;

use super::{
    ADVERTISEMENT, HEADER, HOP_LIMIT, ICMPV6, Mac, SOLICITATION, SOURCE_LINK_LAYER, TARGET_LINK_LAYER,
    checksum, solicited_node,
};

// The flags of an advertisement (RFC 4861 §4.4).
const ROUTER: u8 = 0x80;
pub(super) const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// An advertisement of a host that forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertisement {
    /// An address of the sender on the link.
    pub source: Ipv6Addr,
    /// Who asked, or a group.
    pub destination: Ipv6Addr,
    /// The address of the container.
    pub target: Ipv6Addr,
    /// The link-layer address of the sender.
    pub mac: Mac,
    /// It answers a solicitation.
    pub solicited: bool,
    /// It replaces what a receiver knew before (RFC 4861 §7.2.5).
    pub overrides: bool,
}

/// The packet of an advertisement.
pub fn advertisement(it: &Advertisement) -> Vec<u8> {
    let flags = [(true, ROUTER), (it.solicited, SOLICITED), (it.overrides, OVERRIDE)];
    let flags = flags.into_iter().filter(|(set, _)| *set).fold(0, |all, (_, flag)| all | flag);
    packet(it.source, it.destination, [ADVERTISEMENT, flags], it.target, (TARGET_LINK_LAYER, it.mac))
}

/// The packet of a solicitation of `target`, sent to its group.
pub fn solicitation(source: Ipv6Addr, mac: Mac, target: Ipv6Addr) -> Vec<u8> {
    packet(source, solicited_node(target), [SOLICITATION, 0], target, (SOURCE_LINK_LAYER, mac))
}

fn packet(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    [kind, flags]: [u8; 2],
    target: Ipv6Addr,
    (option, mac): (u8, Mac),
) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    body.extend(target.octets());
    body.extend([option, 1]);
    body.extend(mac);
    let sum = checksum::of(source, destination, &body).to_be_bytes();
    body[2..4].copy_from_slice(&sum);
    let mut packet = Vec::with_capacity(HEADER + body.len());
    packet.extend([0x60, 0, 0, 0, 0, u8::try_from(body.len()).unwrap_or(u8::MAX), ICMPV6, HOP_LIMIT]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(body);
    packet
}
