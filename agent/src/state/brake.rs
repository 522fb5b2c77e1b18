//! The brake's state, stored over a restart of the agent.

use serde::{Deserialize, Serialize};

use super::Uptime;

/// The stored state of the brake.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBrake {
    /// The store that the agent followed.
    pub incarnation: Option<String>,
    /// The revision of the last resume that was applied.
    pub resumed: u64,
    /// The number of the last confirmed decision.
    pub confirmed: u64,
    /// Prefixes whose routes are held.
    pub held: Vec<String>,
    /// Prefixes that left within the window.
    pub departed: Vec<KeptDeparture>,
    /// The time of storing.
    #[serde(default)]
    pub kept_at: Uptime,
}

/// A prefix that left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptDeparture {
    /// The prefix.
    pub prefix: String,
    /// The time since it left, at the time of storing.
    #[serde(default)]
    pub age_ms: u64,
    /// Whether it counts against the limit.
    pub counted: bool,
}
