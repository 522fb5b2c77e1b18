//! Hosts whose name changes: the state directory, and so the node id, stays.

use std::path::Path;

use sextant_tests::{AgentOptions, MILLISECONDS, RouteMonitor, SECONDS, poll};

use crate::cluster::{Cluster, LONG, Sizes};

/// The host's agent is started again with these names, after a stop and after a crash, at the same controller or at another one.
/// The new names sort after the former ones, and before them.
#[test]
fn i2_a_host_with_another_name_keeps_its_prefix_and_its_connections() {
    let sizes = Sizes { members: 1, controllers: 2, hosts: 2 };
    let mut cluster = Cluster::start("renamed", sizes, "2001:db8:9::/48", &["--down-after", "30"]);
    cluster.start_agent(0, &[1]);
    cluster.start_agent(1, &[1, 2]);
    let held = cluster.wait_ready("h1");
    cluster.wait_ready("h2");
    cluster.settle();
    let (own, peer) = (cluster.hosts[0].container("q").unwrap(), cluster.hosts[1].container("q").unwrap());
    poll("the path between them", LONG, || peer.ping(own.address())?.replied());
    let stream = peer.udp_stream(&own, 10 * MILLISECONDS).unwrap();
    let monitors = [0, 1].map(|index| RouteMonitor::start(&cluster.hosts[index]).unwrap());

    let mut former = "h1".to_owned();
    let names = ["h1.example.org", "a", "zz", "h1"];
    let others: [&[u16]; 4] = [&[1], &[2, 1], &[1, 2], &[2]];
    for (step, (name, controllers)) in names.into_iter().zip(others).enumerate() {
        let process = &cluster.agents[0].process;
        if step % 2 == 0 {
            process.terminate(LONG).unwrap();
        } else {
            process.kill().unwrap();
        }
        let named = AgentOptions {
            node: Some(name.into()),
            controllers: controllers.to_vec(),
            ..AgentOptions::default()
        };
        cluster.agents[0] = cluster.lab.agent(&cluster.hosts[0], named).unwrap();
        let now = cluster.wait_ready(name);
        assert_eq!((&now["prefix"], &now["epoch"]), (&held["prefix"], &held["epoch"]), "{former} to {name}");
        assert!(cluster.node(&former).is_null(), "{former} to {name}");
        cluster.settle();
        poll("nothing is reported", LONG, || {
            let status = cluster.sextant(&["status"]);
            anyhow::ensure!(!status.contains("Needs a"), "{status}");
            anyhow::Ok(())
        });
        former = name.to_owned();
    }
    stream.finish().unwrap().nothing_lost().unwrap();
    for monitor in monitors {
        let events = monitor.events().unwrap();
        let texts: Vec<_> = events.iter().map(ToString::to_string).collect();
        assert!(!events.iter().any(|event| event.gone), "{texts:#?}");
    }
    let events = cluster.sextant(&["events"]);
    assert!(events.contains("renamed") && events.contains("formerly h1"), "{events}");
    assert!(!cluster.agents[0].process.log().contains("claim lost"), "{}", cluster.agents[0].process.log());
}

/// The new name is another host's.
#[test]
fn i2_a_host_with_the_name_of_another_is_refused_and_keeps_everything() {
    let sizes = Sizes { members: 1, controllers: 1, hosts: 2 };
    let mut cluster = Cluster::start("taken name", sizes, "2001:db8:9::/48", &[]);
    cluster.start_agent(0, &[1]);
    cluster.start_agent(1, &[1]);
    let held = cluster.wait_ready("h1");
    cluster.wait_ready("h2");
    cluster.settle();
    let state = |cluster: &Cluster| {
        let routes = cluster.hosts[0].routes_of(66).unwrap();
        (routes, cluster.hosts[0].ip("-6 -br address show dev docker0").unwrap())
    };
    let before = state(&cluster);
    cluster.agents[0].process.terminate(LONG).unwrap();
    let named = AgentOptions { node: Some("h2".into()), ..AgentOptions::default() };
    let renamed = cluster.lab.agent(&cluster.hosts[0], named).unwrap();
    let line = renamed.process.wait_for_line("start the agent with --node h1", LONG).unwrap().text;
    for word in ["h2", held["prefix"].as_str().unwrap()] {
        assert!(line.contains(word), "{line}");
    }
    let refusals = |cluster: &Cluster| -> Vec<serde_json::Value> {
        let status = cluster.lab.cli_json(&["status"]).unwrap();
        let troubles = status["troubles"].as_array().unwrap();
        troubles.iter().filter(|trouble| trouble["kind"] == "node_refused").cloned().collect()
    };
    poll("status names both, and the node that asks", LONG, || {
        let refused = refusals(&cluster);
        anyhow::ensure!(refused.len() == 1 && refused[0]["node"] == "h1", "{refused:?}");
        let text = refused[0]["text"].as_str().unwrap_or_default();
        let words = ["node h1 is refused under the name h2: ", "start the agent with --node h1"];
        anyhow::ensure!(words.iter().all(|word| text.contains(word)), "{text}");
        anyhow::Ok(())
    });
    assert_eq!(state(&cluster), before);
    renamed.process.kill().unwrap();
    poll("the refusal goes when it stops asking", 15 * SECONDS, || {
        let refused = refusals(&cluster);
        if refused.is_empty() { Ok(()) } else { Err(format!("{refused:?}")) }
    });
    cluster.agents.remove(0);
    cluster.start_agent(0, &[1]);
    assert_eq!(cluster.wait_ready("h1")["epoch"], held["epoch"]);
    assert_eq!(state(&cluster), before);
}

