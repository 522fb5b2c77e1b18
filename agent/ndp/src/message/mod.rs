//! Neighbour solicitations and advertisements as IPv6 packets (RFC 4861 §4.3, §4.4). Pure.

mod checksum;
mod encode;

use std::net::Ipv6Addr;

pub use encode::{Advertisement, advertisement, solicitation};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The type of neighbour solicitations.
pub const SOLICITATION: u8 = 135;
/// The type of neighbour advertisements.
pub const ADVERTISEMENT: u8 = 136;
/// IPv6's number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// All hosts of a link, and all its routers (RFC 4291 §2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// See [`ALL_NODES`].
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Octets of an IPv6 header.
const HEADER: usize = 40;
/// Octets of a solicitation or advertisement without options.
const FIXED: usize = 24;
/// The hop limit of all messages of neighbour discovery: no router has forwarded them (RFC 4861 §7.1).
const HOP_LIMIT: u8 = 255;
// The types of options (RFC 4861 §4.6).
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;

/// A valid message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Which of the two it is.
    pub kind: Kind,
    /// Its source; unspecified during duplicate address detection (RFC 4862 §5.4).
    pub source: Ipv6Addr,
    /// Where it was sent to.
    pub destination: Ipv6Addr,
    /// The address that it is about.
    pub target: Ipv6Addr,
    /// The link-layer address in its option: the source's of a solicitation, the target's of an advertisement.
    pub mac: Option<Mac>,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Who has this address?
    Solicitation,
    /// This is where it is.
    Advertisement,
}

/// Why a packet is no valid message (RFC 4861 §7.1.1, §7.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invalid {
    /// It is cut off, or its lengths contradict each other.
    Length,
    /// It is another packet.
    Other,
    /// A router has forwarded it.
    HopLimit,
    /// Its code is not 0.
    Code,
    /// The checksum is wrong.
    Checksum,
    /// Its target or its source is no address of a neighbour: of multicast or loopback, or a target that is not specified.
    Address,
    /// A solicitation without source was not sent to its target's group, or has a link-layer address; an advertisement to all
    /// says that it was solicited.
    Unspecified,
    /// An option is empty, or is cut off; or one with a link-layer address has not the length of Ethernet's (RFC 2464 §6).
    Option,
}

impl Message {
    /// Whether it is a probe of duplicate address detection (RFC 4862 §5.4.2).
    pub fn is_dad(&self) -> bool {
        self.kind == Kind::Solicitation && self.source.is_unspecified()
    }
}

/// The multicast group that all who may have this address are in (RFC 4291 §2.7.1).
pub fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The Ethernet address of a multicast group (RFC 2464 §7).
pub fn multicast_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// Reads an IPv6 packet. Octets after the length that its header names are padding of the link.
///
/// # Errors
/// Why a receiver has to discard it.
pub fn decode(packet: &[u8]) -> Result<Message, Invalid> {
    let (header, rest) = packet.split_first_chunk::<HEADER>().ok_or(Invalid::Length)?;
    if header[0] >> 4 != 6 || header[6] != ICMPV6 {
        return Err(Invalid::Other);
    }
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let body = rest.get(..len).ok_or(Invalid::Length)?;
    let kind = match body.first() {
        Some(&SOLICITATION) => Kind::Solicitation,
        Some(&ADVERTISEMENT) => Kind::Advertisement,
        _ => return Err(Invalid::Other),
    };
    let (fixed, options) = body.split_first_chunk::<FIXED>().ok_or(Invalid::Length)?;
    if header[7] != HOP_LIMIT {
        return Err(Invalid::HopLimit);
    }
    if fixed[1] != 0 {
        return Err(Invalid::Code);
    }
    let (source, destination) = (address(&header[8..24]), address(&header[24..40]));
    if checksum::of(source, destination, body) != 0 {
        return Err(Invalid::Checksum);
    }
    let target = address(&fixed[8..24]);
    let is_nobodys = |it: Ipv6Addr| it.is_multicast() || it.is_loopback();
    if is_nobodys(target) || is_nobodys(source) || target.is_unspecified() {
        return Err(Invalid::Address);
    }
    let mac = link_layer(options, kind)?;
    let message = Message { kind, source, destination, target, mac };
    if is_contradiction(&message, fixed[4]) { Err(Invalid::Unspecified) } else { Ok(message) }
}

fn is_contradiction(message: &Message, flags: u8) -> bool {
    match message.kind {
        Kind::Solicitation => {
            let to_group = message.destination == solicited_node(message.target);
            message.source.is_unspecified() && (!to_group || message.mac.is_some())
        }
        Kind::Advertisement => message.destination.is_multicast() && flags & encode::SOLICITED != 0,
    }
}

/// The link-layer address among the options; every option must be whole. Unknown ones are skipped (RFC 4861 §7.1).
fn link_layer(mut options: &[u8], kind: Kind) -> Result<Option<Mac>, Invalid> {
    let wanted = match kind {
        Kind::Solicitation => SOURCE_LINK_LAYER,
        Kind::Advertisement => TARGET_LINK_LAYER,
    };
    let mut found = None;
    while let Some((&kind, rest)) = options.split_first() {
        let len = usize::from(*rest.first().ok_or(Invalid::Option)?) * 8;
        if len == 0 || len > options.len() {
            return Err(Invalid::Option);
        }
        if kind == wanted {
            let address = Mac::try_from(&options[2..len]).map_err(|_| Invalid::Option)?;
            found.get_or_insert(address);
        }
        options = &options[len..];
    }
    Ok(found)
}

fn address(octets: &[u8]) -> Ipv6Addr {
    octets.first_chunk::<16>().map_or(Ipv6Addr::UNSPECIFIED, |octets| Ipv6Addr::from(*octets))
}

#[cfg(test)]
mod tests;
