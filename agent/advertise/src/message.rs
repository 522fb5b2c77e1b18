//! Router advertisements and solicitations as octets. Pure.

use std::{net::Ipv6Addr, time::Duration};

use sextant_proto::Prefix;

/// The hop limit of all messages of neighbour discovery: no router has forwarded them (RFC 4861 §6.1).
pub const HOP_LIMIT: u8 = 255;
/// The type of router solicitations (RFC 4861 §4.1).
pub const SOLICITATION: u8 = 133;
/// The type of router advertisements (RFC 4861 §4.2).
pub const ADVERTISEMENT: u8 = 134;
/// How long the default route is kept without a further advertisement. The largest value (RFC 8319 §4): 18 hours.
pub const ROUTER_LIFETIME: Duration = Duration::from_secs(65535);
/// How long an address is valid, and how long it is used for new connections, without a further advertisement: the defaults of
/// RFC 4861 §6.2.1.
pub const VALID: Duration = Duration::from_secs(30 * 24 * 3600);
/// See [`VALID`].
pub const PREFERRED: Duration = Duration::from_secs(7 * 24 * 3600);

/// The hop limit that containers use for their own packets: Linux' default.
const CURRENT_HOP_LIMIT: u8 = 64;
/// The length of the prefixes that SLAAC works with: the rest is the interface identifier (RFC 4291 §2.5.1).
const SLAAC_LEN: u8 = 64;
/// The flags of a prefix: it is on-link; addresses are made of it (RFC 4861 §4.6.2).
const ON_LINK: u8 = 0x80;
const AUTONOMOUS: u8 = 0x40;
// The types of options (RFC 4861 §4.6).
const SOURCE_LINK_LAYER: u8 = 1;
const PREFIX_INFORMATION: u8 = 3;
const MTU: u8 = 5;

/// What is advertised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Content {
    /// The MAC address of the bridge; may be empty.
    pub mac: Vec<u8>,
    /// The size of the largest packet, in octets.
    pub mtu: u32,
    /// The prefixes that containers have addresses of.
    pub prefixes: Vec<Prefix>,
    /// Those that they had before: no longer used for new connections, and gone after two hours (RFC 4862 §5.5.3).
    pub former: Vec<Prefix>,
}

impl Content {
    /// The prefixes of which no address is made by SLAAC, since they are no /64: containers need static addresses of them.
    pub fn without_slaac(&self) -> impl Iterator<Item = Prefix> {
        self.prefixes.iter().copied().filter(|prefix| prefix.len() != SLAAC_LEN)
    }
}

/// The advertisement, without its checksum, which the kernel fills in. Without a prefix of its own the host is no default
/// router: the containers' packets would have a source that nobody routes back.
pub fn encode(content: &Content) -> Vec<u8> {
    let lifetime = if content.prefixes.is_empty() { Duration::ZERO } else { ROUTER_LIFETIME };
    let lifetime = u16::try_from(lifetime.as_secs()).unwrap_or(u16::MAX).to_be_bytes();
    // Type, code, checksum, hop limit, flags (no DHCPv6), lifetime; no reachable time, no retransmission timer.
    let mut octets = vec![ADVERTISEMENT, 0, 0, 0, CURRENT_HOP_LIMIT, 0, lifetime[0], lifetime[1]];
    octets.extend([0; 8]);
    // Only Ethernet's fill an option without padding.
    if let [a, b, c, d, e, f] = content.mac[..] {
        octets.extend([SOURCE_LINK_LAYER, 1, a, b, c, d, e, f]);
    }
    octets.extend([MTU, 1, 0, 0]);
    octets.extend(content.mtu.to_be_bytes());
    for prefix in &content.prefixes {
        octets.extend(information(*prefix, VALID, PREFERRED));
    }
    for prefix in &content.former {
        octets.extend(information(*prefix, Duration::ZERO, Duration::ZERO));
    }
    octets
}

