//! Two hosts of one id: a cloned disk.

use sextant_tests::{AgentOptions, poll};

use crate::cluster::{Cluster, LONG, Sizes};

/// The copy has the node id, the claim and the name. One of both is heard at a time, the newer one first; nobody else is
/// harmed, no third prefix is handed out, and a person is told what to do.
#[test]
fn i3_a_cloned_disk_is_told_of() {
    let mut cluster =
        Cluster::start("twins", Sizes { members: 1, controllers: 2, hosts: 3 }, "2001:db8:9::/48", &[]);
    cluster.start_agent(0, &[1, 2]);
    cluster.start_agent(2, &[1, 2]);
    let held = cluster.wait_ready("h1");
    cluster.wait_ready("h3");
    copy(&cluster.lab.state_dir(&cluster.hosts[0]), &cluster.lab.state_dir(&cluster.hosts[1]));
    let clone = AgentOptions { node: Some("h1".into()), controllers: vec![1, 2], ..AgentOptions::default() };
    cluster.start_agent_with(1, clone);
    let told = poll("status tells of both", LONG, || {
        let told: String =
            [1, 2].map(|number| cluster.lab.cli_of(number, &["status"]).unwrap().stdout).concat();
        anyhow::ensure!(told.contains("put each other off"), "{told}");
        anyhow::Ok(told)
    });
    assert!(
        told.contains("node h1: agents of its id") && told.contains("remove its state directory"),
        "{told}"
    );
    let log: String = cluster.controllers.iter().map(|it| it.process.log()).collect();
    assert!(log.contains("two agents of one node id put each other off"), "{log}");
    let now = cluster.node("h1");
    assert_eq!((&now["prefix"], &now["epoch"]), (&held["prefix"], &held["epoch"]), "one claim, as before");
    assert_eq!(cluster.lab.cli_json(&["node", "list"]).unwrap().as_array().unwrap().len(), 2);

    // The mend that it names.
    cluster.agents.pop().unwrap().process.kill().unwrap();
    std::fs::remove_dir_all(cluster.lab.state_dir(&cluster.hosts[1])).unwrap();
    cluster.start_agent(1, &[1, 2]);
    let second = cluster.wait_ready("h2");
    assert_ne!(second["prefix"], held["prefix"]);
    let back = cluster.wait_ready("h1");
    assert_eq!(back["epoch"], held["epoch"]);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // Not the lock that a running agent holds.
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
