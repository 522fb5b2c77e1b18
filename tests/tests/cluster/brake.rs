//! The removal of many peers waits for an operator; a pause holds all changes.

use std::{
    ops::RangeInclusive,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use sextant_tests::{
    AgentOptions, Controller, ControllerOptions, Etcd, RouteMonitor, SECONDS, lab::clock::wrong_clock, poll,
    stub_nodes,
};

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

/// A host whose agent is real, and `stub_nodes` nodes without hosts, over two controllers on one etcd.
fn with_stub_nodes(test: &str, stub_nodes: u32) -> (Cluster, Controller, Etcd) {
    let mut cluster = Cluster::without_agents(test, 1, GUIDE);
    cluster.controller = None;
    let etcd = cluster.lab.etcd(1, &[]).unwrap();
    // Absence counts only once a new store's recovery window is closed.
    let args = ["--recovery-window", "0", "--down-after", stub_nodes::DOWN_AFTER].map(str::to_owned).to_vec();
    let options = ControllerOptions { args, store: Some(etcd.store()), ..ControllerOptions::default() };
    let second = ControllerOptions { number: 2, ..options.clone() };
    cluster.start_controller(options);
    cluster.add_pool();
    let second = cluster.lab.controller(second).unwrap();
    second.wait_ready(10 * SECONDS).unwrap();
    cluster.start_agent(0);
    cluster.settle();
    stub_nodes::join(cluster.controller.as_ref().unwrap(), 1..=stub_nodes).unwrap();
    expect_peers(&cluster, stub_nodes);
    (cluster, second, etcd)
}

fn expect_peers(cluster: &Cluster, count: u32) {
    poll(&format!("routes to {count} peers"), 20 * SECONDS, || {
        let routes = cluster.hosts[0].routes_of(66).unwrap();
        let peers = routes.iter().filter(|route| route.contains(" via ")).count();
        if peers == count as usize { Ok(()) } else { Err(format!("{peers}")) }
    });
}

fn forget(cluster: &Cluster, numbers: RangeInclusive<u32>, more: &[&str]) {
    let names: Vec<_> = numbers.map(|n| format!("c{n}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    cluster.sextant(&[&["node", "forget", "--force"], more, &names].concat());
}

#[test]
fn i6_sixteen_concurrent_forgets_remove_at_most_a_fifth_of_the_nodes() {
    let (cluster, _second, _etcd) = with_stub_nodes("one by one", 61);
    let monitor = RouteMonitor::start(&cluster.hosts[0]).unwrap();
    let (next, outputs) = (AtomicU32::new(1), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n > 60 {
                        return;
                    }
                    let (name, controller) = (format!("c{n}"), n as u16 % 2 + 1);
                    let output =
                        cluster.lab.cli_of(controller, &["node", "forget", "--force", &name]).unwrap();
                    outputs.lock().unwrap().push(output);
                }
            });
        }
    });
    let outputs = outputs.into_inner().unwrap();
    let done = outputs.iter().filter(|output| output.code == 0).count();
    assert_eq!(done, 12, "a fifth of 62: {outputs:#?}");
    for refused in outputs.iter().filter(|output| output.code != 0) {
        assert_eq!(refused.code, 4, "{refused:?}");
        for word in ["12 of 62", "within the last 10 minutes", "--confirm", "sextant resume"] {
            assert!(refused.stderr.contains(word), "{word} is not in {refused:?}");
        }
    }
    expect_peers(&cluster, 49);
    let status = cluster.sextant(&["status"]);
    assert!(status.contains("12 prefixes went within 10 minutes; the limit is 12"), "{status}");
    let gone = monitor.events().unwrap().iter().filter(|event| event.gone).count();
    assert_eq!(gone, 12);

    // A resume lets go on; so does one command that is confirmed, at once and past the agents too.
    let left: Vec<_> = cluster.lab.cli_json(&["node", "list"]).unwrap().as_array().unwrap().clone();
    let left: Vec<_> = left.iter().filter_map(|node| node["name"].as_str()).collect();
    let left: Vec<_> = left.into_iter().filter(|name| name.starts_with('c') && *name != "c61").collect();
    cluster.sextant(&["resume"]);
    for name in &left[..10] {
        cluster.sextant(&["node", "forget", "--force", name]);
    }
    expect_peers(&cluster, 39);
    let rest = &left[10..];
    let many = [&["node", "forget", "--force"], rest].concat();
    assert_eq!(cluster.lab.cli(&many).unwrap().code, 4, "it must be confirmed");
    let number = rest.len().to_string();
    let miscounted = [&["node", "forget", "--force", "--confirm", "5"], rest].concat();
    assert_eq!(cluster.lab.cli(&miscounted).unwrap().code, 2);
    expect_peers(&cluster, 39);
    cluster.sextant(&[&["node", "forget", "--force", "--confirm", &number], rest].concat());
    expect_peers(&cluster, 1);
    let node = cluster.node("h1");
    assert_eq!(node["applied"]["held"], 0, "{node}");
}

