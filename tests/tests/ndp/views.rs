//! What operators see of it: `sextant node show`, `explain` and `trace`, and the metrics.

use std::net::Ipv6Addr;

use serde_json::Value;
use sextant_tests::{
    AgentOptions, Docker, SECONDS,
    cluster::{Cluster, PoolArgs},
    poll,
};

use super::{end, options, outsider, start};

fn node(cluster: &Cluster) -> Value {
    cluster.lab.cli_json(&["node", "show", "h1"]).unwrap()
}

fn explained(cluster: &Cluster, address: Ipv6Addr) -> Value {
    cluster.lab.cli_json(&["explain", &address.to_string()]).unwrap()["ndp"].clone()
}

#[test]
fn a_node_shows_what_is_answered_for_and_how_often() {
    let cluster = start("ndp node show", 1, &[]);
    let outsider = outsider(&cluster);
    let container = cluster.hosts[0].container("c").unwrap();
    poll("it is reached", 5 * SECONDS, || outsider.ping(container.address())?.replied());
    poll("its answers are counted", 5 * SECONDS, || {
        let ndp = &node(&cluster)["ndp"];
        let uplink = &ndp["uplinks"][0];
        let counts: Vec<_> = ["entries", "groups"].iter().filter_map(|key| uplink[key].as_u64()).collect();
        anyhow::ensure!(ndp["mode"] == "prefix" && ndp["answer"] == "live" && ndp["in_use"] == 2, "{ndp}");
        anyhow::ensure!(
            uplink["interface"] == "eth0" && uplink["heard"] == true && uplink["up"] == true,
            "{uplink}"
        );
        // A container that is asked before its link is operational does not hear it: then its address is advertised once it speaks.
        let refused = uplink["refused"].to_string().contains("unknown");
        let is_counted = uplink["answered"]["multicast"].as_u64() > Some(0) || refused;
        anyhow::ensure!(counts == [2, 2] && is_counted, "{uplink}");
        Ok(())
    });
    // Asked for again, the kernel answers; what is in no container prefix is not answered for.
    outsider.ip("-6 neighbour flush all").unwrap();
    outsider.ping(container.address()).unwrap().replied().unwrap();
    let shown = cluster.sextant(&["node", "show", "h1"]);
    let refused = node(&cluster)["ndp"]["uplinks"][0]["refused"].to_string();
    assert!(refused.contains("kernel"), "{refused}");
    assert!(shown.contains("mode prefix, answer live, source link-local: 2 addresses in use"), "{shown}");
    assert!(shown.contains("eth0: proxy entries 2, groups 2; answered by the agent: multicast "), "{shown}");

    let found = cluster.lab.cli_json(&["node", "show", "h1", "--containers"]).unwrap();
    let one = found["answered_for"]
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["address"] == container.address().to_string());
    let one = one.unwrap_or_else(|| panic!("{found}"));
    assert_eq!((&one["answered_by"], one["since_unix_ms"].is_u64()), (&"kernel".into(), true), "{one}");
    assert!(["neighbour", "probe"].iter().any(|it| one["learnt"] == *it), "{one}");
    let text = cluster.sextant(&["node", "show", "h1", "--containers"]);
    assert!(text.contains("ANSWERED-BY") && text.contains(&container.address().to_string()), "{text}");

    // The responder reports its counts once a second.
    poll("metrics count them", 5 * SECONDS, || {
        let (_, metrics) = cluster.agents[0].metrics("text/plain")?;
        for line in [
            "sextant_agent_ndp_entries 2",
            "sextant_agent_ndp_groups 2",
            "sextant_agent_ndp_answers_total{kind=\"dad\"} 0",
            "sextant_agent_ndp_refused_total{reason=\"limit\"} 0",
        ] {
            anyhow::ensure!(metrics.lines().any(|it| it == line), "{line}: {metrics}");
        }
        for some in ["ndp_advertised_total ", "ndp_refused_total{reason=\"kernel\"} "] {
            let name = format!("sextant_agent_{some}");
            let value = metrics.lines().find_map(|line| line.strip_prefix(name.as_str()));
            anyhow::ensure!(value.is_some_and(|it| it != "0"), "{some}{value:?}: {metrics}");
        }
        Ok(())
    });
}

