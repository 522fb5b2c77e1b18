//! Nodes with prefixes of two pools, where a version knows of one prefix per node.

use std::process::Command;

use serde_json::Value;
use sextant_tests::{Build, Host, SECONDS, cluster::Cluster, expect_text, poll};

use crate::fleet::Fleet;

/// The flags of an agent in one pool, and in both.
pub const MAIN: [&str; 2] = ["--pool", "main"];
pub const BOTH: [&str; 2] = ["--pool", "main,ula"];

/// Whether the earlier version knows of one prefix per node only; otherwise there is nothing to test here. A clone without
/// the versions that `tests/previous` names may have a later one.
pub fn previous_has_one_claim() -> bool {
    let sextant = Build::Previous.bin("sextant").unwrap();
    let help = Command::new(sextant).args(["node", "forget", "--help"]).output().unwrap().stdout;
    let knows = String::from_utf8(help).unwrap().contains("--pool");
    if knows {
        eprintln!("not tested: the earlier version knows of prefixes of several pools");
    }
    !knows
}

/// The claims of a node with their states, as `main ready`.
pub fn states(cluster: &Cluster, node: &str) -> Vec<String> {
    let text = |claim: &Value| format!("{} {}", text(&claim["pool"]), text(&claim["claim_state"]));
    claims_of(cluster, node).iter().map(text).collect()
}

/// The claims of a node, with prefix and epoch.
pub fn claims(cluster: &Cluster, node: &str) -> Vec<String> {
    let text = |claim: &Value| format!("{} {} {}", claim["pool"], claim["host_prefix"], claim["epoch"]);
    claims_of(cluster, node).iter().map(text).collect()
}

fn claims_of(cluster: &Cluster, node: &str) -> Vec<Value> {
    cluster.node(node)["claims"].as_array().cloned().unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

pub fn expect_states(cluster: &Cluster, node: &str, expected: &[&str]) {
    expect_text(&format!("claims of {node}"), 30 * SECONDS, &expected.join("\n"), || {
        anyhow::Ok(states(cluster, node).join("\n"))
    });
}

/// Waits until the host routes exactly these prefixes, each of a node and a pool.
pub fn expect_routed(cluster: &Cluster, host: &Host, expected: &[(&str, &str)]) {
    let route = |(node, pool): &(&str, &str)| {
        let claims = claims_of(cluster, node);
        let prefix =
            claims.iter().find(|claim| claim["pool"] == *pool).map(|claim| text(&claim["host_prefix"]));
        let hop = cluster.hosts.iter().find(|host| host.name() == *node).unwrap().address();
        format!("{} via {hop} dev eth0 proto 66 metric 512", prefix.unwrap())
    };
    let mut expected: Vec<_> = expected.iter().map(route).collect();
    expected.sort();
    expect_text(&format!("routes of {}", host.name()), 20 * SECONDS, &expected.join("\n"), || {
        let mut routes = host.routes_of(66)?;
        routes.retain(|route| route.contains(" via "));
        routes.sort();
        anyhow::Ok(routes.join("\n"))
    });
}

/// Adds the pool `ula`.
pub fn add_ula(cluster: &Cluster) {
    cluster.sextant(&["pool", "add", "ula", "fd00:8000::/40", "--host-len", "64", "--container-len", "80"]);
}

/// Ends a host's agent, and starts another one with its state directory.
pub fn replace_agent(fleet: &mut Fleet, index: usize, build: Build, args: &[&str]) {
    let name = fleet.cluster.hosts[index].name().to_owned();
    fleet.cluster.agents.retain(|agent| agent.host().name() != name);
    fleet.start_agent_with(index, build, args);
}

#[test]
fn old_agents_route_the_primary_prefix_of_a_node_with_two() {
    if !previous_has_one_claim() {
        return;
    }
    let mut fleet = Fleet::embedded("two pools, old agents", 3, Build::Present);
    add_ula(&fleet.cluster);
    fleet.start_agent_with(0, Build::Present, &BOTH);
    fleet.start_agent_with(1, Build::Previous, &MAIN);
    fleet.start_agent_with(2, Build::Previous, &MAIN);
    fleet.settle_by(1);
    let expect_all = |fleet: &Fleet| {
        let cluster = &fleet.cluster;
        expect_states(cluster, "h1", &["main ready", "ula ready"]);
        expect_routed(cluster, &cluster.hosts[0], &[("h2", "main"), ("h3", "main")]);
        expect_routed(cluster, &cluster.hosts[1], &[("h1", "main"), ("h3", "main")]);
        expect_routed(cluster, &cluster.hosts[2], &[("h1", "main"), ("h2", "main")]);
    };
    expect_all(&fleet);
    let before = [claims(&fleet.cluster, "h1"), claims(&fleet.cluster, "h2")];

    for drained in ["h1", "h2"] {
        fleet.cluster.sextant(&["node", "drain", drained, "--timeout", "20s"]);
        let expected: &[_] = if drained == "h1" { &[("h2", "main")] } else { &[("h1", "main")] };
        expect_routed(&fleet.cluster, &fleet.cluster.hosts[2], expected);
        fleet.cluster.sextant(&["node", "undrain", drained, "--timeout", "20s"]);
        expect_all(&fleet);
    }
    replace_agent(&mut fleet, 1, Build::Previous, &MAIN);
    fleet.settle_by(1);
    expect_all(&fleet);
    assert_eq!([claims(&fleet.cluster, "h1"), claims(&fleet.cluster, "h2")], before);
    fleet.cluster.lab.logs_are_quiet().unwrap();
}

#[test]
fn agents_with_two_pools_have_one_prefix_until_the_controller_is_upgraded() {
    if !previous_has_one_claim() {
        return;
    }
    let mut fleet = Fleet::embedded("two pools, old controller", 2, Build::Previous);
    add_ula(&fleet.cluster);
    fleet.start_agent_with(0, Build::Present, &BOTH);
    fleet.start_agent_with(1, Build::Previous, &MAIN);
    fleet.settle_by(1);
    fleet.cluster.agents[0].wait_ready(20 * SECONDS).unwrap();
    poll("the problem of the missing prefix is reported", 20 * SECONDS, || {
        let problems = fleet.cluster.node("h1")["applied"]["problems"].clone();
        let saw = "no prefix of pool ula: the controller gives each node one prefix";
        let found = |problem: &Value| {
            problem["what"] == "pool-without-claim" && text(&problem["saw"]).starts_with(saw)
        };
        anyhow::ensure!(problems.as_array().is_some_and(|all| all.iter().any(found)), "{problems}");
        Ok(())
    });
    let primary = claims(&fleet.cluster, "h1");
    expect_routed(&fleet.cluster, &fleet.cluster.hosts[1], &[("h1", "main")]);

    fleet.cluster.controller = None;
    fleet.start_first(Build::Present);
    expect_states(&fleet.cluster, "h1", &["main ready", "ula ready"]);
    assert_eq!(claims(&fleet.cluster, "h1")[..1], primary);
    replace_agent(&mut fleet, 1, Build::Present, &MAIN);
    expect_routed(&fleet.cluster, &fleet.cluster.hosts[1], &[("h1", "main"), ("h1", "ula")]);
    poll("the problem is over", 20 * SECONDS, || {
        let problems = fleet.cluster.node("h1")["applied"]["problems"].to_string();
        anyhow::ensure!(!problems.contains("pool-without-claim"), "{problems}");
        Ok(())
    });
}
