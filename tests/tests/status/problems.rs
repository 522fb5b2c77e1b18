//! An agent that is not ready: status shows the reason.

use serde_json::Value;
use sextant_tests::{AgentOptions, BRIDGE, SECONDS, poll};

use crate::cluster::{Cluster, GUIDE};

/// The troubles of `node` that status shows.
fn troubles(cluster: &Cluster, node: &str) -> Vec<Value> {
    let status = cluster.lab.cli_json(&["status"]).unwrap();
    let troubles = status["troubles"].as_array().unwrap().clone();
    assert_eq!(status["well"], troubles.is_empty(), "{status}");
    troubles.into_iter().filter(|trouble| trouble["node"] == node).collect()
}

/// Waits until status and `/readyz` of host 1 name the problem `what`, with these words in it.
fn expect_problem(cluster: &Cluster, what: &str, words: &str) -> Value {
    let reported = poll(&format!("{what} is known"), 20 * SECONDS, || {
        let (code, body) = cluster.agents[0].http("/readyz").map_err(|error| format!("{error:#}"))?;
        let troubles = troubles(cluster, "h1");
        let reported = troubles.iter().find(|trouble| trouble["what"] == what).cloned();
        match reported {
            Some(reported) if code == 503 && body.contains(words) => Ok(reported),
            _ => Err(format!("/readyz {code}: {body}; {troubles:#?}")),
        }
    });
    assert!(reported["text"].as_str().unwrap().contains(words), "{reported}");
    let text = cluster.sextant(&["status"]);
    assert!(
        text.starts_with("Not all is well") && text.contains(words) && text.contains("(since "),
        "{text}"
    );
    assert!(cluster.sextant(&["node", "list"]).contains(what));
    assert!(cluster.sextant(&["node", "show", "h1"]).contains(words));
    // The same since when, however often it is asked.
    let again = troubles(cluster, "h1").into_iter().find(|trouble| trouble["what"] == what).unwrap();
    assert_eq!(again["since_unix_ms"], reported["since_unix_ms"]);
    reported
}

