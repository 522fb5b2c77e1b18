//! Answers for programs. Keys stay what they are from version to version; the tests below are their documentation.
//!
//! Prefixes, addresses and ids are text, times are milliseconds since 1970, what is not there is `null`.

use serde_json::{Value, json};
use sextant_proto::{BgpNeighbour, Conflict, FailedRoute, NodeName, Problem, Uplink};

use crate::{
    answer::{
        Applied, Backups, Cluster, Controller, Liveness, Node, PoolUse, Route, RouteState, Router, Target,
        Waited,
    },
    troubles::{Trouble, troubles},
};

/// A pool.
pub(crate) fn pool(used: &PoolUse) -> Value {
    let pool = &used.pool;
    json!({
        "name": pool.name.as_str(),
        "prefix": pool.prefix.to_string(),
        "host_len": pool.host_len,
        "container_len": pool.container_len,
        "draining": pool.draining,
        "claimed": used.claimed,
        "capacity": used.capacity,
        "reserved": used.reserved,
        "quarantined": used.quarantined,
    })
}

/// A node of a cluster.
pub(crate) fn node(node: &Node, cluster: &Cluster) -> Value {
    let peer = &node.peer;
    json!({
        "name": peer.name.as_str(),
        "node_id": node.node_id.to_string(),
        "state": peer.state.to_string(),
        "down": (!node.unknown).then_some(node.down),
        "connected": (!node.unknown).then_some(peer.session),
        "liveness": liveness(node.liveness),
        "liveness_since_unix_ms": Some(node.liveness_since_unix_ms).filter(|since| *since > 0),
        "pool": peer.pool.as_str(),
        "prefix": peer.prefix.to_string(),
        "container_prefix": node.container_prefix.map(|prefix| prefix.to_string()),
        "epoch": {
            "incarnation": cluster.incarnation.to_string(),
            "revision": peer.claimed.0,
        },
        "next_hops": texts(&peer.next_hops),
        "uplinks": node.uplinks.iter().map(uplink).collect::<Value>(),
        "claimed_unix_ms": node.claimed_unix_ms,
        "since_unix_ms": node.since_unix_ms,
        "applied": node.applied.as_ref().map(applied),
        "behind": node.behind(cluster.revision),
        "laggards": texts(&node.laggards),
        "superseded": node.superseded,
        "duplicate_from": Some(&node.duplicate_from).filter(|from| !from.is_empty()),
        "stopped_unix_ms": Some(node.stopped_unix_ms).filter(|stopped| *stopped > 0),
    })
}

/// A BGP neighbour of a node.
pub(crate) fn bgp(node: &NodeName, it: &BgpNeighbour) -> Value {
    json!({
        "node": node.as_str(),
        "neighbour": it.name(),
        "remote_as": it.remote_as,
        "state": it.state,
        "since_unix_ms": it.since_unix_ms,
        "sent": it.sent,
        "received": it.received,
        "error": filled(&it.error),
        "bfd": filled(&it.bfd),
        "imported": it.imported,
    })
}

fn router(router: &Router, cluster: &Cluster) -> Value {
    json!({
        "name": router.name.as_str(),
        "applied": router.applied.as_ref().map(applied),
        "behind": router.applied.as_ref().map(|applied| applied.behind(cluster.revision)),
    })
}

fn liveness(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Up => "up",
        Liveness::Forwarding => "forwarding_without_agent",
        Liveness::Dead => "dead",
        Liveness::Unknown => "unknown",
    }
}

/// A route.
pub(crate) fn route(route: &Route) -> Value {
    let (target, next_hop) = match route.target {
        Target::NextHop(hop) => ("next_hop", Some(hop.to_string())),
        Target::Unreachable => ("unreachable", None),
        Target::LeftToRouter => ("left_to_router", None),
    };
    let state = match route.state {
        RouteState::Unknown => "unknown",
        RouteState::Pending => "pending",
        RouteState::Applied => "applied",
        RouteState::Failed => "failed",
    };
    json!({
        "node": route.node.as_str(),
        "destination": route.destination.to_string(),
        "target": target,
        "next_hop": next_hop,
        "interface": filled(&route.interface),
        "why": route.why,
        "state": state,
        "error": filled(&route.error),
    })
}

