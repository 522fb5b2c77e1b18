//! Duplicate node ids: a cloned disk.

use std::path::Path;

use sextant_tests::{AgentOptions, MILLISECONDS, SECONDS, poll};

use crate::{
    claimed::claim_all,
    cluster::{Cluster, LONG, Sizes},
};

/// The clone has the node id, the claim and the name, and connects to the same controller or another one. The original
/// continues undisturbed. Status reports the clone with a fix, until the operator has applied it.
#[test]
fn i3_a_clone_with_the_same_node_id_is_refused_and_reported() {
    let mut cluster = Cluster::start(
        "duplicate ids",
        Sizes { members: 1, controllers: 2, hosts: 3 },
        "2001:db8:9::/48",
        &[],
    );
    cluster.start_agent(0, &[1, 2]);
    cluster.start_agent(2, &[1, 2]);
    let held = cluster.wait_ready("h1");
    cluster.wait_ready("h3");
    cluster.settle();
    let (from, to) = (cluster.hosts[0].container("q").unwrap(), cluster.hosts[2].container("q").unwrap());
    poll("the path between them", LONG, || from.ping(to.address())?.replied());
    let connected = || cluster_connections(&cluster.agents[0].process.log());
    assert_eq!(connected(), 1);
    let copied = cluster.lab.state_dir(&cluster.hosts[1]);
    copy(&cluster.lab.state_dir(&cluster.hosts[0]), &copied);

    for controllers in [vec![1], vec![2], vec![2, 1]] {
        let stream = from.udp_stream(&to, 10 * MILLISECONDS).unwrap();
        let clone = AgentOptions {
            node: Some("h1".into()),
            controllers: controllers.clone(),
            ..AgentOptions::default()
        };
        let clone = cluster.lab.agent(&cluster.hosts[1], clone).unwrap();
        for number in [1, 2] {
            poll(&format!("controller {number} names the copy at {controllers:?}"), LONG, || {
                let reported = cluster.lab.cli_of(number, &["status"])?.stdout;
                let address = cluster.hosts[1].address();
                anyhow::ensure!(
                    reported.contains("node h1: duplicate node id")
                        && reported.contains(&format!("the agent at {address} is refused")),
                    "{reported}"
                );
                anyhow::Ok(())
            });
        }
        poll("the copy is not ready", LONG, || {
            let (code, why) = clone.http("/readyz")?;
            anyhow::ensure!(
                code == 503 && why.contains("two hosts share one state directory"),
                "{code}: {why}"
            );
            anyhow::Ok(())
        });
        // Each of its attempts is refused.
        stream.flows(500, 30 * SECONDS).unwrap();
        assert!(
            !clone.process.log().contains("\"message\":\"connected to controller\""),
            "{}",
            clone.process.log()
        );
        let log = clone.process.log();
        let lines = ["problem found", "problem resolved"]
            .map(|it| log.matches(&format!("\"{it}\",\"kind\":\"duplicate-agent\"")).count());
        assert_eq!(lines, [1, 0], "one condition, however often it is refused: {log}");
        clone.process.kill().unwrap();
        stream.finish().unwrap().nothing_lost().unwrap();
    }
    // Under another name, at the controller that the original is not connected to: that must ask the other one.
    for controller in [1, 2] {
        let renamed = AgentOptions {
            node: Some("h9".into()),
            controllers: vec![controller],
            ..AgentOptions::default()
        };
        let renamed = cluster.lab.agent(&cluster.hosts[1], renamed).unwrap();
        poll(&format!("the renamed copy is refused at {controller}"), LONG, || {
            let (code, why) = renamed.http("/readyz")?;
            let words = "belongs to node \"h1\", the agent of which is connected and answers";
            anyhow::ensure!(code == 503 && why.replace("\\\"", "\"").contains(words), "{code}: {why}");
            anyhow::Ok(())
        });
        renamed.process.kill().unwrap();
    }
    assert_eq!(connected(), 1, "the original has kept its one stream");
    let now = cluster.node("h1");
    assert_eq!((&now["epoch"], &now["superseded"]), (&held["epoch"], &0.into()), "one claim, as before");
    assert_eq!(cluster.lab.cli_json(&["node", "list"]).unwrap().as_array().unwrap().len(), 2);
    let refused: usize = cluster
        .controllers
        .iter()
        .map(|it| it.process.log().matches("duplicate agent refused").count())
        .sum();
    assert!((1..=6).contains(&refused), "{refused} lines of the refusals");

    // The fix that it names.
    std::fs::remove_dir_all(copied).unwrap();
    cluster.start_agent(1, &[1, 2]);
    assert_ne!(cluster.wait_ready("h2")["prefix"], held["prefix"]);
    poll("nothing is said any more", LONG, || {
        let status = cluster.sextant(&["status"]);
        anyhow::ensure!(!status.contains("duplicate node id"), "{status}");
        anyhow::Ok(())
    });
    cluster.lab.logs_are_quiet().unwrap();
}

