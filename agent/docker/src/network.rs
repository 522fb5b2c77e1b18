//! The engine's networks and containers, as this package speaks of them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use sextant_proto::Prefix;

use crate::firewall::policy::Port;

/// A network of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// Its name; not unique in all versions.
    pub name: String,
    /// `bridge`, `macvlan` and so on.
    pub driver: String,
    /// Whether its IPv6 prefixes are used.
    pub ipv6: bool,
    /// Whether its containers have no way out of the host.
    pub internal: bool,
    /// Its IPv6 prefixes, each with the address of the gateway.
    pub prefixes: Vec<(Prefix, Option<Ipv6Addr>)>,
    /// The name of its IPAM driver.
    pub ipam: String,
    /// Its subnets of both families.
    pub subnets: Vec<Subnet>,
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// The name of the engine's network on its default bridge, which it makes itself and never removes.
pub const DEFAULT_NETWORK: &str = "bridge";

impl Network {
    /// Whether its containers are on the link of the host's own interface, beside the host, and not behind a bridge of it: they are reached
    /// where that link's hosts are.
    pub fn is_beside_host(&self) -> bool {
        ["macvlan", "ipvlan"].contains(&self.driver.as_str())
    }

    /// Whether it is the engine's own, whose prefix is set in `daemon.json`.
    pub fn is_default(&self) -> bool {
        self.name == DEFAULT_NETWORK
    }
}

/// A subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subnet {
    /// As the engine shows it, like `172.30.0.0/24`.
    pub subnet: String,
    /// The gateway. Not every version shows one that was not asked for.
    pub gateway: Option<IpAddr>,
    /// The addresses that are kept for hosts outside of the engine (`--aux-address`).
    pub reserved: Vec<IpAddr>,
}

/// A port of a container that is published at an IPv6 address of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The name of the container.
    pub container: String,
    /// The port of the container.
    pub port: Port,
    /// The port of the host.
    pub host_port: u16,
}

/// A container that is on a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Container {
    /// Its name, without the engine's slash.
    pub name: String,
    /// Its id.
    pub id: String,
}