#[test]
fn an_address_is_explained_by_who_answers_for_it_or_why_nobody_does() {
    let mut cluster = start("ndp explained", 1, &[]);
    let outsider = outsider(&cluster);
    let container = cluster.hosts[0].container("c").unwrap();
    poll("it is reached", 5 * SECONDS, || outsider.ping(container.address())?.replied());
    poll("the kernel answers for it", 5 * SECONDS, || {
        let ndp = explained(&cluster, container.address());
        anyhow::ensure!(ndp["answered_by"] == "kernel", "{ndp}");
        Ok(())
    });
    let text = cluster.sextant(&["explain", &container.address().to_string()]);
    assert!(
        text.contains("h1 on eth0 (") && text.contains("by the kernel's proxy entry, in use for"),
        "{text}"
    );
    let in_use = [container.address(), cluster.hosts[0].bridge_address().unwrap().0];
    let prefix = cluster.prefix("h1");
    let all = (1..8).map(|n| Ipv6Addr::from_bits(prefix.addr().to_bits() + n));
    let free = all.into_iter().find(|it| !in_use.contains(it)).unwrap();
    let why = |address| explained(&cluster, address)["why"].as_str().unwrap_or_default().to_owned();
    assert!(why(free).starts_with("not in use here"), "{}", why(free));
    end(&cluster.hosts[0], &container);
    poll("a container that is gone", 5 * SECONDS, || {
        let why = why(container.address());
        anyhow::ensure!(why.starts_with("not in use here"), "{why}");
        Ok(())
    });
    // An agent that is away costs no wait, and no error.
    cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    assert_eq!(explained(&cluster, container.address()), Value::Null);
    assert!(node(&cluster)["ndp"].is_null());
    let shown = cluster.lab.cli(&["explain", &container.address().to_string()]).unwrap().succeeded().unwrap();
    assert!(!shown.stdout.contains("answered by"), "{}", shown.stdout);
}

#[test]
fn a_trace_says_if_others_on_the_link_do_not_reach_containers() {
    let cluster = start("ndp trace", 2, &[]);
    let traced = || cluster.lab.cli_json(&["trace", "h1", "h2"]).unwrap();
    let check = |trace: &Value, node: &str| {
        let checks = trace["directions"][0]["checks"].as_array().unwrap().clone();
        let is = |it: &&Value| it["what"] == "neighbour proxy" && it["node"] == node;
        checks.iter().find(is).cloned().unwrap_or_else(|| panic!("{trace}"))
    };
    let good = traced();
    for node in ["h1", "h2"] {
        assert_eq!(check(&good, node)["state"], "good", "{good}");
    }
    // Another process has an entry for the bridge's address, which outlives it.
    let (bridge, _) = cluster.hosts[1].bridge_address().unwrap();
    cluster.hosts[1].ip(&format!("-6 neighbour replace proxy {bridge} dev eth0 protocol static")).unwrap();
    poll("the trace says so", 10 * SECONDS, || {
        let trace = traced();
        let seen = check(&trace, "h2");
        anyhow::ensure!(seen["state"] == "doubtful", "{seen}");
        let saw = seen["saw"].as_str().unwrap_or_default();
        anyhow::ensure!(saw.contains("direct routes between nodes hold all the same"), "{seen}");
        anyhow::ensure!(trace["directions"][0]["verdict"] == "works", "{trace}");
        anyhow::ensure!(check(&trace, "h1")["state"] == "good", "{trace}");
        Ok(())
    });
}

/// The engine names what has an address, and a trace between containers says who answers for each.
#[test]
fn containers_of_an_engine_are_named() {
    let wide = PoolArgs { prefix: "2001:db8:0:0:8000::/65", host_len: "66", container_len: "80" };
    let mut cluster = Cluster::without_agents("ndp engine", 2, wide);
    let engines: Vec<_> = cluster.hosts.iter().map(|host| Docker::start(host, &[]).unwrap()).collect();
    for (index, engine) in engines.iter().enumerate() {
        let socket = engine.socket().display().to_string();
        let network = ["--docker-mode", "network", "--docker-socket", &socket, "--bridge", "sextant0"];
        let options = AgentOptions { bridge: String::new(), bridge_create: false, ..options(&network) };
        cluster.start_agent_with(index, options);
    }
    cluster.settle();
    let start = |engine: &Docker, name: &str| {
        poll("the engine has the network", 20 * SECONDS, || engine.run(&["network", "inspect", "sextant"]));
        engine.container(name, &["--network", "sextant"]).unwrap()
    };
    let (web, db) = (start(&engines[0], "web"), start(&engines[1], "db"));
    poll("the container is named", 10 * SECONDS, || {
        let found = cluster.lab.cli_json(&["node", "show", "h1", "--containers"])?;
        let all = found["answered_for"].as_array().cloned().unwrap_or_default();
        let one = all.into_iter().find(|it| it["address"] == web.as_str()).unwrap_or_default();
        anyhow::ensure!(
            one["container"] == "web" && one["learnt"] == "engine" && one["answered_by"] == "kernel",
            "{found}"
        );
        Ok(())
    });
    let text = cluster.sextant(&["explain", &web]);
    assert!(
        text.contains("is container web on h1") && text.contains("by the kernel's proxy entry"),
        "{text}"
    );
    poll("the trace names who answers", 10 * SECONDS, || {
        let text = cluster.lab.cli(&["trace", "web", "db"])?.succeeded()?.stdout;
        for address in [&web, &db] {
            let answered = format!("the kernel answers for {address} on eth0");
            anyhow::ensure!(text.contains(&answered), "{answered} is not in\n{text}");
        }
        Ok(())
    });
    let outsider = outsider(&cluster);
    // The switch has just got its port.
    poll("it is reached", 5 * SECONDS, || outsider.ping(web.parse()?)?.replied());
}
