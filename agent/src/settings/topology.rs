//! The role of this machine, and the topology.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The role of this machine in the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It claims a prefix for its containers
    #[default]
    Host,
    /// It claims no prefix, and routes to all hosts on its uplinks
    Router,
}

/// How the hosts are connected (DESIGN §2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topology {
    /// All hosts on one link: each host has routes to its peers, and refuses packets to unassigned prefixes
    #[default]
    Switched,
    /// Hosts behind routers: the routers have all other routes, and refuse packets to unassigned prefixes
    Routed,
    /// Prefixes inside of the link's own: nobody routes them to the hosts, which answer neighbour solicitations for their containers
    NdpProxy,
}

/// The kind of address of an uplink that peers use as next hop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NextHopKind {
    /// The global address
    #[default]
    Global,
    /// The link-local address, which survives renumbering of the link
    LinkLocal,
}

/// What becomes of peers that are not on-link in the switched topology.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OffLink {
    /// Traffic to them is refused, as that to unassigned prefixes
    #[default]
    Refuse,
    /// They have a route through the gateway that leads to their next hop: routers know their prefixes
    Gateway,
}

/// The peers that get a direct route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direct {
    /// Peers whose next hop is on-link
    #[default]
    OnLink,
    /// No peers
    Never,
}
