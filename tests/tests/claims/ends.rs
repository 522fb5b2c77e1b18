//! The end of claims: by an operator, by hold-down, never while in use; and the reuse of their prefixes.

use sextant_tests::{SECONDS, poll, stub_nodes};

use crate::cluster::{Cluster, LONG, Sizes};

const SIZES: Sizes = Sizes { members: 1, controllers: 1, hosts: 3 };

/// A host that answers its peers is up, whatever the state of its agent: neither an operator's mistake nor hold-down ends its
/// claim.
#[test]
fn claims_of_hosts_that_are_up_or_forwarding_end_only_by_force() {
    let mut cluster = Cluster::start("forced", SIZES, "2001:db8:9::/48", &["--hold-down", "3"]);
    for index in 0..2 {
        cluster.start_agent(index, &[1]);
    }
    let held = cluster.wait_ready("h1")["prefix"].as_str().unwrap().to_owned();
    cluster.wait_ready("h2");
    cluster.settle();
    let refused = cluster.refused(4, &["node", "forget", "h1"]);
    assert!(
        refused.contains("h1 is up") && refused.contains(&format!("withdraw {held} at once")),
        "{refused}"
    );

    cluster.agents.remove(0).process.kill().unwrap();
    cluster.wait_down("h1");
    let route = format!("{held} via 2001:db8::1 dev eth0 proto 66 metric 512");
    poll("h2 sees h1 forwarding", LONG, || {
        let status = cluster.sextant(&["status"]);
        anyhow::ensure!(status.contains("forwarding without agent"), "{status}");
        anyhow::Ok(())
    });
    let refused = cluster.refused(4, &["node", "forget", "h1"]);
    assert!(refused.contains("h1 still forwards") && refused.contains("--force"), "{refused}");
    // hold_down is over by now, and over again: the host is there.
    std::thread::sleep(8 * SECONDS);
    assert_eq!(cluster.node("h1")["prefix"], held.as_str(), "held_down though it forwards");
    cluster.wait_route(1, &route, true);

    cluster.sextant(&["node", "forget", "h1", "--force"]);
    cluster.wait_route(1, &route, false);
    let events = cluster.sextant(&["events", "--node", "h1"]);
    assert!(events.lines().last().unwrap().contains("h1 forgotten"), "{events}");
}

/// A dead host's claim ends after hold_down; its prefix is the last to be given to another, and the host has it back first.
#[test]
fn a_dead_hosts_claim_ends_after_hold_down_and_its_prefix_is_quarantined() {
    let mut cluster = Cluster::start("held down", SIZES, "2001:db8:9::/63", &["--hold-down", "2"]);
    for index in 0..2 {
        cluster.start_agent(index, &[1]);
    }
    let held = cluster.wait_ready("h1")["prefix"].clone();
    cluster.wait_ready("h2");
    cluster.agents.remove(0).process.kill().unwrap();
    cluster.hosts[0].isolate().unwrap();
    cluster.wait_gone("h1");
    let events = cluster.sextant(&["events", "--node", "h1"]);
    assert!(events.contains("ended by hold-down"), "{events}");
    cluster.wait_route(
        1,
        &format!("{} via 2001:db8::1 dev eth0 proto 66 metric 512", held.as_str().unwrap()),
        false,
    );
    let pool = cluster.lab.cli_json(&["pool", "show", "main"]).unwrap();
    assert_eq!((&pool["claimed"], &pool["quarantined"]), (&1.into(), &1.into()), "{pool}");

    let explained = cluster.sextant(&["explain", held.as_str().unwrap().trim_end_matches("/64")]);
    assert!(explained.contains("unassigned") && explained.contains("freed by h1 "), "{explained}");

    // The same host gets the same prefix, though its state directory says that it has been fenced.
    cluster.hosts[0].reconnect().unwrap();
    cluster.start_agent(0, &[1]);
    let back = cluster.wait_ready("h1");
    assert_eq!(back["prefix"], held);
    // The other of two is gone; a quarantined prefix is granted only because no other is free.
    cluster.agents.remove(0).process.kill().unwrap();
    cluster.hosts[1].isolate().unwrap();
    cluster.wait_gone("h2");
    cluster.start_agent(2, &[1]);
    let third = cluster.wait_ready("h3");
    assert_ne!(third["prefix"], held);
}

