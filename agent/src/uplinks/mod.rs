//! The interfaces towards the other hosts, and those of their addresses that peers may use. Pure.

use std::net::Ipv6Addr;

use sextant_proto::{InterfaceAddress, Peer, Prefix, Uplink, direct_next_hop};

use crate::{
    kernel::{Address, Link, NextHop, Route, RouteTarget},
    problems::Finding,
    settings::NextHopKind,
};

/// One of this host's interfaces towards the other hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalUplink {
    /// Its index.
    pub link: u32,
    /// Whether it is up and has carrier.
    pub works: bool,
    /// Its name, and the addresses that peers may use.
    pub uplink: Uplink,
    /// Its link-local address, once that is not tentative.
    pub link_local: Option<Ipv6Addr>,
}

/// A configured uplink does not exist.
#[derive(Debug, thiserror::Error)]
#[error("uplink \"{name}\" does not exist; interfaces: {}. Set [uplink] interface in agent.toml, or --uplink", interfaces.join(", "))]
pub struct MissingUplink {
    name: String,
    interfaces: Vec<String>,
}

/// No uplink is configured, and none can be determined.
#[derive(Debug, thiserror::Error)]
#[error(
    "no uplink is configured, and there is no IPv6 default route to determine it from; interfaces: {}. \
     Set [uplink] interface in agent.toml, or --uplink", interfaces.join(", ")
)]
pub struct NoUplink {
    interfaces: Vec<String>,
}

/// Checks that all of `names` exist.
///
/// # Errors
/// The first one that does not.
pub fn existing_uplinks(names: &[String], links: &[Link]) -> Result<(), MissingUplink> {
    match names.iter().find(|name| !links.iter().any(|link| link.name == **name)) {
        None => Ok(()),
        Some(name) => Err(MissingUplink { name: name.clone(), interfaces: interfaces(links) }),
    }
}

/// The interfaces of the IPv6 default routes among `routes`.
///
/// # Errors
/// If there is none.
pub fn default_uplinks(routes: &[Route], links: &[Link]) -> Result<Vec<String>, NoUplink> {
    let defaults = routes.iter().filter(|route| route.key.destination.len() == 0);
    let hops = defaults.filter_map(|route| match &route.target {
        RouteTarget::Via(hops) => Some(hops),
        _ => None,
    });
    let indices: std::collections::BTreeSet<u32> = hops.flatten().map(|hop| hop.link).collect();
    let names: Vec<_> =
        links.iter().filter(|link| indices.contains(&link.index)).map(|link| link.name.clone()).collect();
    if names.is_empty() { Err(NoUplink { interfaces: interfaces(links) }) } else { Ok(names) }
}

fn interfaces(links: &[Link]) -> Vec<String> {
    links.iter().map(|link| link.name.clone()).collect()
}

/// The existing uplinks among `names`, in their order, with the addresses that peers may use.
pub fn local_uplinks(names: &[String], links: &[Link], addresses: &[Address]) -> Vec<LocalUplink> {
    let found = names.iter().filter_map(|name| links.iter().find(|link| link.name == *name));
    found.map(|link| local(link, addresses)).collect()
}

/// The problems of the uplinks `names`: each one that does not exist, or has no address that peers may use.
pub(crate) fn findings(names: &[String], links: &[Link], addresses: &[Address]) -> Vec<Finding> {
    let missing = |name: &String| {
        Finding::new(
            "uplink-missing",
            format!("uplink \"{name}\" does not exist; interfaces: {}", interfaces(links).join(", ")),
            "restore the interface's name, or set [uplink] interface in agent.toml (--uplink) and restart sextant-agent",
        )
    };
    let of = |name: &String| match links.iter().find(|link| link.name == *name) {
        None => Some(missing(name)),
        Some(link) => without_address(link, addresses),
    };
    names.iter().filter_map(of).collect()
}

fn without_address(link: &Link, addresses: &[Address]) -> Option<Finding> {
    let name = &link.name;
    let own: Vec<_> = addresses.iter().filter(|address| address.link == link.index).collect();
    if own.iter().any(|address| is_usable(address)) {
        return None;
    }
    let duplicate = own.iter().find(|address| address.global && address.dad_failed);
    Some(match duplicate {
        Some(Address { addr, len, .. }) => Finding::new(
            "address-duplicate",
            format!(
                "uplink {name} has no usable IPv6 address: another host on the link uses {addr} (duplicate address detection \
                 failed)"
            ),
            format!(
                "find that host (`ip -6 neigh show dev {name}` on a third host), and change the address of one of the two; then \
                 on this host: ip -6 addr del {addr}/{len} dev {name}, and add its address again"
            ),
        ),
        None => Finding::new(
            "address-missing",
            format!("uplink {name} has no usable IPv6 address (global, not tentative, not deprecated)"),
            format!("add one: ip -6 addr add ADDRESS/LENGTH dev {name}"),
        ),
    })
}

fn local(link: &Link, addresses: &[Address]) -> LocalUplink {
    let link_local = addresses.iter().filter(|address| address.link == link.index && is_link_local(address));
    let mut usable: Vec<_> =
        addresses.iter().filter(|address| address.link == link.index && is_usable(address)).collect();
    usable.sort_by_key(|address| (!address.permanent, address.addr));
    let addresses = usable.into_iter().filter_map(|address| {
        let on_link = Prefix::containing(address.addr, address.len)?;
        Some(InterfaceAddress { addr: address.addr, on_link })
    });
    LocalUplink {
        link: link.index,
        works: link.up && link.carrier,
        link_local: link_local.map(|address| address.addr).min(),
        uplink: Uplink { interface: link.name.clone(), addresses: addresses.collect() },
    }
}

