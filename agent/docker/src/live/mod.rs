//! The engine's networks and running containers, as they are now. Pure; [`watch`](crate::watch) keeps it.

mod stale;

use std::{collections::BTreeMap, net::Ipv6Addr};

use sextant_proto::Prefix;

pub use stale::{Event, Stale};

use crate::network::Network;

/// So many containers are known: an engine that has more is not read without end.
pub const MOST_CONTAINERS: usize = 4096;
/// So many networks are known.
pub const MOST_NETWORKS: usize = 1024;

/// A running container with an IPv6 address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Running {
    /// Its name, without the engine's slash.
    pub name: String,
    /// Its IPv6 addresses, each with the name of its network.
    pub addresses: Vec<(String, Ipv6Addr)>,
}

/// What the engine has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Live {
    /// Its version; empty until it has answered.
    pub version: String,
    /// Its networks.
    pub networks: Vec<Network>,
    /// Its running containers with IPv6 addresses, by their ids.
    pub containers: BTreeMap<String, Running>,
    /// The number of containers beyond [`MOST_CONTAINERS`].
    pub more: usize,
}

impl Live {
    /// Replaces the networks.
    pub fn set_networks(&mut self, mut networks: Vec<Network>) {
        networks.truncate(MOST_NETWORKS);
        networks.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        self.networks = networks;
    }

    /// Replaces all containers.
    pub fn set_containers(&mut self, found: impl IntoIterator<Item = (String, Running)>) {
        self.containers.clear();
        self.more = 0;
        self.add(found);
    }

    /// The containers with these ids are those that were `found`: the others of them do not run any more.
    pub fn update(&mut self, ids: &[String], found: impl IntoIterator<Item = (String, Running)>) {
        for id in ids {
            self.containers.remove(id);
        }
        self.add(found);
    }

    fn add(&mut self, found: impl IntoIterator<Item = (String, Running)>) {
        for (id, container) in found.into_iter().filter(|(_, container)| !container.addresses.is_empty()) {
            if self.containers.len() < MOST_CONTAINERS || self.containers.contains_key(&id) {
                self.containers.insert(id, container);
            } else {
                self.more += 1;
            }
        }
    }

    /// The running container with this address, and the network of the address.
    pub fn of(&self, address: Ipv6Addr) -> Option<(&Running, &str)> {
        self.containers.values().find_map(|container| {
            let here = container.addresses.iter().find(|(_, addr)| *addr == address)?;
            Some((container, here.0.as_str()))
        })
    }

    /// The IPv6 prefixes of its networks, each with its network.
    pub fn prefixes(&self) -> impl Iterator<Item = (&Network, Prefix)> {
        let with_ipv6 = self.networks.iter().filter(|network| network.ipv6);
        with_ipv6.flat_map(|network| network.prefixes.iter().map(move |(prefix, _)| (network, *prefix)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(name: &str, addresses: &[&str]) -> (String, Running) {
        let addresses = addresses.iter().map(|addr| ("net".to_owned(), addr.parse().unwrap())).collect();
        (format!("id of {name}"), Running { name: name.into(), addresses })
    }

    fn names(live: &Live) -> Vec<&str> {
        live.containers.values().map(|it| it.name.as_str()).collect()
    }

    #[test]
    fn containers_come_and_go_one_by_one() {
        let mut live = Live::default();
        live.set_containers([running("db", &["fd00::2"]), running("v4", &[]), running("web", &["fd00::3"])]);
        assert_eq!(names(&live), ["db", "web"]);
        let web = "id of web".to_owned();
        live.update(std::slice::from_ref(&web), [running("web", &["fd00::9", "fd01::9"])]);
        let (found, network) = live.of("fd01::9".parse().unwrap()).unwrap();
        assert_eq!((found.name.as_str(), network), ("web", "net"));
        assert!(live.of("fd00::3".parse().unwrap()).is_none(), "its earlier address");
        live.update(&[web], []);
        assert_eq!(names(&live), ["db"], "it has stopped");
    }

    #[test]
    fn the_set_is_bounded() {
        let many = |count: usize| (0..count).map(|n| running(&format!("c{n:05}"), &["fd00::2"]));
        let mut live = Live::default();
        live.set_containers(many(MOST_CONTAINERS + 5));
        assert_eq!((live.containers.len(), live.more), (MOST_CONTAINERS, 5));
        live.set_containers(many(3));
        assert_eq!((live.containers.len(), live.more), (3, 0));
        live.set_networks(vec![Network::default(); MOST_NETWORKS + 1]);
        assert_eq!(live.networks.len(), MOST_NETWORKS);
    }

    #[test]
    fn only_networks_with_ipv6_have_prefixes() {
        let prefixes = vec![("fd00::/64".parse().unwrap(), None)];
        let network = Network { prefixes, ipv6: true, ..Network::default() };
        let mut live = Live::default();
        live.set_networks(vec![Network { ipv6: false, ..network.clone() }, network]);
        assert_eq!(live.prefixes().count(), 1);
    }
}
