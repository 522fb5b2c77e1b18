//! A host moves to another prefix while it and all others run.

use nix::sys::signal::Signal;
use sextant_proto::Prefix;
use sextant_tests::{
    Container, ControllerOptions, MILLISECONDS, RouteMonitor, SECONDS, bin, expect_text, ping_matrix, poll,
};

use crate::cluster::{Cluster, GUIDE};

/// Moves h2, and waits until all have the routes to it.
fn reassign(cluster: &Cluster, more: &[&str]) -> Prefix {
    let before = cluster.prefix("h2");
    let args = [&["node", "reassign", "h2"], more].concat();
    let answer = cluster.lab.cli_json(&args).unwrap();
    let after = cluster.prefix("h2");
    let expected = serde_json::json!({
        "name": "h2", "pool": "main", "from": before.to_string(), "to": after.to_string(), "state": "ready",
        "revision": answer["revision"], "laggards": [],
    });
    assert_eq!(answer, expected);
    assert_ne!(before, after);
    assert_eq!(cluster.node("h2")["state"], "ready");
    cluster.settle();
    cluster.expect_full_mesh();
    after
}

/// A new container of h2 and those of the others reach each other; the one from before has an address that is unassigned.
fn expect_reached(cluster: &Cluster, name: &str, others: &[Container; 2], before: &Container) -> Container {
    let new = cluster.hosts[1].container(name).unwrap();
    assert!(cluster.prefix("h2").contains(new.address()), "{}", new.address());
    let all = [others[0].clone(), new.clone(), others[1].clone()];
    expect_text("all pings answered", 10 * SECONDS, "", || ping_matrix(&all));
    for other in others {
        poll("the address from before is refused", 5 * SECONDS, || other.ping(before.address())?.refused());
    }
    new
}

#[test]
fn a_host_is_moved_to_another_prefix_and_no_other_host_loses_a_packet() {
    let cluster = Cluster::start("reassign", 3, GUIDE);
    let [first, second, third] = [0, 1, 2].map(|host: usize| cluster.hosts[host].container("a").unwrap());
    let all = [first.clone(), second.clone(), third.clone()];
    expect_text("all pings answered", 10 * SECONDS, "", || ping_matrix(&all));
    let stream = first.udp_stream(&third, 10 * MILLISECONDS).unwrap();
    let others = [first, third];

    reassign(&cluster, &[]);
    let next = expect_reached(&cluster, "b", &others, &second);
    let named = reassign(&cluster, &["--prefix", "2001:db8:80aa:bb::/64"]);
    assert_eq!(named.to_string(), "2001:db8:80aa:bb::/64");
    expect_reached(&cluster, "c", &others, &next);

    // A drained host is back after it, too.
    cluster.sextant(&["node", "drain", "h2"]);
    cluster.sextant(&["reserve", "2001:db8:80aa:cc::/64", "--node", "h2"]);
    assert_eq!(reassign(&cluster, &[]).to_string(), "2001:db8:80aa:cc::/64");
    let again = cluster.sextant(&["node", "reassign", "h2", "--prefix", "2001:db8:80aa:cc::/64"]);
    assert_eq!(again, "h2 holds 2001:db8:80aa:cc::/64 already\n");
    stream.finish().unwrap().nothing_lost().unwrap();

    let events = cluster.sextant(&["events", "--node", "h2"]);
    let moved = events.lines().filter(|line| line.contains("reassigned")).collect::<Vec<_>>();
    assert!(moved.len() == 3 && moved[2].contains("from 2001:db8:80aa:bb::/64"), "{events}");
}

#[test]
fn a_prefix_that_cannot_be_had_is_refused_and_nothing_changes() {
    let mut cluster = Cluster::without_agents("reassign refused", 2, GUIDE);
    // An address of h1's uplink is in the pool.
    cluster.hosts[0].ip("-6 address add 2001:db8:80ff::5/64 dev eth0 nodad").unwrap();
    (0..2).for_each(|index| cluster.start_agent(index));
    cluster.settle();
    let (h1, h2) = (cluster.prefix("h1"), cluster.prefix("h2"));
    let monitors: Vec<_> = cluster.hosts.iter().map(|host| RouteMonitor::start(host).unwrap()).collect();
    for (prefix, code, words) in [
        (h1.to_string().as_str(), 4, "which node h1 holds"),
        ("2001:db8:9000::/64", 2, "is not in pool main 2001:db8:8000::/40"),
        ("2001:db8:80ff::/64", 2, "which node h1 has"),
    ] {
        let out = cluster.lab.cli(&["node", "reassign", "h2", "--prefix", prefix]).unwrap();
        assert!(out.code == code && out.stderr.contains(words) && out.stderr.contains(prefix), "{out:?}");
    }
    let unknown = cluster.lab.cli(&["node", "reassign", "h9"]).unwrap();
    assert_eq!((unknown.code, unknown.stderr.contains("\"h9\" does not exist")), (3, true), "{unknown:?}");
    assert_eq!((cluster.prefix("h2"), &cluster.node("h2")["state"]), (h2, &"ready".into()));
    monitors.iter().for_each(|monitor| monitor.quiet_since(0).unwrap());
}

