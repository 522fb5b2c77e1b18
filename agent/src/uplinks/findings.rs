//! The problems of the uplinks. Pure.

use sextant_proto::{Prefix, link_name_word};

use super::{LinkRoutes, LocalUplink, interfaces, is_link_local, is_shared, is_usable, lent};
use crate::{
    kernel::{Address, Link},
    problems::Finding,
};

/// The problems of the uplinks `names`: each one that does not exist, has no address that peers may use, is down, or has lost the
/// route to its link.
pub(crate) fn findings(
    names: &[String],
    links: &[Link],
    addresses: &[Address],
    uplinks: &[LocalUplink],
) -> Vec<Finding> {
    let missing = |name: &String| {
        Finding::new(
            "uplink-missing",
            format!("uplink \"{name}\" does not exist; interfaces: {}", interfaces(links).join(", ")),
            "restore the interface's name, or set [uplink] interface in agent.toml (--uplink) and restart sextant-agent",
        )
    };
    let of = |name: &String| match links.iter().find(|link| link.name == *name) {
        None => Some(missing(name)),
        Some(link) => {
            let address = without_address(link, links, addresses);
            address.or_else(|| down(link)).or_else(|| without_route(link, addresses, uplinks))
        }
    };
    names.iter().filter_map(of).collect()
}

/// An uplink of the settings, which has another name now. The agent would not start again.
pub(crate) fn renamed(configured: &str, now: &str) -> Finding {
    Finding::new(
        "uplink-renamed",
        format!("uplink \"{configured}\" is named \"{now}\" now; the agent uses it until it restarts"),
        format!(
            "restore the interface's name: `ip link set dev {} name {}`; or set [uplink] interface = \"{now}\" in agent.toml \
             (--uplink) and restart sextant-agent",
            link_name_word(now),
            link_name_word(configured)
        ),
    )
}

/// The route to the link of one of the uplinks has a nexthop object that the kernel does not show. What is on-link is not known then.
pub(crate) fn hidden(uplinks: &[LocalUplink], routes: &LinkRoutes) -> Option<Finding> {
    let of = |local: &LocalUplink| {
        let mut own = local.uplink.addresses.iter();
        own.find_map(|own| Some((local.uplink.interface.clone(), routes.hidden_around(own.addr)?)))
    };
    let (name, prefix) = uplinks.iter().find_map(of)?;
    Some(Finding::new(
        "next-hops-hidden",
        format!(
            "the route to {prefix} has a nexthop object (`ip nexthop`), whose interface the kernel does not show: sysctl \
             net.ipv4.nexthop_compat_mode is 0; hosts on the link of uplink {name} count as not on-link"
        ),
        "sysctl -w net.ipv4.nexthop_compat_mode=1 (it is for IPv6, too), and find where it is set; then add that route again, or \
         restart sextant-agent",
    ))
}

/// Without carrier the kernel keeps addresses and routes, but nothing passes.
fn down(link: &Link) -> Option<Finding> {
    let (saw, fix) = match (link.up, link.carrier) {
        (true, true) => return None,
        (true, false) => (
            "has no carrier",
            "check its cable, and the port of the switch or the virtual switch that it leads to".to_owned(),
        ),
        (false, _) => ("is down", format!("`ip link set dev {} up`", link_name_word(&link.name))),
    };
    let saw = format!("uplink {} {saw}: peers and controllers are not reached over it", link.name);
    Some(Finding::new("uplink-down", saw, fix))
}

/// The kernel keeps a route to the prefix of an address that stays, while the link is up; only another process removes it. One
/// of a VRF is elsewhere.
fn without_route(link: &Link, addresses: &[Address], uplinks: &[LocalUplink]) -> Option<Finding> {
    let local = uplinks.iter().find(|local| local.link == link.index)?;
    let prefix = |it: &Address| Prefix::containing(it.addr, it.len).filter(|prefix| prefix.len() < 128);
    let is_there = |prefix: Prefix| local.on_link.prefixes().any(|it| it.covers(prefix));
    let has_one = |it: &&Address| it.link == link.index && is_usable(it) && it.permanent && it.prefix_route;
    let mut lost = addresses.iter().filter(has_one).filter_map(|it| Some((it, prefix(it)?)));
    let (address, prefix) =
        lost.find(|(_, prefix)| link.up && link.controller.is_none() && !is_there(*prefix))?;
    let (name, word) = (&link.name, link_name_word(&link.name));
    let text = format!("{}/{}", address.addr, address.len);
    Some(Finding::new(
        "connected-route-missing",
        format!(
            "uplink {name} has address {text}, but its route to {prefix} was removed by another process (ip -6 route flush, a \
             network manager); hosts on that link are not reached directly"
        ),
        format!(
            "have the kernel add the route again: `ip -6 address replace {text} dev {word}`, and find that process; or, if these \
             hosts are to be reached through a router only: `ip -6 address replace {text} dev {word} noprefixroute`"
        ),
    ))
}