/// Waits until `/readyz` of host 1 names a problem; its agent has no connection, so status cannot.
fn expect_unready(cluster: &Cluster, words: &str) {
    poll(words, 20 * SECONDS, || match cluster.agents[0].http("/readyz") {
        Ok((503, body)) if body.contains(words) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// The agent of host 1 is connected: nothing says that it is gone.
fn expect_waiting(cluster: &Cluster) {
    let node = poll("status says that the agent waits", 20 * SECONDS, || {
        let troubles = troubles(cluster, "h1");
        let nodes = cluster.lab.cli_json(&["node", "list"]).map_err(|error| format!("{error:#}"))?;
        let node = nodes.as_array().into_iter().flatten().find(|node| node["name"] == "h1").cloned();
        let node = node.unwrap_or_default();
        let problems_only = troubles.iter().all(|trouble| trouble["kind"] == "node_problem");
        let connected = node["connected"] == true && node["down"] == false;
        if problems_only && connected { Ok(node) } else { Err(format!("{node:#} {troubles:#?}")) }
    });
    let listed = cluster.sextant(&["node", "list"]);
    assert!(
        listed.lines().any(|line| line.starts_with("h1") && line.contains("waiting")),
        "{node:#}\n{listed}"
    );
}

fn expect_well(cluster: &Cluster) {
    poll("the cluster is healthy", 30 * SECONDS, || {
        let text = cluster.sextant(&["status"]);
        let (code, body) = cluster.agents[0].http("/readyz").map_err(|error| format!("{error:#}"))?;
        let well = text.starts_with("All is well: ") && code == 200;
        if well { Ok(()) } else { Err(format!("/readyz {code}: {body}; {text}")) }
    });
}

#[test]
fn status_names_the_reason_why_an_agent_is_not_ready() {
    let mut cluster = Cluster::without_agents("problems", 2, GUIDE);
    let host = cluster.hosts[0].clone();
    cluster.start_agent_with(0, AgentOptions { bridge_create: false, ..AgentOptions::default() });
    cluster.start_agent(1);

    // A node that never was ready: its agent is connected, and says why.
    let problem = expect_problem(&cluster, "bridge-missing", &format!("waiting for bridge \"{BRIDGE}\""));
    assert!(problem["text"].as_str().unwrap().contains("start Docker again"), "{problem}");
    host.ip(&format!("link add {BRIDGE} address 02:42:00:00:00:01 type bridge")).unwrap();
    cluster.settle();
    expect_well(&cluster);

    let (own, other) = (host.address(), cluster.hosts[1].address());
    host.ip(&format!("address delete {own}/64 dev eth0")).unwrap();
    expect_unready(&cluster, "uplink eth0 has no usable IPv6 address");
    host.sysctl("net/ipv6/conf/eth0/accept_dad", "1").unwrap();
    host.sysctl("net/ipv6/conf/eth0/dad_transmits", "1").unwrap();
    host.ip(&format!("address add {other}/64 dev eth0")).unwrap();
    expect_unready(&cluster, &format!("another host on the link uses {other}"));
    host.ip(&format!("address delete {other}/64 dev eth0")).unwrap();
    host.ip(&format!("address add {own}/64 dev eth0 nodad")).unwrap();
    expect_well(&cluster);

    // The link keeps its addresses, and the agent its connection, under another name.
    host.ip("link set eth0 name lan0").unwrap();
    poll("status names the other name", 20 * SECONDS, || {
        let (code, body) = cluster.agents[0].http("/readyz").map_err(|error| format!("{error:#}"))?;
        let found = troubles(&cluster, "h1");
        let renamed = found.iter().any(|trouble| trouble["what"] == "uplink-renamed");
        if renamed && code == 200 { Ok(()) } else { Err(format!("/readyz {code}: {body}; {found:#?}")) }
    });
    host.ip("link set lan0 name eth0").unwrap();
    expect_well(&cluster);
}

/// A first start before the container engine, and a later one.
#[test]
fn i15_an_agent_that_is_connected_and_waits_is_not_gone() {
    let mut cluster = Cluster::without_agents("waits", 2, GUIDE);
    let host = cluster.hosts[0].clone();
    cluster.start_agent_with(0, AgentOptions { bridge_create: false, ..AgentOptions::default() });
    cluster.start_agent(1);
    expect_problem(&cluster, "bridge-missing", &format!("waiting for bridge \"{BRIDGE}\""));
    expect_waiting(&cluster);
    host.ip(&format!("link add {BRIDGE} address 02:42:00:00:00:01 type bridge")).unwrap();
    expect_well(&cluster);

    // One that was ready: its agent starts before the engine.
    cluster.agents[0].process.kill().unwrap();
    poll("its agent is lost", 20 * SECONDS, || {
        let text = cluster.sextant(&["status"]);
        anyhow::ensure!(text.contains("start sextant-agent there"), "{text}");
        anyhow::Ok(())
    });
    host.ip(&format!("link delete {BRIDGE}")).unwrap();
    let options = AgentOptions { bridge_create: false, ..AgentOptions::default() };
    cluster.agents[0] = cluster.lab.agent(&host, options).unwrap();
    expect_problem(&cluster, "bridge-missing", &format!("waiting for bridge \"{BRIDGE}\""));
    expect_waiting(&cluster);
    host.ip(&format!("link add {BRIDGE} address 02:42:00:00:00:01 type bridge")).unwrap();
    expect_well(&cluster);
}

/// Some engines delete their bridge with the last container, and create it with the next one.
#[test]
fn an_engine_that_deletes_its_bridge_is_idle_and_the_host_stays_announced() {
    let mut cluster = Cluster::without_agents("idle engine", 2, GUIDE);
    let host = cluster.hosts[0].clone();
    let engine_creates =
        || host.ip(&format!("link add {BRIDGE} address 02:42:00:00:00:01 type bridge")).unwrap();
    engine_creates();
    cluster.start_agent_with(0, AgentOptions { bridge_create: false, ..AgentOptions::default() });
    cluster.start_agent(1);
    cluster.settle();
    expect_well(&cluster);
    let before = host.bridge_address().unwrap();
    let far = cluster.hosts[1].container("c").unwrap();
    for _ in 0..3 {
        host.ip(&format!("link delete {BRIDGE}")).unwrap();
        poll("the prefix is refused", 10 * SECONDS, || far.ping(before.0)?.refused());
        expect_well(&cluster);
        cluster.expect_routes(1, &[0, 1]);
        engine_creates();
        poll("the bridge has its address", 5 * SECONDS, || {
            let now = host.bridge_address()?;
            anyhow::ensure!(now == before, "{now:?}");
            anyhow::Ok(())
        });
        poll("the prefix is reached", 10 * SECONDS, || far.ping(before.0)?.replied());
    }
    let log = cluster.agents[0].process.log();
    assert!(!log.contains("bridge-missing"), "{log}");
    // An agent that may create the bridge leaves the engine the time to do it.
    let other = &cluster.hosts[1];
    other.ip(&format!("link delete {BRIDGE}")).unwrap();
    std::thread::sleep(SECONDS / 2);
    other.ip(&format!("link add {BRIDGE} address 02:42:00:00:00:02 type bridge")).unwrap();
    poll("the engine's bridge is set up", 10 * SECONDS, || other.bridge_address());
    expect_well(&cluster);
}

/// Such a node is in no record of the store.
#[test]
fn status_names_an_agent_that_is_granted_no_prefix() {
    let mut cluster = Cluster::without_agents("refused", 3, GUIDE);
    cluster.start_agent(0);
    expect_well(&cluster);
    let refusals: [(&str, [&[&str]; 2], &str); 2] = [
        (
            "h2",
            [&["pool", "add", "p2", "2001:db8:9999::/48", "--host-len", "64"], &["pool", "remove", "p2"]],
            "several pools: main, p2; select one with --pool",
        ),
        (
            "h3",
            [&["pool", "drain", "main"], &["pool", "undrain", "main"]],
            "pool main is closed to new claims",
        ),
    ];
    for (index, (node, [begin, end], words)) in (1..).zip(refusals) {
        cluster.sextant(begin);
        cluster.start_agent(index);
        let reported = poll("the refusal is known", 20 * SECONDS, || {
            let mut troubles = troubles(&cluster, node).into_iter();
            troubles.find(|trouble| trouble["kind"] == "node_refused").ok_or("not known")
        });
        assert!(
            reported["text"].as_str().unwrap().contains(words) && reported["since_unix_ms"] != 0,
            "{reported}"
        );
        let text = cluster.sextant(&["status"]);
        assert!(text.starts_with("Not all is well: 1 problem") && text.contains(words), "{text}");
        cluster.sextant(end);
        expect_well(&cluster);
    }
}
