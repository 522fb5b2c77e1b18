//! Who else is on the host and on the link: another routing daemon, and many peers.

use std::fs;

use sextant_tests::{ControllerOptions, Host, Process, RouteMonitor, SECONDS, cluster::sorted, crowd, poll};

use crate::bed::Bed;

fn bird(host: &Host, config: &str) -> Process {
    let dir = host.dir().join("bird");
    fs::create_dir_all(&dir).unwrap();
    let file = dir.join("bird.conf");
    fs::write(&file, config).unwrap();
    let control = dir.join("bird.ctl");
    let args = ["bird", "-f", "-c", file.to_str().unwrap(), "-s", control.to_str().unwrap()];
    host.spawn("bird", &args).unwrap()
}

/// With routes of its own, one of which is for a peer's prefix, and a kernel protocol that looks at ours every second.
#[test]
fn i4_bird_with_its_own_static_routes_on_the_same_host() {
    let mut bed = Bed::start("bird", 3);
    let stream = bed.stream(1, 2);
    let contested = bed.cluster.prefix("h2");
    let config = format!(
        "router id 192.0.2.1;
         protocol device {{ scan time 1; }}
         protocol kernel {{ scan time 1; learn; ipv6 {{ export where source = RTS_STATIC; import all; }}; }}
         protocol static {{ ipv6;
           route 2001:db8:b1::/48 via 2001:db8::2;
           route 2001:db8:b2::/48 unreachable;
           route {contested} via 2001:db8::3; }}"
    );
    let before = bed.host().foreign_routes().unwrap();
    let first = bird(bed.host(), &config);
    let in_place = |host: &Host| {
        poll("BIRD's routes", 10 * SECONDS, || {
            let routes = host.routes_of(12)?;
            anyhow::ensure!(routes.len() == 3, "{routes:?}");
            anyhow::Ok(())
        });
    };
    in_place(bed.host());
    bed.foreign_stays();
    bed.is_right();
    poll("the conflict is shown", 5 * SECONDS, || {
        let conflicts = bed.cluster.node("h1")["applied"]["conflicts"].to_string();
        anyhow::ensure!(conflicts.contains("\"protocol\":\"bird\""), "{conflicts}");
        anyhow::Ok(())
    });
    // Both go on where the other one is made anew.
    first.terminate(10 * SECONDS).unwrap();
    poll("BIRD's routes are gone", 10 * SECONDS, || {
        let difference = sextant_tests::difference(&before, &bed.host().foreign_routes().unwrap());
        if difference.is_empty() { Ok(()) } else { Err(difference) }
    });
    bed.cluster.expect_full_mesh();
    let second = bird(bed.host(), &config);
    in_place(bed.host());
    bed.cluster.agents[0].process.kill().unwrap();
    bed.cluster.agents.remove(0);
    bed.host().ip("-6 route flush proto 66").unwrap();
    bed.cluster.start_agent(0);
    bed.cluster.agents.rotate_right(1);
    bed.is_right();
    second.terminate(10 * SECONDS).unwrap();
    poll("BIRD's routes are gone", 10 * SECONDS, || {
        let routes = bed.host().routes_of(12)?;
        anyhow::ensure!(routes.is_empty(), "{routes:?}");
        anyhow::Ok(())
    });
    stream.finish().unwrap().nothing_lost().unwrap();
    bed.foreign_stays();
    bed.ends_clean();
}

/// More than the kernel keeps neighbours by default.
#[test]
fn eleven_hundred_peers_on_one_link() {
    const PEERS: u32 = 1100;
    let mut bed = Bed::start("many peers", 2);
    bed.cluster.controller = None;
    let args = ["--recovery-window", "0", "--down-after", crowd::DOWN_AFTER].map(str::to_owned).to_vec();
    bed.cluster.start_controller(ControllerOptions { args, ..ControllerOptions::default() });
    bed.cluster.settle();
    let stream = bed.stream(0, 1);
    crowd::join(bed.cluster.controller.as_ref().unwrap(), 1..=PEERS).unwrap();
    let nodes = bed.cluster.lab.cli_json(&["node", "list"]).unwrap();
    let via = |node: &serde_json::Value| {
        let (name, prefix) = (node["name"].as_str().unwrap(), node["prefix"].as_str().unwrap());
        let n = name.strip_prefix('c')?.parse().unwrap();
        Some(format!("{prefix} via {} dev eth0 proto 66 metric 512", crowd::next_hop(n)))
    };
    let mut expected: Vec<_> = nodes.as_array().unwrap().iter().filter_map(via).collect();
    assert_eq!(expected.len(), PEERS as usize);
    expected.extend(bed.cluster.expected_routes(0, &[0, 1]));
    expected.sort();
    let is_there = |host: &Host| {
        poll("all peers' routes", 20 * SECONDS, || {
            let difference = sextant_tests::difference(&expected, &sorted(host.routes_of(66).unwrap()));
            if difference.is_empty() { Ok(()) } else { Err(difference.lines().count().to_string()) }
        });
    };
    is_there(bed.host());
    let monitor = RouteMonitor::start(bed.host()).unwrap();
    let all = expected.iter().map(|route| format!("route del {route}\n"));
    bed.host().ip_batch(&all.collect::<String>()).unwrap();
    is_there(bed.host());
    let events = monitor.events().unwrap();
    let last = |gone: bool| {
        let ours = events.iter().filter(|event| event.route.protocol == 66 && event.gone == gone);
        ours.map(|event| event.at).max().unwrap()
    };
    let took = last(false).duration_since(last(true)).unwrap();
    assert!(took < SECONDS, "{PEERS} routes took {took:?} to be back");
    stream.flows(20, 10 * SECONDS).unwrap();
    let agent = bed.cluster.agents.remove(0);
    agent.process.terminate(10 * SECONDS).unwrap();
    drop(stream);
    bed.host().ip("link delete ve1").unwrap();
    let done = bed.cleanup(&[]);
    assert!(done.status.success(), "{done:?}");
    bed.is_as_before();
}
