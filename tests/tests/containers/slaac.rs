//! Router advertisements of the agent on its own bridge: containers without any configuration.

use sextant_tests::{
    AgentOptions, BRIDGE, SECONDS,
    cluster::{Cluster, GUIDE, PoolArgs},
    poll, try_poll,
};

/// SLAAC takes no longer prefix.
const WHOLE: PoolArgs = PoolArgs { container_len: "64", ..GUIDE };

fn advertising() -> AgentOptions {
    AgentOptions { args: vec!["--bridge-advertise".to_owned()], ..AgentOptions::default() }
}

fn start(test: &str, hosts: u16, pool: PoolArgs) -> Cluster {
    let mut cluster = Cluster::without_agents(test, hosts, pool);
    for host in 0..cluster.hosts.len() {
        cluster.start_agent_with(host, advertising());
    }
    cluster
}

fn problems(cluster: &Cluster, node: &str) -> String {
    cluster.node(node)["applied"]["problems"].to_string()
}

#[test]
fn containers_without_configuration_reach_those_of_other_hosts() {
    let cluster = start("slaac", 2, WHOLE);
    cluster.settle();
    let near = cluster.hosts[0].container_by_slaac("c").unwrap();
    let far = cluster.hosts[1].container_by_slaac("c").unwrap();
    assert!(cluster.prefix("h1").contains(near.address()) && cluster.prefix("h2").contains(far.address()));
    poll("they reach each other", 10 * SECONDS, || near.ping(far.address())?.replied());
    let mtu = far.ip("link show dev eth0").unwrap();
    assert!(mtu.contains("mtu 1500"), "{mtu}");
    assert_eq!(problems(&cluster, "h1"), "[]");
    // The host takes nothing of what it says itself.
    let learnt = cluster.hosts[0].ip("-6 route show proto ra").unwrap();
    assert_eq!(learnt, "");

    // A container moves with its host's prefix: new connections use the new address, the old one is left for a while.
    let before = far.address();
    cluster.sextant(&["node", "reassign", "h2"]);
    let moved = cluster.prefix("h2");
    assert!(!moved.contains(before));
    let after = try_poll(30 * SECONDS, || {
        let address = far.address_by_slaac()?;
        anyhow::ensure!(moved.contains(address), "{address} is not in {moved}");
        Ok(address)
    });
    let after = after.unwrap();
    poll("it is reached at the new address", 10 * SECONDS, || near.ping(after)?.replied());
    let left = far.ip("-6 -o address show dev eth0 scope global deprecated").unwrap();
    assert!(left.contains(&before.to_string()), "{left}");
}

#[test]
fn a_former_prefix_is_withdrawn_by_an_agent_that_was_killed() {
    let mut cluster = start("slaac killed", 1, WHOLE);
    cluster.settle();
    let container = cluster.hosts[0].container_by_slaac("c").unwrap();
    let before = container.address();
    cluster.sextant(&["node", "reassign", "h1"]);
    let deprecated = || {
        poll("the former address is deprecated", 30 * SECONDS, || {
            let left = container.ip("-6 -o address show dev eth0 scope global deprecated")?;
            anyhow::ensure!(left.contains(&before.to_string()), "{left}");
            Ok(())
        });
    };
    deprecated();
    cluster.agents.remove(0).process.kill().unwrap();
    // A container that has missed this.
    container
        .ip(&format!("-6 address change {before}/64 dev eth0 valid_lft 7200 preferred_lft 3600"))
        .unwrap();
    cluster.start_agent_with(0, advertising());
    deprecated();
}

#[test]
fn a_longer_container_prefix_gives_a_route_and_a_finding() {
    let cluster = start("no slaac", 1, GUIDE);
    poll("it is reported", 20 * SECONDS, || {
        let problems = problems(&cluster, "h1");
        anyhow::ensure!(problems.contains("no-slaac") && problems.contains("/80 is no /64"), "{problems}");
        Ok(())
    });
    assert_eq!(cluster.hosts[0].addresses_of(BRIDGE).unwrap().len(), 1);
    let container = cluster.hosts[0].container_without_address("c").unwrap();
    poll("it has a route", 10 * SECONDS, || {
        let route = container.ip("-6 route show default proto ra")?;
        anyhow::ensure!(!route.is_empty());
        Ok(())
    });
    let addresses = container.ip("-6 -o address show dev eth0 scope global").unwrap();
    assert_eq!(addresses, "");
}

/// Its containers have a router already, or none for a reason.
#[test]
fn nothing_is_advertised_on_a_bridge_of_others() {
    let mut cluster = Cluster::without_agents("slaac on a bridge of others", 1, WHOLE);
    cluster.hosts[0].ip_batch(&format!("link add {BRIDGE} type bridge\nlink set {BRIDGE} up")).unwrap();
    cluster.start_agent_with(0, advertising());
    poll("it is reported", 20 * SECONDS, || {
        let problems = problems(&cluster, "h1");
        anyhow::ensure!(
            problems.contains("not-advertised") && problems.contains("another program"),
            "{problems}"
        );
        Ok(())
    });
    let container = cluster.hosts[0].container_without_address("c").unwrap();
    // Nothing comes: a container sends its three solicitations within ten seconds, and each would be answered.
    std::thread::sleep(10 * SECONDS);
    let heard =
        container.ip("-6 route show proto ra").unwrap() + &container.ip("-6 route show default").unwrap();
    assert_eq!(heard, "");
}