/// The announcement of an uplink to peers: each address, followed by the link-local one if that is to be the next hop. Peers
/// recognise the segment by the first (`direct_next_hop` in `sextant_proto`); older agents use it as next hop.
pub(crate) fn announced(local: &LocalUplink, next_hop: NextHopKind) -> Uplink {
    let link_local = local.link_local.filter(|_| next_hop == NextHopKind::LinkLocal);
    let after =
        link_local.and_then(|addr| Some(InterfaceAddress { addr, on_link: Prefix::containing(addr, 64)? }));
    let addresses = local.uplink.addresses.iter().flat_map(|address| [Some(*address), after]).flatten();
    Uplink { interface: local.uplink.interface.clone(), addresses: addresses.collect() }
}

/// The direct next hops of a peer, at most one on each of `uplinks`, in their order (DESIGN §2).
pub fn direct_next_hops<'a>(
    uplinks: &'a [LocalUplink],
    peer: &'a Peer,
) -> impl Iterator<Item = (&'a LocalUplink, NextHop)> {
    uplinks.iter().filter_map(|local| {
        let (_, hop) = direct_next_hop(std::slice::from_ref(&local.uplink), &peer.next_hops)?;
        Some((local, NextHop { gateway: Some(hop), link: local.link }))
    })
}

fn is_link_local(address: &Address) -> bool {
    address.addr.is_unicast_link_local() && address.permanent && !address.tentative && !address.dad_failed
}

/// Whether peers may use it: a global address that is verified as unique, and lasting.
fn is_usable(address: &Address) -> bool {
    address.global && !address.tentative && !address.dad_failed && !address.deprecated && !address.temporary
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.into(),
            up: true,
            carrier: true,
            bridge: false,
            controller: None,
            mac: vec![],
        }
    }

    fn address(link: u32, addr: &str) -> Address {
        Address {
            link,
            addr: addr.parse().unwrap(),
            len: 64,
            global: true,
            tentative: false,
            dad_failed: false,
            deprecated: false,
            temporary: false,
            permanent: true,
        }
    }

    #[test]
    fn only_lasting_addresses_are_announced() {
        let addresses = [
            Address { tentative: true, ..address(2, "2001:db8::1") },
            Address { deprecated: true, ..address(2, "2001:db8::2") },
            Address { temporary: true, ..address(2, "2001:db8::3") },
            Address { global: false, ..address(2, "fe80::1") },
            Address { permanent: false, ..address(2, "2001:db8::4") },
            address(2, "2001:db8::5"),
            address(3, "2001:db8::6"),
        ];
        let uplinks =
            local_uplinks(&["eth0".into(), "gone".into()], &[link(2, "eth0"), link(3, "eth1")], &addresses);
        let announced: Vec<_> =
            uplinks[0].uplink.addresses.iter().map(|address| address.addr.to_string()).collect();
        assert_eq!((uplinks.len(), announced), (1, vec!["2001:db8::5".to_owned(), "2001:db8::4".into()]));
        assert_eq!(uplinks[0].link_local, Some("fe80::1".parse().unwrap()));
    }

    #[test]
    fn uplinks_without_usable_addresses_are_reported() {
        let names = ["eth0".to_owned(), "eth1".into(), "eth2".into(), "eth3".into()];
        let links = [link(2, "eth0"), link(3, "eth1"), link(4, "eth2")];
        let addresses = [
            address(2, "2001:db8::1"),
            Address { dad_failed: true, tentative: true, ..address(2, "2001:db8::9") },
            Address { dad_failed: true, tentative: true, ..address(3, "2001:db8:1::1") },
            Address { deprecated: true, ..address(4, "2001:db8:2::1") },
            Address { global: false, dad_failed: true, ..address(4, "fe80::1") },
        ];
        let found: Vec<_> =
            findings(&names, &links, &addresses).into_iter().map(|it| (it.what, it.saw)).collect();
        let kinds: Vec<_> = found.iter().map(|(what, _)| *what).collect();
        assert_eq!(kinds, ["address-duplicate", "address-missing", "uplink-missing"]);
        assert!(found[0].1.contains("2001:db8:1::1"), "{found:?}");
        assert!(found[2].1.contains("eth3"), "{found:?}");
    }

    #[test]
    fn a_link_local_next_hop_follows_each_address() {
        let mut addresses = vec![
            address(2, "2001:db8::5"),
            address(2, "2001:db8::6"),
            Address { global: false, ..address(2, "fe80::2") },
            Address { global: false, ..address(3, "fe80::1") },
        ];
        let announce = |addresses: &[Address], next_hop| {
            let local = &local_uplinks(&["eth0".into()], &[link(2, "eth0")], addresses)[0];
            let addresses = announced(local, next_hop).addresses;
            addresses.iter().map(|it| format!("{} in {}", it.addr, it.on_link)).collect::<Vec<_>>()
        };
        let global = ["2001:db8::5 in 2001:db8::/64", "2001:db8::6 in 2001:db8::/64"];
        assert_eq!(announce(&addresses, NextHopKind::Global), global);
        let own = "fe80::2 in fe80::/64";
        assert_eq!(announce(&addresses, NextHopKind::LinkLocal), [global[0], own, global[1], own]);
        addresses[2].tentative = true;
        assert_eq!(announce(&addresses, NextHopKind::LinkLocal), global, "it may belong to another host");
    }

    #[test]
    fn a_missing_uplink_is_reported_with_the_existing_interfaces() {
        let error =
            existing_uplinks(&["eth7".into()], &[link(1, "lo"), link(2, "eth0")]).unwrap_err().to_string();
        assert!(error.starts_with("uplink \"eth7\" does not exist; interfaces: lo, eth0."), "{error}");
    }
}
