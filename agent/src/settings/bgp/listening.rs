//! Where to listen for neighbours.

use std::net::Ipv6Addr;

/// The one address that all neighbours reach this host at, by the `source` of each; any address unless they have one in common.
pub fn listening_address(sources: impl IntoIterator<Item = Option<Ipv6Addr>>) -> Ipv6Addr {
    let mut sources = sources.into_iter();
    let first = sources.next().flatten().filter(|source| !source.is_unicast_link_local());
    first.filter(|first| sources.all(|source| source == Some(*first))).unwrap_or(Ipv6Addr::UNSPECIFIED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_common_source_is_listened_at() {
        let [one, two, local] =
            ["2001:db8::1", "2001:db8::2", "fe80::1"].map(|address| Some(address.parse().unwrap()));
        for (sources, expected) in [
            (vec![one], one),
            (vec![one, one], one),
            (vec![one, two], None),
            (vec![one, None], None),
            (vec![None, one], None),
            (vec![local, local], None),
            (vec![], None),
        ] {
            let expected = expected.unwrap_or(Ipv6Addr::UNSPECIFIED);
            assert_eq!(listening_address(sources.clone()), expected, "{sources:?}");
        }
    }
}
