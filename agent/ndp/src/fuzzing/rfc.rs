//! A second reader of neighbour discovery, written from RFC 4861 §7.1.1 and §7.1.2 alone: the decoder is compared with it.

use std::net::Ipv6Addr;

use crate::message::Mac;

/// What a valid packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) kind: u8,
    pub(super) source: Ipv6Addr,
    pub(super) destination: Ipv6Addr,
    pub(super) flags: u8,
    pub(super) target: Ipv6Addr,
    /// The link-layer address of the option that belongs to this kind.
    pub(super) mac: Option<Mac>,
}

/// Reads a valid solicitation or advertisement.
pub(super) fn read(packet: &[u8]) -> Option<Read> {
    let at = |index: usize| packet.get(index).copied();
    let addr =
        |index: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(index..index + 16)?).ok()?));
    let len = usize::from(at(4)?) << 8 | usize::from(at(5)?);
    let (end, kind) = (40 + len, at(40)?);
    let is_discovery = at(0)? & 0xf0 == 0x60 && at(6)? == 58 && (kind == 135 || kind == 136);
    let is_neighbours = at(7)? == 255 && at(41)? == 0;
    if !is_discovery || !is_neighbours || len < 24 || end > packet.len() || !sums_up(&packet[..end]) {
        return None;
    }
    let (source, destination, target, flags) = (addr(8)?, addr(24)?, addr(48)?, at(44)?);
    let options = options(&packet[64..end])?;
    // On Ethernet, the option is of eight octets (RFC 2464 §6).
    let wanted = kind - 134;
    let mut mac = None;
    for (_, value) in options.iter().filter(|(number, _)| *number == wanted) {
        let address: Mac = (*value).try_into().ok()?;
        mac = mac.or(Some(address));
    }
    let is_one = |it: Ipv6Addr| it.octets()[0] != 0xff && it != Ipv6Addr::LOCALHOST;
    if !is_one(target) || !is_one(source) || target == Ipv6Addr::UNSPECIFIED {
        return None;
    }
    let is_probe = kind == 135 && source == Ipv6Addr::UNSPECIFIED;
    let contradicts = match kind {
        135 => is_probe && (destination != group(target) || mac.is_some()),
        _ => destination.octets()[0] == 0xff && flags & 0x40 != 0,
    };
    (!contradicts).then_some(Read { kind, source, destination, flags, target, mac })
}

/// The type and the value of each; `None` if one is empty or cut off.
fn options(mut rest: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (number, len) = (rest[0], 8 * usize::from(*rest.get(1)?));
        let option = rest.get(..len).filter(|it| !it.is_empty())?;
        all.push((number, &option[2..]));
        rest = &rest[len..];
    }
    Some(all)
}

/// Whether the ones' complement sum over the pseudo header and the message is right (RFC 8200 §8.1).
fn sums_up(packet: &[u8]) -> bool {
    sum(packet).is_multiple_of(0xffff)
}

fn sum(packet: &[u8]) -> u64 {
    let word = |it: &[u8]| u64::from(it[0]) * 256 + it.get(1).map_or(0, |low| (*low).into());
    packet[8..].chunks(2).map(word).sum::<u64>() + (packet.len() as u64 - 40) + 58
}

/// With the right length and checksum, as far as there is room for them.
pub(super) fn repaired(mut packet: Vec<u8>) -> Vec<u8> {
    if let Some(len) = packet.len().checked_sub(40).and_then(|len| u16::try_from(len).ok()) {
        packet[4..6].copy_from_slice(&len.to_be_bytes());
    }
    if packet.len() >= 44 {
        packet[42..44].fill(0);
        let wrong = u16::try_from(sum(&packet) % 0xffff).unwrap();
        packet[42..44].copy_from_slice(&(!wrong).to_be_bytes());
    }
    packet
}

/// RFC 4291 §2.7.1.
pub(super) fn group(target: Ipv6Addr) -> Ipv6Addr {
    let base = u128::from(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0));
    Ipv6Addr::from(base | (u128::from(target) & 0xff_ffff))
}

/// RFC 2464 §7.
pub(super) fn group_mac(group: Ipv6Addr) -> Mac {
    let low = group.octets();
    [0x33, 0x33, low[12], low[13], low[14], low[15]]
}
