//! IPv6 prefixes without host bits.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use ipnetwork::Ipv6Network;

use crate::quoted;

/// An IPv6 prefix (RFC 4291 §2.3) whose bits after its length are all zero.
///
/// Ordered by address, then length: all prefixes inside another one follow it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    bits: u128,
    len: u8,
}

/// Why a text or a pair of address and length is no [`Prefix`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Not of the form `address/length`.
    #[error("\"{0}\" is not an IPv6 prefix; write it as ADDRESS/LENGTH, e.g. 2001:db8:1::/48")]
    Malformed(String),
    /// A length over 128.
    #[error("prefix length {0} is over 128")]
    Length(u32),
    /// Bits are set after the length.
    #[error("{addr}/{len} has host bits set; the prefix is {fix}")]
    HostBits {
        /// The address given.
        addr: Ipv6Addr,
        /// The length given.
        len: u8,
        /// The prefix that the address is in.
        fix: Prefix,
    },
    /// An address that is not 16 octets long.
    #[error("an IPv6 address has 16 octets, not {0}")]
    Octets(usize),
}

impl Prefix {
    /// `::/0`, which all others are in.
    pub const EVERYWHERE: Prefix = Prefix { bits: 0, len: 0 };

    /// The prefix of `addr` and `len`.
    ///
    /// # Errors
    /// If `len` is over 128, or `addr` has bits set after `len`.
    pub fn new(addr: Ipv6Addr, len: u8) -> Result<Self, PrefixError> {
        let prefix = Self::containing(addr, len).ok_or(PrefixError::Length(len.into()))?;
        if prefix.bits == addr.to_bits() {
            Ok(prefix)
        } else {
            Err(PrefixError::HostBits { addr, len, fix: prefix })
        }
    }

    /// The prefix of length `len` that `addr` is in; `None` if `len` is over 128.
    pub fn containing(addr: Ipv6Addr, len: u8) -> Option<Self> {
        (len <= 128).then(|| Self { bits: addr.to_bits() & mask(len), len })
    }

    /// The first address.
    pub fn addr(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.bits)
    }

    /// The last address.
    pub fn last_addr(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.bits | !mask(self.len))
    }

    /// The length in bits, 0 to 128.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> u8 {
        self.len
    }

    /// Whether `addr` is in it.
    pub fn contains(self, addr: Ipv6Addr) -> bool {
        addr.to_bits() & mask(self.len) == self.bits
    }

    /// Whether `other` is in it, or is itself.
    pub fn covers(self, other: Prefix) -> bool {
        self.len <= other.len && self.contains(other.addr())
    }

    /// Whether the two share an address.
    pub fn overlaps(self, other: Prefix) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// How many prefixes of length `len` it holds; `u128::MAX` stands for 2^128, 0 if `len` is shorter than its own.
    pub fn count(self, len: u8) -> u128 {
        match len.checked_sub(self.len) {
            Some(bits) => 1u128.checked_shl(bits.into()).unwrap_or(u128::MAX),
            None => 0,
        }
    }

    /// Its `index`-th prefix of length `len`, counted from 0; `None` past the last.
    pub fn nth(self, len: u8, index: u128) -> Option<Prefix> {
        let index_bits = len.checked_sub(self.len).filter(|_| len <= 128)?;
        let in_range = index.checked_shr(index_bits.into()).unwrap_or(0) == 0;
        let offset = index.checked_shl(u32::from(128 - len)).unwrap_or(0);
        in_range.then_some(Self { bits: self.bits | offset, len })
    }

    /// Its first prefix of length `len` that overlaps nothing: `taken` returns something that a prefix overlaps.
    pub fn first_free(self, len: u8, taken: impl Fn(Prefix) -> Option<Prefix>) -> Option<Prefix> {
        let mut next = self.nth(len, 0)?;
        while let Some(other) = taken(next) {
            let past = other.last_addr().max(next.last_addr()).to_bits().checked_add(1)?;
            next = Self::containing(Ipv6Addr::from_bits(past), len).filter(|next| self.covers(*next))?;
        }
        Some(next)
    }

    /// Itself shortened to `len`; `None` if `len` is longer than its own.
    pub fn ancestor(self, len: u8) -> Option<Prefix> {
        (len <= self.len).then(|| Self { bits: self.bits & mask(len), len })
    }

    /// The first address after the subnet-router anycast address (RFC 4291 §2.6.1), or the only one of a `/128`.
    pub fn first_host(self) -> Ipv6Addr {
        if self.len == 128 { self.addr() } else { Ipv6Addr::from_bits(self.bits + 1) }
    }
}

fn mask(len: u8) -> u128 {
    u128::MAX.checked_shl(u32::from(128 - len.min(128))).unwrap_or(0)
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let malformed = || PrefixError::Malformed(quoted(text));
        if !text.contains('/') {
            return Err(malformed());
        }
        let network: Ipv6Network = text.parse().map_err(|_| malformed())?;
        Self::try_from(network)
    }
}

impl TryFrom<Ipv6Network> for Prefix {
    type Error = PrefixError;

    fn try_from(network: Ipv6Network) -> Result<Self, PrefixError> {
        Self::new(network.ip(), network.prefix())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.addr(), self.len))
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn p(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_are_refused_with_the_fix() {
        let error = "2001:db8:1::1/48".parse::<Prefix>().unwrap_err();
        assert_eq!(error.to_string(), "2001:db8:1::1/48 has host bits set; the prefix is 2001:db8:1::/48");
    }

    #[test]
    fn malformed_texts_are_refused() {
        for text in ["", "2001:db8::", "2001:db8::/129", "10.0.0.0/8", "x/64", "2001:db8::/-1"] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn subnets_by_index() {
        assert_eq!(p("2001:db8:1::/48").nth(64, 0x102), Some(p("2001:db8:1:102::/64")));
        assert_eq!(p("2001:db8:1::/48").nth(64, 0x1_0000), None);
        assert_eq!(p("2001:db8::/64").nth(64, 0), Some(p("2001:db8::/64")));
        assert_eq!(p("2001:db8::/64").nth(64, 1), None);
        assert_eq!(p("::/0").nth(128, u128::MAX), Some(p("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128")));
        assert_eq!(p("2001:db8::/64").nth(48, 0), None);
    }

    #[test]
    fn first_host_skips_the_anycast_address() {
        assert_eq!(p("2001:db8:1::/64").first_host(), "2001:db8:1::1".parse::<Ipv6Addr>().unwrap());
        assert_eq!(p("2001:db8::8/128").first_host(), "2001:db8::8".parse::<Ipv6Addr>().unwrap());
    }

    fn any_prefix() -> impl Strategy<Value = Prefix> {
        (any::<u128>(), 0u8..=128)
            .prop_map(|(bits, len)| Prefix::containing(Ipv6Addr::from_bits(bits), len).unwrap())
    }

    proptest! {
        #[test]
        fn text_round_trips(prefix in any_prefix()) {
            prop_assert_eq!(prefix.to_string().parse::<Prefix>().unwrap(), prefix);
        }

        #[test]
        fn overlap_is_sharing_an_end(a in any_prefix(), b in any_prefix()) {
            let by_ends = a.contains(b.addr()) || a.contains(b.last_addr()) || b.contains(a.addr());
            prop_assert_eq!(a.overlaps(b), by_ends);
        }

        #[test]
        fn every_ancestor_covers(prefix in any_prefix(), len in 0u8..=128) {
            match prefix.ancestor(len) {
                Some(ancestor) => prop_assert!(ancestor.covers(prefix)),
                None => prop_assert!(len > prefix.len()),
            }
        }
    }
}
