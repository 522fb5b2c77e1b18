//! What needs a person: found in a cluster's state by looking, nothing remembered.

use std::fmt;

use sextant_proto::{BgpNeighbour, Conflict, FailedRoute, NodeName, NodeState, PoolName, Problem};

use super::answer::{Applied, Backups, Cluster, Controller, Liveness, Node, PoolUse, Removals, Router};
use crate::store::HALF_RESTORED;

/// From how many times on agents that put each other off are a trouble; a stream that broke is one.
pub(super) const FLAPPING: u32 = 4;

/// Something that needs a person. Its text names the thing, the value and the mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A controller and its store, or two controllers, do not work together.
    Controller {
        id: String,
        address: String,
        asked: bool,
        problem: Problem,
    },
    NoPool,
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
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Controller { .. } => "controller_problem",
            Self::NoPool => "no_pool",
            Self::Exhausted { .. } => "pool_exhausted",
            Self::Down { .. } => "node_down",
            Self::NeverCame { .. } => "node_never_came",
            Self::Problem { .. } => "node_problem",
            Self::Behind { .. } => "node_behind",
            Self::Paused => "paused",
            Self::HalfRestored => "half_restored",
            Self::Silent { .. } => "node_silent",
            Self::OtherHistory { .. } => "node_knows_other_history",
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
    pub(super) fn node(&self) -> Option<&NodeName> {
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
            Self::NoPool
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
    pub(super) fn what(&self) -> Option<&str> {
        match self {
            Self::Problem { problem, .. } | Self::Controller { problem, .. } => Some(&problem.what),
            _ => None,
        }
    }

    /// Since when it is known to be so.
    pub(super) fn since_unix_ms(&self) -> Option<u64> {
        match self {
            Self::Problem { problem, .. } | Self::Controller { problem, .. } => Some(problem.since_unix_ms),
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
            Self::NoPool => {
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

/// All that needs a person, the widest first.
pub(super) fn troubles(cluster: &Cluster) -> Vec<Trouble> {
    let mut found: Vec<_> = cluster.controllers.iter().flat_map(of_controller).collect();
    found.extend(cluster.unreadable.iter().cloned().map(Trouble::Unreadable));
    found.extend(cluster.restoring.then_some(Trouble::HalfRestored));
    found.extend(cluster.paused.then_some(Trouble::Paused));
    let removals = cluster.removals;
    let full = removals.recent > 0 && removals.recent >= removals.limit;
    found.extend((full || removals.waiting > 0).then_some(Trouble::Removals(removals)));
    let backups = cluster.backups.iter().filter(|backups| !backups.failing.is_empty());
    found.extend(backups.cloned().map(Trouble::Backups));
    let silent = cluster.silent.iter().filter(|_| !cluster.stale);
    found.extend(silent.map(|node| Trouble::Silent { node: node.clone() }));
    let other = cluster.other_histories.iter().cloned();
    found.extend(other.map(|(node, knows)| Trouble::OtherHistory { node, knows }));
    if cluster.pools.is_empty() && cluster.unreadable.is_empty() {
        found.push(Trouble::NoPool);
    }
    found.extend(cluster.pools.iter().filter_map(exhausted));
    found.extend(cluster.nodes.iter().filter_map(gone));
    let hosts = cluster.nodes.iter().map(Told::by_host);
    let told: Vec<_> = hosts.chain(cluster.routers.iter().map(Told::by_router)).collect();
    found.extend(told.iter().flat_map(problems));
    found.extend(told.iter().filter_map(held));
    found.extend(told.iter().filter_map(|told| behind(cluster, told)));
    found.extend(told.iter().flat_map(failed));
    found.extend(told.iter().flat_map(conflicts));
    found.extend(told.iter().flat_map(sessions));
    found.extend(cluster.nodes.iter().filter_map(flapping));
    found.extend(cluster.nodes.iter().filter_map(duplicate));
    found
}

/// What an agent said of its kernel, whether it is a host's or a router's.
struct Told<'a> {
    name: &'a NodeName,
    /// Its agent is known to be connected.
    connected: bool,
    applied: Option<&'a Applied>,
}

impl<'a> Told<'a> {
    fn by_host(node: &'a Node) -> Self {
        Self {
            name: node.name(),
            connected: node.peer.session && !node.unknown,
            applied: node.applied.as_ref(),
        }
    }

    fn by_router(router: &'a Router) -> Self {
        Self { name: &router.name, connected: true, applied: router.applied.as_ref() }
    }
}

fn exhausted(pool: &PoolUse) -> Option<Trouble> {
    (pool.claimed >= pool.capacity)
        .then(|| Trouble::Exhausted { pool: pool.pool.name.clone(), capacity: pool.capacity })
}

fn of_controller(controller: &Controller) -> impl Iterator<Item = Trouble> {
    let Controller { id, address, asked, problems, .. } = controller;
    problems.iter().map(|problem| Trouble::Controller {
        id: id.clone(),
        address: address.clone(),
        asked: *asked,
        problem: problem.clone(),
    })
}

/// A drained node may be gone: that is what it was drained for.
fn gone(node: &Node) -> Option<Trouble> {
    let name = node.name().clone();
    match node.state() {
        _ if node.unknown => None,
        NodeState::Drained => None,
        // Its problems say more.
        NodeState::Joining if node.applied.as_ref().is_some_and(|applied| !applied.problems.is_empty()) => {
            None
        }
        NodeState::Joining => {
            let connected = node.applied.is_some();
            (!node.peer.session).then_some(Trouble::NeverCame { node: name, connected })
        }
        state => node.down.then_some(Trouble::Down {
            node: name,
            state,
            liveness: node.liveness,
            stopped: node.stopped_unix_ms > 0,
        }),
    }
}

fn behind(cluster: &Cluster, told: &Told<'_>) -> Option<Trouble> {
    let by = told.applied.map(|applied| applied.behind(cluster.revision));
    let is_behind = told.connected && !cluster.stale && by != Some(0);
    is_behind.then(|| Trouble::Behind { node: told.name.clone(), by })
}

fn held(told: &Told<'_>) -> Option<Trouble> {
    let routes = told.applied?.held;
    (routes > 0).then(|| Trouble::Held { node: told.name.clone(), routes })
}

fn flapping(node: &Node) -> Option<Trouble> {
    let superseded = node.superseded;
    (superseded >= FLAPPING).then(|| Trouble::Flapping { node: node.name().clone(), superseded })
}

fn duplicate(node: &Node) -> Option<Trouble> {
    let from = node.duplicate_from.clone();
    (!from.is_empty()).then(|| Trouble::Duplicate { node: node.name().clone(), from })
}

fn problems(told: &Told<'_>) -> impl Iterator<Item = Trouble> {
    let problems = told.applied.into_iter().flat_map(|applied| &applied.problems);
    problems.map(|problem| Trouble::Problem { node: told.name.clone(), problem: problem.clone() })
}

fn failed(told: &Told<'_>) -> impl Iterator<Item = Trouble> {
    let routes = told.applied.into_iter().flat_map(|applied| &applied.failed);
    routes.map(|route| Trouble::FailedRoute { node: told.name.clone(), route: route.clone() })
}

fn conflicts(told: &Told<'_>) -> impl Iterator<Item = Trouble> {
    let conflicts = told.applied.into_iter().flat_map(|applied| &applied.conflicts);
    conflicts.map(|conflict| Trouble::Conflict { node: told.name.clone(), conflict: conflict.clone() })
}

fn sessions(told: &Told<'_>) -> impl Iterator<Item = Trouble> {
    let neighbours = told.applied.into_iter().flat_map(|applied| &applied.bgp);
    // A drained host has ended its sessions.
    let lacking =
        neighbours.filter(|neighbour| !["established", "drained"].contains(&neighbour.state.as_str()));
    lacking.map(|neighbour| Trouble::Bgp { node: told.name.clone(), neighbour: neighbour.clone() })
}

#[cfg(test)]
mod tests {
    use super::{super::text::sample, *};

    fn kinds(cluster: &Cluster) -> Vec<(&'static str, Option<String>)> {
        let troubles = troubles(cluster);
        let kind = |trouble: &Trouble| (trouble.kind(), trouble.node().map(ToString::to_string));
        troubles.iter().map(kind).collect()
    }

    #[test]
    fn nothing_is_wrong_with_a_cluster_that_is_well() {
        assert_eq!(troubles(&sample::well()), []);
    }

    #[test]
    fn all_that_needs_a_person_is_found() {
        let of = |node: &str| Some(node.to_owned());
        assert_eq!(
            kinds(&sample::troubled()),
            [
                ("node_down", of("host2")),
                ("node_behind", of("host3")),
                ("route_failed", of("host3")),
                ("conflict", of("host3")),
            ]
        );
    }

    #[test]
    fn a_routers_troubles_are_told_too() {
        let mut cluster = sample::well();
        let applied = sample::troubled().nodes[2].applied.clone();
        cluster.routers.push(Router { name: "r1".parse().unwrap(), applied });
        let of_r1 = Some("r1".to_owned());
        assert_eq!(
            kinds(&cluster),
            [("node_behind", of_r1.clone()), ("route_failed", of_r1.clone()), ("conflict", of_r1)]
        );
    }

    #[test]
    fn a_router_that_is_not_spoken_with_is_named() {
        let mut cluster = sample::well();
        let neighbour = BgpNeighbour {
            address: "2001:db8::fe:1".parse().unwrap(),
            interface: String::new(),
            remote_as: 65000,
            state: "connecting".into(),
            since_unix_ms: 0,
            sent: 0,
            received: 0,
            error: "no answer".into(),
            bfd: String::new(),
            imported: 0,
        };
        let well = BgpNeighbour { state: "established".into(), ..neighbour.clone() };
        let drained = BgpNeighbour { state: "drained".into(), ..neighbour.clone() };
        cluster.nodes[1].applied.as_mut().unwrap().bgp = vec![neighbour, well, drained];
        let told: Vec<_> = troubles(&cluster).iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            ["node host2: no BGP session with 2001:db8::fe:1 (AS 65000), connecting: no answer"]
        );
    }

    #[test]
    fn a_full_window_of_forgotten_nodes_is_told_of() {
        let mut cluster = sample::well();
        let window = std::time::Duration::from_secs(600);
        cluster.removals = Removals { recent: 9, limit: 10, window, waiting: 0 };
        assert_eq!(troubles(&cluster), []);
        cluster.removals = Removals { recent: 10, limit: 10, window, waiting: 3 };
        let told: Vec<_> = troubles(&cluster).iter().map(ToString::to_string).collect();
        let expected = "10 nodes were forgotten within 10 minutes, and 10 may be: no more claims end for now (3 of hosts \
                        that are down wait); look why, then `sextant resume` starts a new window, or \
                        `sextant node forget --confirm N NAME…` ends those that are named";
        assert_eq!(told, [expected]);
    }

    #[test]
    fn a_drained_host_may_be_switched_off() {
        let mut cluster = sample::well();
        let node = &mut cluster.nodes[1];
        (node.peer.state, node.peer.session, node.down, node.applied) =
            (NodeState::Drained, false, true, None);
        assert_eq!(kinds(&cluster), []);
    }

    #[test]
    fn a_host_that_never_came_is_named() {
        let mut cluster = sample::well();
        let node = &mut cluster.nodes[1];
        (node.peer.state, node.peer.session, node.applied) = (NodeState::Joining, false, None);
        assert_eq!(kinds(&cluster), [("node_never_came", Some("host2".into()))]);
        // Its agent is connected, and its host lacks its bridge: the problem is named, once.
        cluster.nodes[1].applied = sample::well().nodes[1].applied.clone();
        assert!(troubles(&cluster)[0].to_string().contains("has not announced it yet"));
        sample::lose_bridge(&mut cluster.nodes[1]);
        assert_eq!(kinds(&cluster), [("node_problem", Some("host2".into()))]);
    }

    #[test]
    fn a_refused_duplicate_is_named() {
        let mut cluster = sample::well();
        cluster.nodes[1].duplicate_from = "2001:db8::9".into();
        assert_eq!(kinds(&cluster), [("node_duplicate", Some("host2".into()))]);
    }

    #[test]
    fn pools_are_missed_and_run_out() {
        let mut cluster = sample::well();
        cluster.pools[0].claimed = cluster.pools[0].capacity;
        assert_eq!(kinds(&cluster), [("pool_exhausted", None)]);
        cluster.pools.clear();
        assert_eq!(kinds(&cluster), [("no_pool", None)]);
    }
}