/// A controller that does not answer blocks no agent: its agent connects to the other one, and so does an agent that restarts
/// while its old connection is half-open.
#[test]
fn an_agent_with_a_dead_controller_or_connection_reconnects_elsewhere() {
    let mut cluster =
        Cluster::start("half-open", Sizes { members: 1, controllers: 2, hosts: 2 }, "2001:db8:9::/48", &[]);
    cluster.start_agent(0, &[1, 2]);
    cluster.start_agent(1, &[1, 2]);
    let held = cluster.wait_ready("h1");
    // Its FIN is lost with it; the new run knows only controller 2.
    cluster.hosts[0].isolate().unwrap();
    cluster.agents.remove(0).process.kill().unwrap();
    cluster.hosts[0].reconnect().unwrap();
    let restarted = cluster.start_agent(0, &[2, 1]);
    cluster.agents[restarted]
        .process
        .wait_for_line("\"message\":\"connected to controller\"", 10 * SECONDS)
        .unwrap();
    // Another run, and its controller is frozen.
    cluster.controllers[1].process.freeze().unwrap();
    cluster.agents.remove(restarted).process.kill().unwrap();
    let restarted = cluster.start_agent(0, &[1]);
    cluster.agents[restarted]
        .process
        .wait_for_line("\"message\":\"connected to controller\"", 10 * SECONDS)
        .unwrap();
    cluster.controllers[1].process.thaw().unwrap();
    assert_eq!(cluster.wait_ready("h1")["epoch"], held["epoch"]);
}

