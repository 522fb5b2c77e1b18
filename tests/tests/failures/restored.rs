//! A snapshot of etcd is restored, which lacks a host that joined after it.

use sextant_tests::{SECONDS, poll};

use crate::{
    etcd::Cluster,
    watched::{LONG, Watched},
};

/// Hosts 1 and 2 are in the snapshot, host 3 is not; revisions have passed that are used a second time afterwards.
fn start(test: &str) -> (Cluster, Watched, Vec<(String, String)>) {
    let mut cluster = Cluster::start(test, 3);
    let late = cluster.hosts[2].name().to_owned();
    cluster.agents.truncate(2);
    cluster.sextant(&["node", "forget", "--force", &late]);
    std::fs::remove_dir_all(cluster.lab.state_dir(&cluster.hosts[2])).unwrap();
    cluster.etcd.save_snapshot(&cluster.lab, "early").unwrap();
    for _ in 0..10 {
        cluster.sextant(&["pause"]);
        cluster.sextant(&["resume"]);
    }
    cluster.start_agent(2);
    cluster.settle();
    let (watched, held) = (Watched::begin(&cluster), cluster.prefixes());
    (cluster, watched, held)
}

/// All hosts have what they had, the late one too, in another incarnation of the store; and nothing was lost meanwhile.
fn comes_back(cluster: &Cluster, watched: Watched, held: &[(String, String)]) {
    wait_taken_back(cluster);
    cluster.settle();
    assert_eq!(cluster.prefixes(), held);
    cluster.sextant(&["recover", "--finish"]);
    cluster.settle();
    assert_eq!(cluster.prefixes(), held);
    cluster.expect_full_mesh();
    watched.nothing_lost(cluster);
}

fn wait_taken_back(cluster: &Cluster) {
    poll("the store is another incarnation", 30 * SECONDS, || {
        let events = cluster.lab.cli(&["events"])?.succeeded()?.stdout;
        anyhow::ensure!(events.contains("taken back to a snapshot"), "{events}");
        anyhow::Ok(())
    });
}

#[test]
fn i1_i2_a_snapshot_restored_under_running_controllers_loses_and_doubles_no_prefix() {
    let (mut cluster, watched, held) = start("restored");
    cluster.etcd.restore_snapshot(&cluster.lab, "early").unwrap();
    comes_back(&cluster, watched, &held);
}

#[test]
fn i1_i2_a_snapshot_restored_while_the_controllers_are_stopped_loses_and_doubles_no_prefix() {
    let (mut cluster, watched, held) = start("restored stopped");
    cluster.controllers.clear();
    cluster.etcd.restore_snapshot(&cluster.lab, "early").unwrap();
    (1..=2).for_each(|number| cluster.start_controller(number));
    comes_back(&cluster, watched, &held);
}

/// Host 2 has another prefix since the snapshot: the restored store has its former claim.
fn reassigned(test: &str) -> (Cluster, Watched, Vec<(String, String)>) {
    let cluster = Cluster::start(test, 3);
    cluster.sextant(&["recover", "--finish"]);
    cluster.etcd.save_snapshot(&cluster.lab, "early").unwrap();
    let former = cluster.prefixes();
    cluster.sextant(&["node", "reassign", cluster.hosts[1].name()]);
    cluster.settle();
    assert_ne!(cluster.prefixes(), former);
    let (watched, held) = (Watched::begin(&cluster), cluster.prefixes());
    (cluster, watched, held)
}

#[test]
fn i5_a_snapshot_with_a_nodes_former_claim_takes_the_route_to_its_present_one_from_no_peer() {
    let (mut cluster, watched, held) = reassigned("former claim");
    cluster.etcd.restore_snapshot(&cluster.lab, "early").unwrap();
    comes_back(&cluster, watched, &held);
}

#[test]
fn i5_a_snapshot_with_the_former_claim_of_a_node_without_an_agent_takes_no_route_either() {
    let (mut cluster, watched, held) = reassigned("former claim, no agent");
    drop(cluster.agents.remove(1));
    cluster.etcd.restore_snapshot(&cluster.lab, "early").unwrap();
    wait_taken_back(&cluster);
    // The snapshot has a session of it.
    poll("host 2 is listed", 5 * SECONDS, || {
        let recovery = cluster.lab.cli_json(&["recover"])?;
        anyhow::ensure!(recovery["silent"] == serde_json::json!([cluster.hosts[1].name()]), "{recovery}");
        anyhow::Ok(())
    });
    watched.passes(2 * LONG);
    cluster.start_agent(1);
    comes_back(&cluster, watched, &held);
}
