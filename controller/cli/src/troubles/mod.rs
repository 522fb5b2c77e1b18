//! The kinds of problems that need an operator, with their texts. [`troubles`] finds them in the cluster's state; nothing is
//! stored.

mod conflict;
mod found;

use std::fmt;

use sextant_proto::{
    BgpNeighbour, CLEAR_COPY, Conflict, FailedRoute, HALF_RESTORED, NodeName, NodeState, Problem, counted,
};

use crate::answer::{Backups, Liveness, Refused, Removals, Unregistered};

pub(crate) use conflict::Loser;
pub(crate) use found::troubles;

/// From this number of superseded connections on, a node is flapping; a single one is only a reconnect.
pub(crate) const FLAPPING: u32 = 4;

/// A problem that needs an operator. Its text names the object, the value and the fix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// A problem between a controller and its store, or between two controllers.
    Controller {
        id: String,
        address: String,
        /// It is the queried controller.
        asked: bool,
        problem: Problem,
    },
    NoPool {
        /// A backup of an earlier store.
        earlier: Option<String>,
    },
    Down {
        node: NodeName,
        state: NodeState,
        liveness: Liveness,
        /// Its agent was stopped on request.
        stopped: bool,
    },
    /// Its streams and calls are refused, and it holds a claim.
    Revoked {
        node: NodeName,
    },
    /// It has a claim, but was never announced.
    NeverAnnounced {
        node: NodeName,
        /// Its agent is connected.
        connected: bool,
    },
    /// The controllers do not agree whether its agent is connected.
    Doubtful {
        node: NodeName,
    },
    /// Its agent has found a problem of its host.
    Problem {
        node: NodeName,
        problem: Problem,
    },
    Behind {
        node: NodeName,
        /// `None` if its agent has not reported the state of its kernel.
        by: Option<u64>,
    },
    Paused,
    /// A restore is in progress, or was interrupted.
    HalfRestored,
    /// It has not registered since the store replaced an earlier one.
    Silent {
        node: NodeName,
    },
    /// Its agent has seen a change that the store does not have.
    OtherHistory {
        node: NodeName,
        knows: String,
    },
    /// Its claim is refused.
    Refused(Refused),
    /// It is a claim of a lost store that ends with the recovery window.
    Unregistered(Unregistered),
    /// The limit of forgotten nodes is reached.
    Removals(Removals),
    /// The automatic backups of the queried controller fail.
    Backups(Backups),
    /// The brake of its agent keeps routes to peers that are gone.
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
        loser: Loser,
    },
    /// A BGP session is not established: the router does not receive the node's prefix.
    Bgp {
        node: NodeName,
        neighbour: BgpNeighbour,
    },
    /// Two agents have its node id, or its connection breaks repeatedly.
    Flapping {
        node: NodeName,
        superseded: u32,
    },
    /// Another host has its node id; the agent there is refused while the present one answers.
    Duplicate {
        node: NodeName,
        from: String,
    },
    /// Two nodes have the same node id, and claims of their own: a disk was copied before its node had a claim.
    SharedId {
        node: NodeName,
        /// The other node.
        other: NodeName,
        /// An agent of each is connected.
        both: bool,
    },
    Unreadable(String),
}