fn cluster_connections(log: &str) -> usize {
    log.matches("\"message\":\"connected to controller\"").count()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // Not the lock that a running agent holds.
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Two hosts are made from a disk of the first one, without its node id: each has its claim, and an id and a name of its own.
#[test]
fn i14_hosts_with_the_claim_of_another_node_are_refused_and_the_store_is_not_taken_for_a_lost_one() {
    let mut cluster = Cluster::start(
        "copied claims",
        Sizes { members: 1, controllers: 1, hosts: 4 },
        "2001:db8:9::/48",
        &[],
    );
    cluster.start_agent(0, &[1]);
    let held = cluster.wait_ready("h1");
    cluster.sextant(&["recover", "--finish"]);
    let original = cluster.lab.state_dir(&cluster.hosts[0]);
    for copy in [1, 2] {
        let directory = cluster.lab.state_dir(&cluster.hosts[copy]);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::copy(original.join("claim.json"), directory.join("claim.json")).unwrap();
        cluster.start_agent(copy, &[1]);
    }
    for name in ["h2", "h3"] {
        poll(&format!("status names {name}, the original and the fix"), LONG, || {
            let status = cluster.lab.cli(&["status"])?.stdout;
            let line = status.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
            let words = ["shows the claim of", "node \"h1\"", sextant_proto::CLEAR_COPY];
            anyhow::ensure!(words.iter().all(|word| line.contains(word)), "{status}");
            anyhow::Ok(())
        });
    }
    // A new host gets a prefix at once: no recovery window is open.
    cluster.start_agent(3, &[1]);
    cluster.wait_ready("h4");
    let events = cluster.sextant(&["events"]);
    assert!(!events.contains("taken back"), "{events}");
    assert_eq!(cluster.wait_ready("h1")["epoch"], held["epoch"]);

    cluster.agents.drain(1..3).for_each(|agent| agent.process.kill().unwrap());
    for copy in [1, 2] {
        std::fs::remove_dir_all(cluster.lab.state_dir(&cluster.hosts[copy])).unwrap();
        cluster.start_agent(copy, &[1]);
        assert_ne!(cluster.wait_ready(["h2", "h3"][copy - 1])["prefix"], held["prefix"]);
    }
    poll("no copy is reported any more", LONG, || {
        let status = cluster.lab.cli(&["status"])?.stdout;
        anyhow::ensure!(!status.contains("shows the claim of"), "{status}");
        anyhow::Ok(())
    });
}

/// A disk was copied before its node had a claim, and both hosts start at the same moment.
#[test]
fn i2_of_two_hosts_with_one_node_id_at_their_first_start_one_is_refused_with_both_names() {
    let mut cluster = Cluster::start(
        "first claims",
        Sizes { members: 1, controllers: 2, hosts: 2 },
        "2001:db8:9::/48",
        &[],
    );
    let id = format!("{}\n", sextant_proto::NodeId::random());
    for index in [0, 1] {
        let directory = cluster.lab.state_dir(&cluster.hosts[index]);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("node-id"), &id).unwrap();
    }
    for (index, controller) in [(0, 1), (1, 2)] {
        cluster.start_agent(index, &[controller]);
    }
    let listed = || cluster.lab.cli_json(&["node", "list"]).unwrap();
    let held = poll("one node is ready", LONG, || {
        let nodes = listed();
        match nodes.as_array().map(Vec::as_slice) {
            Some([only]) if only["state"] == "ready" => Ok(only.clone()),
            _ => Err(nodes),
        }
    });
    let (granted, refused) = if held["name"] == "h1" { (0, 1) } else { (1, 0) };
    poll("the other host names both", LONG, || {
        let (code, why) = cluster.agents[refused].http("/readyz")?;
        let words = ["node \"h1\"", "node \"h2\"", id.trim(), sextant_proto::CLEAR_COPY];
        anyhow::ensure!(code == 503 && words.iter().all(|word| why.contains(word)), "{code}: {why}");
        anyhow::Ok(())
    });
    poll("status names it", LONG, || {
        let status = cluster.lab.cli(&["status"])?.stdout;
        anyhow::ensure!(status.contains("duplicate node id"), "{status}");
        anyhow::Ok(())
    });

    // The fix that it names.
    cluster.agents.remove(refused).process.kill().unwrap();
    std::fs::remove_dir_all(cluster.lab.state_dir(&cluster.hosts[refused])).unwrap();
    cluster.start_agent(refused, &[1, 2]);
    let names = ["h1", "h2"];
    assert_ne!(cluster.wait_ready(names[refused])["prefix"], held["prefix"]);
    assert_eq!(cluster.node(names[granted])["epoch"], held["epoch"]);
}

/// Between the grant of a first claim and the connection of its agent, another host has the same node id: at once its claim would
/// be renamed, and both hosts set up for one prefix. Later it is a host with another name.
#[test]
fn i2_a_claim_that_was_granted_just_now_is_not_renamed_before_its_agent_could_connect() {
    let mut cluster = Cluster::start(
        "claimed just now",
        Sizes { members: 1, controllers: 2, hosts: 1 },
        "2001:db8:9::/48",
        &[],
    );
    let id = sextant_proto::NodeId::random();
    let directory = cluster.lab.state_dir(&cluster.hosts[0]);
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("node-id"), format!("{id}\n")).unwrap();
    claim_all(&cluster, std::iter::once(("h9".to_owned(), id)));
    cluster.start_agent(0, &[2]);
    let agent = &cluster.agents[0].process;
    let line = agent.wait_for_line("a moment ago", LONG).unwrap().text;
    assert!(line.contains("h9") && line.contains("h1") && line.contains(&id.to_string()), "{line}");
    let events = cluster.sextant(&["events"]);
    assert!(!events.contains("formerly h9"), "{events}");
    cluster.wait_ready("h1");
    assert!(cluster.node("h9").is_null());
}
