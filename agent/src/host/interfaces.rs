//! Links on which the kernel has no IPv6, and what a container's router advertisement left behind. Pure.

use std::collections::BTreeSet;

use super::{containers::ContainerLinks, drift, sysctls};
use crate::{
    kernel::{Address, Link, Route, RouteTarget},
    problems::Finding,
};

/// RFC 8200 §5.
const IPV6_MIN_MTU: u32 = 1280;

/// Why the kernel has no IPv6 on `link`, which is this host's `role`; `off` is its sysctl `disable_ipv6`.
pub fn without_ipv6(role: &str, link: &Link, off: bool) -> Option<Finding> {
    let name = &link.name;
    if link.mtu != 0 && link.mtu < IPV6_MIN_MTU {
        return Some(Finding::unready(
            "mtu-too-small",
            format!(
                "{role} {name} has MTU {}; the kernel has no IPv6 on a link with less than {IPV6_MIN_MTU}",
                link.mtu
            ),
            format!(
                "ip link set {name} mtu 1500 (at least {IPV6_MIN_MTU}), and change the configuration that sets it; addresses \
                 that were set by hand must be added again"
            ),
        ));
    }
    off.then(|| {
        let path = sysctls::of_interface(name, "disable_ipv6");
        let sysctl = drift::name(&path);
        Finding::unready(
            "ipv6-disabled",
            format!("IPv6 is disabled on {role} {name}: {sysctl} = 1"),
            format!(
                "sysctl -w {}=0, and remove it from /etc/sysctl.conf, /etc/sysctl.d or the kernel's command line \
                 (net.ipv6.conf.all.disable_ipv6 sets it for all interfaces); addresses that were set by hand must be added again",
                sysctl.trim_start_matches("sysctl ")
            ),
        )
    })
}

/// What the host has learned from a container's router advertisement. The kernel keeps it until it expires.
pub fn learned_from_containers(
    links: &[Link],
    addresses: &[Address],
    advertised: &[Route],
    inside: &ContainerLinks,
) -> Vec<Finding> {
    let bridges = links.iter().filter(|link| inside.is_bridge(link.index));
    let learned = bridges.flat_map(|bridge| {
        let name = &bridge.name;
        let here = addresses.iter().filter(|it| it.link == bridge.index && sysctls::is_learned(it));
        let here = here.map(move |it| {
            let address = format!("{}/{}", it.addr, it.len);
            (format!("address {address}"), format!("ip -6 address del {address} dev {name}"))
        });
        let through = |route: &&Route| match &route.target {
            RouteTarget::Via(hops) => hops.iter().any(|hop| hop.link == bridge.index),
            _ => false,
        };
        let routes: BTreeSet<_> = advertised.iter().filter(through).map(|route| route.key).collect();
        let routes = routes.into_iter().map(move |key| {
            let to = if key.destination.len() == 0 { "default".into() } else { key.destination.to_string() };
            let table = if key.table == 254 { String::new() } else { format!(" table {}", key.table) };
            (
                format!("route {to}"),
                format!("ip -6 route del {to} dev {name} proto ra metric {}{table}", key.metric),
            )
        });
        let all: Vec<_> = here.chain(routes).collect();
        (!all.is_empty()).then(|| finding(name, &all))
    });
    learned.collect()
}

fn finding(bridge: &str, learned: &[(String, String)]) -> Finding {
    let (what, commands): (Vec<_>, Vec<_>) = learned.iter().cloned().unzip();
    Finding::new(
        "learned-from-container",
        format!(
            "a router advertisement on bridge {bridge}, which containers are on, has given this host {}",
            what.join(", ")
        ),
        format!(
            "find the container that sends router advertisements. The agent has set accept_ra of {bridge} to 0, so this ends \
             when it expires; to end it now: {}",
            commands.join("; ")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{NextHop, RouteKey, RouteProtocol, fake::permanent};

    fn link(index: u32, name: &str, mtu: u32) -> Link {
        Link { index, name: name.into(), bridge: true, mtu, ..Link::default() }
    }

    #[test]
    fn a_link_without_ipv6_is_reported_with_the_fix() {
        let of = |mtu, off| {
            without_ipv6("bridge", &link(3, "docker0", mtu), off).map(|it| (it.what, it.saw, it.fix))
        };
        assert_eq!(of(1280, false), None);
        let (what, saw, fix) = of(1200, false).unwrap();
        assert!(what == "mtu-too-small" && saw.starts_with("bridge docker0 has MTU 1200"), "{saw}");
        assert!(fix.starts_with("ip link set docker0 mtu 1500"), "{fix}");
        let (what, saw, fix) = of(1500, true).unwrap();
        assert_eq!(
            (what, &saw[..]),
            (
                "ipv6-disabled",
                "IPv6 is disabled on bridge docker0: sysctl net.ipv6.conf.docker0.disable_ipv6 = 1"
            )
        );
        assert!(fix.starts_with("sysctl -w net.ipv6.conf.docker0.disable_ipv6=0,"), "{fix}");
    }

    #[test]
    fn what_a_container_advertised_is_reported_and_what_a_router_did_is_not() {
        let links = [link(2, "eth0", 1500), link(3, "br-x", 1500)];
        let learned =
            |link| Address { permanent: false, ..permanent(link, "2001:db8:bad::1".parse().unwrap(), 64) };
        let key = |destination: &str| RouteKey {
            table: 254,
            destination: destination.parse().unwrap(),
            metric: 1024,
        };
        let route = |link| Route {
            mtu: None,
            key: key("::/0"),
            protocol: RouteProtocol::ADVERTISED,
            target: RouteTarget::Via(
                [NextHop { gateway: "fe80::1".parse().ok(), link, onlink: false }].into(),
            ),
        };
        let inside = ContainerLinks::among(&links, None, &["eth0".to_owned()]);
        let found = |link| learned_from_containers(&links, &[learned(link)], &[route(link)], &inside);
        assert_eq!(found(2), []);
        let found = &found(3)[0];
        assert!(
            found.saw.ends_with("has given this host address 2001:db8:bad::1/64, route default"),
            "{found:?}"
        );
        assert!(found.fix.contains(
            "ip -6 address del 2001:db8:bad::1/64 dev br-x; ip -6 route del default dev br-x proto ra"
        ));
    }
}
