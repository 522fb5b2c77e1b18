//! What this machine is, and how the hosts are connected.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What this machine is to the cluster.
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
    /// On one link: each host routes to its peers, and refuses packets to unassigned prefixes
    #[default]
    Switched,
    /// Behind a router, which has all other routes, and refuses packets to unassigned prefixes
    Routed,
}

/// Which address of an uplink its node is to be routed through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NextHopKind {
    /// The global address
    #[default]
    Global,
    /// The link-local address, which survives renumbering of the link
    LinkLocal,
}

/// When a peer gets a direct route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direct {
    /// Peers whose next hop is on-link
    #[default]
    OnLink,
    /// No peers
    Never,
}
