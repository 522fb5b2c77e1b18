//! The network that a host is to have, and the steps to it. Pure.

mod mtu;

use std::{collections::BTreeMap, net::Ipv6Addr};

use sextant_proto::Prefix;

use crate::{
    firewall::policy::FromCluster,
    network::{Container, Network},
    trouble::Trouble,
};

/// The label of the networks that this package makes.
pub const MADE_BY: (&str, &str) = ("sextant.made-by", "sextant-agent");
/// The option with the name of a network's bridge.
pub const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
/// The option with the MTU of a network's bridge and containers.
pub const MTU: &str = "com.docker.network.driver.mtu";

/// The option with the treatment of packets from outside the host, from [`ROUTED_SINCE`] on.
pub const GATEWAY_MODE: &str = "com.docker.network.bridge.gateway_mode_ipv6";
/// The first major version that knows [`GATEWAY_MODE`]. Without it, later ones drop packets to a container's own address, even to
/// ports that are published.
const ROUTED_SINCE: u32 = 27;

/// The network that a host is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name in the engine.
    pub name: String,
    /// Its bridge. The main network's is the agent's: so it stands before the engine starts, and stays when the engine is gone. The
    /// engine makes the others, and removes them.
    pub bridge: String,
    /// Its prefix.
    pub prefix: Prefix,
    /// The address of the bridge.
    pub gateway: Ipv6Addr,
    /// The size of the largest packet that the uplinks carry, if known: its MTU.
    pub mtu: Option<u32>,
    /// What packets from containers of the cluster may reach.
    pub from_cluster: FromCluster,
    /// Whether the network is made anew under containers too: they lose their addresses, and get new ones.
    pub replace_used: bool,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The network is right.
    Nothing,
    /// No such network exists: make it.
    Create,
    /// Ours is another one: remove it by its id, make it, and connect the containers that were on it again.
    Replace {
        /// The id of the present network.
        id: String,
        /// What differs, for the log.
        differs: String,
        /// These containers.
        users: Vec<Container>,
    },
    /// Something prevents it.
    Blocked(Trouble),
}

impl Wanted {
    /// The driver's options for an engine of this major version.
    pub fn options(&self, major: u32) -> BTreeMap<String, String> {
        let mut options = BTreeMap::from([(BRIDGE_NAME.to_owned(), self.bridge.clone())]);
        options.extend(mtu::option(self.mtu).map(|mtu| (MTU.to_owned(), mtu.to_string())));
        if major >= ROUTED_SINCE && self.from_cluster == FromCluster::Published {
            options.insert(GATEWAY_MODE.to_owned(), "routed".to_owned());
        }
        options
    }

    /// The network of this name, if there is one. An engine may have several of a name: ours is preferred.
    pub fn find<'a>(&self, networks: &'a [Network]) -> Option<&'a Network> {
        let mut named: Vec<_> = networks.iter().filter(|network| network.name == self.name).collect();
        named.sort_by_key(|network| !is_ours(network));
        named.first().copied()
    }

    /// The next step towards it, with an engine of this major version. `users` are the containers on the [present network](Self::find), running or not.
    pub fn step(&self, major: u32, networks: &[Network], users: &[Container]) -> Step {
        let Some(present) = self.find(networks) else {
            return match self.obstacle(networks, None) {
                Some(trouble) => Step::Blocked(trouble),
                None => Step::Create,
            };
        };
        let Some(differs) = self.difference(major, present) else {
            return mtu::step(self, present, users);
        };
        if !is_ours(present) {
            return Step::Blocked(Trouble::NameTaken { name: self.name.clone(), differs });
        }
        if let Some(trouble) = self.obstacle(networks, Some(&present.id)) {
            return Step::Blocked(trouble);
        }
        if !users.is_empty() && !self.replace_used {
            let (name, wanted) = (self.name.clone(), self.prefix);
            let containers = users.iter().map(|container| container.name.clone()).collect();
            return Step::Blocked(Trouble::Used { name, differs, wanted, containers });
        }
        Step::Replace { id: present.id.clone(), differs, users: users.to_vec() }
    }

    /// How a network differs from the wanted one. Options that were not asked for may have any value.
    fn difference(&self, major: u32, present: &Network) -> Option<String> {
        if present.driver != "bridge" {
            return Some(format!("its driver is {}, not bridge", present.driver));
        }
        if !present.ipv6 {
            return Some("IPv6 is off in it".to_owned());
        }
        if present.internal {
            return Some("it is internal: its containers have no way out of the host".to_owned());
        }
        match &present.prefixes[..] {
            [(prefix, _)] if *prefix != self.prefix => return Some(format!("it has {prefix}")),
            [(_, Some(gateway))] if *gateway != self.gateway => {
                return Some(format!("its gateway is {gateway}, not {}", self.gateway));
            }
            [_] => {}
            several => return Some(format!("it has {} IPv6 prefixes", several.len())),
        }
        let mut options = self.options(major).into_iter().filter(|(option, _)| option != MTU);
        options.find_map(|(option, wanted)| {
            let now = present.options.get(&option).map_or("", String::as_str);
            (now != wanted).then(|| format!("its option {option} is \"{now}\", not \"{wanted}\""))
        })
    }

    /// Another network with a part of the prefix, or on the same bridge.
    fn obstacle(&self, networks: &[Network], present: Option<&String>) -> Option<Trouble> {
        networks.iter().filter(|network| Some(&network.id) != present).find_map(|network| {
            let taken = network.prefixes.iter().find(|(prefix, _)| prefix.overlaps(self.prefix));
            if let Some((prefix, _)) = taken {
                return Some(Trouble::Overlaps {
                    network: network.name.clone(),
                    prefix: *prefix,
                    wanted: self.prefix,
                });
            }
            let same_bridge = network.options.get(BRIDGE_NAME) == Some(&self.bridge);
            same_bridge
                .then(|| Trouble::BridgeTaken { network: network.name.clone(), bridge: self.bridge.clone() })
        })
    }
}

/// Whether this package made it.
pub fn is_ours(network: &Network) -> bool {
    network.labels.get(MADE_BY.0).is_some_and(|by| by == MADE_BY.1)
}

#[cfg(test)]
pub(crate) mod tests;
