//! Whether the path between two nodes works, as agents observe it and the controller judges it.

use std::{net::Ipv6Addr, time::Duration};

use crate::NodeName;

/// Something that an agent has looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// "bridge", "route", ….
    pub what: String,
    /// What it says.
    pub state: State,
    /// What was seen.
    pub saw: String,
    /// The fix; empty if none is needed.
    pub fix: String,
}

/// What a check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is as it should be.
    Good,
    /// It may be wrong; what is probed tells.
    Doubtful,
    /// It is wrong.
    Broken,
    /// Nothing.
    Silent,
}

/// What kind of packet was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// None could be.
    None,
    /// ICMPv6 echo requests.
    Echo,
    /// UDP to a port that nobody listens on.
    StrayDatagram,
}

/// Packets from bridge address to bridge address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What kind.
    pub kind: Kind,
    /// From where; none if there is no such address.
    pub source: Option<Ipv6Addr>,
    /// Where to.
    pub target: Ipv6Addr,
    /// How many.
    pub sent: u32,
    /// The round trips of those that were answered.
    pub answered: Vec<Duration>,
    /// What came back instead, or kept them from being sent.
    pub error: Option<ProbeError>,
}

/// An error of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeError {
    /// In words.
    pub what: String,
    /// Whose it is; none for the sending host's own kernel.
    pub from: Option<Ipv6Addr>,
    /// The fix; empty if none is needed.
    pub fix: String,
}

/// Whether a direction works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Packets arrive, and would be passed on to containers.
    Works,
    /// They do not, or would not.
    Broken,
    /// What was seen does not tell.
    Unknown,
}

/// One direction of the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direction {
    /// Where it begins.
    pub from: NodeName,
    /// Where it ends.
    pub to: NodeName,
    /// Whether it works.
    pub verdict: Verdict,
    /// Where it is broken; none for between the two.
    pub at: Option<NodeName>,
    /// Why that is the verdict.
    pub why: String,
    /// The fix; empty if none is needed.
    pub fix: String,
    /// All that was looked at, in the order of the way, and where.
    pub checks: Vec<(NodeName, Check)>,
    /// What was sent.
    pub probe: Option<Probe>,
    /// How much of that has arrived, if that can be told.
    pub arrived: Option<u32>,
}
