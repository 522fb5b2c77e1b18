//! The source address of a session, which is the next hop that it announces. Pure.

use std::net::Ipv6Addr;

use sextant_proto::Uplink;

use crate::{engine::Report, settings::NeighbourSettings};

/// The uplinks that peers have of this host.
pub(super) fn announced(report: &Report) -> &[Uplink] {
    report.announcement.as_ref().map_or(&[], |announcement| &announcement.uplinks)
}

/// As configured, or the address that peers have as their next hop on the neighbour's link. The kernel could prefer a temporary
/// one (RFC 8981), which ends and takes the session and the next hop with it. `None`: as the kernel prefers.
pub(super) fn of(neighbour: &NeighbourSettings, announced: &[Uplink]) -> Option<Ipv6Addr> {
    let addresses = announced.iter().flat_map(|uplink| &uplink.addresses);
    let usable = addresses.filter(|it| !it.addr.is_unicast_link_local());
    let on_link = usable.filter(|it| it.on_link.contains(neighbour.address));
    neighbour.source.or_else(|| on_link.map(|it| it.addr).next())
}

#[cfg(test)]
mod tests {
    use sextant_proto::InterfaceAddress;

    use super::*;

    #[test]
    fn a_session_has_the_source_that_peers_have_as_next_hop() {
        let address = |addr: &str, on_link: &str| InterfaceAddress {
            addr: addr.parse().unwrap(),
            on_link: on_link.parse().unwrap(),
        };
        let addresses = vec![
            address("2001:db8:5::1", "2001:db8:5::/64"),
            address("2001:db8::1", "2001:db8::/64"),
            address("2001:db8::ffff", "2001:db8::/64"),
            address("fe80::1", "fe80::/64"),
        ];
        let uplinks = [Uplink { interface: "eth0".into(), addresses }];
        let source = |neighbour: &str, configured: Option<&str>| {
            let mut settings = crate::bgp::wire::encode::tests::neighbour(65000);
            settings.address = neighbour.parse().unwrap();
            settings.source = configured.map(|source| source.parse().unwrap());
            of(&settings, &uplinks).map(|it| it.to_string())
        };
        for (neighbour, configured, expected) in [
            ("2001:db8::fe", None, Some("2001:db8::1")),
            ("2001:db8:5::fe", None, Some("2001:db8:5::1")),
            ("2001:db8:9::fe", None, None),
            ("fe80::fe", None, None),
            ("2001:db8::fe", Some("2001:db8::9"), Some("2001:db8::9")),
        ] {
            assert_eq!(source(neighbour, configured).as_deref(), expected, "{neighbour}");
        }
    }
}
