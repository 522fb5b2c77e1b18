use serde_json::json;

use super::*;
use crate::answer::{Cluster, Waited as Progress, sample};

/// Compared as text, because the order of the keys counts.
#[track_caller]
fn is(value: &Value, expected: &Value) {
    assert_eq!(format!("{value:#}"), format!("{expected:#}"));
}

fn pool(used: &crate::answer::PoolUse) -> Value {
    value(Pool::from(used))
}

fn node(node: &crate::answer::Node, cluster: &Cluster) -> Value {
    value(Node::new(node, cluster))
}

fn status(cluster: &Cluster) -> Value {
    value(Status::from(cluster))
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
    is(&pool(&sample::healthy().pools[0]), &expected);
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
        "claims": [{
            "pool": "main",
            "primary": true,
            "host_prefix": "2001:db8:1:2::/64",
            "container_prefixes": ["2001:db8:1:2::/80"],
            "claim_state": "ready",
            "phase": "current",
            "epoch": { "incarnation": "000000000000000000000000000000ff", "revision": 13 },
            "claimed_unix_ms": 1_799_992_800_000_u64
        }],
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
                "ours_wins": false,
                "ours": null,
                "leads": "via fe80::1 dev eth0"
            }],
            "held": 0,
            "problems": []
        },
        "behind": 2,
        "laggards": [],
        "revoked": false,
        "superseded": 0,
        "duplicate_from": null,
        "stopped_unix_ms": null,
        "ndp": null,
        "ndp_error": null
    });
    is(&node(&cluster.nodes[2], &cluster), &expected);
}

/// Scripts count the nodes of a state by the lines of the text.
#[test]
fn a_node_has_one_key_state() {
    let cluster = sample::troubled();
    let text = serde_json::to_string_pretty(&node(&cluster.nodes[2], &cluster)).unwrap();
    assert_eq!(text.matches("\"state\": \"ready\"").count(), 1, "{text}");
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
    is(&list(sample::routes().iter().map(Route::from)), &expected);
}

#[test]
fn a_status_is() {
    let mut cluster = sample::troubled();
    cluster.nodes.remove(2);
    cluster.backups = Some(sample::backups());
    let expected = json!({
        "well": false,
        "cluster": "default",
        "store": "embedded:/var/lib/sextant/controller/controller.redb",
        "incarnation": "000000000000000000000000000000ff",
        "revision": 42,
        "stale": false,
        "recovering": true,
        "paused": false,
        "restoring": false,
        "silent": [],
        "unregistered": [],
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
            "directory": "/var/lib/sextant/controller/backups",
            "every_ms": 3_600_000,
            "last_unix_ms": 1_796_000_000_123_u64,
            "failing": null,
            "earlier": null,
        },
        "revoked": [],
        "tls": null,
        "plain": [],
        "troubles": [
            {
                "kind": "node_down",
                "node": "host2",
                "text": "node host2 is ready, but its agent is not connected; start sextant-agent there, \
                         or run `sextant node forget host2` if the host is gone for good",
                "what": null,
                "since_unix_ms": null
            }
        ]
    });
    is(&status(&cluster), &expected);
    assert_eq!(status(&sample::healthy())["well"], json!(true));
}

#[test]
fn a_problem_of_a_host_is() {
    let mut cluster = sample::healthy();
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
    let it = Progress {
        revision: sextant_proto::Revision(7),
        applied: 1,
        live: 2,
        done: false,
        laggards: vec!["host2".parse().unwrap()],
    };
    let expected = json!({ "revision": 7, "applied": 1, "live": 2, "done": false, "laggards": ["host2"] });
    is(&value(Waited::from(&it)), &expected);
}
