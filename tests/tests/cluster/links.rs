//! Changes of links and addresses.

use std::time::SystemTime;

use sextant_tests::{Host, MILLISECONDS, RouteMonitor, SECONDS, poll};

use crate::cluster::{Cluster, GUIDE, sorted};

/// The first host's routes of protocol 66 are right within a second.
fn right_within_a_second(cluster: &Cluster) {
    let expected = cluster.expected_routes(0, &[0, 1, 2]);
    poll("h1's routes are right again", SECONDS, || {
        let routes = sorted(cluster.hosts[0].routes_of(66).unwrap());
        if routes == expected { Ok(()) } else { Err(format!("{routes:#?}, not {expected:#?}")) }
    });
}

/// Gives the host its address again, which a link that goes down loses.
fn readdress(host: &Host) {
    host.ip(&format!("-6 address replace {}/64 dev eth0 nodad", host.address())).unwrap();
}

#[test]
fn routes_return_after_an_uplink_goes_down_and_up() {
    let cluster = Cluster::start("down and up", 3, GUIDE);
    let host = &cluster.hosts[0];
    let peer = RouteMonitor::start(&cluster.hosts[1]).unwrap();
    host.ip("link set eth0 down").unwrap();
    poll("the kernel has dropped the routes", 5 * SECONDS, || {
        let routes = host.routes_of(66).unwrap();
        if routes.iter().all(|route| route.starts_with("unreachable")) {
            Ok(())
        } else {
            Err(format!("{routes:?}"))
        }
    });
    assert_eq!(host.routes_of(66).unwrap().len(), 2, "what it refused, it goes on refusing");
    host.ip("link set eth0 up").unwrap();
    readdress(host);
    right_within_a_second(&cluster);
    peer.quiet_since(0).unwrap();
}

#[test]
fn an_uplink_that_is_made_anew() {
    let cluster = Cluster::start("created again", 3, GUIDE);
    let host = &cluster.hosts[0];
    let index = |host: &Host| host.ip("-o link show eth0").unwrap().split(':').next().unwrap().to_owned();
    let before = index(host);
    host.ip("link delete eth0").unwrap();
    let (switch, target) = (cluster.lab.switch(), std::ops::Deref::deref(host).name().to_owned());
    switch.ip(&format!("link add anew type veth peer name eth0 index 77 netns {target}")).unwrap();
    switch.ip("link set anew master br0 up").unwrap();
    host.ip("link set eth0 up").unwrap();
    readdress(host);
    assert_ne!(index(host), before);
    right_within_a_second(&cluster);
}

#[test]
fn routes_return_after_an_uplink_is_renamed_and_renamed_back() {
    let cluster = Cluster::start("renamed", 3, GUIDE);
    let host = &cluster.hosts[0];
    host.ip_batch("link set eth0 down\nlink set eth0 name wan0\nlink set wan0 up").unwrap();
    poll("no route through it is left", 5 * SECONDS, || {
        let routes = host.routes_of(66).unwrap();
        if routes.iter().all(|route| route.starts_with("unreachable")) {
            Ok(())
        } else {
            Err(format!("{routes:?}"))
        }
    });
    host.ip_batch("link set wan0 down\nlink set wan0 name eth0\nlink set eth0 up").unwrap();
    readdress(host);
    right_within_a_second(&cluster);
}

#[test]
fn peers_follow_an_uplinks_new_address_within_a_second() {
    let cluster = Cluster::start("re-addressed", 3, GUIDE);
    let (host, prefix) = (&cluster.hosts[0], cluster.prefix("h1"));
    let monitors: Vec<_> = cluster.hosts[1..].iter().map(|peer| RouteMonitor::start(peer).unwrap()).collect();
    host.ip("-6 address add 2001:db8::1:1/64 dev eth0 nodad").unwrap();
    let changed = SystemTime::now();
    host.ip(&format!("-6 address delete {}/64 dev eth0", host.address())).unwrap();
    for monitor in &monitors {
        let follows = monitor.wait_for(10 * SECONDS, |event| {
            !event.gone
                && event.route.destination == prefix
                && event.route.to_string().contains("via 2001:db8::1:1 ")
        });
        let took = follows.unwrap().after(changed);
        assert!(took < 2 * SECONDS, "1 s for the host, 1 s for its peers: it took {took:?}");
        let gone = monitor.events().unwrap().into_iter().filter(|event| event.gone).count();
        assert_eq!(gone, 0, "replaced, never without a route");
    }
}

#[test]
fn a_tentative_address_is_not_announced() {
    let cluster = Cluster::start("tentative", 2, GUIDE);
    let (host, prefix) = (&cluster.hosts[0], cluster.prefix("h1"));
    let monitor = RouteMonitor::start(&cluster.hosts[1]).unwrap();
    host.sysctl("net/ipv6/conf/eth0/accept_dad", "1").unwrap();
    host.sysctl("net/ipv6/conf/eth0/dad_transmits", "2").unwrap();
    host.ip("-6 address add 2001:db8::1:1/64 dev eth0").unwrap();
    host.ip(&format!("-6 address delete {}/64 dev eth0", host.address())).unwrap();
    let usable = poll("the address is no longer tentative", 10 * SECONDS, || {
        let addresses = host.ip("-6 address show dev eth0 scope global").unwrap();
        if addresses.contains("tentative") { Err(addresses) } else { Ok(SystemTime::now()) }
    });
    let follows = monitor.wait_for(10 * SECONDS, |event| event.route.destination == prefix).unwrap();
    assert!(follows.route.to_string().contains("via 2001:db8::1:1 "), "{}", follows.route);
    // The kernel's own word may be a poll's interval older than ours.
    assert!(follows.at + 100 * MILLISECONDS >= usable, "announced while tentative");
}

#[test]
fn unreachable_routes_return_after_loopback_goes_down_and_up() {
    let cluster = Cluster::start("lo", 3, GUIDE);
    let host = &cluster.hosts[0];
    for _ in 0..3 {
        host.ip("link set lo down").unwrap();
        host.ip("link set lo up").unwrap();
    }
    right_within_a_second(&cluster);
}

#[test]
fn a_deleted_bridge_is_created_again() {
    let cluster = Cluster::start("bridge", 2, GUIDE);
    let host = &cluster.hosts[0];
    let before = host.bridge_address().unwrap();
    host.ip("link delete docker0").unwrap();
    poll("the bridge and its address are back", 5 * SECONDS, || {
        let now = host.bridge_address()?;
        anyhow::ensure!(now == before, "{now:?}");
        anyhow::Ok(())
    });
    let (a, b) = (host.container("a").unwrap(), cluster.hosts[1].container("b").unwrap());
    poll("containers reach each other", 5 * SECONDS, || a.ping(b.address())?.replied());
}
