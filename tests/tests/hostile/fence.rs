//! Controllers that hand out what is not the cluster's: `accept-pools` of the agents.

use sextant_tests::{
    AgentOptions, SECONDS, bin,
    cluster::{Cluster, GUIDE, PoolArgs},
    poll,
};

const FENCE: &str = "2001:db8:8000::/40";
const ROGUE: PoolArgs = PoolArgs { prefix: "2606:4700::/32", host_len: "64", container_len: "80" };

fn with(args: &[&str]) -> AgentOptions {
    AgentOptions { args: args.iter().map(ToString::to_string).collect(), ..AgentOptions::default() }
}

/// Waits until `node show` has each of these texts for a host.
fn expect_shown(cluster: &Cluster, index: usize, texts: &[&str]) {
    let name = cluster.hosts[index].name();
    poll(&format!("{name} reports {texts:?}"), 10 * SECONDS, || {
        let shown = cluster.lab.cli(&["node", "show", name])?.succeeded()?.stdout;
        anyhow::ensure!(texts.iter().all(|text| shown.contains(text)), "{shown}");
        Ok(())
    });
}

/// All routes of a host of the protocol sextant that a text is in.
fn routes_with(cluster: &Cluster, index: usize, text: &str) -> Vec<String> {
    let mut routes = cluster.hosts[index].routes_of(66).unwrap();
    routes.retain(|route| route.contains(text));
    routes
}

#[test]
fn i14_nothing_outside_of_accept_pools_is_routed_or_held() {
    let mut cluster = Cluster::without_agents("fence", 3, GUIDE);
    for index in [0, 1] {
        cluster.start_agent_with(index, with(&["--accept-pools", FENCE, "--pool", "main"]));
    }
    cluster.add_another_pool("rogue", ROGUE);
    // A host without a fence takes a prefix of it, and routes it.
    cluster.start_agent_with(2, with(&["--pool", "main,rogue"]));
    cluster.settle();
    poll("the host without a fence refuses packets to all of the pool", 10 * SECONDS, || {
        let found = routes_with(&cluster, 2, "2606:4700::/32");
        if found.is_empty() { Err("no route") } else { Ok(()) }
    });
    for index in [0, 1] {
        let named = ["outside-accept-pools", "pool rogue 2606:4700::/32", "accept-pools in agent.toml"];
        expect_shown(&cluster, index, &named);
        assert_eq!(routes_with(&cluster, index, "2606:"), [""; 0]);
        let inside = cluster.prefix("h3").to_string();
        assert_eq!(routes_with(&cluster, index, &inside).len(), 1, "its prefix inside is routed");
    }
    // A prefix that is granted outside is not held, and nothing else is lost by it.
    cluster.agents[1].process.terminate(10 * SECONDS).unwrap();
    cluster.agents.remove(1);
    cluster.start_agent_with(1, with(&["--accept-pools", FENCE, "--pool", "main,rogue"]));
    let refused =
        ["pool-without-claim: no prefix of pool rogue", "is outside accept-pools (2001:db8:8000::/40)"];
    expect_shown(&cluster, 1, &refused);
    let of_rogue = |name: &str| cluster.node(name)["claims"].to_string().contains("2606:4700:");
    assert!(of_rogue("h3") && !of_rogue("h2"), "a claim that the host does not take is left behind");
    let addresses = cluster.hosts[1].ip("-6 -o address show").unwrap();
    assert!(!addresses.contains("2606:"), "{addresses}");
    let [here, there] = [1, 0].map(|index: usize| cluster.hosts[index].container("inside").unwrap());
    poll("containers reach each other", 10 * SECONDS, || here.ping(there.address())?.replied());
}

