//! Which prefixes a router may announce to this host at all. Pure.

use serde::{Deserialize, Serialize};
use sextant_proto::Prefix;

/// How much is taken of a router.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Import {
    /// Nothing.
    #[default]
    None,
    /// A default route.
    Default,
    /// All that the filter lets in.
    All,
}

/// What is taken of one router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// How much.
    pub import: Import,
    /// With [`Import::All`], only what is inside one of these.
    pub filter: Vec<Prefix>,
    /// No more than so many prefixes.
    pub max: usize,
}

impl Accept {
    /// Whether a prefix is taken in.
    pub fn takes(&self, prefix: Prefix) -> bool {
        match self.import {
            Import::None => false,
            Import::Default => prefix.len() == 0,
            Import::All => self.filter.iter().any(|it| it.covers(prefix)) && !is_of_no_network(prefix),
        }
    }
}

/// Unspecified, loopback and mapped addresses, link-local ones, multicast: nothing is routed there.
fn is_of_no_network(prefix: Prefix) -> bool {
    let first = prefix.addr().segments()[0];
    let len = prefix.len();
    let inside = |network: u16, bits: u8| len >= bits && first >> (16 - bits) == network >> (16 - bits);
    inside(0, 8) || inside(0xfe80, 10) || inside(0xff00, 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken() {
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
