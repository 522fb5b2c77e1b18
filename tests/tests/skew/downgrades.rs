//! Downgrades to a version that knows of one prefix per node.

use serde_json::Value;
use sextant_tests::{Build, Host, SECONDS, poll};

use crate::{
    fleet::{Fleet, Watched},
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

/// Starts the controller in the earlier version, which ends: it finds no store that it knows.
fn expect_no_start(fleet: &mut Fleet, controller: u16) {
    let options = fleet.options(controller, Build::Previous);
    let started = fleet.cluster.lab.controller(options).unwrap();
    let status = started.process.wait(30 * SECONDS).unwrap();
    assert!(!status.success(), "{status}");
    started.process.wait_for_line("meta/store: incarnation", SECONDS).unwrap();
}

#[test]
fn old_controllers_do_not_start_on_the_store_of_a_node_with_two_prefixes() {
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
    // From now on agents take away what a whole snapshot does not have.
    fleet.cluster.sextant(&["recover", "--finish"]);
    let (before, stored) = (claims(&fleet.cluster, "h1"), records(&fleet));
    let watched = Watched::begin(&fleet.cluster);

    fleet.second = None;
    expect_no_start(&mut fleet, 2);
    fleet.settle_by(1);
    fleet.cluster.controller = None;
    expect_no_start(&mut fleet, 1);
    assert_eq!(records(&fleet), stored);

    fleet.start_first(Build::Present);
    fleet.start_second(Build::Present);
    fleet.settle_by(1);
    assert_eq!(claims(&fleet.cluster, "h1"), before);
    watched.nothing_happened();
    expect_routed(&fleet.cluster, &fleet.cluster.hosts[2], &[("h1", "main"), ("h2", "main")]);
}

/// The first controller was forgotten in an upgrade, and agents ask for prefixes of two pools.
#[test]
fn a_running_old_controller_takes_no_route_of_a_node_with_two_prefixes() {
    if !previous_has_one_claim() {
        return;
    }
    let mut fleet = Fleet::on_etcd("forgotten controller", 3, [Build::Previous, Build::Present]);
    add_ula(&fleet.cluster);
    fleet.start_agent_with(0, Build::Present, &MAIN);
    fleet.start_agent_with(1, Build::Previous, &MAIN);
    fleet.start_agent_with(2, Build::Present, &MAIN);
    fleet.settle_by(2);
    fleet.cluster.sextant(&["recover", "--finish"]);
    let before = [0, 1].map(|host| peers_of(&fleet.cluster.hosts[host]));
    assert!(before.iter().all(|routes| routes.len() == 2), "{before:?}");

    fleet.cluster.agents.remove(2);
    fleet.start_agent_with(2, Build::Present, &BOTH);
    poll("a second prefix", 30 * SECONDS, || {
        let out = fleet.cluster.lab.cli_of(2, &["-o", "json", "node", "show", "h3"])?.succeeded()?.stdout;
        anyhow::ensure!(out.contains("\"ula\""), "{out}");
        Ok(())
    });
    let unread = "\"key\":\"/sextant/v1/default/meta/store\"";
    let first = &fleet.cluster.controller.as_ref().unwrap().process;
    first.wait_for_line(unread, 20 * SECONDS).unwrap();
    // It lists the store anew when its watch is lost.
    let skip = first.log_len();
    fleet.etcd.as_mut().unwrap().restart(&fleet.cluster.lab).unwrap();
    first.wait_for_line_after(skip, unread, 40 * SECONDS).unwrap();
    assert_eq!([0, 1].map(|host| peers_of(&fleet.cluster.hosts[host])), before);

    // Replaced at last, without a loss.
    fleet.cluster.controller = None;
    fleet.start_first(Build::Present);
    expect_states(&fleet.cluster, "h3", &["main ready", "ula ready"]);
    fleet.settle_by(1);
    expect_routed(&fleet.cluster, &fleet.cluster.hosts[1], &[("h1", "main"), ("h3", "main")]);
}

/// The routes to other hosts.
fn peers_of(host: &Host) -> Vec<String> {
    let mut routes = host.routes_of(66).unwrap();
    routes.retain(|route| route.contains(" via "));
    routes
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
    let opened = "controllers of earlier versions can use the store again";
    fleet.cluster.controller.as_ref().unwrap().process.wait_for_line(opened, 20 * SECONDS).unwrap();

    fleet.cluster.controller = None;
    fleet.start_first(Build::Previous);
    fleet.settle_by(1);
    assert_eq!(claims(&fleet.cluster, "h1"), primary);
    replace_agent(&mut fleet, 1, Build::Present, &MAIN);
    fleet.settle_by(1);
    expect_routed(&fleet.cluster, &fleet.cluster.hosts[1], &[("h1", "main")]);
}