/// The option of one prefix.
fn information(prefix: Prefix, valid: Duration, preferred: Duration) -> Vec<u8> {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX).to_be_bytes();
    let flags = if prefix.len() == SLAAC_LEN { ON_LINK | AUTONOMOUS } else { ON_LINK };
    let mut option = vec![PREFIX_INFORMATION, 4, prefix.len(), flags];
    option.extend(seconds(valid));
    option.extend(seconds(preferred));
    option.extend([0; 4]);
    option.extend(prefix.addr().octets());
    option
}

/// Whether these octets, received from `source` with this hop limit, are a valid router solicitation (RFC 4861 §6.1.1). The kernel
/// has checked the checksum.
pub fn is_solicitation(octets: &[u8], source: Ipv6Addr, hop_limit: u8) -> bool {
    let [SOLICITATION, 0, _, _, _, _, _, _, options @ ..] = octets else { return false };
    hop_limit == HOP_LIMIT && are_options(options, source)
}

/// Each option has a length, in units of 8 octets, and none is cut off. A host without an address has no MAC address to tell.
fn are_options(mut options: &[u8], source: Ipv6Addr) -> bool {
    while let [kind, units, ..] = *options {
        let len = usize::from(units) * 8;
        if len == 0 || len > options.len() || kind == SOURCE_LINK_LAYER && source.is_unspecified() {
            return false;
        }
        options = &options[len..];
    }
    options.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn an_advertisement_is_as_the_rfc_says() {
        let content = Content {
            mac: vec![2, 0, 0, 0, 0, 7],
            mtu: 1400,
            prefixes: vec![prefix("2001:db8:8000:1::/64"), prefix("fd00:1::/80")],
            former: vec![prefix("2001:db8:8000:9::/64")],
        };
        let octets = encode(&content);
        assert_eq!(octets.len(), 16 + 8 + 8 + 3 * 32);
        assert_eq!(octets[..16], [134, 0, 0, 0, 64, 0, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(octets[16..24], [1, 1, 2, 0, 0, 0, 0, 7]);
        assert_eq!(octets[24..32], [5, 1, 0, 0, 0, 0, 0x05, 0x78]);
        assert_eq!(octets[32..48], [3, 4, 64, 0xc0, 0, 0x27, 0x8d, 0, 0, 0x09, 0x3a, 0x80, 0, 0, 0, 0]);
        assert_eq!(octets[48..64], prefix("2001:db8:8000:1::/64").addr().octets());
        assert_eq!(octets[64..68], [3, 4, 80, 0x80], "no addresses are made of a longer prefix");
        assert_eq!(octets[96..112], [3, 4, 64, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(content.without_slaac().collect::<Vec<_>>(), [prefix("fd00:1::/80")]);
    }

    #[test]
    fn without_a_prefix_the_host_is_no_router() {
        let octets = encode(&Content { former: vec![prefix("2001:db8:8000:9::/64")], ..Content::default() });
        assert_eq!(octets[6..8], [0, 0]);
    }

    #[test]
    fn solicitations_are_checked() {
        let (from, nobody) = ("fe80::1".parse().unwrap(), Ipv6Addr::UNSPECIFIED);
        let plain = [133, 0, 1, 2, 0, 0, 0, 0];
        let with = |option: &[u8]| [&plain[..], option].concat();
        let mac = with(&[1, 1, 2, 0, 0, 0, 0, 7]);
        for (octets, source, hop_limit, valid) in [
            (plain.to_vec(), from, 255, true),
            (plain.to_vec(), nobody, 255, true),
            (mac.clone(), from, 255, true),
            (mac, nobody, 255, false),
            (plain.to_vec(), from, 64, false),
            (plain[..7].to_vec(), from, 255, false),
            (vec![134, 0, 1, 2, 0, 0, 0, 0], from, 255, false),
            (vec![133, 1, 1, 2, 0, 0, 0, 0], from, 255, false),
            (with(&[1, 0, 2, 0, 0, 0, 0, 7]), from, 255, false),
            (with(&[1, 2, 2, 0, 0, 0, 0, 7]), from, 255, false),
            (with(&[14]), from, 255, false),
        ] {
            assert_eq!(is_solicitation(&octets, source, hop_limit), valid, "{octets:?}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_judged(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = is_solicitation(&octets, Ipv6Addr::UNSPECIFIED, 255);
        }
    }
}
