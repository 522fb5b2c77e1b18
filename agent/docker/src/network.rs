//! The engine's networks and containers, as this package speaks of them.

use std::{collections::BTreeMap, net::Ipv6Addr};

use sextant_proto::Prefix;

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
    /// The driver's options.
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A container that is on a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Container {
    /// Its name, without the engine's slash.
    pub name: String,
    /// Its id.
    pub id: String,
}
