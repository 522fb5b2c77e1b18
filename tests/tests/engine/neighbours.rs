//! Another routing daemon on the host, and many peers on the link.

use std::fs;

use sextant_tests::{
    ControllerOptions, Host, Process, RouteMonitor, SECONDS, cluster::sorted, poll, stub_nodes,
};

use crate::{neighbour_table, testbed::Testbed};

fn bird(host: &Host, config: &str) -> Process {
    let dir = host.dir().join("bird");
    fs::create_dir_all(&dir).unwrap();
    let file = dir.join("bird.conf");
    fs::write(&file, config).unwrap();
    let control = dir.join("bird.ctl");
    let args = ["bird", "-f", "-c", file.to_str().unwrap(), "-s", control.to_str().unwrap()];
    host.spawn("bird", &args).unwrap()
}

/// BIRD has routes of its own, one of them for a peer's prefix, and scans the kernel's routes every second.
#[test]
fn i4_bird_on_the_same_host_keeps_its_static_routes() {
    let mut testbed = Testbed::start("bird", 3);
    let stream = testbed.stream(1, 2);
    let overwritten = testbed.cluster.prefix("h2");
    let config = format!(
        "router id 192.0.2.1;
         protocol device {{ scan time 1; }}
         protocol kernel {{ scan time 1; learn; ipv6 {{ export where source = RTS_STATIC; import all; }}; }}
         protocol static {{ ipv6;
           route 2001:db8:b1::/48 via 2001:db8::2;
           route 2001:db8:b2::/48 unreachable;
           route {overwritten} via 2001:db8::3; }}"
    );
    let before = testbed.host().foreign_routes().unwrap();
    let first = bird(testbed.host(), &config);
    let in_place = |host: &Host| {
        poll("BIRD's routes", 10 * SECONDS, || {
            let routes = host.routes_of(12)?;
            anyhow::ensure!(routes.len() == 3, "{routes:?}");
            anyhow::Ok(())
        });
    };
    in_place(testbed.host());
    testbed.expect_foreign_routes();
    testbed.is_converged();
    poll("the conflict is shown", 5 * SECONDS, || {
        let conflicts = testbed.cluster.node("h1")["applied"]["conflicts"].to_string();
        anyhow::ensure!(conflicts.contains("\"protocol\":\"bird\""), "{conflicts}");
        anyhow::Ok(())
    });
    // Both go on where the other one is created again.
    first.terminate(10 * SECONDS).unwrap();
    poll("BIRD's routes are gone", 10 * SECONDS, || {
        let difference = sextant_tests::difference(&before, &testbed.host().foreign_routes().unwrap());
        if difference.is_empty() { Ok(()) } else { Err(difference) }
    });
    testbed.cluster.expect_full_mesh();
    let second = bird(testbed.host(), &config);
    in_place(testbed.host());
    testbed.cluster.agents[0].process.kill().unwrap();
    testbed.cluster.agents.remove(0);
    testbed.host().ip("-6 route flush proto 66").unwrap();
    testbed.cluster.start_agent(0);
    testbed.cluster.agents.rotate_right(1);
    testbed.is_converged();
    second.terminate(10 * SECONDS).unwrap();
    poll("BIRD's routes are gone", 10 * SECONDS, || {
        let routes = testbed.host().routes_of(12)?;
        anyhow::ensure!(routes.is_empty(), "{routes:?}");
        anyhow::Ok(())
    });
    stream.finish().unwrap().nothing_lost().unwrap();
    testbed.expect_foreign_routes();
    testbed.cleans_up();
}

/// More peers than the kernel keeps neighbours by default.
#[test]
fn eleven_hundred_peers_on_one_link_are_routed() {
    let _alone = neighbour_table();
    const PEERS: u32 = 1100;
    let mut testbed = Testbed::start("many peers", 2);
    testbed.cluster.controller = None;
    let args = ["--recovery-window", "0", "--down-after", stub_nodes::DOWN_AFTER].map(str::to_owned).to_vec();
    testbed.cluster.start_controller(ControllerOptions { args, ..ControllerOptions::default() });
    testbed.cluster.settle();
    let stream = testbed.stream(0, 1);
    stub_nodes::join(testbed.cluster.controller.as_ref().unwrap(), 1..=PEERS).unwrap();
    let nodes = testbed.cluster.lab.cli_json(&["node", "list"]).unwrap();
    let via = |node: &serde_json::Value| {
        let (name, prefix) = (node["name"].as_str().unwrap(), node["prefix"].as_str().unwrap());
        let n = name.strip_prefix('c')?.parse().unwrap();
        Some(format!("{prefix} via {} dev eth0 proto 66 metric 512", stub_nodes::next_hop(n)))
    };
    let mut expected: Vec<_> = nodes.as_array().unwrap().iter().filter_map(via).collect();
    assert_eq!(expected.len(), PEERS as usize);
    expected.extend(testbed.cluster.expected_routes(0, &[0, 1]));
    expected.sort();
    let is_there = |host: &Host| {
        poll("all peers' routes", 20 * SECONDS, || {
            let difference = sextant_tests::difference(&expected, &sorted(host.routes_of(66).unwrap()));
            if difference.is_empty() { Ok(()) } else { Err(difference.lines().count().to_string()) }
        });
    };
    is_there(testbed.host());
    poll("status names the kernel's limits", 20 * SECONDS, || {
        let text = testbed.cluster.sextant(&["status"]);
        if text.contains("IPv6 neighbours, but 110") { Ok(()) } else { Err(text) }
    });
    let monitor = RouteMonitor::start(testbed.host()).unwrap();
    let all = expected.iter().map(|route| format!("route del {route}\n"));
    testbed.host().ip_batch(&all.collect::<String>()).unwrap();
    is_there(testbed.host());
    let events = monitor.events().unwrap();
    let last = |gone: bool| {
        let ours = events.iter().filter(|event| event.route.protocol == 66 && event.gone == gone);
        ours.map(|event| event.at).max().unwrap()
    };
    let took = last(false).duration_since(last(true)).unwrap();
    assert!(took < SECONDS, "{PEERS} routes took {took:?} to be back");
    stream.flows(20, 10 * SECONDS).unwrap();
    let agent = testbed.cluster.agents.remove(0);
    agent.process.terminate(10 * SECONDS).unwrap();
    drop(stream);
    testbed.host().ip("link delete ve1").unwrap();
    let done = testbed.cleanup(&[]);
    assert!(done.status.success(), "{done:?}");
    testbed.is_restored();
}
