//! Finding troubles in the state of a cluster. Pure.

use std::collections::HashMap;

use sextant_proto::{Applied, NodeId, NodeName, NodeState};

use super::{FLAPPING, Trouble, conflict};
use crate::answer::{Cluster, Controller, Node, Router, Unregistered};

/// All problems that need an operator, in the order of their scope: the widest first.
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
    // A connected agent reports its refused claims itself.
    let is_reported = |claim: &&Unregistered| {
        let refused = cluster.refused.iter().any(|it| it.node == claim.node);
        refused || cluster.nodes.iter().any(|node| *node.name() == claim.node && node.peer.session)
    };
    let unregistered = cluster.unregistered.iter().filter(|claim| !is_reported(claim));
    found.extend(unregistered.cloned().map(Trouble::Unregistered));
    found.extend(cluster.refused.iter().cloned().map(Trouble::Refused));
    if cluster.pools.is_empty() && cluster.unreadable.is_empty() {
        let earlier = cluster.backups.as_ref().map(|backups| backups.earlier.clone());
        found.push(Trouble::NoPool { earlier: earlier.filter(|file| !file.is_empty()) });
    }
    found.extend(cluster.nodes.iter().filter_map(down));
    // A controller that fails is the reason, and is reported itself.
    let doubtful = cluster.nodes.iter().filter(|node| node.unknown && !cluster.has_failing_controller());
    found.extend(doubtful.map(|node| Trouble::Doubtful { node: node.name().clone() }));
    let hosts = cluster.nodes.iter().map(Report::of_host);
    let reports: Vec<_> = hosts.chain(cluster.routers.iter().map(Report::of_router)).collect();
    found.extend(reports.iter().flat_map(problems));
    found.extend(reports.iter().filter_map(held));
    found.extend(reports.iter().filter_map(|report| behind(cluster, report)));
    found.extend(reports.iter().flat_map(failed));
    found.extend(reports.iter().flat_map(|report| conflicts(cluster, report)));
    found.extend(reports.iter().flat_map(sessions));
    found.extend(cluster.nodes.iter().filter_map(flapping));
    found.extend(cluster.nodes.iter().filter_map(duplicate));
    found.extend(shared_ids(&cluster.nodes));
    found
}

/// The report of an agent, of a host or of a router.
struct Report<'a> {
    name: &'a NodeName,
    /// Its agent is known to be connected.
    connected: bool,
    applied: Option<&'a Applied>,
}

impl<'a> Report<'a> {
    fn of_host(node: &'a Node) -> Self {
        Self {
            name: node.name(),
            connected: node.peer.session && !node.unknown,
            applied: node.applied.as_ref(),
        }
    }

