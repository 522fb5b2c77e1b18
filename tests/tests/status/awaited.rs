//! From the claim on, the container prefix is shown that the engine is to be given.

use sextant_tests::{
    AgentOptions, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

#[test]
fn an_agent_that_waits_for_docker_tells_the_prefix_and_nothing_succeeds_before_it() {
    let mut cluster = Cluster::without_agents("awaited", 1, GUIDE);
    let nobody = cluster.lab.cli(&["wait", "--timeout", "1s"]).unwrap();
    assert!(nobody.code == 6 && nobody.stderr.contains("no agent is live, and no node holds"), "{nobody:?}");
    let host = cluster.hosts[0].clone();
    let options = AgentOptions { bridge: "docker0".into(), bridge_create: false, ..AgentOptions::default() };
    cluster.start_agent_with(0, options);
    let prefix = poll("the container prefix is shown", 10 * SECONDS, || {
        let node = cluster.node("h1");
        let prefix = node["container_prefix"].as_str().map(str::to_owned).filter(|it| it.ends_with("/80"));
        prefix.ok_or_else(|| node.to_string())
    });
    poll("status tells it", 10 * SECONDS, || {
        let text = cluster.sextant(&["status"]);
        let words = [&format!("waiting for bridge \"docker0\"; give Docker {prefix}"), "\"fixed-cidr-v6\""];
        anyhow::ensure!(words.iter().all(|word| text.contains(*word)), "{text}");
        Ok(())
    });
    let (_, body) = cluster.agents[0].http("/readyz").unwrap();
    assert!(body.contains(&prefix), "{body}");
    for command in
        [&["node", "show", "h1"][..], &["node", "list"], &["explain", prefix.trim_end_matches("/80")]]
    {
        let text = cluster.sextant(command);
        assert!(text.contains(&prefix), "{text}");
    }
    let inside = prefix.replace("::/80", "::5");
    assert!(cluster.sextant(&["explain", &inside]).contains("is a container address on h1"));
    let late = cluster.lab.cli(&["wait", "--timeout", "1s"]).unwrap();
    assert!(late.code == 6 && late.stderr.contains("no agent is live; not ready: h1"), "{late:?}");
    // Docker does it.
    host.ip("link add docker0 type bridge").unwrap();
    host.ip(&format!("-6 address replace {} dev docker0 nodad", prefix.replace("::/80", "::1/80"))).unwrap();
    cluster.settle();
}
