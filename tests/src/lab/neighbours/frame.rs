//! Neighbour solicitations with any fault, and the advertisements that answer them, as Ethernet frames (RFC 4861 §4.3, §4.4). This is
//! independent of the agent's own packets, which it judges.

use std::net::Ipv6Addr;

/// An Ethernet address.
pub type Mac = [u8; 6];

const ETHERNET: usize = 14;
const HEADER: usize = 40;
const FIXED: usize = 24;
const IPV6: [u8; 2] = [0x86, 0xdd];
const TAGGED: [u8; 2] = [0x81, 0x00];
const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// A frame with a solicitation. Every field may be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solicitation {
    /// The receiver's link-layer address.
    pub to: Mac,
    /// The sender's.
    pub from: Mac,
    /// Its VLAN tag, if it has one: the priority, and the number of the VLAN.
    pub vlan: Option<u16>,
    /// The address of the sender.
    pub source: Ipv6Addr,
    /// Where it is sent to.
    pub destination: Ipv6Addr,
    /// 255 if no router has forwarded it.
    pub hop_limit: u8,
    /// Whether it has the header of a fragment.
    pub fragment: bool,
    /// The type of the ICMPv6 message.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// Whether its checksum is wrong.
    pub wrong_checksum: bool,
    /// The address that is asked for.
    pub target: Ipv6Addr,
    /// All options.
    pub options: Vec<u8>,
    /// The length of the frame, if it is cut off.
    pub cut: Option<usize>,
    /// So many octets follow the packet.
    pub padding: usize,
}

impl Solicitation {
    /// A valid one, sent to the group of its target.
    pub fn new(from: Mac, source: Ipv6Addr, target: Ipv6Addr) -> Self {
        let destination = solicited_node(target);
        Self {
            to: multicast_mac(destination),
            from,
            vlan: None,
            source,
            destination,
            hop_limit: 255,
            fragment: false,
            kind: SOLICITATION,
            code: 0,
            wrong_checksum: false,
            target,
            options: link_layer_option(from),
            cut: None,
            padding: 0,
        }
    }

    /// Sent to the target itself, as by a neighbour that checks whether it is still there (RFC 4861 §7.3).
    #[must_use]
    pub fn unicast(self, to: Mac) -> Self {
        Self { to, destination: self.target, ..self }
    }

    /// A probe of duplicate address detection (RFC 4862 §5.4.2).
    #[must_use]
    pub fn probe(self) -> Self {
        Self { source: Ipv6Addr::UNSPECIFIED, options: Vec::new(), ..self }
    }

    /// The frame.
    pub fn octets(&self) -> Vec<u8> {
        let mut body = vec![self.kind, self.code, 0, 0, 0, 0, 0, 0];
        body.extend(self.target.octets());
        body.extend(&self.options);
        let sum = checksum(self.source, self.destination, &body) ^ u16::from(self.wrong_checksum);
        body[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut next = ICMPV6;
        if self.fragment {
            // The only fragment of its packet (RFC 6946).
            body.splice(0..0, [ICMPV6, 0, 0, 0, 0, 0, 0, 1]);
            next = FRAGMENT;
        }
        let len = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
        let mut frame = [self.to, self.from].concat();
        if let Some(vlan) = self.vlan {
            frame.extend(TAGGED);
            frame.extend(vlan.to_be_bytes());
        }
        frame.extend(IPV6);
        frame.extend([0x60, 0, 0, 0, len[0], len[1], next, self.hop_limit]);
        frame.extend(self.source.octets());
        frame.extend(self.destination.octets());
        frame.extend(body);
        frame.resize(frame.len() + self.padding, 0xa5);
        frame.truncate(self.cut.unwrap_or(usize::MAX));
        frame
    }
}

/// An advertisement that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The link-layer address of the frame's receiver.
    pub to: Mac,
    /// That of its sender.
    pub from: Mac,
    /// The IPv6 source.
    pub source: Ipv6Addr,
    /// The IPv6 destination.
    pub destination: Ipv6Addr,
    /// The hop limit.
    pub hop_limit: u8,
    /// Whether the checksum is right.
    pub checksum: bool,
    /// The target: the address that somebody has.
    pub target: Ipv6Addr,
    /// The sender forwards packets.
    pub router: bool,
    /// It answers a solicitation.
    pub solicited: bool,
    /// It replaces what the receiver knew.
    pub overrides: bool,
    /// The target's link-layer address.
    pub mac: Option<Mac>,
}

/// Reads a frame; `None` if it is no advertisement.
pub fn answer(frame: &[u8]) -> Option<Answer> {
    let (ethernet, packet) = frame.split_at_checked(ETHERNET)?;
    let (header, body) = packet.split_at_checked(HEADER)?;
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let body = body.get(..len)?;
    if ethernet[12..] != IPV6 || header[6] != ICMPV6 || *body.first()? != ADVERTISEMENT || len < FIXED {
        return None;
    }
    let (source, destination) = (address(&header[8..24])?, address(&header[24..40])?);
    let flag = |bit: u8| body[4] & bit != 0;
    let option = body.get(FIXED..FIXED + 8).filter(|option| option[..2] == [2, 1]);
    Some(Answer {
        to: *ethernet.first_chunk()?,
        from: *ethernet[6..].first_chunk()?,
        source,
        destination,
        hop_limit: header[7],
        checksum: checksum(source, destination, body) == 0,
        target: address(&body[8..24])?,
        router: flag(0x80),
        solicited: flag(0x40),
        overrides: flag(0x20),
        mac: option.and_then(|option| option[2..].first_chunk().copied()),
    })
}

/// The option with the sender's link-layer address.
pub fn link_layer_option(mac: Mac) -> Vec<u8> {
    [&[1, 1][..], &mac].concat()
}

/// The group of an address (RFC 4291 §2.7.1).
pub fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    let low = u128::from(target) & 0xff_ffff;
    Ipv6Addr::from(0xff02_0000_0000_0000_0000_0001_ff00_0000 | low)
}

/// The Ethernet address of a group (RFC 2464 §7).
pub fn multicast_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

/// RFC 4443 §2.3.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, body: &[u8]) -> u16 {
    let words = |octets: &[u8]| -> u64 {
        octets.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0))).sum()
    };
    let mut sum = words(&source.octets()) + words(&destination.octets()) + words(body);
    sum += body.len() as u64 + u64::from(ICMPV6);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

fn address(octets: &[u8]) -> Option<Ipv6Addr> {
    octets.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether its checksum is that of the RFC is seen by the kernel's answers, in the tests of NDP.
    #[test]
    fn a_solicitation_is_whole() {
        let (source, target) = ("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap());
        let frame = Solicitation::new([2, 0, 0, 0, 0, 1], source, target).octets();
        assert_eq!(frame.len(), ETHERNET + HEADER + FIXED + 8);
        assert_eq!(checksum(source, solicited_node(target), &frame[ETHERNET + HEADER..]), 0);
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0, 0, 2]);
    }

    #[test]
    fn only_advertisements_are_answers() {
        let ask = Solicitation::new([2; 6], "fe80::1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        assert_eq!(answer(&ask.octets()), None);
        let as_answer = Solicitation { kind: ADVERTISEMENT, options: vec![2, 1, 2, 0, 0, 0, 0, 9], ..ask };
        let read = answer(&as_answer.octets()).unwrap();
        assert_eq!(
            (read.target, read.mac, read.checksum),
            (as_answer.target, Some([2, 0, 0, 0, 0, 9]), true)
        );
        assert_eq!(answer(&Solicitation { cut: Some(70), ..as_answer }.octets()), None);
    }
}
