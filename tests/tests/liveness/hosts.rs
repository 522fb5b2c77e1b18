//! Hosts that die and return.

use std::time::Instant;

use sextant_tests::{Container, Counters, Host, PingOutcome, RouteMonitor, SECONDS, cluster::Cluster, poll};

use crate::observed::{VERDICT, becomes, cluster_with_router, reaches, route_to, status};

/// Waits until h2's prefix is refused by an unreachable route on h1, and sees that a container gets to know.
fn is_refused(cluster: &Cluster, from: &Container, to: &Container) {
    let started = Instant::now();
    poll("h1 refuses h2's prefix", VERDICT, || {
        let route = route_to(cluster, &cluster.hosts[0], "h2");
        if route.starts_with("unreachable") { Ok(()) } else { Err(route) }
    });
    eprintln!("the route is unreachable after {:?}", started.elapsed());
    let target = to.address();
    poll("h1 answers a container with an error", 5 * SECONDS, || match from.ping(target)? {
        PingOutcome::Unreachable(why) if why.starts_with("No route") => Ok(()),
        other => anyhow::bail!("{other}"),
    });
    becomes(cluster, "h2", "dead");
    assert!(status(cluster).contains("1 ready (dead)"), "{}", status(cluster));
    let route = &cluster.lab.cli_json(&["route", "list", "--node", "h1"]).unwrap();
    let to_h2 = route.as_array().unwrap().iter().find(|route| route["why"] == "peer h2 (dead)");
    assert_eq!(to_h2.map(|route| &route["target"]), Some(&"unreachable".into()), "{route}");
}

/// Nothing went to the default route.
fn nothing_leaked(router: &Host, before: &Counters) {
    let now = router.counters().unwrap();
    let grown = now.since(before);
    let of = |name| grown.get(name).copied().unwrap_or(0);
    let leaked = ["Ip6InNoRoutes", "Ip6OutForwDatagrams", "Ip6OutNoRoutes", "Icmp6InEchos"].map(of);
    assert_eq!(leaked, [0; 4], "{grown:?}");
}

/// Waits for the direct route on h1; it must be there within a second of the announcement.
fn comes_back(cluster: &Cluster, monitor: &RouteMonitor, announced: std::time::SystemTime) {
    let prefix = cluster.prefix("h2");
    let back = monitor
        .wait_for(20 * SECONDS, |event| {
            !event.gone && event.route.destination == prefix && event.route.to_string().contains(" via ")
        })
        .unwrap();
    // A host that answers before its agent is heard has its route back already.
    let took = back.at.duration_since(announced).unwrap_or_default();
    eprintln!("the direct route is back {took:?} after the announcement");
    assert!(took < SECONDS, "the direct route came {took:?} after the announcement");
    becomes(cluster, "h2", "up");
}

#[test]
fn i11_packets_to_an_isolated_host_are_refused_and_its_route_returns_within_a_second() {
    let (cluster, router) = cluster_with_router("a host is cut off", 3);
    let (from, to) = (cluster.hosts[0].container("a").unwrap(), cluster.hosts[1].container("b").unwrap());
    reaches(&from, &to);
    let (before, monitor) = (router.counters().unwrap(), RouteMonitor::start(&cluster.hosts[0]).unwrap());
    let cut = Instant::now();
    cluster.hosts[1].isolate().unwrap();
    is_refused(&cluster, &from, &to);
    eprintln!("refused and shown as dead {:?} after the cut", cut.elapsed());
    nothing_leaked(&router, &before);
    // h2 itself, isolated, has heard of nobody's end.
    assert!(route_to(&cluster, &cluster.hosts[1], "h1").contains(" via "));

    let mark = cluster.agents[1].process.log_len();
    cluster.hosts[1].reconnect().unwrap();
    let line =
        cluster.agents[1].process.wait_for_line_after(mark, "\"host announced\"", 30 * SECONDS).unwrap();
    comes_back(&cluster, &monitor, line.seen);
    reaches(&from, &to);
    nothing_leaked(&router, &before);
}

#[test]
fn i11_packets_to_a_host_without_power_are_refused_and_its_route_returns_within_a_second() {
    let (mut cluster, router) = cluster_with_router("a host is off", 3);
    let (from, to) = (cluster.hosts[0].container("a").unwrap(), cluster.hosts[1].container("b").unwrap());
    reaches(&from, &to);
    let (before, monitor) = (router.counters().unwrap(), RouteMonitor::start(&cluster.hosts[0]).unwrap());
    cluster.hosts[1].power_off().unwrap();
    is_refused(&cluster, &from, &to);
    nothing_leaked(&router, &before);

    cluster.hosts[1].power_on().unwrap();
    cluster.agents.remove(1);
    cluster.start_agent(1);
    let announced = cluster.agents[2].announced_at(20 * SECONDS).unwrap();
    comes_back(&cluster, &monitor, announced);
    let to = cluster.hosts[1].container("b").unwrap();
    reaches(&from, &to);
    cluster.expect_full_mesh();
}
