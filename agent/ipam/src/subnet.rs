//! IPv4 and IPv6 subnets. Pure.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use sextant_proto::Prefix;

/// The number of bits before those of an IPv4 address (RFC 4291 §2.5.5.2).
const MAPPED: u8 = 96;

/// A subnet. One of IPv4 is the prefix of its mapped addresses, so that both have one arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet(Prefix);

/// The text is no subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is no subnet; write it as ADDRESS/LENGTH, e.g. 172.30.0.0/16 or 2001:db8:1::/80, without host bits"
)]
pub struct SubnetError(String);

impl Subnet {
    /// The subnet of this length that an address is in.
    pub fn containing(addr: IpAddr, len: u8) -> Option<Self> {
        let mapped = if addr.is_ipv4() { len.checked_add(MAPPED)? } else { len };
        Prefix::containing(to_v6(addr), mapped).map(Self)
    }

    /// Whether it is one of IPv4.
    pub fn is_ipv4(self) -> bool {
        self.0.len() >= MAPPED && self.0.addr().to_ipv4_mapped().is_some()
    }

    /// The prefix; none if it is one of IPv4.
    pub fn ipv6(self) -> Option<Prefix> {
        (!self.is_ipv4()).then_some(self.0)
    }

    /// The first address.
    pub fn addr(self) -> IpAddr {
        self.shown(self.0.addr())
    }

    /// The length in bits.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(self) -> u8 {
        if self.is_ipv4() { self.0.len() - MAPPED } else { self.0.len() }
    }

    /// Whether the address is in it.
    pub fn contains(self, addr: IpAddr) -> bool {
        addr.is_ipv4() == self.is_ipv4() && self.0.contains(to_v6(addr))
    }

    /// Whether `other` is in it, or is itself.
    pub fn covers(self, other: Self) -> bool {
        self.is_ipv4() == other.is_ipv4() && self.0.covers(other.0)
    }

    /// Whether the two share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// The first subnet of length `len` inside of it that overlaps nothing: `taken` returns something that a subnet overlaps.
    pub fn first_free(self, len: u8, taken: impl Fn(Self) -> Option<Self>) -> Option<Self> {
        let len = if self.is_ipv4() { len.checked_add(MAPPED)? } else { len };
        self.0.first_free(len, |candidate| Some(taken(Self(candidate))?.0)).map(Self)
    }

    /// The number of the last address that a host may have, counted from the first one: IPv4 has a broadcast address.
    pub fn last_host(self) -> u128 {
        let last = self.0.last_addr().to_bits() - self.0.addr().to_bits();
        if self.is_ipv4() && self.len() < 31 { last - 1 } else { last }
    }

    /// The address with this number.
    pub fn nth(self, number: u128) -> IpAddr {
        self.shown(Ipv6Addr::from_bits(self.0.addr().to_bits() + number))
    }

    /// The number of an address that is in it.
    pub fn number(self, addr: IpAddr) -> u128 {
        to_v6(addr).to_bits() - self.0.addr().to_bits()
    }

    fn shown(self, addr: Ipv6Addr) -> IpAddr {
        match addr.to_ipv4_mapped().filter(|_| self.is_ipv4()) {
            Some(addr) => addr.into(),
            None => addr.into(),
        }
    }
}

fn to_v6(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    }
}

impl From<Prefix> for Subnet {
    fn from(prefix: Prefix) -> Self {
        Self(prefix)
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl TryFrom<String> for Subnet {
    type Error = SubnetError;

    fn try_from(text: String) -> Result<Self, SubnetError> {
        text.parse()
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let parse = || {
            if text.contains(':') {
                return text.parse().ok().map(Self);
            }
            let (addr, len) = text.split_once('/')?;
            let (addr, len): (Ipv4Addr, u8) = (addr.parse().ok()?, len.parse().ok()?);
            Prefix::new(addr.to_ipv6_mapped(), len.checked_add(MAPPED)?).ok().map(Self)
        };
        parse().ok_or_else(|| SubnetError(sextant_proto::quoted(text)))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr(), self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn both_families_have_one_arithmetic_and_never_overlap() {
        let (v4, v6) = (subnet("172.30.0.0/16"), subnet("2001:db8::/64"));
        assert_eq!((v4.to_string(), v4.len()), ("172.30.0.0/16".into(), 16));
        assert_eq!((v6.to_string(), v6.len()), ("2001:db8::/64".into(), 64));
        assert!(v4.covers(subnet("172.30.4.0/24")) && !v4.overlaps(subnet("172.31.0.0/24")));
        assert!(!subnet("::/0").overlaps(v4) && !subnet("::/0").contains(v4.addr()));
        assert_eq!(v4.nth(258), "172.30.1.2".parse::<IpAddr>().unwrap());
        assert_eq!(v4.number(v4.nth(258)), 258);
        assert_eq!((subnet("10.0.0.0/24").last_host(), subnet("fd00::/120").last_host()), (254, 255));
        for bad in
            ["", "10.0.0.1/24", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/255", "fd00::1/64", "x/1", "fd00::/129"]
        {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_first_free_one_is_found_past_longer_and_shorter_ones() {
        let taken = ["2001:db8::/80", "2001:db8::1:0:0:0/96", "2001:db8:0:0:2::/79"].map(subnet);
        let free = |of: &str, len| {
            let overlap = |it: Subnet| taken.iter().copied().find(|other| other.overlaps(it));
            subnet(of).first_free(len, overlap).map(|it| it.to_string())
        };
        assert_eq!(free("2001:db8::/64", 80).as_deref(), Some("2001:db8:0:0:4::/80"));
        assert_eq!(free("2001:db8::/64", 96).as_deref(), Some("2001:db8::1:1:0:0/96"));
        assert_eq!(free("2001:db8::/80", 96), None);
        assert_eq!(free("2001:db8::/64", 64), None);
        assert_eq!(free("2001:db8::/64", 48), None, "shorter than the whole");
        assert_eq!(free("10.0.0.0/16", 24).as_deref(), Some("10.0.0.0/24"));
        assert_eq!(free("10.0.0.0/16", 255), None);
    }
}
