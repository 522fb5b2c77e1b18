//! What this machine is, and how the hosts are connected.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What this machine is to the cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It has containers, and holds a prefix for them
    #[default]
    Host,
    /// It holds no prefix, and routes to all hosts that are on-link on its uplinks
    Router,
}

/// How the hosts are connected (DESIGN §2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topology {
    /// On one link: each host routes to all others, and refuses what nobody has
    #[default]
    Switched,
    /// Behind a router, which has the routes that a host has not, and refuses what nobody has
    Routed,
}

/// Which address of an uplink its node is to be routed through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NextHopKind {
    /// The global one
    #[default]
    Global,
    /// The link-local one: it stays where the global ones are renumbered
    LinkLocal,
}

/// When a peer gets a direct route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direct {
    /// If its next hop is on-link
    #[default]
    OnLink,
    /// Never
    Never,
}