#[test]
fn a_host_without_an_agent_is_moved_only_once_it_is_gone_and_a_failed_drain_is_undone() {
    let mut cluster = Cluster::without_agents("reassign without agent", 3, GUIDE);
    cluster.controller = None;
    let args = ["--down-after", "3"].map(str::to_owned).to_vec();
    cluster.start_controller(ControllerOptions { args, ..ControllerOptions::default() });
    (0..3).for_each(|index| cluster.start_agent(index));
    cluster.settle();
    let before = cluster.prefix("h2");

    // Its agent is connected, and does not finish the drain.
    cluster.agents[1].process.freeze().unwrap();
    let late = cluster.lab.cli(&["node", "reassign", "h2", "--timeout", "1s"]).unwrap();
    let undone = format!("h2 holds {before}, and returns to service");
    assert!(late.code == 6 && late.stderr.contains(&undone), "{late:?}");
    cluster.agents[1].process.thaw().unwrap();
    cluster.settle();
    cluster.expect_full_mesh();
    assert_eq!(cluster.prefix("h2"), before);

    cluster.agents[1].process.kill().unwrap();
    poll("h2 is seen forwarding, and refused", 30 * SECONDS, || {
        let liveness = cluster.node("h2")["liveness"].clone();
        anyhow::ensure!(liveness == "forwarding_without_agent", "{liveness}");
        anyhow::Ok(())
    });
    let refused = cluster.lab.cli(&["node", "reassign", "h2"]).unwrap();
    assert!(refused.code == 4 && refused.stderr.contains("start sextant-agent there"), "{refused:?}");
    assert_eq!(cluster.node("h2")["state"], "ready");

    cluster.hosts[1].isolate().unwrap();
    let moved = poll("h2 is gone, and moved", 40 * SECONDS, || {
        let out = cluster.lab.cli(&["node", "reassign", "h2", "--prefix", "2001:db8:80aa::/64"])?;
        anyhow::ensure!(out.code == 0, "{out:?}");
        anyhow::Ok(out.stdout)
    });
    assert!(moved.contains("its agent is not connected"), "{moved}");
    cluster.hosts[1].reconnect().unwrap();
    cluster.agents.remove(1);
    cluster.start_agent(1);
    cluster.settle();
    assert_eq!(cluster.prefix("h2").to_string(), "2001:db8:80aa::/64");
    cluster.expect_full_mesh();
    let containers: Vec<_> = cluster.hosts.iter().map(|host| host.container("a").unwrap()).collect();
    expect_text("all pings answered", 10 * SECONDS, "", || ping_matrix(&containers));
}

#[test]
fn an_interrupted_reassignment_leaves_the_host_in_service() {
    let cluster = Cluster::start("reassign interrupted", 2, GUIDE);
    let before = cluster.prefix("h2");
    // The drain waits for it.
    cluster.agents[1].process.freeze().unwrap();
    let program = bin("sextant").unwrap().display().to_string();
    let url = cluster.controller.as_ref().unwrap().url();
    let args = [&program, "--controller", &url, "--insecure", "node", "reassign", "h2"];
    let command = cluster.lab.switch().spawn("reassign", &args.map(str::to_owned)).unwrap();
    poll("h2 is draining", 10 * SECONDS, || {
        let state = cluster.node("h2")["state"].clone();
        anyhow::ensure!(state == "draining", "{state}");
        anyhow::Ok(())
    });
    command.signal(Signal::SIGINT).unwrap();
    let undone = format!("interrupted; h2 holds {before}, and returns to service");
    command.wait_for_line(&undone, 10 * SECONDS).unwrap();
    assert_eq!(command.wait(10 * SECONDS).unwrap().code(), Some(1));
    cluster.agents[1].process.thaw().unwrap();
    cluster.settle();
    assert_eq!(cluster.prefix("h2"), before);
    cluster.expect_full_mesh();
}

/// The session of an agent that has stopped lasts for `down-after`.
#[test]
fn a_host_whose_agent_has_just_stopped_is_not_drained() {
    let mut cluster = Cluster::start("reassign stopped", 2, GUIDE);
    let prefix = cluster.prefix("h2");
    let monitor = RouteMonitor::start(&cluster.hosts[0]).unwrap();
    cluster.agents.pop().unwrap().process.terminate(10 * SECONDS).unwrap();
    let out = cluster.lab.cli(&["node", "reassign", "h2"]).unwrap();
    assert!(out.code == 4 && out.stderr.contains("start sextant-agent there"), "{out:?}");
    assert_eq!((cluster.prefix("h2"), &cluster.node("h2")["state"]), (prefix, &"ready".into()));
    monitor.quiet_since(0).unwrap();
}