/// A cluster.
pub(crate) fn status(cluster: &Cluster) -> Value {
    let troubles = troubles(cluster);
    json!({
        "well": troubles.is_empty(),
        "cluster": cluster.name,
        "store": cluster.store,
        "incarnation": cluster.incarnation.to_string(),
        "revision": cluster.revision.0,
        "stale": cluster.stale,
        "recovering": cluster.recovering,
        "paused": cluster.paused,
        "restoring": cluster.restoring,
        "silent": texts(&cluster.silent),
        "controllers": cluster.controllers.iter().map(controller).collect::<Value>(),
        "pools": cluster.pools.iter().map(pool).collect::<Value>(),
        "nodes": cluster.nodes.iter().map(|it| node(it, cluster)).collect::<Value>(),
        "routers": cluster.routers.iter().map(|it| router(it, cluster)).collect::<Value>(),
        "backups": cluster.backups.as_ref().map(backups),
        "troubles": troubles.iter().map(trouble).collect::<Value>(),
    })
}

fn backups(backups: &Backups) -> Value {
    json!({
        "directory": backups.directory,
        "every_ms": u64::try_from(backups.every.as_millis()).unwrap_or(u64::MAX),
        "last_unix_ms": Some(backups.last_unix_ms).filter(|last| *last > 0),
        "failing": filled(&backups.failing),
        "earlier": filled(&backups.earlier),
    })
}

/// How far a revision is.
pub(crate) fn waited(waited: &Waited) -> Value {
    json!({
        "revision": waited.revision.0,
        "applied": waited.applied,
        "live": waited.live,
        "done": waited.done,
        "laggards": texts(&waited.laggards),
    })
}

fn controller(controller: &Controller) -> Value {
    json!({
        "id": controller.id,
        "address": controller.address,
        "version": controller.version,
        "asked": controller.asked,
        "problems": controller.problems.iter().map(problem).collect::<Value>(),
    })
}

fn trouble(trouble: &Trouble) -> Value {
    json!({
        "kind": trouble.kind(),
        "node": trouble.node().map(NodeName::as_str),
        "text": trouble.to_string(),
        "what": trouble.what(),
        "since_unix_ms": trouble.since_unix_ms(),
    })
}

fn uplink(uplink: &Uplink) -> Value {
    let address = |it: &sextant_proto::InterfaceAddress| format!("{}/{}", it.addr, it.on_link.len());
    json!({
        "interface": uplink.interface,
        "addresses": uplink.addresses.iter().map(address).collect::<Value>(),
    })
}

fn applied(applied: &Applied) -> Value {
    json!({
        "revision": applied.revision.0,
        "version": applied.version,
        "failed": applied.failed.iter().map(failed).collect::<Value>(),
        "conflicts": applied.conflicts.iter().map(conflict).collect::<Value>(),
        "held": applied.held,
        "problems": applied.problems.iter().map(problem).collect::<Value>(),
    })
}

fn problem(problem: &Problem) -> Value {
    json!({
        "what": problem.what,
        "saw": problem.saw,
        "fix": filled(&problem.fix),
        "since_unix_ms": problem.since_unix_ms,
    })
}

fn failed(route: &FailedRoute) -> Value {
    json!({ "destination": route.destination.to_string(), "error": route.error })
}

fn conflict(conflict: &Conflict) -> Value {
    json!({
        "destination": conflict.destination.to_string(),
        "protocol": conflict.protocol,
        "metric": conflict.metric,
        "ours_wins": conflict.ours_wins,
    })
}

/// Items as an array of texts.
pub(crate) fn texts<T: ToString>(items: &[T]) -> Value {
    items.iter().map(ToString::to_string).collect()
}