#[test]
fn i6_the_brake_holds_the_removal_of_more_than_a_fifth_of_30_peers() {
    let (mut cluster, _second, _etcd) = with_stub_nodes("brake", 30);
    // The agent is away while twelve are forgotten: it learns of all at once.
    cluster.agents[0].process.kill().unwrap();
    for n in 1..=10 {
        forget(&cluster, n..=n, &[]);
    }
    cluster.sextant(&["resume"]);
    forget(&cluster, 11..=12, &[]);
    let monitor = RouteMonitor::start(&cluster.hosts[0]).unwrap();
    for round in ["first", "second"] {
        cluster.agents[0] = cluster.lab.agent(&cluster.hosts[0], AgentOptions::default()).unwrap();
        cluster.agents[0].process.wait_for_line("too many peers gone at once", 10 * SECONDS).unwrap();
        let status = poll("the status says so", 5 * SECONDS, || {
            let status = cluster.sextant(&["status"]);
            if status.contains("node h1 keeps 12 routes to peers that are gone") {
                Ok(status)
            } else {
                Err(status)
            }
        });
        assert!(status.contains("sextant resume"), "{status}");
        monitor.quiet_since(0).unwrap();
        // A restart is no way around it.
        if round == "first" {
            cluster.agents[0].process.kill().unwrap();
        }
    }
    cluster.sextant(&["resume"]);
    expect_peers(&cluster, 18);
    poll("nothing is held any more", 5 * SECONDS, || {
        let node = cluster.node("h1");
        if node["applied"]["held"] == 0 { Ok(()) } else { Err(node.to_string()) }
    });
}

#[test]
fn i6_drained_nodes_and_restarted_agents_never_trip_the_brake() {
    let (mut cluster, _second, _etcd) = with_stub_nodes("drained", 30);
    for n in 1..=20 {
        cluster.sextant(&["node", "drain", &format!("c{n}"), "--no-wait"]);
    }
    expect_peers(&cluster, 10);
    for n in 1..=20 {
        forget(&cluster, n..=n, &[]);
    }
    cluster.agents[0].process.terminate(10 * SECONDS).unwrap();
    // Confirmed while the agent is away.
    forget(&cluster, 21..=29, &["--confirm", "9"]);
    cluster.agents.clear();
    cluster.start_agent(0);
    expect_peers(&cluster, 1);
    let status = cluster.sextant(&["status"]);
    assert!(!status.contains("forgotten within") && !status.contains("keeps"), "{status}");
}

/// The agent's own window outlasts a restart under a wall clock that is two years ahead.
#[test]
fn i6_the_agents_window_of_removals_ignores_the_wall_clock() {
    let (mut cluster, _second, etcd) = with_stub_nodes("agent's clock", 30);
    for n in 1..=10 {
        forget(&cluster, n..=n, &[]);
    }
    expect_peers(&cluster, 20);
    cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    // Of the two windows, only the agent's is looked at.
    etcd.etcdctl(&cluster.lab, &["del", "/sextant/v1/default/meta/removals"]).unwrap();
    let environment = wrong_clock(2 * 365 * 24 * 3600);
    cluster.start_agent_with(0, AgentOptions { environment, ..AgentOptions::default() });
    cluster.agents[0].wait_ready(20 * SECONDS).unwrap();
    forget(&cluster, 11..=11, &[]);
    cluster.agents[0].process.wait_for_line("too many peers gone at once", 10 * SECONDS).unwrap();
    expect_peers(&cluster, 20);
}
