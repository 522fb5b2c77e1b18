//! Agents whose claims end while they are silent or connected: each recovers without an operator.

use serde_json::Value;
use sextant_tests::{Agent, SECONDS, poll};

use crate::cluster::{Cluster, LONG, Sizes};

const SIZES: Sizes = Sizes { members: 1, controllers: 1, hosts: 3 };
const CLAIMED: &str = "\"message\":\"host prefix claimed\"";

/// How often the agent has claimed a prefix that it did not hold.
fn claims(agent: &Agent) -> usize {
    agent.process.log().matches(CLAIMED).count()
}

/// The agents of these hosts are ready, with a claim made after the one of `before`; all hosts route to all others, and no
/// agent has claimed more than once.
fn all_are_back(cluster: &Cluster, what: &str, ended: &[usize], before: &[(Value, usize)]) {
    for &index in ended {
        let (epoch, claimed) = &before[index];
        let name = cluster.hosts[index].name();
        poll(&format!("{what}: {name} is ready with a new claim"), 20 * SECONDS, || {
            let node = cluster.node(name);
            let anew = node["epoch"] != *epoch;
            let ready = anew && node["state"] == "ready" && node["connected"] == true;
            let log = || cluster.agents[index].process.log();
            let tail = |log: String| log[log.len().saturating_sub(3000)..].to_owned();
            if ready { Ok(()) } else { Err(format!("{node}\n{}", tail(log()))) }
        });
        cluster.agents[index].wait_ready(LONG).unwrap();
        assert_eq!(claims(&cluster.agents[index]), claimed + 1, "{what}: {name} claims once");
    }
    cluster.settle();
    for (index, host) in cluster.hosts.iter().enumerate() {
        for other in (0..cluster.hosts.len()).filter(|other| *other != index) {
            let prefix = host_prefix(cluster, other);
            let hop = cluster.hosts[other].address();
            cluster.wait_route(index, &format!("{prefix} via {hop} dev eth0 proto 66 metric 512"), true);
        }
        let problem = cluster.agents[index].http("/readyz").unwrap();
        assert_eq!(problem.0, 200, "{what}: {}: {problem:?}", host.name());
    }
}

fn host_prefix(cluster: &Cluster, index: usize) -> String {
    cluster.node(cluster.hosts[index].name())["prefix"].as_str().unwrap().to_owned()
}

/// Each host's claim, and how often its agent has claimed.
fn present(cluster: &Cluster) -> Vec<(Value, usize)> {
    let of = |(host, agent): (&sextant_tests::Host, &Agent)| {
        (cluster.node(host.name())["epoch"].clone(), claims(agent))
    };
    cluster.hosts.iter().zip(&cluster.agents).map(of).collect()
}

#[test]
fn i3_an_agent_whose_claim_ended_during_silence_recovers() {
    let mut cluster = Cluster::start("silent", SIZES, "2001:db8:9::/48", &[]);
    for index in 0..3 {
        cluster.start_agent(index, &[1]);
    }
    let names: Vec<_> = cluster.hosts.iter().map(|host| host.name().to_owned()).collect();
    names.iter().for_each(|name| drop(cluster.wait_ready(name)));
    let forget = |cluster: &Cluster, name: &str| cluster.sextant(&["node", "forget", name, "--force"]);

    let before = present(&cluster);
    cluster.agents[1].process.freeze().unwrap();
    cluster.wait_down("h2");
    forget(&cluster, "h2");
    cluster.agents[1].process.thaw().unwrap();
    all_are_back(&cluster, "a frozen agent", &[1], &before);

    let before = present(&cluster);
    forget(&cluster, "h2");
    all_are_back(&cluster, "a live agent", &[1], &before);

    let before = present(&cluster);
    cluster.hosts[2].isolate().unwrap();
    cluster.wait_down("h3");
    forget(&cluster, "h3");
    cluster.hosts[2].reconnect().unwrap();
    all_are_back(&cluster, "a host that was cut off", &[2], &before);

    let before = present(&cluster);
    cluster.hosts.iter().for_each(|host| host.isolate().unwrap());
    names.iter().for_each(|name| cluster.wait_down(name));
    names.iter().for_each(|name| drop(forget(&cluster, name)));
    cluster.hosts.iter().for_each(|host| host.reconnect().unwrap());
    all_are_back(&cluster, "all hosts cut off", &[0, 1, 2], &before);
    cluster.lab.logs_are_quiet().unwrap();
}

/// No operator is needed for it.
#[test]
fn i3_a_host_whose_claim_ended_by_hold_down_while_isolated_recovers() {
    let mut cluster = Cluster::start("held down alive", SIZES, "2001:db8:9::/48", &["--hold-down", "2"]);
    for index in 0..3 {
        cluster.start_agent(index, &[1]);
    }
    ["h1", "h2", "h3"].iter().for_each(|name| drop(cluster.wait_ready(name)));
    let before = present(&cluster);
    cluster.hosts[1].isolate().unwrap();
    cluster.wait_gone("h2");
    cluster.hosts[1].reconnect().unwrap();
    all_are_back(&cluster, "held down", &[1], &before);
}

/// Each command ends a claim or a session's state once: neither the agent nor the controller takes that for a fault of the node.
#[test]
fn an_operators_commands_in_a_row_are_no_loop() {
    let mut cluster =
        Cluster::start("loop", Sizes { members: 1, controllers: 1, hosts: 1 }, "2001:db8:9::/48", &[]);
    cluster.start_agent(0, &[1]);
    cluster.wait_ready("h1");
    let command = |cluster: &Cluster, args: &[&str]| {
        let before = cluster.node("h1")["epoch"].clone();
        cluster.sextant(args);
        poll(&format!("h1 is ready after {args:?}"), LONG, || {
            let node = cluster.node("h1");
            let anew = node["epoch"] != before || args[1] == "undrain";
            anyhow::ensure!(anew && node["state"] == "ready", "{node}");
            anyhow::Ok(())
        });
    };
    for _ in 0..3 {
        command(&cluster, &["node", "forget", "h1", "--force"]);
        command(&cluster, &["node", "reassign", "h1"]);
        cluster.sextant(&["node", "drain", "h1"]);
        command(&cluster, &["node", "undrain", "h1"]);
        let (code, why) = cluster.agents[0].http("/readyz").unwrap();
        assert!(!why.contains("session loop"), "{code}: {why}");
    }
    cluster.agents[0].wait_ready(LONG).unwrap();
    for log in [cluster.agents[0].process.log(), cluster.controllers[0].process.log()] {
        assert!(!log.contains("session loop") && !log.contains("claim loop"), "{log}");
    }
}
