//! Hosts join, drain and return.

use sextant_tests::{ControllerOptions, Host, RouteMonitor, SECONDS, poll};

use crate::{
    cluster::{Cluster, GUIDE},
    fail_static::Traffic,
};

#[test]
fn a_joining_host_is_routed_everywhere_within_a_second_of_its_announcement() {
    let mut cluster = Cluster::start("join", 3, GUIDE);
    let monitors: Vec<_> = cluster.hosts.iter().map(|host| RouteMonitor::start(host).unwrap()).collect();
    cluster.hosts.push(cluster.lab.host("h4").unwrap());
    cluster.start_agent(3);
    let announced = cluster.agents[3].announced_at(10 * SECONDS).unwrap();
    let prefix = cluster.prefix("h4");
    for (host, monitor) in cluster.hosts.iter().zip(&monitors) {
        let added = monitor.added(prefix, 10 * SECONDS).unwrap();
        let took = added.after(announced);
        assert!(took < SECONDS, "{} had the route to h4 only {took:?} after its announcement", host.name());
    }
    cluster.settle();
    cluster.expect_full_mesh();
}

#[test]
fn wait_returns_only_when_every_live_kernel_has_the_change() {
    let mut cluster = Cluster::start("wait", 3, GUIDE);
    cluster.hosts.push(cluster.lab.host("h4").unwrap());
    cluster.agents[1].process.freeze().unwrap();
    cluster.start_agent(3);
    cluster.agents[3].announced_at(10 * SECONDS).unwrap();
    cluster.expect_routes(0, &[0, 1, 2, 3]);
    let late = cluster.lab.cli(&["wait", "--timeout", "1s"]).unwrap();
    assert_eq!(late.code, 6, "{late:?}");
    assert!(late.stderr.contains("h2"), "the laggard is named: {late:?}");
    let has_it = |host: &Host| host.routes_of(66).unwrap().len();
    assert_eq!(has_it(&cluster.hosts[1]), 4, "a frozen agent programs nothing");
    cluster.agents[1].process.thaw().unwrap();
    cluster.sextant(&["wait", "--timeout", "10s"]);
    assert_eq!(has_it(&cluster.hosts[1]), 5, "wait returned before the kernel had it");
}

#[test]
fn i7_drain_removes_the_routes_of_all_peers_before_it_reports_drained() {
    let cluster = Cluster::start("drain", 3, GUIDE);
    let monitors: Vec<_> = cluster.hosts.iter().map(|host| RouteMonitor::start(host).unwrap()).collect();
    let (own, other) = (cluster.prefix("h3"), cluster.prefix("h1"));
    let out = cluster.sextant(&["node", "drain", "h3", "--timeout", "20s"]);
    assert!(out.contains("drained"), "{out}");
    assert_eq!(cluster.node("h3")["state"], "drained");
    let withdrawn = [0, 1].map(|peer| monitors[peer].removed(own, SECONDS).unwrap().at);
    let took_down = monitors[2].removed(other, SECONDS).unwrap().at;
    assert!(
        withdrawn.iter().all(|peer| *peer < took_down),
        "peers first: {withdrawn:?}, then the host: {took_down:?}"
    );
    cluster.expect_routes(0, &[1]);
    cluster.expect_routes(2, &[]);

    cluster.sextant(&["node", "undrain", "h3", "--timeout", "20s"]);
    cluster.settle();
    cluster.expect_full_mesh();
}

#[test]
fn a_dead_agent_delays_a_drain_until_its_timeout_only_and_is_named() {
    let cluster = Cluster::start("drain with a dead agent", 3, GUIDE);
    cluster.agents[1].process.kill().unwrap();
    let started = std::time::Instant::now();
    let out = cluster.lab.cli(&["node", "drain", "h3", "--timeout", "3s"]).unwrap();
    let took = started.elapsed();
    assert!(out.stdout.contains("drained"), "{out:?}");
    assert!(out.stdout.contains("h2") || out.stderr.contains("h2"), "the laggard is named: {out:?}");
    assert!(took < 10 * SECONDS, "it took {took:?}");
    assert_eq!(cluster.node("h3")["state"], "drained");
    assert_eq!(cluster.node("h3")["laggards"][0], "h2");
    cluster.expect_routes(0, &[1]);
    cluster.expect_routes(2, &[]);
}

#[test]
fn i7_a_stop_changes_no_route_anywhere() {
    let cluster = Cluster::start("stop", 3, GUIDE);
    let traffic = Traffic::between(&cluster);
    let monitors: Vec<_> = cluster.hosts.iter().map(|host| RouteMonitor::start(host).unwrap()).collect();
    for agent in &cluster.agents {
        assert!(agent.process.terminate(5 * SECONDS).unwrap().success());
    }
    let controller = cluster.controller.as_ref().unwrap();
    assert!(controller.process.terminate(5 * SECONDS).unwrap().success());
    traffic.flows();
    monitors.iter().for_each(|monitor| monitor.quiet_since(0).unwrap());
}

#[test]
fn i5_a_silent_agent_is_reported_as_down_and_keeps_its_routes() {
    let mut cluster = Cluster::without_agents("down", 2, GUIDE);
    cluster.controller = None;
    let args = ["--down-after", "1.5"].map(str::to_owned).to_vec();
    cluster.start_controller(ControllerOptions { args, ..ControllerOptions::default() });
    (0..2).for_each(|index| cluster.start_agent(index));
    cluster.settle();
    let monitor = RouteMonitor::start(&cluster.hosts[0]).unwrap();
    cluster.agents[1].process.kill().unwrap();
    poll("h2 is shown as down", 10 * SECONDS, || {
        let node = cluster.node("h2");
        if node["down"] == true { Ok(()) } else { Err(node.to_string()) }
    });
    monitor.quiet_since(0).unwrap();
    cluster.sextant(&["wait", "--timeout", "5s"]);
    cluster.agents.truncate(1);
    cluster.start_agent(1);
    poll("h2 is up again", 10 * SECONDS, || {
        let node = cluster.node("h2");
        if node["down"] == false { Ok(()) } else { Err(node.to_string()) }
    });
    monitor.quiet_since(0).unwrap();
}
