//! An agent on the router itself: `--role router`.

use std::{net::Ipv6Addr, thread};

use sextant_proto::Prefix;
use sextant_tests::{
    Agent, Host, MILLISECONDS, Namespace, RouteMonitor, SECONDS,
    cluster::{UNREACHABLE_METRIC, sorted, unused_address},
    expect_text, ping_matrix, poll,
};

use crate::site::Site;

/// All three hosts' agents, and the router's.
fn all(test: &str) -> (Site, Agent) {
    let mut site = Site::new(test);
    let router = site.start_router();
    (0..3).for_each(|index| site.start_host(index, &[]));
    site.cluster.settle();
    (site, router)
}

/// What the router should have of protocol 66 with these hosts.
fn expected_in_router(site: &Site, hosts: &[usize]) -> String {
    let via = |&index: &usize| {
        let host = &site.cluster.hosts[index];
        let dev = if index == 2 { "eth1" } else { "eth0" };
        format!("{} via {} dev {dev} proto 66 metric 512", site.cluster.prefix(host.name()), host.address())
    };
    let aggregate = format!("unreachable {} proto 66 metric {UNREACHABLE_METRIC}", site.cluster.pool.prefix);
    sorted(hosts.iter().map(via).chain([aggregate]).collect()).join("\n")
}

fn expect_in_router(site: &Site, hosts: &[usize]) {
    expect_text("the router's routes", 10 * SECONDS, &expected_in_router(site, hosts), || {
        site.router.routes_of(66).map(|routes| sorted(routes).join("\n"))
    });
}

#[test]
fn containers_in_two_segments_reach_each_other_through_the_router() {
    let (site, agent) = all("router role");
    expect_in_router(&site, &[0, 1, 2]);
    let prefix = |name| site.cluster.prefix(name);
    let own = |prefix| format!("unreachable {prefix} proto 66 metric {UNREACHABLE_METRIC}");
    let direct = format!("{} via 2001:db8::2 dev eth0 proto 66 metric 512", prefix("h2"));
    let near = sorted(vec![own(prefix("h1")), direct]).join("\n");
    let routes = |host: &Host| sorted(host.routes_of(66).unwrap()).join("\n");
    assert_eq!(routes(&site.cluster.hosts[0]), near, "on-link directly, the rest left to the router");
    assert_eq!(routes(&site.cluster.hosts[2]), own(prefix("h3")), "nobody is on-link here");
    let containers = site.cluster.containers();
    poll("all reach all", 10 * SECONDS, || {
        let failures = ping_matrix(&containers)?;
        anyhow::ensure!(failures.is_empty(), "{failures}");
        anyhow::Ok(())
    });
    let status = site.cluster.sextant(&["status"]);
    assert!(status.starts_with("All is well: "), "{status}");
    let routers = site.cluster.lab.cli_json(&["status"]).unwrap()["routers"].take();
    assert_eq!(
        (routers.as_array().map(Vec::len), &routers[0]["name"]),
        (Some(1), &"router".into()),
        "{routers:#}"
    );
    assert!(site.router.ip("link show docker0").is_err(), "a router needs no bridge");

    // A stop changes nothing, and a restart writes nothing (DESIGN I7, I8).
    let monitor = RouteMonitor::start(&site.router).unwrap();
    assert!(agent.process.terminate(5 * SECONDS).unwrap().success());
    let _agent = site.start_router();
    site.cluster.sextant(&["wait", "--timeout", "10s"]);
    monitor.quiet_since(0).unwrap();
}

#[test]
fn a_joined_host_is_in_the_router_within_a_second_and_a_drained_one_costs_the_others_nothing() {
    let mut site = Site::new("router: join and drain");
    let router = site.start_router();
    [0, 2].into_iter().for_each(|index| site.start_host(index, &[]));
    site.becomes("h1", "ready");
    site.becomes("h3", "ready");
    let monitor = RouteMonitor::start(&site.router).unwrap();
    site.start_host(1, &[]);
    let announced = site.cluster.agents[2].announced_at(10 * SECONDS).unwrap();
    let added = monitor.added(site.cluster.prefix("h2"), 10 * SECONDS).unwrap();
    let took = added.after(announced);
    eprintln!("in the router {took:?} after the announcement");
    assert!(took < SECONDS, "the router had the route to h2 only {took:?} after its announcement");
    site.cluster.settle();

    let (a, b) =
        (site.cluster.hosts[0].container("a").unwrap(), site.cluster.hosts[2].container("b").unwrap());
    poll("a way through the router", 10 * SECONDS, || a.ping(b.address())?.replied());
    let stream = a.udp_stream(&b, 5 * MILLISECONDS).unwrap();
    // The host takes down what it has only after the router has withdrawn: not while the router's agent is frozen.
    let host = RouteMonitor::start(&site.cluster.hosts[1]).unwrap();
    router.process.freeze().unwrap();
    thread::scope(|scope| {
        let drain = scope.spawn(|| site.cluster.sextant(&["node", "drain", "h2", "--timeout", "20s"]));
        site.becomes("h2", "draining");
        thread::sleep(300 * MILLISECONDS);
        let gone = host.events().unwrap().into_iter().find(|event| event.gone);
        assert!(gone.is_none(), "taken down while the router routes to it: {gone:?}");
        router.process.thaw().unwrap();
        drain.join().unwrap();
    });
    monitor.removed(site.cluster.prefix("h2"), SECONDS).unwrap();
    host.removed(site.cluster.prefix("h1"), SECONDS).unwrap();
    expect_in_router(&site, &[0, 2]);
    stream.flows(20, 10 * SECONDS).unwrap();
    stream.finish().unwrap().nothing_lost().unwrap();
}

