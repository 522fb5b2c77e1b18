//! The prefixes that are accepted from a router. Pure.

use serde::{Deserialize, Serialize};
use sextant_proto::Prefix;

/// The kind of prefixes that are accepted from a router.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Import {
    /// None.
    #[default]
    None,
    /// The default route.
    Default,
    /// All prefixes that match the filter.
    All,
}

/// The import policy for one router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// The kind of prefixes.
    pub import: Import,
    /// With [`Import::All`]: only prefixes inside one of these.
    pub filter: Vec<Prefix>,
    /// The maximum number of prefixes.
    pub max: usize,
}

impl Accept {
    /// Whether a prefix is accepted.
    pub fn takes(&self, prefix: Prefix) -> bool {
        match self.import {
            Import::None => false,
            Import::Default => prefix.len() == 0,
            Import::All => self.filter.iter().any(|it| it.covers(prefix)) && !is_not_routable(prefix),
        }
    }
}

/// Unspecified, loopback, IPv4-mapped, link-local and multicast addresses are never imported.
fn is_not_routable(prefix: Prefix) -> bool {
    let first = prefix.addr().segments()[0];
    let len = prefix.len();
    let inside = |network: u16, bits: u8| len >= bits && first >> (16 - bits) == network >> (16 - bits);
    inside(0, 8) || inside(0xfe80, 10) || inside(0xff00, 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_prefixes() {
        let of = |import, filter: &[&str]| {
            let filter = filter.iter().map(|it| it.parse().unwrap()).collect();
            let accept = Accept { import, filter, max: 10 };
            let all = [
                "::/0",
                "2000::/3",
                "2001:db8::/32",
                "fc00::/7",
                "fe80::/64",
                "ff02::/16",
                "::1/128",
                "::ffff:0:0/96",
            ];
            all.into_iter().filter(|it| accept.takes(it.parse().unwrap())).collect::<Vec<_>>()
        };
        assert!(of(Import::None, &["::/0"]).is_empty());
        assert_eq!(of(Import::Default, &[]), ["::/0"]);
        assert_eq!(of(Import::All, &["::/0"]), ["::/0", "2000::/3", "2001:db8::/32", "fc00::/7"]);
        assert_eq!(of(Import::All, &["2000::/3"]), ["2000::/3", "2001:db8::/32"]);
        assert_eq!(of(Import::All, &["2001:db8::/32", "fc00::/7"]), ["2001:db8::/32", "fc00::/7"]);
    }
}
