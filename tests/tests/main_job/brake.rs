//! Many peers gone at once wait for a person; a pause holds everything.

use sextant_tests::{AgentOptions, ControllerOptions, RouteMonitor, SECONDS, poll};

use crate::cluster::{Cluster, GUIDE};

#[test]
fn i6_a_pause_holds_all_changes_until_a_resume() {
    let mut cluster = Cluster::start("pause", 2, GUIDE);
    let monitor = RouteMonitor::start(&cluster.hosts[0]).unwrap();
    cluster.sextant(&["pause"]);
    cluster.agents[0].process.wait_for_line("paused by an operator", 5 * SECONDS).unwrap();
    cluster.hosts.push(cluster.lab.host("h3").unwrap());
    let status = cluster.sextant(&["status"]);
    assert!(status.contains("paused: no agent changes its kernel"), "{status}");
    cluster.start_agent(2);
    poll("h3 has its claim, and does nothing with it", 10 * SECONDS, || {
        let node = cluster.node("h3");
        if node["state"] == "joining" { Ok(()) } else { Err(node.to_string()) }
    });
    let late = cluster.lab.cli(&["node", "drain", "h2", "--timeout", "2s"]).unwrap();
    assert_eq!(late.code, 6, "nobody withdraws: {late:?}");
    monitor.quiet_since(0).unwrap();
    cluster.sextant(&["resume"]);
    poll("h2 is drained", 20 * SECONDS, || {
        let node = cluster.node("h2");
        if node["state"] == "drained" { Ok(()) } else { Err(node.to_string()) }
    });
    cluster.expect_routes(0, &[2]);
}

#[test]
fn i6_the_brake_holds_what_takes_more_than_a_fifth_of_30_peers_away() {
    let mut cluster = Cluster::without_agents("brake", 31, GUIDE);
    // Absence counts only once a new store's recovery window is closed.
    cluster.controller = None;
    let etcd = cluster.lab.etcd(3, &[]).unwrap();
    let args = ["--recovery-window", "0"].map(str::to_owned).to_vec();
    let store = Some(etcd.store());
    cluster.start_controller(ControllerOptions { args, store, ..ControllerOptions::default() });
    cluster.sextant(&["pool", "add", "main", GUIDE.prefix, "--host-len", "64", "--container-len", "80"]);
    (0..31).for_each(|index| cluster.start_agent(index));
    cluster.settle();
    let all: Vec<_> = (0..31).collect();
    cluster.expect_routes(0, &all);
    // The first host's agent is away while twelve are drained: it learns of all at once.
    cluster.agents[0].process.kill().unwrap();
    for host in &cluster.hosts[19..] {
        cluster.sextant(&["node", "drain", host.name(), "--no-wait"]);
    }
    cluster.expect_routes(1, &all[..19]);
    let monitor = RouteMonitor::start(&cluster.hosts[0]).unwrap();
    let again = cluster.lab.agent(&cluster.hosts[0], AgentOptions::default()).unwrap();
    again.process.wait_for_line("too many peers are gone at once", 10 * SECONDS).unwrap();
    let status = poll("the status says so", 5 * SECONDS, || {
        let status = cluster.sextant(&["status"]);
        if status.contains("node h1 keeps 12 routes to peers that are gone") {
            Ok(status)
        } else {
            Err(status)
        }
    });
    assert!(status.contains("sextant resume"), "{status}");
    let late = cluster.lab.cli(&["wait", "--timeout", "1s"]).unwrap();
    assert_eq!(late.code, 6, "what is held is not applied: {late:?}");
    monitor.quiet_since(0).unwrap();
    cluster.sextant(&["resume"]);
    cluster.expect_routes(0, &all[..19]);
    cluster.sextant(&["wait", "--timeout", "10s"]);
}