fn without_address(link: &Link, links: &[Link], addresses: &[Address]) -> Option<Finding> {
    let (name, word) = (&link.name, link_name_word(&link.name));
    let own: Vec<_> = addresses.iter().filter(|address| address.link == link.index).collect();
    let unnumbered = || own.iter().any(|it| is_link_local(it)) && lent(links, addresses).next().is_some();
    if own.iter().any(|address| is_usable(address)) || unnumbered() {
        return None;
    }
    let duplicate = own.iter().find(|address| address.global && address.dad_failed);
    if let Some(Address { addr, len, .. }) = own.iter().find(|it| it.global && is_shared(it)) {
        return Some(Finding::new(
            "address-shared",
            format!(
                "uplink {name} has no usable IPv6 address: {addr}/{len} is the subnet-router anycast address of its link, which each \
                 host on it has that forwards (RFC 4291)"
            ),
            format!("add one that no other host has: ip -6 addr add ADDRESS/{len} dev {word}"),
        ));
    }
    Some(match duplicate {
        Some(Address { addr, len, .. }) => Finding::new(
            "address-duplicate",
            format!(
                "uplink {name} has no usable IPv6 address: another host on the link uses {addr} (duplicate address detection \
                 failed)"
            ),
            format!(
                "find that host (`ip -6 neigh show dev {word}` on a third host), and change the address of one of the two; then \
                 on this host: ip -6 addr del {addr}/{len} dev {word}, and add its address again"
            ),
        ),
        None if !link.up => Finding::new(
            "address-missing",
            format!("uplink {name} has no usable IPv6 address: the interface is down"),
            format!(
                "`ip link set dev {word} up`; if its address does not come back by itself (the kernel removes it when the interface \
                 goes down): `ip -6 addr add ADDRESS/LENGTH dev {word}`, and the routes over it, as the default route"
            ),
        ),
        None => Finding::new(
            "address-missing",
            format!(
                "uplink {name} has no usable IPv6 address (global, not tentative, not temporary), and the loopback interface lends none"
            ),
            format!("add one: ip -6 addr add ADDRESS/LENGTH dev {word}"),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::fake::permanent,
        uplinks::{link_routes, local_uplinks},
    };

    #[test]
    fn an_uplink_that_is_down_is_found() {
        let eth0 = Link { index: 2, name: "eth0".into(), up: true, carrier: false, ..Link::default() };
        let address = permanent(2, "2001:db8::1".parse().unwrap(), 64);
        let found = |link: &Link| {
            findings(&["eth0".to_owned()], std::slice::from_ref(link), std::slice::from_ref(&address), &[])
        };
        let pulled = found(&eth0);
        assert_eq!(
            pulled[0].saw,
            "uplink eth0 has no carrier: peers and controllers are not reached over it"
        );
        assert_eq!(found(&Link { up: false, ..eth0.clone() })[0].fix, "`ip link set dev eth0 up`");
        assert_eq!(found(&Link { carrier: true, ..eth0 }), []);
    }

    /// What is found on eth0 with this address and these routes.
    fn found(link: &Link, address: Address, routes: &[&str]) -> Vec<&'static str> {
        let (names, links) = (["eth0".to_owned()], [link.clone()]);
        let routes: LinkRoutes = link_routes(routes);
        let uplinks = local_uplinks(&names, &links, std::slice::from_ref(&address), &routes);
        findings(&names, &links, &[address], &uplinks).iter().map(|it| it.what).collect()
    }

    #[test]
    fn a_route_to_the_link_whose_next_hops_are_hidden_is_found() {
        let eth0 = Link { index: 2, name: "eth0".into(), up: true, carrier: true, ..Link::default() };
        let address = permanent(2, "2001:db8::1".parse().unwrap(), 128);
        let found = |routes: &[&str]| {
            let routes = link_routes(routes);
            let (links, addresses) = (std::slice::from_ref(&eth0), std::slice::from_ref(&address));
            let uplinks = local_uplinks(&["eth0".to_owned()], links, addresses, &routes);
            hidden(&uplinks, &routes).map(|it| it.saw)
        };
        assert!(found(&["hidden 2001:db8::/64"]).unwrap().starts_with("the route to 2001:db8::/64 has"));
        for fine in ["2001:db8::/64 dev 2", "hidden ::/0", "hidden 2001:db8:7::/64"] {
            assert_eq!(found(&[fine]), None, "{fine}");
        }
    }

    #[test]
    fn a_connected_route_that_another_process_removed_is_found() {
        let eth0 = Link { index: 2, name: "eth0".into(), up: true, carrier: true, ..Link::default() };
        let address = permanent(2, "2001:db8::1".parse().unwrap(), 64);
        let default = "::/0 via fe80::1 dev 2";
        for routes in [vec![default], vec![default, "2001:db8::/64 dev 3"], vec!["2001:db8::/65 dev 2"]] {
            assert_eq!(found(&eth0, address.clone(), &routes), ["connected-route-missing"], "{routes:?}");
        }
        for routes in [["2001:db8::/64 dev 2 proto 2"], ["2001:db8::/60 dev 2 proto 9"]] {
            assert_eq!(found(&eth0, address.clone(), &routes), [""; 0], "{routes:?}");
        }
        for right in [
            Address { prefix_route: false, ..address.clone() },
            Address { permanent: false, ..address.clone() },
            Address { len: 128, ..address.clone() },
        ] {
            assert_eq!(found(&eth0, right, &[default]), [""; 0]);
        }
        let (down, of_vrf) = (Link { up: false, ..eth0.clone() }, Link { controller: Some(9), ..eth0 });
        assert_eq!(found(&down, address.clone(), &[default]), ["uplink-down"], "the kernel removes it");
        assert_eq!(found(&of_vrf, address, &[default]), [""; 0]);
    }
}
