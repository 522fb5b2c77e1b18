//! What others do to the routes.

use sextant_tests::{RouteMonitor, SECONDS, poll};

use crate::cluster::{Cluster, GUIDE, UNREACHABLE_METRIC};

#[test]
fn i9_a_route_that_is_deleted_or_changed_is_back_within_a_second() {
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
        let took = back.at.duration_since(done).unwrap_or_default();
        assert!(took < SECONDS, "after `ip {hand}` it took {took:?}");
        cluster.expect_routes(0, &[1]);
    }
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
        let told = failed["destination"] == prefix.to_string().as_str()
            && failed["error"].as_str().is_some_and(|error| error.contains("proto static"));
        if told { Ok(()) } else { Err(node.to_string()) }
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
