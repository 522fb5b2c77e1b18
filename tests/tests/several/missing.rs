//! A pool of which a host has no prefix: it has those of its other pools all the same.

use sextant_tests::{SECONDS, poll};

use crate::bed::{Bed, pools};

const ONE: &str = "fd00:5e00::/64";

/// Waits until a node with a prefix of main is ready, and status says why it has none of ula.
fn expect_missing(bed: &Bed, agent: usize, words: &[&str]) {
    let name = bed.cluster.hosts[agent].name();
    bed.wait_pools(name, &["main"]);
    bed.cluster.agents[agent].wait_ready(10 * SECONDS).unwrap();
    poll(&format!("status says why {name} has no prefix of ula"), 10 * SECONDS, || {
        let status = bed.cluster.lab.cli_json(&["status"])?;
        let of_node = |trouble: &&serde_json::Value| trouble["node"] == name;
        let troubles: Vec<_> = status["troubles"].as_array().into_iter().flatten().filter(of_node).collect();
        let [only] = troubles[..] else { anyhow::bail!("not exactly one: {troubles:?}") };
        let text = only["text"].as_str().unwrap_or_default();
        anyhow::ensure!(only["what"] == "pool-without-claim", "{only}");
        anyhow::ensure!(words.iter().all(|word| text.contains(word)), "{text}");
        anyhow::Ok(())
    });
    let shown = bed.cluster.sextant(&["node", "show", name]);
    assert!(shown.contains("pool-without-claim: no prefix of pool ula: "), "{shown}");
}

#[test]
fn i10_a_pool_without_a_prefix_is_reported_with_the_fix_and_joined_once_it_has_one() {
    let mut bed = Bed::prepared("missing pool", 2, |_| {});
    for agent in [0, 1] {
        expect_missing(&bed, agent, &["pool \"ula\" does not exist", "sextant pool add"]);
    }
    let runs: Vec<_> = bed.cluster.agents.iter().map(|agent| agent.process.pid()).collect();
    bed.cluster.sextant(&["pool", "add", "ula", ONE, "--host-len", "64", "--container-len", "80"]);
    let second = poll("one host has the only prefix", 10 * SECONDS, || {
        let pools = [0, 1].map(|agent| bed.pools_of(bed.cluster.hosts[agent].name(), "ready").len());
        match pools {
            [2, 1] => Ok(1),
            [1, 2] => Ok(0),
            other => Err(format!("{other:?}")),
        }
    });
    expect_missing(&bed, second, &["pool ula fd00:5e00::/64 is exhausted", "sextant pool grow ula"]);
    bed.cluster.sextant(&["pool", "grow", "ula", "fd00:5e00::/40"]);
    bed.settle();

    bed.cluster.sextant(&["pool", "drain", "ula"]);
    bed.cluster.hosts.push(bed.cluster.lab.host("h3").unwrap());
    bed.cluster.start_agent_with(2, pools("main,ula"));
    expect_missing(&bed, 2, &["pool ula is closed to new claims", "sextant pool undrain ula"]);
    bed.cluster.sextant(&["pool", "undrain", "ula"]);
    bed.settle();
    bed.expect_routes(&bed.held());
    poll("all is well", 20 * SECONDS, || {
        let status = bed.cluster.sextant(&["status"]);
        anyhow::ensure!(status.starts_with("All is well: "), "{status}");
        anyhow::Ok(())
    });
    let now: Vec<_> = bed.cluster.agents[..2].iter().map(|agent| agent.process.pid()).collect();
    assert_eq!(runs, now, "no agent was restarted");
}
