//! Failures known from other systems, each on a real etcd. A seventh, a wiped etcd that gives a running host another
//! prefix (flannel #610), is `failures/wiped.rs`.

use std::{thread, time::Duration};

use serde_json::Value;
use sextant_proto::NodeId;
use sextant_tests::{RouteMonitor, poll, try_poll};

use crate::{
    claimed::claim_all,
    cluster::{Cluster, LONG, Sizes},
};

const SMALL: Sizes = Sizes { members: 1, controllers: 1, hosts: 2 };

/// flannel #1289, #805: the returning host went on with what another one had leased by then.
#[test]
fn i3_a_returning_host_does_not_take_over_a_prefix_that_another_holds() {
    let mut cluster = Cluster::start("not seized", SMALL, "2001:db8:9::/64", &[]);
    cluster.start_agent(0, &[1]);
    let before = cluster.wait_ready("h1");
    cluster.agents[0].process.freeze().unwrap();
    cluster.wait_down("h1");
    cluster.sextant(&["node", "forget", "h1", "--force"]);
    cluster.start_agent(1, &[1]);
    let holder = cluster.wait_ready("h2");
    assert_eq!(holder["prefix"], before["prefix"], "a pool of one");
    cluster.agents[0].process.thaw().unwrap();
    let agent = &cluster.agents[0].process;
    agent.wait_for_line("removing its routes and addresses", LONG).unwrap();
    let line = agent.wait_for_line("is exhausted", LONG).unwrap().text;
    assert!(
        line.contains("beside 1 claim and 0 reservations") && line.contains("sextant node forget"),
        "{line}"
    );
    // The pool's own unreachable route is as long as the prefix, and stays.
    poll("h1's bridge has no address of it any more", LONG, || {
        let addresses = cluster.hosts[0].ip("-6 address show dev docker0")?;
        anyhow::ensure!(!addresses.contains("2001:db8:9:"), "{addresses}");
        anyhow::Ok(())
    });
    let after = cluster.wait_ready("h2");
    assert_eq!((&after["epoch"], &after["prefix"]), (&holder["epoch"], &holder["prefix"]), "untouched");
    assert!(cluster.node("h1").is_null());
}

/// flannel #1329: reservations came back from a restart as leases, which end.
#[test]
fn reservations_survive_restarts_of_etcd_and_controllers() {
    let mut cluster = Cluster::start("reservations", SMALL, "2001:db8:9::/62", &[]);
    cluster.sextant(&["reserve", "2001:db8:9::/64", "--reason", "the router"]);
    cluster.sextant(&["reserve", "2001:db8:9:2::/64", "--node", "h2"]);
    let refused = cluster.refused(4, &["reserve", "2001:db8:9::/63"]);
    assert!(refused.contains("2001:db8:9::/64"), "{refused}");
    let before = cluster.lab.cli_json(&["reservations"]).unwrap();
    cluster.etcd.kill().unwrap();
    cluster.etcd.restart(&cluster.lab).unwrap();
    cluster.restart_controller(&[]);
    assert_eq!(cluster.lab.cli_json(&["reservations"]).unwrap(), before);
    let explained = cluster.lab.cli_json(&["explain", "2001:db8:9:2::1"]).unwrap();
    assert_eq!(explained["reserved_for"], "h2", "{explained:#}");
    cluster.start_agent(0, &[1]);
    cluster.start_agent(1, &[1]);
    let (h1, h2) = (cluster.wait_ready("h1"), cluster.wait_ready("h2"));
    assert_eq!(h2["prefix"], "2001:db8:9:2::/64", "just what was reserved for it");
    assert!(["2001:db8:9:1::/64", "2001:db8:9:3::/64"].iter().any(|free| h1["prefix"] == *free), "{h1}");
    cluster.sextant(&["unreserve", "2001:db8:9::/64"]);
    let left = cluster.lab.cli_json(&["reservations"]).unwrap();
    assert!(left.as_array().unwrap().len() == 1 && left[0]["held"] == true, "{left}");
}

/// flannel #875: 200 leases of hosts that were long gone left nothing for a new one.
#[test]
fn two_hundred_dead_hosts_do_not_exhaust_the_pool() {
    let mut cluster = Cluster::start("dead hosts", Sizes { hosts: 1, ..SMALL }, "2001:db8:9::/56", &[]);
    // They claim, and are never heard of again.
    claim_all(&cluster, (0..256).map(|n| (format!("dead{n}"), NodeId::random())));
    cluster.start_agent(0, &[1]);
    let reported = cluster.agents[0].process.wait_for_line("is exhausted", LONG).unwrap().text;
    for word in ["256 of the claims belong to nodes without an agent", "--hold-down", "sextant node forget"] {
        assert!(reported.contains(word), "{reported}");
    }
    cluster.restart_controller(&["--hold-down", "2"]);
    cluster.wait_ready("h1");
    poll("the dead have ended", LONG, || {
        let nodes = cluster.lab.cli_json(&["node", "list"])?;
        let left = nodes.as_array().map_or(0, Vec::len);
        anyhow::ensure!(left == 1, "{left} are left");
        anyhow::Ok(())
    });
}