    fn of_router(router: &'a Router) -> Self {
        Self { name: &router.name, connected: true, applied: router.applied.as_ref() }
    }
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

/// A drained node may be down: that is the purpose of a drain.
fn down(node: &Node) -> Option<Trouble> {
    let name = node.name().clone();
    match node.state() {
        _ if node.revoked => Some(Trouble::Revoked { node: name }),
        _ if node.unknown => None,
        NodeState::Drained => None,
        // Its problems are reported instead.
        NodeState::Joining
            if node.applied.as_ref().is_some_and(|applied| !applied.ack.problems.is_empty()) =>
        {
            None
        }
        NodeState::Joining => {
            let connected = node.applied.is_some();
            (!node.peer.session).then_some(Trouble::NeverAnnounced { node: name, connected })
        }
        state => node.down.then_some(Trouble::Down {
            node: name,
            state,
            liveness: node.liveness,
            stopped: node.stopped_unix_ms > 0,
        }),
    }
}

/// While the cluster is paused, agents apply nothing.
fn behind(cluster: &Cluster, report: &Report<'_>) -> Option<Trouble> {
    let by = report.applied.map(|applied| applied.ack.behind(cluster.revision));
    let is_behind = report.connected && !cluster.stale && !cluster.paused && by != Some(0);
    is_behind.then(|| Trouble::Behind { node: report.name.clone(), by })
}

fn held(report: &Report<'_>) -> Option<Trouble> {
    let routes = report.applied?.ack.held;
    (routes > 0).then(|| Trouble::Held { node: report.name.clone(), routes })
}

fn flapping(node: &Node) -> Option<Trouble> {
    let superseded = node.superseded;
    (superseded >= FLAPPING).then(|| Trouble::Flapping { node: node.name().clone(), superseded })
}

fn duplicate(node: &Node) -> Option<Trouble> {
    let from = node.duplicate_from.clone();
    (!from.is_empty()).then(|| Trouble::Duplicate { node: node.name().clone(), from })
}

/// Two nodes with the same id, the one without an agent first.
fn shared_ids(nodes: &[Node]) -> Vec<Trouble> {
    let mut by_id: HashMap<NodeId, &Node> = HashMap::new();
    let mut found = Vec::new();
    for node in nodes {
        let Some(id) = node.node_id else { continue };
        let Some(first) = by_id.insert(id, node) else { continue };
        let (node, other) = if first.peer.session { (node, first) } else { (first, node) };
        by_id.insert(id, other);
        let both = node.peer.session && other.peer.session;
        found.push(Trouble::SharedId { node: node.name().clone(), other: other.name().clone(), both });
    }
    found
}

fn problems(report: &Report<'_>) -> impl Iterator<Item = Trouble> {
    let problems = report.applied.into_iter().flat_map(|applied| &applied.ack.problems);
    problems.map(|problem| Trouble::Problem { node: report.name.clone(), problem: problem.clone() })
}

fn failed(report: &Report<'_>) -> impl Iterator<Item = Trouble> {
    let routes = report.applied.into_iter().flat_map(|applied| &applied.ack.failed);
    routes.map(|route| Trouble::FailedRoute { node: report.name.clone(), route: route.clone() })
}

fn conflicts<'a>(cluster: &'a Cluster, report: &Report<'a>) -> impl Iterator<Item = Trouble> + use<'a> {
    let conflicts = report.applied.into_iter().flat_map(|applied| &applied.ack.conflicts);
    let node = report.name;
    conflicts.filter_map(move |conflict| conflict::trouble(cluster, node, conflict))
}

fn sessions(report: &Report<'_>) -> impl Iterator<Item = Trouble> {
    let neighbours = report.applied.into_iter().flat_map(|applied| &applied.ack.bgp);
    // A drained host has ended its sessions.
    let missing =
        neighbours.filter(|neighbour| !["established", "drained"].contains(&neighbour.state.as_str()));
    missing.map(|neighbour| Trouble::Bgp { node: report.name.clone(), neighbour: neighbour.clone() })
}

#[cfg(test)]
mod tests {
    use sextant_proto::BgpNeighbour;

    use super::*;
    use crate::answer::{Refused, Removals, sample};

    fn kinds(cluster: &Cluster) -> Vec<(&'static str, Option<String>)> {
        let troubles = troubles(cluster);
        let kind = |trouble: &Trouble| (trouble.kind(), trouble.node().map(ToString::to_string));
        troubles.iter().map(kind).collect()
    }

    #[test]
    fn a_healthy_cluster_has_no_problem() {
        assert_eq!(troubles(&sample::healthy()), []);
    }

    #[test]
    fn all_problems_are_found() {
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
    fn a_routers_problems_are_found() {
        let mut cluster = sample::healthy();
        let applied = sample::troubled().nodes[2].applied.clone();
        cluster.routers.push(Router { name: "r1".parse().unwrap(), applied });
        let of_r1 = Some("r1".to_owned());
        assert_eq!(
            kinds(&cluster),
            [("node_behind", of_r1.clone()), ("route_failed", of_r1.clone()), ("conflict", of_r1)]
        );
    }

    #[test]
    fn a_missing_bgp_session_is_found() {
        let mut cluster = sample::healthy();
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
        let established = BgpNeighbour { state: "established".into(), ..neighbour.clone() };
        let drained = BgpNeighbour { state: "drained".into(), ..neighbour.clone() };
        cluster.nodes[1].applied.as_mut().unwrap().ack.bgp = vec![neighbour, established, drained];
        let texts: Vec<_> = troubles(&cluster).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            ["node host2: no BGP session with 2001:db8::fe:1 (AS 65000), connecting: no answer"]
        );
    }

    #[test]
    fn a_reached_limit_of_forgotten_nodes_is_found() {
        let mut cluster = sample::healthy();
        let window = std::time::Duration::from_secs(600);
        cluster.removals = Removals { recent: 9, limit: 10, window, waiting: 0 };
        assert_eq!(troubles(&cluster), []);
        cluster.removals = Removals { recent: 10, limit: 10, window, waiting: 3 };
        let texts: Vec<_> = troubles(&cluster).iter().map(ToString::to_string).collect();
        let expected = "10 prefixes went within 10 minutes; the limit is 10, so no more claims end for now (waiting: \
                        3 down nodes); find the cause, then run `sextant resume` to start a new window, or \
                        `sextant node forget --confirm N NAME…` to forget the named nodes";
        assert_eq!(texts, [expected]);
    }

