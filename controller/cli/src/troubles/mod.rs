//! Each kind of thing in a cluster that needs a person, with its text. [`troubles`] finds it in the cluster's state; nothing is remembered.

mod found;

use std::fmt;

use sextant_proto::{
    BgpNeighbour, Conflict, FailedRoute, HALF_RESTORED, NodeName, NodeState, PoolName, Problem,
};

use crate::answer::{Backups, Liveness, Refused, Removals};

pub(crate) use found::troubles;

/// From how many times on agents that put each other off are a trouble; a stream that broke is one.
pub(crate) const FLAPPING: u32 = 4;

/// Something that needs a person. Its text names the thing, the value and the fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// A controller and its store, or two controllers, do not work together.
    Controller {
        id: String,
        address: String,
        asked: bool,
        problem: Problem,
    },
    /// There may be a backup of an earlier store.
    NoPool {
        earlier: Option<String>,
    },
    Exhausted {
        pool: PoolName,
        capacity: u64,
    },
    Down {
        node: NodeName,
        state: NodeState,
        liveness: Liveness,
        /// Its agent said that it was told to stop.
        stopped: bool,
    },
    /// It has a claim, and was never announced.
    NeverCame {
        node: NodeName,
        /// Its agent is connected all the same.
        connected: bool,
    },
    /// Its agent has found something wrong with its host.
    Problem {
        node: NodeName,
        problem: Problem,
    },
    Behind {
        node: NodeName,
        /// `None` if its agent has not said what its kernel has.
        by: Option<u64>,
    },
    Paused,
    /// A restore is under way, or was cut off.
    HalfRestored,
    /// Has not come back to a store that stands in for another one.
    Silent {
        node: NodeName,
    },
    /// It knows a change that the store does not have.
    OtherHistory {
        node: NodeName,
        knows: String,
    },
    /// Its agent asks for a prefix, and is refused.
    Refused(Refused),
    /// No more nodes may be forgotten for now.
    Removals(Removals),
    /// The asked controller's automatic backups fail.
    Backups(Backups),
    /// Its agent keeps routes to peers that are gone.
    Held {
        node: NodeName,
        routes: u32,
    },
    FailedRoute {
        node: NodeName,
        route: FailedRoute,
    },
    Conflict {
        node: NodeName,
        conflict: Conflict,
    },
    /// A router does not hear of the node's prefix.
    Bgp {
        node: NodeName,
        neighbour: BgpNeighbour,
    },
    /// Two agents have its id, or its connection keeps breaking.
    Flapping {
        node: NodeName,
        superseded: u32,
    },
    /// Another host has its id; its agent is refused while the present one answers.
    Duplicate {
        node: NodeName,
        from: String,
    },
    Unreadable(String),
}