/// flannel #2470: a compacted watch was asked for again and again, gigabytes of log long.
#[test]
fn compaction_writes_few_lines_of_log() {
    let mut cluster =
        Cluster::start("compaction", Sizes { members: 1, controllers: 2, hosts: 1 }, "2001:db8:9::/48", &[]);
    cluster.start_agent(0, &[1, 2]);
    cluster.wait_ready("h1");
    let before: usize = cluster.controllers.iter().map(|it| it.process.log_len()).sum();
    for round in 0..20 {
        // A controller that hears nothing for a while is behind what is compacted meanwhile.
        cluster.controllers[1].process.freeze().unwrap();
        let key = format!("/sextant/v1/default/later/{round}");
        for _ in 0..5 {
            cluster.etcd.etcdctl(&cluster.lab, &["put", &key, "x"]).unwrap();
        }
        let status = cluster.etcd.etcdctl(&cluster.lab, &["get", &key, "-w", "json"]).unwrap();
        let status: Value = serde_json::from_str(&status).unwrap();
        let revision = status["header"]["revision"].to_string();
        cluster.etcd.etcdctl(&cluster.lab, &["compaction", &revision]).unwrap();
        cluster.controllers[1].process.thaw().unwrap();
    }
    cluster.sextant(&["reserve", "2001:db8:9:5::/64"]);
    for number in [1, 2] {
        poll("both follow the store", LONG, || {
            let out = cluster.lab.cli_of(number, &["reservations"])?.succeeded()?.stdout;
            anyhow::ensure!(out.contains("2001:db8:9:5::/64"), "{out}");
            anyhow::Ok(())
        });
    }
    let written = cluster.controllers.iter().map(|it| it.process.log_len()).sum::<usize>() - before;
    assert!(written < 100_000, "{written} octets of log");
}

/// etcd #9395: each new leader began the leases anew, so those of dead nodes never ended. They still begin anew; a leader that stays
/// for longer than a lease lasts ends it.
#[test]
fn sessions_of_a_dead_controller_end_despite_leader_changes() {
    const LEADS_FOR: Duration = Duration::from_secs(4);
    let mut cluster =
        Cluster::start("leaders", Sizes { members: 3, controllers: 2, hosts: 1 }, "2001:db8:9::/48", &[]);
    cluster.start_agent(0, &[2]);
    cluster.wait_ready("h1");
    // Controller 2 has named controller 1 to it, so that it would connect there.
    cluster.agents[0].process.freeze().unwrap();
    cluster.controllers[1].process.kill().unwrap();
    let ended = (0..10).any(|_| {
        change_leader(&cluster);
        let ended = try_poll(LEADS_FOR, || {
            let node = cluster.node("h1");
            if node["connected"] == false { Ok(()) } else { Err(node) }
        });
        ended.is_ok()
    });
    assert!(ended, "still connected after ten leaders: {}", cluster.node("h1"));
}

fn change_leader(cluster: &Cluster) {
    let leader = cluster.etcd.leader(&cluster.lab).unwrap();
    cluster.etcd.member(leader).freeze().unwrap();
    poll("another leader", LONG, || {
        let next = cluster.etcd.leader(&cluster.lab)?;
        anyhow::ensure!(next != leader, "member {leader} still leads");
        anyhow::Ok(())
    });
    cluster.etcd.member(leader).thaw().unwrap();
}

/// Calico #5173, #11169: a server with an old view made agents delete routes that were right.
#[test]
fn i6_a_controller_with_a_stale_view_removes_no_route() {
    let mut cluster =
        Cluster::start("old view", Sizes { members: 3, controllers: 2, hosts: 3 }, "2001:db8:9::/48", &[]);
    cluster.start_agent(0, &[1, 2]);
    cluster.wait_ready("h1");
    // From here on controller 2 sees nothing of the store: it does not know h2 and h3.
    cluster.controllers[1].process.freeze().unwrap();
    cluster.start_agent(1, &[1]);
    cluster.start_agent(2, &[1]);
    cluster.wait_ready("h2");
    cluster.wait_ready("h3");
    cluster.sextant(&["wait", "--timeout", "30s"]);
    let before = cluster.hosts[0].routes_of(66).unwrap();
    assert!(before.len() >= 4, "{before:?}");
    let monitor = RouteMonitor::start(&cluster.hosts[0]).unwrap();
    // All of etcd stops before it goes on, so that it cannot learn better, and is all that h1 has left.
    (0..3).for_each(|member| cluster.etcd.member(member).freeze().unwrap());
    let moved = cluster.agents[0].process.log_len();
    cluster.controllers[0].process.kill().unwrap();
    cluster.controllers[1].process.thaw().unwrap();
    cluster.agents[0].process.wait_for_line_after(moved, "2001:db8::c:2", LONG).unwrap();
    // Some times down_after, in which nothing may happen.
    thread::sleep(Duration::from_secs(4));
    monitor.quiet_since(0).unwrap();
    assert_eq!(cluster.hosts[0].routes_of(66).unwrap(), before);
    (0..3).for_each(|member| cluster.etcd.member(member).thaw().unwrap());
    poll("h1 is at controller 2, which knows all three", LONG, || {
        let nodes = cluster.lab.cli_of(2, &["-o", "json", "node", "list"])?.succeeded()?.stdout;
        let nodes: Vec<Value> = serde_json::from_str(&nodes)?;
        let h1 = nodes.iter().find(|node| node["name"] == "h1");
        let there = h1.is_some_and(|node| node["connected"] == true && node["behind"] == 0);
        anyhow::ensure!(nodes.len() == 3 && there, "{nodes:?}");
        anyhow::Ok(())
    });
    monitor.quiet_since(0).unwrap();
}
