//! Every container reaches every other one, with exactly the designed routes.

use sextant_tests::{SECONDS, difference, expect_text, ping_matrix, poll, tcp_matrix};

use crate::cluster::{Cluster, GUIDE, unused_address};

#[test]
fn every_container_reaches_every_other() {
    let mut cluster = Cluster::without_agents("every container", 3, GUIDE);
    let before: Vec<_> = cluster.hosts.iter().map(|host| host.foreign_routes().unwrap()).collect();
    (0..3).for_each(|index| cluster.start_agent(index));
    cluster.settle();
    cluster.expect_full_mesh();
    for (host, before) in cluster.hosts.iter().zip(&before) {
        // The bridge is the agent's doing, and the kernel gives it its on-link routes; the link-local one once it has
        // carrier.
        let (address, len) = host.bridge_address().unwrap();
        let bridge = sextant_proto::Prefix::containing(address, len).unwrap();
        let expected = format!("+ {bridge} dev docker0 proto kernel metric 256");
        expect_text("every other route is as it was", 5 * SECONDS, &expected, || {
            let after = host
                .foreign_routes()?
                .into_iter()
                .filter(|route| !route.starts_with("fe80::/64 dev docker0"));
            anyhow::Ok(difference(before, &after.collect::<Vec<_>>()))
        });
    }
    let containers = cluster.containers();
    expect_text("all pings answered", 5 * SECONDS, "", || ping_matrix(&containers));
    expect_text("all connections made", 5 * SECONDS, "", || tcp_matrix(&containers));
}

#[test]
fn i11_packets_to_an_unused_address_are_refused_and_never_follow_the_default_route() {
    let mut cluster = Cluster::without_agents("unused address", 2, GUIDE);
    let router = cluster.lab.router().unwrap();
    for host in &cluster.hosts {
        host.default_route_via(router.address()).unwrap();
    }
    (0..2).for_each(|index| cluster.start_agent(index));
    cluster.settle();
    let container = cluster.hosts[0].container("a").unwrap();
    let nobodys = "2001:db8:80ff:ffff::1".parse().unwrap();
    assert!(!cluster.hosts.iter().any(|host| cluster.prefix(host.name()).contains(nobodys)));
    let in_own = unused_address(cluster.prefix("h1").nth(80, 7).unwrap());
    let in_peers = unused_address(cluster.prefix("h2").nth(80, 7).unwrap());
    let forwarded = router.counters().unwrap();
    for target in [nobodys, in_own, in_peers] {
        poll(&format!("{target} is refused"), 2 * SECONDS, || container.ping(target)?.refused());
    }
    let leaked = router.counters().unwrap().since(&forwarded).get("Ip6InReceives").copied().unwrap_or(0);
    // Neighbour discovery with the router is no leak; echo requests would be.
    let echoes = router.counters().unwrap().since(&forwarded).get("Icmp6InEchos").copied().unwrap_or(0);
    let refused_there =
        router.counters().unwrap().since(&forwarded).get("Ip6InNoRoutes").copied().unwrap_or(0);
    assert_eq!((echoes, refused_there), (0, 0), "{leaked} packets came to the router");
}

#[test]
fn a_host_keeps_its_router_when_forwarding_is_enabled() {
    let cluster = Cluster::start("accept_ra", 1, GUIDE);
    let value =
        |key: &str| cluster.hosts[0].check(&["cat", &format!("/proc/sys/{key}")]).unwrap().trim().to_owned();
    assert_eq!(value("net/ipv6/conf/all/forwarding"), "1");
    assert_eq!(value("net/ipv6/conf/eth0/accept_ra"), "2");
    assert_eq!(value("net/ipv6/conf/docker0/accept_ra"), "0", "a container must not give the host a router");
}

#[test]
fn the_bridges_mac_address_does_not_change_as_containers_are_added() {
    let cluster = Cluster::start("bridge mac", 1, GUIDE);
    let host = &cluster.hosts[0];
    let mac = || {
        let link = host.ip("-o link show docker0").unwrap();
        link.split_once("link/ether ").and_then(|(_, rest)| rest.split(' ').next()).unwrap().to_owned()
    };
    let before = mac();
    for name in ["a", "b", "c", "d", "e", "f"] {
        host.container(name).unwrap();
        assert_eq!(
            mac(),
            before,
            "after container {name}: the others have the old one in their neighbour tables"
        );
    }
}