impl Trouble {
    /// Its name in JSON.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Controller { .. } => "controller_problem",
            Self::NoPool { .. } => "no_pool",
            Self::Down { .. } => "node_down",
            Self::Revoked { .. } => "node_revoked",
            Self::NeverAnnounced { .. } => "node_never_came",
            Self::Doubtful { .. } => "node_unknown",
            Self::Problem { .. } => "node_problem",
            Self::Behind { .. } => "node_behind",
            Self::Paused => "paused",
            Self::HalfRestored => "half_restored",
            Self::Silent { .. } => "node_silent",
            Self::OtherHistory { .. } => "node_knows_other_history",
            Self::Refused(_) => "node_refused",
            Self::Unregistered(_) => "claim_unregistered",
            Self::Removals(_) => "removals_held",
            Self::Backups(_) => "backups_fail",
            Self::Held { .. } => "routes_held",
            Self::FailedRoute { .. } => "route_failed",
            Self::Conflict { .. } => "conflict",
            Self::Bgp { .. } => "bgp",
            Self::Flapping { .. } => "node_flapping",
            Self::Duplicate { .. } => "node_duplicate",
            Self::SharedId { .. } => "node_id_shared",
            Self::Unreadable(_) => "unreadable",
        }
    }

    /// The affected node.
    pub(crate) fn node(&self) -> Option<&NodeName> {
        match self {
            Self::Down { node, .. }
            | Self::Revoked { node }
            | Self::NeverAnnounced { node, .. }
            | Self::Doubtful { node }
            | Self::Problem { node, .. }
            | Self::Silent { node }
            | Self::OtherHistory { node, .. }
            | Self::Behind { node, .. }
            | Self::Held { node, .. }
            | Self::FailedRoute { node, .. }
            | Self::Conflict { node, .. }
            | Self::Flapping { node, .. }
            | Self::Duplicate { node, .. }
            | Self::SharedId { node, .. }
            | Self::Bgp { node, .. } => Some(node),
            Self::Refused(refused) => refused.node(),
            Self::Unregistered(claim) => Some(&claim.node),
            Self::NoPool { .. }
            | Self::Controller { .. }
            | Self::Paused
            | Self::Removals(_)
            | Self::Backups(_)
            | Self::HalfRestored
            | Self::Unreadable(_) => None,
        }
    }

    /// The kind of a reported problem.
    pub(crate) fn what(&self) -> Option<&str> {
        match self {
            Self::Problem { problem, .. } | Self::Controller { problem, .. } => Some(&problem.what),
            _ => None,
        }
    }

    /// When it was first observed.
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
                write!(f, "controller {id} at {address} (queried): {problem}")
            }
            Self::Controller { id, address, asked: false, problem } => {
                write!(f, "controller {id} at {address}: {problem}")
            }
            Self::NoPool { earlier: Some(file) } => write!(
                f,
                "there is no pool, but a backup of an earlier store exists; to return to that store: sextant restore {file:?}; \
                 for a new cluster, add a pool: sextant pool add NAME PREFIX --host-len N"
            ),
            Self::NoPool { earlier: None } => {
                f.write_str("there is no pool; add one: sextant pool add main 2001:db8:1::/48 --host-len 64")
            }
            Self::Down { node, state, stopped, liveness: Liveness::Forwarding } => write!(
                f,
                "node {node} is {state}, but its agent {}; its host still answers and forwards; start sextant-agent there",
                agent_state(*stopped)
            ),
            Self::Down { node, state, stopped, liveness: Liveness::Dead } => write!(
                f,
                "node {node} is {state}, but its host is {}: it answers no peer, and peers reject packets to its prefix; \
                 start the host, or run `sextant node forget {node}` if it is gone for good",
                if *stopped { "down (its agent was stopped before)" } else { "dead" }
            ),
            Self::Down { node, state, stopped, .. } => write!(
                f,
                "node {node} is {state}, but its agent {}; start sextant-agent there, \
                 or run `sextant node forget {node}` if the host is gone for good",
                agent_state(*stopped)
            ),
            Self::Revoked { node } => write!(
                f,
                "node {node} is revoked, but holds its claim, and its peers route to it; end that with `sextant node forget {node}`, \
                 or permit the node again with `sextant node revoke {node} --undo`"
            ),
            Self::NeverAnnounced { node, connected: true } => write!(
                f,
                "node {node} is joining: its agent has not announced its prefix yet; if this persists, see the log of sextant-agent there"
            ),
            Self::Doubtful { node } => write!(
                f,
                "it is not known whether the agent of node {node} is connected: its controllers do not agree yet; run \
                 `sextant status` again"
            ),
            Self::Problem { node, problem } => write!(f, "node {node}: {problem}"),
            Self::NeverAnnounced { node, connected: false } => write!(
                f,
                "node {node} is joining, but its agent is not connected; see the log of sextant-agent there, \
                 or run `sextant node forget {node}`"
            ),
            Self::Behind { node, by: Some(by) } => {
                write!(
                    f,
                    "node {node} is behind by {by} revision{}; if this persists, see the log of sextant-agent there",
                    if *by == 1 { "" } else { "s" }
                )
            }
            Self::Behind { node, by: None } => write!(
                f,
                "node {node} has not reported the state of its kernel; if this persists, see the log of sextant-agent there"
            ),
            Self::HalfRestored => f.write_str(HALF_RESTORED),
            Self::Silent { node } => write!(
                f,
                "node {node} has not registered since this store replaced an earlier one; start sextant-agent there, \
                 or run `sextant recover --finish` to stop waiting for it"
            ),
            Self::Unregistered(claim) => write!(
                f,
                "claim of the lost store not registered, and ending with the recovery window (`sextant recover`): {claim}"
            ),
            Self::OtherHistory { node, knows } => write!(
                f,
                "node {node} has seen a change that the store does not have ({knows}): if the store was restored from a snapshot, \
                 it gets a new incarnation once a second node reports this; otherwise, restart sextant-agent there"
            ),
            Self::Refused(refused) => {
                let Refused { node, asks_as, why, .. } = refused;
                match (refused.node(), asks_as) {
                    (_, None) => write!(f, "node {node} gets no prefix: {why}"),
                    (Some(node), Some(name)) => {
                        write!(f, "node {node} is refused under the name {name}: {why}")
                    }
                    (None, Some(name)) => {
                        write!(f, "another host that calls itself {name} gets no prefix: {why}")
                    }
                }
            }
            Self::Paused => {
                f.write_str("paused: no agent changes its kernel; run `sextant resume` to end the pause")
            }
            Self::Removals(Removals { recent, limit, window, waiting }) => {
                let minutes = window.as_secs() / 60;
                write!(
                    f,
                    "{recent} prefixes went within {minutes} minutes; the limit is {limit}, so no more claims end for now"
                )?;
                if *waiting > 0 {
                    write!(f, " (waiting: {})", counted(*waiting, "down node"))?;
                }
                f.write_str(
                    "; find the cause, then run `sextant resume` to start a new window, or `sextant node forget --confirm N NAME…` \
                     to forget the named nodes",
                )
            }
            Self::Backups(Backups { directory, failing, .. }) => write!(
                f,
                "automatic backups fail: {failing}; make {directory} a directory with free space that the controller can write to, \
                 or set another --backup-dir"
            ),
            Self::Held { node, routes } => write!(
                f,
                "node {node} keeps {} to peers that are gone, because too many peers left at once; find the cause, then run `sextant \
                 resume` to delete them",
                counted(*routes, "route")
            ),
            Self::FailedRoute { node, route } => {
                write!(f, "node {node}: route {} failed: {}", route.destination, route.error)
            }
            Self::Conflict { node, conflict, loser } => {
                write!(f, "node {node}: conflict with {conflict}")?;
                if conflict.ours_wins { Ok(()) } else { conflict::fix(f, conflict, loser) }
            }
            Self::Bgp { node, neighbour } => {
                let BgpNeighbour { remote_as, state, error, .. } = neighbour;
                let name = neighbour.name();
                write!(f, "node {node}: no BGP session with {name} (AS {remote_as}), {state}")?;
                if error.is_empty() { Ok(()) } else { write!(f, ": {error}") }
            }
            Self::Flapping { node, superseded } => write!(
                f,
                "node {node}: agents with its node id superseded each other {superseded} times within 5 minutes; if a disk was \
                 cloned, on the copy: {CLEAR_COPY}, and set another --node"
            ),
            Self::Duplicate { node, from } => write!(
                f,
                "node {node}: duplicate node id; the agent at {from} is refused; if a disk was cloned, \
                 on the copy: {CLEAR_COPY}, and set another --node"
            ),
            Self::SharedId { node, other, both: true } => write!(
                f,
                "node {node}: has the same node id as node {other}; if a disk was cloned, on the copy: {CLEAR_COPY}; \
                 run `sextant node forget` with the name of the copy once it is down, and start its agent again"
            ),
            Self::SharedId { node, other, both: false } => write!(
                f,
                "node {node}: has the same node id as node {other}, and no agent is connected; if {node} is a former name of that \
                 host, run `sextant node forget {node}`"
            ),
            Self::Unreadable(text) => f.write_str(text),
        }
    }
}

fn agent_state(stopped: bool) -> &'static str {
    if stopped { "was stopped" } else { "is not connected" }
}
