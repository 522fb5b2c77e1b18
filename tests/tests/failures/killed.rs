//! Agents, controllers and etcd die and freeze without an effect on traffic.

use sextant_tests::{SECONDS, poll};

use crate::{
    etcd::Cluster,
    watched::{LONG, Watched},
};

#[test]
fn i5_an_etcd_outage_longer_than_any_ttl_changes_no_route() {
    let mut cluster = Cluster::start("etcd dies", 3);
    let watched = Watched::begin(&cluster);
    cluster.etcd.kill().unwrap();
    watched.passes(LONG);
    let out = cluster.lab.cli(&["pool", "add", "other", "2001:db8:7::/48", "--host-len", "64"]).unwrap();
    assert_eq!(out.code, 5, "unavailable: {out:?}");
    let nodes = cluster.nodes().unwrap();
    assert_eq!(nodes.len(), 3, "the last view is still served: {nodes:?}");
    let lab = &cluster.lab;
    cluster.etcd.restart(lab).unwrap();
    cluster.settle();
    watched.nothing_happened(&cluster);
    cluster.hosts.push(cluster.lab.host("h4").unwrap());
    cluster.start_agent(3);
    cluster.settle();
    cluster.expect_full_mesh();
}

/// A failure is logged when it begins, once a minute, and when it ends.
#[test]
fn logs_are_short_while_etcd_is_dead() {
    const MOST: usize = 10;
    let mut cluster = Cluster::start("etcd dead, quiet", 2);
    cluster.etcd.kill().unwrap();
    let name = |process: &sextant_tests::Process| process.log().lines().next().unwrap_or_default().to_owned();
    let controllers = cluster.controllers.iter().map(|it| &it.process);
    let daemons: Vec<_> = controllers.chain(cluster.agents.iter().map(|it| &it.process)).collect();
    // By then all of them have noticed, and lost agents are gone by anybody's count.
    std::thread::sleep(15 * SECONDS);
    let before: Vec<_> = daemons.iter().map(|process| process.logged_lines()).collect();
    std::thread::sleep(60 * SECONDS);
    for (process, before) in daemons.iter().zip(before) {
        let lines = process.logged_lines() - before;
        assert!(lines <= MOST, "{lines} lines in a minute of {}:\n{}", name(process), process.log());
    }
    let lab = &cluster.lab;
    cluster.etcd.restart(lab).unwrap();
    cluster.settle();
    for controller in &cluster.controllers {
        for end in ["store is watched again", "controller lease renewed again"] {
            controller.process.wait_for_line(end, 20 * SECONDS).unwrap();
        }
    }
}

/// Its predecessor's lease has not ended yet: status lists one controller at an address all the same.
#[test]
fn a_killed_controller_is_not_listed_beside_its_successor() {
    let mut cluster = Cluster::start("successor", 1);
    for number in [1, 2] {
        let killed = cluster.controllers.remove(0);
        killed.process.kill().unwrap();
        drop(killed);
        cluster.start_controller(number);
        cluster.controllers[1].wait_ready(30 * SECONDS).unwrap();
        poll("two controllers at two addresses", SECONDS, || {
            let status = cluster.lab.cli_of(number, &["-o", "json", "status"])?.succeeded()?.stdout;
            let status: serde_json::Value = serde_json::from_str(&status)?;
            let listed = status["controllers"].as_array().cloned().unwrap_or_default();
            let mut addresses: Vec<_> = listed.iter().map(|it| it["address"].to_string()).collect();
            addresses.sort();
            addresses.dedup();
            anyhow::ensure!((listed.len(), addresses.len()) == (2, 2), "{listed:?}");
            anyhow::Ok(())
        });
    }
    cluster.settle();
}

#[test]
fn i5_a_controller_dies_and_its_agents_move() {
    let mut cluster = Cluster::start("controller dies", 3);
    let watched = Watched::begin(&cluster);
    cluster.controllers[1].process.kill().unwrap();
    watched.passes(LONG);
    // Controller 1 knows of all three, though one was the other's.
    cluster.settle();
    cluster.controllers[0].process.freeze().unwrap();
    cluster.controllers.truncate(1);
    cluster.start_controller(2);
    watched.passes(LONG);
    cluster.controllers[0].process.thaw().unwrap();
    cluster.settle();
    watched.nothing_happened(&cluster);
}

#[test]
fn status_and_wait_include_the_agents_of_all_controllers() {
    let cluster = Cluster::start("two controllers", 3);
    for number in [1, 2] {
        let nodes =
            cluster.lab.cli_of(number, &["-o", "json", "node", "list"]).unwrap().succeeded().unwrap().stdout;
        let nodes: serde_json::Value = serde_json::from_str(&nodes).unwrap();
        let applied = nodes.as_array().unwrap().iter().filter(|node| node["behind"] == 0).count();
        assert_eq!(applied, 3, "by controller {number}: {nodes}");
        let out = cluster.lab.cli_of(number, &["wait", "--timeout", "5s"]).unwrap();
        assert!(out.code == 0 && out.stdout.contains("all 3 live agents"), "{out:?}");
    }
    cluster.agents[1].process.freeze().unwrap();
    cluster.sextant(&["node", "drain", "h1", "--no-wait"]);
    let late = cluster.lab.cli_of(1, &["wait", "--timeout", "1s"]).unwrap();
    assert!(late.code == 6 && late.stderr.contains("h2"), "h2 is controller 2's: {late:?}");
    cluster.agents[1].process.thaw().unwrap();
    cluster.sextant(&["wait", "--timeout", "10s"]);
    cluster.lab.logs_are_quiet().unwrap();
}

#[test]
fn a_later_controller_has_the_same_content_at_another_revision() {
    let mut cluster = Cluster::start("started later", 2);
    cluster.controllers[0].process.kill().unwrap();
    poll("both agents at controller 2", 30 * SECONDS, || {
        let out = cluster.lab.cli_of(2, &["-o", "json", "node", "list"])?.succeeded()?.stdout;
        let nodes: Vec<serde_json::Value> = serde_json::from_str(&out)?;
        let applied = nodes.iter().filter(|node| node["behind"] == 0).count();
        anyhow::ensure!(applied == 2, "{nodes:?}");
        anyhow::Ok(())
    });
    // A change of the store that agents do not see: controller 2 has sent them everything before it.
    cluster.etcd.etcdctl(&cluster.lab, &["put", "/sextant/v1/default/later", "x"]).unwrap();
    cluster.controllers.remove(0);
    cluster.start_controller(1);
    let controller = cluster.controllers.pop().unwrap();
    controller.wait_ready(30 * SECONDS).unwrap();
    cluster.controllers.insert(0, controller);
    cluster.settle();
    cluster.lab.logs_are_quiet().unwrap();
}

#[test]
fn i5_a_frozen_member_and_a_killed_leader_lose_nothing() {
    let mut cluster = Cluster::start("etcd members", 2);
    let watched = Watched::begin(&cluster);
    for member in 0..3 {
        cluster.etcd.member(member).freeze().unwrap();
        watched.passes(LONG / 2);
        cluster.etcd.member(member).thaw().unwrap();
        cluster.etcd.member(member).kill().unwrap();
        watched.passes(LONG / 2);
        let lab = &cluster.lab;
        cluster.etcd.start_member(lab, member).unwrap();
        cluster.settle();
    }
    watched.nothing_happened(&cluster);
    cluster.expect_full_mesh();
}