fn filled(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::sample;

    /// Compared as text, so that the order of the keys counts too.
    #[track_caller]
    fn is(value: &Value, expected: &Value) {
        assert_eq!(format!("{value:#}"), format!("{expected:#}"));
    }

    #[test]
    fn a_pool_is() {
        let expected = json!({
            "name": "main",
            "prefix": "2001:db8:1::/48",
            "host_len": 64,
            "container_len": 80,
            "draining": false,
            "claimed": 3,
            "capacity": 65536,
            "reserved": 2,
            "quarantined": 0
        });
        is(&pool(&sample::well().pools[0]), &expected);
    }

    #[test]
    fn a_node_is() {
        let cluster = sample::troubled();
        let expected = json!({
            "name": "host3",
            "node_id": "00000000000000000000000000000003",
            "state": "ready",
            "down": false,
            "connected": true,
            "liveness": "up",
            "liveness_since_unix_ms": null,
            "pool": "main",
            "prefix": "2001:db8:1:2::/64",
            "container_prefix": "2001:db8:1:2::/80",
            "epoch": { "incarnation": "000000000000000000000000000000ff", "revision": 13 },
            "next_hops": ["2001:db8::3"],
            "uplinks": [{ "interface": "eth0", "addresses": ["2001:db8::3/64"] }],
            "claimed_unix_ms": 1_799_992_800_000_u64,
            "since_unix_ms": 1_799_999_820_000_u64,
            "applied": {
                "revision": 40,
                "version": "0.1.0",
                "failed": [{ "destination": "2001:db8:1:1::/64", "error": "File exists" }],
                "conflicts": [{
                    "destination": "2001:db8:1::/64",
                    "protocol": "static",
                    "metric": 100,
                    "ours_wins": false
                }],
                "held": 0,
                "problems": []
            },
            "behind": 2,
            "laggards": [],
            "superseded": 0,
            "duplicate_from": null,
            "stopped_unix_ms": null
        });
        is(&node(&cluster.nodes[2], &cluster), &expected);
    }

    #[test]
    fn a_node_without_an_agent_is() {
        let cluster = sample::troubled();
        let value = node(&cluster.nodes[1], &cluster);
        assert_eq!(value["down"], json!(true));
        assert_eq!(value["connected"], json!(false));
        assert_eq!(value["liveness"], json!("unknown"));
        assert_eq!(value["applied"], Value::Null);
        assert_eq!(value["behind"], Value::Null);
    }

    #[test]
    fn routes_are() {
        let expected = json!([
            {
                "node": "host1",
                "destination": "2001:db8:1::/64",
                "target": "unreachable",
                "next_hop": null,
                "interface": null,
                "why": "own prefix",
                "state": "applied",
                "error": null
            },
            {
                "node": "host1",
                "destination": "2001:db8:1:1::/64",
                "target": "next_hop",
                "next_hop": "2001:db8::2",
                "interface": "eth0",
                "why": "peer host2",
                "state": "failed",
                "error": "File exists"
            },
            {
                "node": "host1",
                "destination": "2001:db8:1:2::/64",
                "target": "left_to_router",
                "next_hop": null,
                "interface": null,
                "why": "peer host3",
                "state": "pending",
                "error": null
            }
        ]);
        is(&sample::routes().iter().map(route).collect(), &expected);
    }

    #[test]
    fn a_status_is() {
        let mut cluster = sample::troubled();
        cluster.nodes.remove(2);
        cluster.backups = Some(sample::backups());
        let expected = json!({
            "well": false,
            "cluster": "default",
            "store": "embedded:/var/lib/sextant/controller.redb",
            "incarnation": "000000000000000000000000000000ff",
            "revision": 42,
            "stale": false,
            "recovering": true,
            "paused": false,
            "restoring": false,
            "silent": [],
            "controllers": [{
                "id": "c1",
                "address": "[::1]:7300",
                "version": "0.1.0",
                "asked": true,
                "problems": []
            }],
            "pools": [pool(&cluster.pools[0])],
            "nodes": [node(&cluster.nodes[0], &cluster), node(&cluster.nodes[1], &cluster)],
            "routers": [],
            "backups": {
                "directory": "/var/lib/sextant/backups",
                "every_ms": 3_600_000,
                "last_unix_ms": 1_796_000_000_123_u64,
                "failing": null,
                "earlier": null,
            },
            "troubles": [
                {
                    "kind": "node_down",
                    "node": "host2",
                    "text": "node host2 is ready, and its agent is gone; start sextant-agent there, \
                             or `sextant node forget host2` if the host is gone for good",
                    "what": null,
                    "since_unix_ms": null
                }
            ]
        });
        is(&status(&cluster), &expected);
        assert_eq!(status(&sample::well())["well"], json!(true));
    }

    #[test]
    fn a_problem_of_a_host_is() {
        let mut cluster = sample::well();
        sample::lose_bridge(&mut cluster.nodes[1]);
        let shown = status(&cluster);
        assert_eq!(shown["well"], json!(false));
        let since = sample::NOW - 120_000;
        let (saw, fix) = ("bridge \"docker0\" does not exist", "start the container engine");
        let problem = json!({ "what": "bridge-missing", "saw": saw, "fix": fix, "since_unix_ms": since });
        is(&shown["nodes"][1]["applied"]["problems"], &json!([problem]));
        let trouble = json!({
            "kind": "node_problem",
            "node": "host2",
            "text": format!("node host2: {saw}; {fix}"),
            "what": "bridge-missing",
            "since_unix_ms": since
        });
        is(&shown["troubles"], &json!([trouble]));
    }

    #[test]
    fn waiting_is() {
        let it = Waited {
            revision: sextant_proto::Revision(7),
            applied: 1,
            live: 2,
            done: false,
            laggards: vec!["host2".parse().unwrap()],
        };
        let expected =
            json!({ "revision": 7, "applied": 1, "live": 2, "done": false, "laggards": ["host2"] });
        is(&waited(&it), &expected);
    }
}
