//! Changes of routes by other processes.

use std::time::Duration;

use sextant_tests::{RouteEvent, RouteMonitor, SECONDS, poll};

use crate::cluster::{Cluster, GUIDE, UNREACHABLE_METRIC};

#[test]
fn i9_a_deleted_or_changed_route_is_restored_within_a_second() {
    let cluster = Cluster::start("self-heal", 2, GUIDE);
    let (host, prefix) = (&cluster.hosts[0], cluster.prefix("h2"));
    let pool: sextant_proto::Prefix = GUIDE.prefix.parse().unwrap();
    let hands = [
        (prefix, format!("-6 route del {prefix} proto 66")),
        (prefix, format!("-6 route replace {prefix} via 2001:db8::77 dev eth0 proto 66 metric 512")),
        (pool, format!("-6 route del unreachable {pool} proto 66 metric {UNREACHABLE_METRIC}")),
        (prefix, "-6 route flush proto 66".to_owned()),
    ];
    for (destination, hand) in hands {
        let monitor = RouteMonitor::start(host).unwrap();
        host.ip(&hand).unwrap();
        let done = monitor.events().unwrap().first().map(|event| event.at).unwrap();
        let ours = cluster.expected_routes(0, &[1]);
        let back = monitor
            .wait_for(SECONDS * 5, |event| {
                !event.gone
                    && event.route.destination == destination
                    && ours.contains(&event.route.to_string())
            })
            .unwrap();
        let took = back.after(done);
        assert!(took < SECONDS, "after `ip {hand}` it took {took:?}");
        cluster.expect_routes(0, &[1]);
    }
}

/// Metrics, a source address and an encapsulation say how packets are sent there. Each is taken back in place, without a gap.
#[test]
fn i9_metrics_that_another_process_gives_a_route_are_removed_without_a_gap() {
    let cluster = Cluster::start("metrics", 2, GUIDE);
    let (host, prefix) = (&cluster.hosts[0], cluster.prefix("h2"));
    let monitor = RouteMonitor::start(host).unwrap();
    for more in ["mtu lock 1280", "mtu 1300", "advmss 1000", "hoplimit 9", "src 2001:db8::1"] {
        host.ip(&format!("-6 route change {prefix} via 2001:db8::2 dev eth0 proto 66 metric 512 {more}"))
            .unwrap();
        poll(&format!("{more} is gone"), 2 * SECONDS, || {
            let shown = host.ip(&format!("-6 route show {prefix} proto 66"))?;
            let name = more.split(' ').next().unwrap();
            anyhow::ensure!(shown.contains("via 2001:db8::2") && !shown.contains(name), "{shown}");
            anyhow::Ok(())
        });
    }
    let events = monitor.events().unwrap();
    assert!(events.len() > 5 && events.iter().all(|event| !event.gone), "{events:?}");
    cluster.expect_routes(0, &[1]);
}

#[test]
fn i4_a_foreign_route_for_the_same_destination_is_never_touched() {
    let cluster = Cluster::start("foreign", 2, GUIDE);
    let (host, prefix) = (&cluster.hosts[0], cluster.prefix("h2"));
    // Another metric: it stands beside ours. The same one: a replace by hand destroys ours, and its place is taken.
    host.ip(&format!("-6 route add {prefix} via 2001:db8::2 proto static metric 100")).unwrap();
    host.ip(&format!("-6 route replace {prefix} via 2001:db8::99 dev eth0 proto static metric 512")).unwrap();
    let foreign = || -> Vec<_> {
        let routes = host.foreign_routes().unwrap();
        routes.into_iter().filter(|route| route.starts_with(&prefix.to_string())).collect()
    };
    let before = foreign();
    assert_eq!(before.len(), 2, "{before:?}");
    poll("the lost place is reported", 5 * SECONDS, || {
        let node = cluster.node("h1");
        let failed = &node["applied"]["failed"][0];
        let reported = failed["destination"] == prefix.to_string().as_str()
            && failed["error"].as_str().is_some_and(|error| error.contains("proto static"));
        if reported { Ok(()) } else { Err(node.to_string()) }
    });
    let conflicts = cluster.node("h1")["applied"]["conflicts"].clone();
    assert!(
        conflicts.as_array().unwrap().iter().any(|it| it["metric"] == 100 && it["ours_wins"] == false),
        "{conflicts}"
    );
    assert_eq!(foreign(), before);
    cluster.sextant(&["wait", "--timeout", "5s"]);

    host.ip(&format!("-6 route del {prefix} via 2001:db8::99 dev eth0 proto static metric 512")).unwrap();
    cluster.expect_routes(0, &[1]);
    assert_eq!(foreign().len(), 1);
}

