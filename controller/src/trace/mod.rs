//! Whether the path between two nodes works, by what their agents observed of it. Pure.

mod judge;

use sextant_proto::trace::{Check, Probe};

pub use judge::{End, judge};

/// The observations of the agent of one of the two nodes, as far as it answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Half {
    /// Checks of its host.
    pub host: Vec<Check>,
    /// Checks of packets that arrive from the other node.
    pub arriving: Vec<Check>,
    /// Checks of the path to the other node, at its start.
    pub path: Vec<Check>,
    /// Probes to the other node.
    pub probe: Option<Probe>,
    /// The reason for missing answers.
    pub missing: Option<String>,
}