#[test]
fn i11_the_router_refuses_a_dead_host_and_has_it_back_when_it_is() {
    let (mut site, _router) = all("router: a dead host");
    let prefix = site.cluster.prefix("h2");
    let outside = site.cluster.lab.host("outside").unwrap();
    outside.default_route_via(site.router.address()).unwrap();
    site.cluster.hosts[1].power_off().unwrap();
    poll("the router refuses h2's prefix", 40 * SECONDS, || {
        let routes = site.router.routes_of(66).unwrap();
        let refused = format!("unreachable {prefix} proto 66 metric 512");
        if routes.contains(&refused) { Ok(()) } else { Err(routes.join("\n")) }
    });
    poll("a host outside gets an error", 10 * SECONDS, || outside.ping(unused_address(prefix))?.refused());
    site.cluster.hosts[1].power_on().unwrap();
    site.cluster.hosts[1].default_route_via(site.router.address()).unwrap();
    site.start_host(1, &[]);
    expect_in_router(&site, &[0, 1, 2]);
}

/// Counts packets to an address that `router` sends and gets on `eth1`.
struct Crossings<'a>(&'a Namespace);

impl<'a> Crossings<'a> {
    fn count(router: &'a Namespace, target: Ipv6Addr) -> Self {
        let rules = format!(
            "table ip6 crossings {{
               counter out {{ }}
               counter back {{ }}
               chain out {{ type filter hook postrouting priority 0; oifname eth1 ip6 daddr {target} counter name out; }}
               chain back {{ type filter hook prerouting priority 0; iifname eth1 ip6 daddr {target} counter name back; }}
             }}"
        );
        router.check(&["nft", &rules]).unwrap();
        Self(router)
    }

    /// How many went out, and how many came back.
    fn seen(&self) -> [u64; 2] {
        ["out", "back"].map(|name| {
            let text = self.0.check(&["nft", "list", "counter", "ip6", "crossings", name]).unwrap();
            let (_, after) = text.split_once("packets ").unwrap();
            after.split_whitespace().next().unwrap().parse().unwrap()
        })
    }
}

#[test]
fn i11_a_packet_from_outside_to_an_unused_address_is_refused_and_crosses_the_link_once() {
    let (site, _router) = all("unused addresses from outside");
    let outside = site.cluster.lab.host("outside").unwrap();
    outside.default_route_via(site.router.address()).unwrap();
    let prefix = site.cluster.prefix("h3");
    // Of the host prefix, and not of what is on the bridge.
    let unused = Ipv6Addr::from_bits(prefix.addr().to_bits() | 1 << 60);
    assert!(prefix.contains(unused));
    // Neighbours are resolved before it counts: while they are, the kernel may answer for them.
    poll("the way to h3", 10 * SECONDS, || outside.ping(site.cluster.hosts[2].address())?.replied());
    let crossings = Crossings::count(&site.router, unused);
    let answer = outside.ping(unused).unwrap();
    assert!(answer.to_string().contains("(from 2001:db8:0:b::3)"), "h3 itself refuses it: {answer}");
    assert_eq!(crossings.seen(), [1, 0], "out to h3, and not back");

    let nobodys: Prefix = site.cluster.pool.prefix.parse().unwrap();
    let nobodys = unused_address(Prefix::containing(nobodys.last_addr(), 64).unwrap());
    let answer = outside.ping(nobodys).unwrap();
    answer.refused().unwrap();
    assert!(answer.to_string().contains("(from 2001:db8::fe:1)"), "the router refuses it: {answer}");
}

#[test]
fn a_router_needs_a_name_of_its_own() {
    let mut site = Site::new("router: names");
    site.start_host(0, &[]);
    site.becomes("h1", "ready");
    let options = crate::site::options(&["--role", "router", "--node", "h1"]);
    let agent = site.cluster.lab.agent(&site.router, options).unwrap();
    agent.process.wait_for_line("give the router a name of its own (--node)", 10 * SECONDS).unwrap();
    assert_eq!(site.cluster.node("h1")["down"], false);
}
