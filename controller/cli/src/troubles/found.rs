//! Finding troubles in the state of a cluster. Pure.

use sextant_proto::{NodeName, NodeState};

use super::{FLAPPING, Trouble};
use crate::answer::{Applied, Cluster, Controller, Node, PoolUse, Router};

/// All that needs a person, the widest first.
pub(crate) fn troubles(cluster: &Cluster) -> Vec<Trouble> {
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
    found.extend(cluster.refused.iter().cloned().map(Trouble::Refused));
    if cluster.pools.is_empty() && cluster.unreadable.is_empty() {
        let earlier = cluster.backups.as_ref().map(|backups| backups.earlier.clone());
        found.push(Trouble::NoPool { earlier: earlier.filter(|file| !file.is_empty()) });
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
    use sextant_proto::BgpNeighbour;

    use super::*;
    use crate::answer::{Removals, sample};

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
