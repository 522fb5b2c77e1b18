//! Whether the path between two nodes works, as agents observe it and the controller judges it.

use std::{net::Ipv6Addr, time::Duration};

use crate::{NodeName, PoolName};

/// A check by an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// "bridge", "route", ….
    pub what: String,
    /// The result.
    pub state: State,
    /// The observation.
    pub saw: String,
    /// The fix; empty if none is needed.
    pub fix: String,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Correct.
    Good,
    /// Possibly wrong; the probes decide.
    Doubtful,
    /// Wrong.
    Broken,
    /// Unknown.
    Silent,
}

/// The kind of the probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// None could be sent.
    None,
    /// ICMPv6 echo requests.
    Echo,
    /// UDP to a closed port.
    StrayDatagram,
}

/// Packets from bridge address to bridge address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The kind.
    pub kind: Kind,
    /// The source address; none if there is no such address.
    pub source: Option<Ipv6Addr>,
    /// The target address.
    pub target: Ipv6Addr,
    /// The number of sent probes.
    pub sent: u32,
    /// The round-trip times of the answered probes.
    pub answered: Vec<Duration>,
    /// A received error, or the error of sending.
    pub error: Option<ProbeError>,
}

/// An error of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeError {
    /// Its text.
    pub what: String,
    /// Its sender; none for the sending host's own kernel.
    pub from: Option<Ipv6Addr>,
    /// The fix; empty if none is needed.
    pub fix: String,
}

/// Whether a direction works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Packets arrive, and the hosts forward to containers.
    Works,
    /// Packets do not arrive, or a host does not forward them.
    Broken,
    /// The observations are inconclusive.
    Unknown,
}

/// One direction of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direction {
    /// The node at its start.
    pub from: NodeName,
    /// The node at its end.
    pub to: NodeName,
    /// The container at its start, if it was named.
    pub from_container: Option<String>,
    /// The container at its end, if it was named: its address is probed.
    pub to_container: Option<String>,
    /// The pool of the probed addresses, if the nodes share several.
    pub pool: Option<PoolName>,
    /// Whether it works.
    pub verdict: Verdict,
    /// The node of the failure; none: between the two.
    pub at: Option<NodeName>,
    /// The reason of the verdict.
    pub why: String,
    /// The fix; empty if none is needed.
    pub fix: String,
    /// All checks with their nodes, in the order of the path.
    pub checks: Vec<(NodeName, Check)>,
    /// The sent probes.
    pub probe: Option<Probe>,
    /// The number of received probes, if known.
    pub arrived: Option<u32>,
}
