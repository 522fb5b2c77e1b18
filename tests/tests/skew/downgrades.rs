//! Downgrades to a version that knows of one prefix per node.

use serde_json::Value;
use sextant_tests::{Build, SECONDS};

use crate::{
    fleet::Fleet,
    several_pools::{
        BOTH, MAIN, add_ula, claims, expect_routed, expect_states, previous_has_one_claim, replace_agent,
    },
};

#[test]
fn a_downgraded_agent_keeps_its_primary_prefix_and_the_other_one_waits_for_the_upgrade() {
    if !previous_has_one_claim() {
        return;
    }
    let mut fleet = Fleet::embedded("downgraded agent", 2, Build::Present);
    add_ula(&fleet.cluster);
    fleet.start_agent_with(0, Build::Present, &BOTH);
    fleet.start_agent_with(1, Build::Present, &MAIN);
    expect_states(&fleet.cluster, "h1", &["main ready", "ula ready"]);
    fleet.settle_by(1);
    expect_routed(&fleet.cluster, &fleet.cluster.hosts[1], &[("h1", "main"), ("h1", "ula")]);
    let before = claims(&fleet.cluster, "h1");

    replace_agent(&mut fleet, 0, Build::Previous, &MAIN);
    expect_states(&fleet.cluster, "h1", &["main ready", "ula joining"]);
    fleet.settle_by(1);
    assert_eq!(claims(&fleet.cluster, "h1"), before);
    expect_routed(&fleet.cluster, &fleet.cluster.hosts[1], &[("h1", "main")]);
    let shown = fleet.cluster.sextant(&["node", "show", "h1"]);
    assert!(shown.contains("joining"), "{shown}");

    replace_agent(&mut fleet, 0, Build::Present, &BOTH);
    expect_states(&fleet.cluster, "h1", &["main ready", "ula ready"]);
    fleet.settle_by(1);
    assert_eq!(claims(&fleet.cluster, "h1"), before);
    expect_routed(&fleet.cluster, &fleet.cluster.hosts[1], &[("h1", "main"), ("h1", "ula")]);
}

/// The records of the claims, and that of the first host's node, with the revisions of their last changes.
fn records(fleet: &Fleet) -> Vec<Value> {
    let etcd = fleet.etcd.as_ref().unwrap();
    let all = ["claims/", "nodes/h1"].map(|under| {
        let key = format!("/sextant/v1/default/{under}");
        let out = etcd.etcdctl(&fleet.cluster.lab, &["get", "--prefix", &key, "-w", "json"]).unwrap();
        serde_json::from_str::<Value>(&out).unwrap()["kvs"].clone()
    });
    all.to_vec()
}

#[test]
fn old_controllers_change_nothing_of_a_node_with_two_prefixes() {
    if !previous_has_one_claim() {
        return;
    }
    let mut fleet = Fleet::on_etcd("downgraded controllers", 3, [Build::Present; 2]);
    add_ula(&fleet.cluster);
    fleet.start_agent_with(0, Build::Present, &BOTH);
    fleet.start_agent_with(1, Build::Present, &MAIN);
    fleet.start_agent_with(2, Build::Previous, &MAIN);
    expect_states(&fleet.cluster, "h1", &["main ready", "ula ready"]);
    fleet.settle_by(1);
    let (before, stored) = (claims(&fleet.cluster, "h1"), records(&fleet));

    // The second controller first. Agents move between both.
    fleet.second = None;
    fleet.start_second(Build::Previous);
    fleet.cluster.controller = None;
    fleet.start_first(Build::Previous);
    let of_h1 = "/sextant/v1/default/nodes/h1";
    let skipped = format!("record of the store cannot be decoded; skipped\",\"key\":\"{of_h1}\"");
    fleet.cluster.controller.as_ref().unwrap().process.wait_for_line(&skipped, 20 * SECONDS).unwrap();
    let refused = format!("store content: {of_h1}: prefix: is missing");
    fleet.cluster.agents[0].process.wait_for_line(&refused, 20 * SECONDS).unwrap();
    // The other nodes go on.
    fleet.cluster.sextant(&["node", "drain", "h2", "--timeout", "20s"]);
    expect_routed(&fleet.cluster, &fleet.cluster.hosts[1], &[]);
    fleet.cluster.sextant(&["node", "undrain", "h2", "--timeout", "20s"]);
    assert_eq!(records(&fleet), stored);

    fleet.cluster.controller = None;
    fleet.start_first(Build::Present);
    fleet.second = None;
    fleet.start_second(Build::Present);
    expect_states(&fleet.cluster, "h1", &["main ready", "ula ready"]);
    fleet.settle_by(1);
    assert_eq!(claims(&fleet.cluster, "h1"), before);
    expect_routed(&fleet.cluster, &fleet.cluster.hosts[1], &[("h1", "main"), ("h1", "ula"), ("h3", "main")]);
    expect_routed(&fleet.cluster, &fleet.cluster.hosts[2], &[("h1", "main"), ("h2", "main")]);
}

#[test]
fn controllers_can_be_downgraded_once_each_node_has_one_prefix_again() {
    if !previous_has_one_claim() {
        return;
    }
    let mut fleet = Fleet::embedded("downgrade as documented", 2, Build::Present);
    add_ula(&fleet.cluster);
    fleet.start_agent_with(0, Build::Present, &BOTH);
    fleet.start_agent_with(1, Build::Present, &MAIN);
    expect_states(&fleet.cluster, "h1", &["main ready", "ula ready"]);
    let primary = claims(&fleet.cluster, "h1")[..1].to_vec();
    replace_agent(&mut fleet, 0, Build::Present, &MAIN);
    fleet.settle_by(1);
    fleet.cluster.sextant(&["recover", "--finish"]);
    fleet.cluster.sextant(&["node", "forget", "h1", "--pool", "ula", "--force"]);
    fleet.settle_by(1);

    fleet.cluster.controller = None;
    fleet.start_first(Build::Previous);
    fleet.settle_by(1);
    assert_eq!(claims(&fleet.cluster, "h1"), primary);
    replace_agent(&mut fleet, 1, Build::Present, &MAIN);
    fleet.settle_by(1);
    expect_routed(&fleet.cluster, &fleet.cluster.hosts[1], &[("h1", "main")]);
}