#[test]
fn an_agent_whose_own_prefix_is_outside_of_accept_pools_does_not_start_and_its_routes_stay() {
    let mut cluster = Cluster::start("fence of the own", 2, GUIDE);
    let agent = cluster.agents.remove(1);
    agent.process.terminate(10 * SECONDS).unwrap();
    let before = cluster.hosts[1].routes_of(66).unwrap();
    let again = cluster.lab.agent(&cluster.hosts[1], with(&["--accept-pools", "fd00::/8"])).unwrap();
    let status = again.process.wait(10 * SECONDS).unwrap();
    assert!(!status.success());
    let log = again.process.log();
    for words in
        ["is outside accept-pools (fd00::/8), and this node holds", "then `sextant node forget h2 --force`"]
    {
        assert!(log.contains(words), "{log}");
    }
    assert_eq!(cluster.hosts[1].routes_of(66).unwrap(), before);
    let [here, there] = [1, 0].map(|index: usize| cluster.hosts[index].container("kept").unwrap());
    poll("containers reach each other", 10 * SECONDS, || here.ping(there.address())?.replied());
}

/// The refusal's second advice, word for word: the host becomes a new node, in a pool inside of the fence.
#[test]
fn an_agent_outside_of_accept_pools_starts_as_a_new_node_by_the_advice_of_its_refusal() {
    let mut cluster = Cluster::start("fence advice", 2, GUIDE);
    cluster.add_another_pool("ula", PoolArgs { prefix: "fd00:5::/48", ..GUIDE });
    cluster.agents.remove(1).process.terminate(10 * SECONDS).unwrap();
    let fenced = || with(&["--accept-pools", "fd00::/8", "--pool", "ula"]);
    let refused = cluster.lab.agent(&cluster.hosts[1], fenced()).unwrap();
    assert!(!refused.process.wait(10 * SECONDS).unwrap().success());
    let log = refused.process.log();
    let advice = "stop sextant-agent, remove the containers, run `sextant-agent cleanup` and delete its state directory, then \
                  `sextant node forget h2 --force`";
    assert!(log.contains(advice), "{log}");

    let (program, state) = (bin("sextant-agent").unwrap(), cluster.lab.state_dir(&cluster.hosts[1]));
    let (program, path) = (program.display().to_string(), state.display().to_string());
    cluster.hosts[1].check(&[program.as_str(), "cleanup", "--state-dir", &path]).unwrap();
    std::fs::remove_dir_all(&state).unwrap();
    cluster.sextant(&["node", "forget", "h2", "--force"]);
    cluster.start_agent_with(1, fenced());
    cluster.settle();
    assert!(cluster.prefix("h2").to_string().starts_with("fd00:5:"), "{}", cluster.node("h2"));
    let prefix = cluster.prefix("h2").to_string();
    assert_eq!(routes_with(&cluster, 0, &prefix).len(), 1, "its peer routes to the new prefix");
}

/// The agents name no pool: the controller chooses.
#[test]
fn a_pool_that_grows_over_the_edge_costs_no_host_its_prefix_and_a_new_one_gets_none() {
    let mut cluster = Cluster::without_agents("fence grown", 2, GUIDE);
    cluster.start_agent_with(0, with(&["--accept-pools", FENCE]));
    cluster.settle();
    let prefix = cluster.prefix("h1");
    cluster.sextant(&["pool", "grow", "main", "2001:db8:8000::/33"]);
    expect_shown(&cluster, 0, &["outside-accept-pools", "pool main 2001:db8:8000::/33"]);
    // Also after a restart, with another connection.
    cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    cluster.start_agent_with(0, with(&["--accept-pools", FENCE]));
    cluster.settle();
    expect_shown(&cluster, 0, &["outside-accept-pools"]);
    assert_eq!(cluster.prefix("h1"), prefix);
    let agent = cluster.lab.agent(&cluster.hosts[1], with(&["--accept-pools", FENCE])).unwrap();
    let why = "pool main 2001:db8:8000::/33 is outside accept-pools (2001:db8:8000::/40) of node h2";
    poll("the new host says why it has none", 10 * SECONDS, || {
        let log = agent.process.log();
        if log.contains(why) { Ok(()) } else { Err(log) }
    });
    assert!(cluster.node("h2").is_null(), "a claim that the host does not take is left behind");
}
