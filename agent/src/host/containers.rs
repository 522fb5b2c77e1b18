//! The links that containers are on. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::Link;

/// The bridges that containers are on, and their ports.
///
/// Such a bridge is the agent's own one, or another one that has a port of a container (veth), or no port of hardware. A
/// bridge that is an uplink, or that an uplink is a port of, is none: the network's router is behind it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerLinks {
    bridges: BTreeSet<u32>,
    ports: BTreeSet<u32>,
}

impl ContainerLinks {
    /// Those among `links`; `own` is the name of the agent's bridge.
    pub fn among(links: &[Link], own: Option<&str>, uplinks: &[String]) -> Self {
        let towards_routers = with_controllers(links, uplinks);
        let ports = ports_of(links);
        let has_containers = |link: &Link| {
            link.bridge && ports.get(&link.index).is_none_or(|ports| ports.containers || !ports.hardware)
        };
        let bridges = links.iter().filter(|link| {
            !towards_routers.contains(&link.index)
                && (own == Some(link.name.as_str()) || has_containers(link))
        });
        let bridges: BTreeSet<_> = bridges.map(|bridge| bridge.index).collect();
        let ports = links.iter().filter(|link| link.controller.is_some_and(|of| bridges.contains(&of)));
        let ports = ports.map(|port| port.index).filter(|port| !towards_routers.contains(port)).collect();
        Self { bridges, ports }
    }

    /// Whether the link is such a bridge, or a port of one.
    pub fn contains(&self, link: u32) -> bool {
        self.is_bridge(link) || self.ports.contains(&link)
    }

    /// Whether the link is such a bridge.
    pub fn is_bridge(&self, link: u32) -> bool {
        self.bridges.contains(&link)
    }
}

/// What the ports of a bridge are.
#[derive(Debug, Clone, Copy, Default)]
struct Ports {
    containers: bool,
    hardware: bool,
}

/// The ports by their bridge: each link is looked at once, since a host has thousands.
fn ports_of(links: &[Link]) -> BTreeMap<u32, Ports> {
    let mut all: BTreeMap<u32, Ports> = BTreeMap::new();
    for (link, of) in links.iter().filter_map(|link| Some((link, link.controller?))) {
        let ports = all.entry(of).or_default();
        ports.containers |= link.kind == "veth";
        ports.hardware |= link.kind.is_empty();
    }
    all
}

/// The uplinks, and the links that they are ports of.
fn with_controllers(links: &[Link], uplinks: &[String]) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    for name in uplinks {
        let mut next = links.iter().find(|link| link.name == *name);
        while let Some(link) = next {
            if !found.insert(link.index) {
                break;
            }
            next = links.iter().find(|above| Some(above.index) == link.controller);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: &str, controller: Option<u32>) -> Link {
        let (name, kind, bridge) = (name.to_owned(), kind.to_owned(), kind == "bridge");
        Link { index, name, kind, bridge, controller, ..Link::default() }
    }

    fn names(links: &[Link], uplinks: &[&str]) -> Vec<String> {
        let uplinks: Vec<_> = uplinks.iter().map(|&name| name.to_owned()).collect();
        let inside = ContainerLinks::among(links, Some("brc"), &uplinks);
        links.iter().filter(|link| inside.contains(link.index)).map(|link| link.name.clone()).collect()
    }

    #[test]
    fn bridges_of_any_engine_and_their_ports_are_found() {
        let links = [
            link(1, "lo", "", None),
            link(2, "eth0", "", None),
            link(3, "brc", "bridge", None),
            link(4, "docker0", "bridge", None),
            link(5, "br-1234", "bridge", None),
            link(6, "veth1", "veth", Some(5)),
            link(7, "virbr0", "bridge", None),
            link(8, "vnet0", "tun", Some(7)),
            link(9, "veth9", "veth", None),
        ];
        assert_eq!(names(&links, &["eth0"]), ["brc", "docker0", "br-1234", "veth1", "virbr0", "vnet0"]);
    }

    #[test]
    fn a_bridge_towards_routers_is_none() {
        let links = [
            link(2, "eth0", "", Some(4)),
            link(3, "eth1", "", Some(5)),
            link(4, "br0", "bridge", None),
            link(5, "br1", "bridge", None),
            link(6, "veth1", "veth", Some(4)),
            link(7, "veth2", "veth", Some(8)),
            link(8, "br2", "bridge", None),
            link(9, "eth2", "", Some(8)),
        ];
        assert_eq!(names(&links, &["br0"]), ["veth2", "br2", "eth2"]);
        assert_eq!(names(&links, &["eth0"]), ["veth2", "br2", "eth2"], "br0 is above the uplink");
        let without = names(&links[1..], &["eth1"]);
        assert_eq!(without, ["br0", "veth1", "veth2", "br2", "eth2"], "br0 has no port of hardware any more");
    }
}