/// One agent is stopped, the other one killed: only the first is reported as stopped, until it returns. A restart within
/// down_after is not reported.
#[test]
fn a_stopped_agent_and_a_dead_one_are_distinguished() {
    let mut cluster = Cluster::start("stopped", SIZES, "2001:db8:9::/48", &[]);
    for index in 0..2 {
        cluster.start_agent(index, &[1]);
    }
    cluster.wait_ready("h1");
    cluster.wait_ready("h2");
    cluster.settle();
    let stopped = cluster.agents.remove(0);
    stopped.process.terminate(LONG).unwrap();
    cluster.agents.remove(0).process.kill().unwrap();
    cluster.wait("h1", "was stopped", |node| node["connected"] == false && node["stopped_unix_ms"].is_u64());
    cluster.wait("h2", "died", |node| node["connected"] == false && node["stopped_unix_ms"].is_null());
    let status = cluster.sextant(&["status"]);
    assert!(status.contains("node h1 is ready, but its agent was stopped"), "{status}");
    assert!(status.contains("node h2 is ready, but its agent is not connected"), "{status}");
    let events = |node: &str| cluster.sextant(&["events", "--node", node]);
    assert!(events("h1").contains("h1 stopped") && !events("h2").contains("stopped"), "{}", events("h1"));
    let shown = cluster.sextant(&["node", "show", "h1"]);
    assert!(shown.contains("stopped on request "), "{shown}");

    let (before, revision) = (events("h1"), cluster.lab.cli_json(&["status"]).unwrap()["revision"].clone());
    cluster.start_agent(0, &[1]);
    let back = cluster.wait_ready("h1");
    assert!(back["stopped_unix_ms"].is_null(), "{back}");
    assert_ne!(cluster.lab.cli_json(&["status"]).unwrap()["revision"], revision);
    assert_eq!(cluster.sextant(&["events", "--node", "h1"]).lines().count(), before.lines().count() + 1);
}

/// Many hosts are down at once: hold-down ends as many claims as the brake allows, and the others wait for an operator.
#[test]
fn i6_hold_down_ends_only_as_many_claims_as_the_brake_allows() {
    let sizes = Sizes { hosts: 1, ..SIZES };
    let mut cluster = Cluster::start("many held down", sizes, "2001:db8:9::/48", &["--hold-down", "2"]);
    cluster.start_agent(0, &[1]);
    cluster.wait_ready("h1");
    stub_nodes::join(&cluster.controllers[0], 1..=30).unwrap();
    let left_and_waiting = |left: usize, waiting: usize| {
        poll(&format!("{left} are left, {waiting} wait"), LONG, || {
            let nodes = cluster.lab.cli_json(&["node", "list"])?;
            let names = nodes.as_array().into_iter().flatten().filter_map(|node| node["name"].as_str());
            let (names, status) =
                (names.filter(|name| name.starts_with('c')).count(), cluster.sextant(&["status"]));
            let waits = status.contains(&format!("(waiting: {waiting} down nodes)"));
            anyhow::ensure!(names == left && waits, "{names} are left; {status}");
            anyhow::Ok(())
        });
    };
    left_and_waiting(20, 20);
    let warned =
        cluster.controllers[0].process.log().matches("too many nodes were forgotten recently").count();
    assert_eq!(warned, 1, "said once");
    cluster.sextant(&["resume"]);
    left_and_waiting(10, 10);
    let ended = cluster.sextant(&["events"]).matches("ended by hold-down").count();
    assert_eq!(ended, 20);
}