impl Trouble {
    /// What it is called in JSON.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Controller { .. } => "controller_problem",
            Self::NoPool { .. } => "no_pool",
            Self::Exhausted { .. } => "pool_exhausted",
            Self::Down { .. } => "node_down",
            Self::NeverCame { .. } => "node_never_came",
            Self::Problem { .. } => "node_problem",
            Self::Behind { .. } => "node_behind",
            Self::Paused => "paused",
            Self::HalfRestored => "half_restored",
            Self::Silent { .. } => "node_silent",
            Self::OtherHistory { .. } => "node_knows_other_history",
            Self::Refused(_) => "node_refused",
            Self::Removals(_) => "removals_held",
            Self::Backups(_) => "backups_fail",
            Self::Held { .. } => "routes_held",
            Self::FailedRoute { .. } => "route_failed",
            Self::Conflict { .. } => "conflict",
            Self::Bgp { .. } => "bgp",
            Self::Flapping { .. } => "node_flapping",
            Self::Duplicate { .. } => "node_duplicate",
            Self::Unreadable(_) => "unreadable",
        }
    }

    /// Whose it is, if it is a node's.
    pub(crate) fn node(&self) -> Option<&NodeName> {
        match self {
            Self::Down { node, .. }
            | Self::NeverCame { node, .. }
            | Self::Problem { node, .. }
            | Self::Silent { node }
            | Self::OtherHistory { node, .. }
            | Self::Behind { node, .. }
            | Self::Held { node, .. }
            | Self::FailedRoute { node, .. }
            | Self::Conflict { node, .. }
            | Self::Flapping { node, .. }
            | Self::Duplicate { node, .. }
            | Self::Bgp { node, .. } => Some(node),
            Self::Refused(refused) => Some(&refused.node),
            Self::NoPool { .. }
            | Self::Controller { .. }
            | Self::Paused
            | Self::Removals(_)
            | Self::Backups(_)
            | Self::HalfRestored
            | Self::Exhausted { .. }
            | Self::Unreadable(_) => None,
        }
    }

    /// Which kind of problem it is, by its agent.
    pub(crate) fn what(&self) -> Option<&str> {
        match self {
            Self::Problem { problem, .. } | Self::Controller { problem, .. } => Some(&problem.what),
            _ => None,
        }
    }

    /// Since when it is known to be so.
    pub(crate) fn since_unix_ms(&self) -> Option<u64> {
        match self {
            Self::Problem { problem, .. } | Self::Controller { problem, .. } => Some(problem.since_unix_ms),
            Self::Refused(refused) => Some(refused.since_unix_ms),
            _ => None,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller { id, address, asked: true, problem } => {
                write!(f, "controller {id} at {address}, which was asked: {problem}")
            }
            Self::Controller { id, address, asked: false, problem } => {
                write!(f, "controller {id} at {address}: {problem}")
            }
            Self::NoPool { earlier: Some(file) } => write!(
                f,
                "there is no pool, and there is a backup of an earlier store; to go back to that: sextant restore {file:?}; \
                 for a new cluster add a pool: sextant pool add NAME PREFIX --host-len N"
            ),
            Self::NoPool { earlier: None } => {
                f.write_str("there is no pool; add one: sextant pool add main 2001:db8:1::/48 --host-len 64")
            }
            Self::Exhausted { pool, capacity } => write!(
                f,
                "pool {pool} is exhausted: all {capacity} host prefixes are taken; forget nodes whose hosts are gone, or add a pool"
            ),
            Self::Down { node, state, stopped, liveness: Liveness::Forwarding } => write!(
                f,
                "node {node} is {state}, and its agent {}, but its host answers and forwards; start sextant-agent there",
                went(*stopped)
            ),
            Self::Down { node, state, stopped, liveness: Liveness::Dead } => write!(
                f,
                "node {node} is {state}, and its host is {}: it answers none of its peers, which refuse its prefix; \
                 start it, or `sextant node forget {node}` if it is gone for good",
                if *stopped { "off or dead, after its agent was stopped" } else { "dead" }
            ),
            Self::Down { node, state, stopped, .. } => write!(
                f,
                "node {node} is {state}, and its agent {}; start sextant-agent there, \
                 or `sextant node forget {node}` if the host is gone for good",
                went(*stopped)
            ),
            Self::NeverCame { node, connected: true } => write!(
                f,
                "node {node} is joining, and its agent has not announced it yet; if it stays so, look at sextant-agent's log there"
            ),
            Self::Problem { node, problem } => write!(f, "node {node}: {problem}"),
            Self::NeverCame { node, connected: false } => write!(
                f,
                "node {node} is joining, and its agent is gone; look at sextant-agent's log there, \
                 or `sextant node forget {node}`"
            ),
            Self::Behind { node, by: Some(by) } => {
                write!(f, "node {node} is behind by {by}; if it stays so, look at sextant-agent's log there")
            }
            Self::Behind { node, by: None } => write!(
                f,
                "node {node} has not said what its kernel has; if it stays so, look at sextant-agent's log there"
            ),
            Self::HalfRestored => f.write_str(HALF_RESTORED),
            Self::Silent { node } => write!(
                f,
                "node {node} has not come back to this store, which stands in for another one; start sextant-agent there, \
                 or `sextant recover --finish` to wait no longer"
            ),
            Self::OtherHistory { node, knows } => write!(
                f,
                "node {node} knows a change that the store does not have ({knows}): if a snapshot of the store was restored, \
                 it is made another incarnation as soon as a second node says so; if not, restart sextant-agent there"
            ),
            Self::Refused(Refused { node, why, .. }) => write!(f, "node {node} is granted no prefix: {why}"),
            Self::Paused => f.write_str("paused: no agent changes its kernel; `sextant resume` ends it"),
            Self::Removals(Removals { recent, limit, window, waiting }) => {
                let minutes = window.as_secs() / 60;
                write!(
                    f,
                    "{recent} nodes were forgotten within {minutes} minutes, and {limit} may be: no more claims end for now"
                )?;
                if *waiting > 0 {
                    write!(f, " ({waiting} of hosts that are down wait)")?;
                }
                f.write_str(
                    "; look why, then `sextant resume` starts a new window, or `sextant node forget --confirm N NAME…` ends \
                     those that are named",
                )
            }
            Self::Backups(Backups { directory, failing, .. }) => write!(
                f,
                "automatic backups fail: {failing}; make {directory} a directory with room that the controller can write, or \
                 give it another --backup-dir"
            ),
            Self::Held { node, routes } => write!(
                f,
                "node {node} keeps {routes} routes to peers that are gone, since they are too many at once; \
                 look why, then `sextant resume` lets them go"
            ),
            Self::FailedRoute { node, route } => {
                write!(f, "node {node}: route {} failed: {}", route.destination, route.error)
            }
            Self::Conflict { node, conflict } => {
                write!(f, "node {node}: conflict with {conflict}")?;
                let Conflict { destination, protocol, metric, ours_wins } = conflict;
                if *ours_wins {
                    return Ok(());
                }
                write!(
                    f,
                    "; unless that is meant, there: ip -6 route del {destination} proto {protocol} metric {metric}"
                )
            }
            Self::Bgp { node, neighbour } => {
                let BgpNeighbour { remote_as, state, error, .. } = neighbour;
                let name = neighbour.name();
                write!(f, "node {node}: no BGP session with {name} (AS {remote_as}), {state}")?;
                if error.is_empty() { Ok(()) } else { write!(f, ": {error}") }
            }
            Self::Flapping { node, superseded } => write!(
                f,
                "node {node}: agents of its id have put each other off {superseded} times within 5 minutes; if a disk was \
                 cloned, stop sextant-agent on the copy, remove its state directory and give it another --node"
            ),
            Self::Duplicate { node, from } => write!(
                f,
                "node {node}: another host has its id, and its agent is refused; it connects from {from}. If a disk was cloned: \
                 stop sextant-agent on the copy, remove its state directory and give it another --node"
            ),
            Self::Unreadable(text) => f.write_str(text),
        }
    }
}

fn went(stopped: bool) -> &'static str {
    if stopped { "was stopped" } else { "is gone" }
}