/// The original is connected, and the copy has another name: at the same controller, and at another one.
#[test]
fn i3_a_copy_with_another_name_is_refused_and_reported() {
    let sizes = Sizes { members: 1, controllers: 2, hosts: 2 };
    let mut cluster = Cluster::start("copied", sizes, "2001:db8:9::/48", &[]);
    cluster.start_agent(0, &[1]);
    let held = cluster.wait_ready("h1");
    let copied = cluster.lab.state_dir(&cluster.hosts[1]);
    copy(&cluster.lab.state_dir(&cluster.hosts[0]), &copied);
    // A copy from before the first claim has the node id only.
    for (controllers, has_claim) in [(vec![1], true), (vec![2], true), (vec![2, 1], false)] {
        if !has_claim {
            std::fs::remove_file(copied.join("claim.json")).unwrap();
        }
        let named = AgentOptions { node: Some("h9".into()), controllers, ..AgentOptions::default() };
        let clone = cluster.lab.agent(&cluster.hosts[1], named).unwrap();
        let address = cluster.hosts[1].address();
        for number in [1, 2] {
            poll(&format!("controller {number} names the copy"), LONG, || {
                let status = cluster.lab.cli_of(number, &["status"])?.stdout;
                let expected = format!("node h1: duplicate node id; the agent at {address} is refused");
                anyhow::ensure!(status.contains(&expected), "{status}");
                anyhow::Ok(())
            });
        }
        let line = clone.process.wait_for_line("two hosts share one state directory", LONG).unwrap().text;
        assert!(!clone.process.log().contains("problem resolved"), "{}", clone.process.log());
        assert!(line.contains("h1") && line.contains("h9"), "{line}");
        let nodes = cluster.lab.cli_json(&["node", "list"]).unwrap();
        assert_eq!(nodes.as_array().unwrap().len(), 1, "{nodes:#}");
        let now = cluster.node("h1");
        assert_eq!((&now["epoch"], &now["connected"]), (&held["epoch"], &true.into()), "{now:#}");
        clone.process.kill().unwrap();
    }
    // The fix that it names.
    std::fs::remove_dir_all(copied).unwrap();
    let named = AgentOptions { node: Some("h9".into()), ..AgentOptions::default() };
    cluster.start_agent_with(1, named);
    assert_ne!(cluster.wait_ready("h9")["prefix"], held["prefix"]);
    poll("nothing is reported any more", LONG, || {
        let status = cluster.sextant(&["status"]);
        anyhow::ensure!(
            !status.contains("duplicate node id") && !status.contains("same node id"),
            "{status}"
        );
        anyhow::Ok(())
    });
}

/// The original is frozen while the copy starts under another name, and continues afterwards: nobody's claim ends.
#[test]
fn i3_a_frozen_original_is_not_fenced_when_its_copy_was_admitted() {
    let sizes = Sizes { members: 1, controllers: 1, hosts: 2 };
    let mut cluster = Cluster::start("frozen original", sizes, "2001:db8:9::/48", &[]);
    cluster.start_agent(0, &[1]);
    let held = cluster.wait_ready("h1");
    copy(&cluster.lab.state_dir(&cluster.hosts[0]), &cluster.lab.state_dir(&cluster.hosts[1]));
    cluster.agents[0].process.freeze().unwrap();
    let named = AgentOptions { node: Some("h9".into()), ..AgentOptions::default() };
    cluster.start_agent_with(1, named);
    let now = cluster.wait_ready("h9");
    assert_eq!((&now["prefix"], &now["epoch"]), (&held["prefix"], &held["epoch"]));
    cluster.agents[0].process.thaw().unwrap();
    poll("the original is reported", LONG, || {
        let status = cluster.sextant(&["status"]);
        let expected =
            format!("node h9: duplicate node id; the agent at {} is refused", cluster.hosts[0].address());
        anyhow::ensure!(status.contains(&expected), "{status}");
        anyhow::Ok(())
    });
    let bridge = cluster.hosts[0].ip("-6 -br address show dev docker0").unwrap();
    let prefix = held["prefix"].as_str().unwrap().trim_end_matches("::/64");
    assert!(bridge.contains(prefix), "{bridge}");
    let log = cluster.agents[0].process.log();
    assert!(!log.contains("claim lost"), "{log}");
    // The original is the one to keep: the copy is stopped.
    cluster.agents[1].process.kill().unwrap();
    cluster.wait("h1", "is back", |node| node["connected"] == true && node["epoch"] == held["epoch"]);
    assert!(cluster.node("h9").is_null());
}

/// A state directory, without the lock of the running agent.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() && entry.file_name() != "lock" {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
