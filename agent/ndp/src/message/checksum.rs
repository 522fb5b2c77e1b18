//! The checksum of ICMPv6 (RFC 4443 §2.3, RFC 8200 §8.1).

use std::net::Ipv6Addr;

use super::ICMPV6;

/// Over the pseudo header and `body`: 0 if the checksum in it is right; what belongs there if that is 0.
pub(super) fn of(source: Ipv6Addr, destination: Ipv6Addr, body: &[u8]) -> u16 {
    let addresses = source.octets().into_iter().chain(destination.octets());
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    let pseudo: Vec<u8> = addresses.chain(len).chain([0, 0, 0, ICMPV6]).collect();
    let mut sum: u32 = pseudo.chunks(2).chain(body.chunks(2)).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

fn word(octets: &[u8]) -> u32 {
    let low = octets.get(1).copied().unwrap_or_default();
    u32::from(u16::from_be_bytes([octets[0], low]))
}