    #[test]
    fn a_drained_host_may_be_switched_off() {
        let mut cluster = sample::healthy();
        let node = &mut cluster.nodes[1];
        node.peer = node.peer.clone().in_state(NodeState::Drained);
        (node.peer.session, node.down, node.applied) = (false, true, None);
        assert_eq!(kinds(&cluster), []);
    }

    #[test]
    fn a_host_that_was_never_announced_is_found() {
        let mut cluster = sample::healthy();
        let node = &mut cluster.nodes[1];
        node.peer = node.peer.clone().in_state(NodeState::Joining);
        (node.peer.session, node.applied) = (false, None);
        assert_eq!(kinds(&cluster), [("node_never_came", Some("host2".into()))]);
        // Its agent is connected, but the bridge is missing: the problem is listed once.
        cluster.nodes[1].applied = sample::healthy().nodes[1].applied.clone();
        assert!(troubles(&cluster)[0].to_string().contains("has not announced its prefix yet"));
        sample::lose_bridge(&mut cluster.nodes[1]);
        assert_eq!(kinds(&cluster), [("node_problem", Some("host2".into()))]);
        assert!(cluster.nodes[1].waits());
        // It was ready before its agent started again.
        cluster.nodes[1].peer = cluster.nodes[1].peer.clone().in_state(NodeState::Ready);
        assert_eq!(kinds(&cluster), [("node_problem", Some("host2".into()))]);
    }

    #[test]
    fn not_all_is_well_while_an_agent_may_be_lost() {
        let mut cluster = sample::healthy();
        cluster.nodes[1].unknown = true;
        assert_eq!(kinds(&cluster), [("node_unknown", Some("host2".into()))]);
    }

    #[test]
    fn a_refusal_is_reported_of_the_node_that_asks() {
        let mut cluster = sample::healthy();
        let name = |name: &str| -> NodeName { name.parse().unwrap() };
        let cases = [
            ("host9", None, Some("host9"), "node host9 gets no prefix: closed"),
            ("host1", Some("host2"), Some("host1"), "node host1 is refused under the name host2: closed"),
            ("host2", Some("host2"), None, "another host that calls itself host2 gets no prefix: closed"),
        ];
        for (node, asks_as, of, text) in cases {
            let asks_as = asks_as.map(name);
            cluster.refused =
                vec![Refused { node: name(node), asks_as, why: "closed".into(), since_unix_ms: 1 }];
            assert_eq!(kinds(&cluster), [("node_refused", of.map(ToOwned::to_owned))]);
            assert_eq!(troubles(&cluster)[0].to_string(), text);
        }
    }

    /// A connected agent reports it itself.
    #[test]
    fn an_unregistered_claim_is_found_once() {
        let mut cluster = sample::healthy();
        cluster.unregistered = sample::unregistered();
        assert_eq!(kinds(&cluster), [("claim_unregistered", Some("host7".into()))]);
        cluster.unregistered[0].node = cluster.nodes[0].name().clone();
        assert_eq!(kinds(&cluster), []);
    }

    #[test]
    fn a_refused_duplicate_is_found() {
        let mut cluster = sample::healthy();
        cluster.nodes[1].duplicate_from = "2001:db8::9".into();
        assert_eq!(kinds(&cluster), [("node_duplicate", Some("host2".into()))]);
    }

    #[test]
    fn nodes_with_the_same_id_are_found() {
        let mut cluster = sample::healthy();
        cluster.nodes[1].node_id = cluster.nodes[0].node_id;
        assert_eq!(kinds(&cluster), [("node_id_shared", Some("host2".into()))]);
        assert!(
            troubles(&cluster)[0].to_string().contains("same node id as node host1; if a disk was cloned")
        );
        cluster.nodes[0].peer.session = false;
        let found = troubles(&cluster);
        assert!(found[0].to_string().contains("run `sextant node forget host1`"), "{found:?}");
    }

    #[test]
    fn agents_of_a_paused_cluster_are_not_behind() {
        let mut cluster = sample::troubled();
        cluster.paused = true;
        let found: Vec<_> = kinds(&cluster).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(found, ["paused", "node_down", "route_failed", "conflict"]);
    }

    #[test]
    fn a_missing_pool_is_found_and_a_full_one_is_none() {
        let mut cluster = sample::healthy();
        cluster.pools[0].claimed = cluster.pools[0].capacity;
        assert_eq!(kinds(&cluster), [], "a host that gets no prefix is reported itself");
        cluster.pools.clear();
        assert_eq!(kinds(&cluster), [("no_pool", None)]);
    }
}
