//! Pools that grow, are drained, are exhausted, and have prefixes of mixed lengths.

use sextant_tests::AgentOptions;

use crate::cluster::{Cluster, LONG, Sizes};

const SIZES: Sizes = Sizes { members: 1, controllers: 1, hosts: 3 };

fn wants(host_len: &str) -> AgentOptions {
    AgentOptions { args: vec!["--host-len".into(), host_len.into()], ..AgentOptions::default() }
}

/// A pool of one prefix, then two, then four: a waiting host gets a prefix as soon as one is free, and no other one changes.
#[test]
fn an_exhausted_pool_is_reported_with_the_fixes_and_can_grow() {
    let mut cluster = Cluster::start("pool of one", SIZES, "2001:db8:9::/64", &[]);
    cluster.start_agent(0, &[1]);
    let first = cluster.wait_ready("h1");
    assert_eq!(first["prefix"], "2001:db8:9::/64", "the last one, which is the only one");
    let waiting = cluster.start_agent(1, &[1]);
    let reported = cluster.agents[waiting].process.wait_for_line("is exhausted", LONG).unwrap().text;
    for fix in
        ["sextant node forget NAME", "sextant pool grow main", "add a pool", "(it holds 1 host prefix of"]
    {
        assert!(reported.contains(fix), "{fix}: {reported}");
    }
    assert!(cluster.node("h2").is_null(), "nothing partial");
    let status = cluster.sextant(&["status"]);
    let words = ["1 of 1 claimed: full", "node h2 gets no prefix: pool main 2001:db8:9::/64 is exhausted"];
    assert!(words.iter().all(|word| status.contains(word)), "{status}");
    let shown = cluster.refused(3, &["node", "show", "h2"]);
    assert!(shown.contains(words[1]), "{shown}");

    let refused = cluster.refused(2, &["pool", "grow", "main", "2001:db8:9::/129"]);
    assert!(refused.contains("2001:db8:9::/129"), "{refused}");
    let refused = cluster.refused(2, &["pool", "grow", "main", "2001:db8:a::/63"]);
    assert!(refused.contains("contains its own, e.g. 2001:db8:9::/63"), "{refused}");
    cluster.sextant(&["pool", "grow", "main", "2001:db8:9::/63"]);
    let second = cluster.wait_ready("h2");
    assert_eq!(second["prefix"], "2001:db8:9:1::/64");
    cluster.settle();
    // What the pool refuses grows with it, and nothing of the smaller one is left.
    cluster.wait_route(0, "unreachable 2001:db8:9::/63 proto 66 metric 4000000000", true);
    cluster.wait_route(0, "2001:db8:9:1::/64 via 2001:db8::2 dev eth0 proto 66 metric 512", true);

    // Two of four are free, but it is closed.
    cluster.sextant(&["pool", "grow", "main", "2001:db8:9::/62"]);
    cluster.sextant(&["pool", "drain", "main"]);
    let third = cluster.start_agent(2, &[1]);
    let reported = cluster.agents[third].process.wait_for_line("closed to new claims", LONG).unwrap().text;
    assert!(reported.contains("sextant pool undrain main"), "{reported}");
    cluster.agents.remove(0).process.kill().unwrap();
    cluster.start_agent(0, &[1]);
    let again = cluster.wait_ready("h1");
    assert_eq!((&again["prefix"], &again["epoch"]), (&first["prefix"], &first["epoch"]), "who holds keeps");
    assert!(cluster.node("h3").is_null());
    cluster.sextant(&["pool", "undrain", "main"]);
    cluster.wait_ready("h3");
    let refused = cluster.refused(4, &["pool", "remove", "main"]);
    assert!(
        refused.contains("3 nodes hold prefixes") && refused.contains("sextant pool drain main"),
        "{refused}"
    );
    let events = cluster.sextant(&["events"]);
    for what in ["pool grown", "pool closed", "pool opened", "from 2001:db8:9::/64"] {
        assert!(events.contains(what), "{what}: {events}");
    }
}

/// A host that asks for more or for less than the pool's length has just that; the others route to it as to any.
#[test]
fn a_host_gets_a_prefix_of_the_length_that_it_requests() {
    let mut cluster = Cluster::start("host lengths", SIZES, "2001:db8:9::/56", &[]);
    cluster.start_agent_with(0, wants("60"));
    cluster.start_agent_with(1, wants("72"));
    let (h1, h2) = (cluster.wait_ready("h1"), cluster.wait_ready("h2"));
    let (short, long) = (h1["prefix"].as_str().unwrap(), h2["prefix"].as_str().unwrap());
    assert!(short.ends_with("/60") && long.ends_with("/72"), "{short}, {long}");
    cluster.settle();
    cluster.wait_route(0, &format!("{long} via 2001:db8::2 dev eth0 proto 66 metric 512"), true);
    cluster.wait_route(1, &format!("{short} via 2001:db8::1 dev eth0 proto 66 metric 512"), true);
    let (bridge, length) = cluster.hosts[1].bridge_address().unwrap();
    let pool: sextant_proto::Prefix = long.parse().unwrap();
    assert!(pool.contains(bridge) && length == 80, "{bridge}/{length}");

    let bad = cluster.start_agent_with(2, wants("48"));
    let reported =
        cluster.agents[bad].process.wait_for_line("--host-len 48 does not fit", LONG).unwrap().text;
    assert!(reported.contains("2001:db8:9::/56") && reported.contains("56 to 126"), "{reported}");
    assert!(cluster.node("h3").is_null());
}
