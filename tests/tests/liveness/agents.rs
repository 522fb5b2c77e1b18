//! Dead or isolated agents on hosts that forward.

use sextant_tests::{
    Container, Host, Lab, MILLISECONDS, RouteMonitor, SECONDS, UdpStream,
    cluster::{Cluster, GUIDE},
    poll,
};

use crate::observed::{becomes, reaches, route_to, start_agents, status};

/// Traffic between the first two hosts, and a watch over all routes.
struct Watched {
    stream: UdpStream,
    monitors: Vec<RouteMonitor>,
}

impl Watched {
    fn begin(cluster: &Cluster) -> Self {
        let (from, to) = (settled_container(&cluster.hosts[0]), settled_container(&cluster.hosts[1]));
        reaches(&from, &to);
        let monitors = cluster.hosts.iter().map(|host| RouteMonitor::start(host).unwrap()).collect();
        Self { stream: from.udp_stream(&to, 10 * MILLISECONDS).unwrap(), monitors }
    }

    fn nothing_happened(self) {
        self.stream.flows(100, 10 * SECONDS).unwrap();
        self.monitors.iter().for_each(|monitor| monitor.quiet_since(0).unwrap());
        self.stream.finish().unwrap().nothing_lost().unwrap();
    }
}

/// A container whose port has brought all the routes that it brings.
fn settled_container(host: &Host) -> Container {
    let container = host.container("q").unwrap();
    poll("the container's port is ready", 5 * SECONDS, || {
        let routes = host.routes()?.join("\n");
        anyhow::ensure!(routes.contains("fe80::/64 dev ve1"), "{routes}");
        anyhow::Ok(())
    });
    container
}

#[test]
fn i5_a_host_forwards_without_its_agent() {
    let mut cluster = Cluster::with_short_down_after("only an agent dies", 3, GUIDE);
    start_agents(&mut cluster);
    let watched = Watched::begin(&cluster);
    cluster.agents[1].process.kill().unwrap();
    becomes(&cluster, "h2", "forwarding_without_agent");
    assert!(status(&cluster).contains("1 ready (forwarding without agent)"), "{}", status(&cluster));
    let shown = cluster.sextant(&["node", "show", "h2"]);
    assert!(shown.contains("forwarding without agent, since "), "{shown}");
    // Asked again and again, it goes on answering.
    watched.stream.flows(1500, 60 * SECONDS).unwrap();
    assert_eq!(cluster.node("h2")["liveness"], "forwarding_without_agent");
    cluster.start_agent(1);
    becomes(&cluster, "h2", "up");
    watched.nothing_happened();
}

/// Keeps a host's agent from its controller, or no longer.
fn cut_off(host: &Host, cut: bool) {
    let controller = Lab::controller_address(1);
    let rules = format!(
        "nft add table ip6 cut && nft add chain ip6 cut out '{{ type filter hook output priority 0; }}' && \
         nft add rule ip6 cut out ip6 daddr {controller} tcp dport 7300 drop"
    );
    let command = if cut { rules } else { "nft delete table ip6 cut".to_owned() };
    host.check(&["sh", "-c", &command]).unwrap();
}

#[test]
fn i5_the_only_connected_agent_keeps_every_route() {
    let mut cluster = Cluster::with_short_down_after("all but one cut off", 4, GUIDE);
    start_agents(&mut cluster);
    let watched = Watched::begin(&cluster);
    cluster.hosts[1..].iter().for_each(|host| cut_off(host, true));
    for node in ["h2", "h3", "h4"] {
        becomes(&cluster, node, "forwarding_without_agent");
    }
    watched.stream.flows(300, 20 * SECONDS).unwrap();
    cluster.expect_routes(0, &[1, 2, 3]);
    cluster.hosts[1..].iter().for_each(|host| cut_off(host, false));
    for node in ["h2", "h3", "h4"] {
        becomes(&cluster, node, "up");
    }
    watched.nothing_happened();
}

/// A host that is dead at the same time shows how long a verdict takes.
#[test]
fn i5_hosts_that_filter_echo_or_have_an_empty_bridge_or_are_new_are_not_taken_as_dead() {
    let mut cluster = Cluster::with_short_down_after("not dead", 4, GUIDE);
    start_agents(&mut cluster);
    let filter = "nft add table ip6 deaf && nft add chain ip6 deaf in '{ type filter hook input priority 0; }' && \
                  nft add rule ip6 deaf in icmpv6 type echo-request drop";
    cluster.hosts[1].check(&["sh", "-c", filter]).unwrap();
    assert!(cluster.hosts[0].ping(cluster.hosts[1].address()).unwrap().replied().is_err(), "it filters echo");
    // h3's bridge is empty: no container was ever started there. h4 is dead.
    cluster.agents[1..].iter().for_each(|agent| agent.process.kill().unwrap());
    cluster.hosts[3].isolate().unwrap();
    becomes(&cluster, "h2", "forwarding_without_agent");
    becomes(&cluster, "h3", "forwarding_without_agent");
    // It joins when nobody but h1 has an agent, and has met nobody.
    cluster.hosts.push(cluster.lab.host("h5").unwrap());
    cluster.agents.truncate(1);
    cluster.start_agent(4);
    cluster.agents[1].announced_at(20 * SECONDS).unwrap();
    becomes(&cluster, "h4", "dead");
    for observer in [0, 4] {
        let host = &cluster.hosts[observer];
        poll("the new host too finds h4 dead", crate::observed::VERDICT, || {
            let route = route_to(&cluster, host, "h4");
            if route.starts_with("unreachable") { Ok(()) } else { Err(route) }
        });
        for node in ["h2", "h3"] {
            let route = route_to(&cluster, host, node);
            assert!(route.contains(" via "), "{} to {node}: {route}", host.name());
        }
    }
    for node in ["h2", "h3"] {
        assert_eq!(cluster.node(node)["liveness"], "forwarding_without_agent");
    }
}
