//! The brake as the state directory keeps it over a restart of the agent.

use serde::{Deserialize, Serialize};

use super::Uptime;

/// The part of the brake that outlives the process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBrake {
    /// The store that the agent had followed.
    pub incarnation: Option<String>,
    /// The revision of the last resume that was obeyed.
    pub resumed: u64,
    /// The number of the last confirmed decision.
    pub confirmed: u64,
    /// Prefixes whose routes are held.
    pub held: Vec<String>,
    /// Prefixes that are gone, within the window.
    pub departed: Vec<KeptDeparture>,
    /// When it was kept.
    #[serde(default)]
    pub kept_at: Uptime,
}

/// A prefix that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptDeparture {
    /// The prefix.
    pub prefix: String,
    /// How long it had been gone when it was kept.
    #[serde(default)]
    pub age_ms: u64,
    /// Whether it counts against the limit.
    pub counted: bool,
}