/// A process that deletes the pool's unreachable, or turns it into a blackhole, once a second and past the point at which
/// other routes are damped.
#[test]
fn i11_an_unreachable_that_is_deleted_once_a_second_is_absent_for_less_than_2_percent() {
    const ROUNDS: u32 = 12;
    let mut cluster = Cluster::without_agents("deleter", 1, GUIDE);
    let router = cluster.lab.router().unwrap();
    cluster.hosts[0].default_route_via(router.address()).unwrap();
    cluster.start_agent(0);
    cluster.settle();
    let (host, pool) = (&cluster.hosts[0], GUIDE.prefix);
    let ours = format!("unreachable {pool} proto 66 metric {UNREACHABLE_METRIC}");
    let container = host.container("a").unwrap();
    let unassigned = "2001:db8:80ff:ffff::1".parse().unwrap();
    poll("an unassigned address is refused", 5 * SECONDS, || container.ping(unassigned)?.refused());

    // More often than any route is put back at once.
    let quick = format!("for n in $(seq 40); do ip -6 route del {ours} 2>/dev/null; sleep 0.05; done");
    host.check(&["sh", "-c", &quick]).unwrap();
    poll("the unreachable is back", 5 * SECONDS, || {
        let routes = host.routes_of(66).unwrap();
        if routes.contains(&ours) { Ok(()) } else { Err(routes.join("\n")) }
    });
    let monitor = RouteMonitor::start(host).unwrap();
    let before = router.counters().unwrap();
    let slow = format!(
        "for n in $(seq {}); do ip -6 route del {ours}; sleep 1; \
         ip -6 route replace blackhole {pool} proto 66 metric {UNREACHABLE_METRIC}; sleep 1; done",
        ROUNDS / 2
    );
    let pinging = ["ping", "-6", "-q", "-i", "0.05", "-w", "12", &unassigned.to_string()].join(" ");
    let both =
        format!("nsenter --net={} {pinging} >/dev/null & {slow}; wait || true", container.path().display());
    host.check(&["sh", "-c", &both]).unwrap();
    let events = monitor.events().unwrap();
    let of_it: Vec<_> = events.iter().filter(|event| event.route.destination.to_string() == pool).collect();
    let changed = of_it.iter().filter(|event| is_ours(event, &ours)).count();
    assert!(changed >= ROUNDS as usize, "put back {changed} times: {of_it:#?}");
    let absent = absent(&of_it, &ours);
    assert!(absent < SECONDS * ROUNDS / 50, "absent for {absent:?}: {of_it:#?}");
    let echoes = router.counters().unwrap().since(&before).get("Icmp6InEchos").copied().unwrap_or(0);
    let unrouted = router.counters().unwrap().since(&before).get("Ip6InNoRoutes").copied().unwrap_or(0);
    assert!(echoes + unrouted <= 4, "{echoes} and {unrouted} of 240 packets followed the default route");
    let reported = cluster.node("h1")["applied"]["failed"].to_string();
    assert!(reported.contains("route repeatedly changed by another process"), "{reported}");
}

fn is_ours(event: &RouteEvent, ours: &str) -> bool {
    !event.gone && event.route.to_string() == ours
}

/// How long the route was absent or different.
fn absent(events: &[&RouteEvent], ours: &str) -> Duration {
    let mut since = None;
    let mut absent = Duration::ZERO;
    for event in events {
        match since {
            None if !is_ours(event, ours) => since = Some(event.at),
            Some(began) if is_ours(event, ours) => {
                absent += event.after(began);
                since = None;
            }
            _ => {}
        }
    }
    absent
}
