//! Routes of other processes that lead packets to neighbours elsewhere, or do not: each is named, or does no harm.

use sextant_tests::{
    SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

/// Waits until `sextant status` has these words.
fn status_has(cluster: &Cluster, words: &str) {
    poll(&format!("status has {words:?}"), 10 * SECONDS, || {
        let status = cluster.sextant(&["status"]);
        anyhow::ensure!(status.contains(words), "{status}");
        Ok(())
    });
}

fn all_is_well(cluster: &Cluster) {
    status_has(cluster, "All is well");
}

#[test]
fn a_route_that_takes_packets_to_a_next_hop_is_named_with_its_peer() {
    let cluster = Cluster::start("next hop taken", 2, GUIDE);
    let host = &cluster.hosts[0];
    for route in ["blackhole 2001:db8::2/128", "prohibit 2001:db8::/126", "2001:db8::2/127 dev lo"] {
        host.ip(&format!("-6 route add {route} proto static")).unwrap();
        let destination = route.split(' ').find(|word| word.contains('/')).unwrap();
        let next_hop = "next hop 2001:db8::2 of node h2 is on the link of this host";
        status_has(&cluster, &format!("{next_hop}, but a route of another process to {destination}"));
        let shown = host.ip("-6 route show table all to match 2001:db8::2").unwrap();
        assert!(
            shown.contains(destination.trim_end_matches("/128")),
            "the command of the fix shows it: {shown}"
        );
        host.ip(&format!("-6 route del {route}")).unwrap();
        all_is_well(&cluster);
    }
    cluster.expect_full_mesh();
}

/// A table for all packets, but for those that it throws to the next one: as the routing policy of a VPN.
#[test]
fn packets_that_an_earlier_table_throws_take_our_routes() {
    let cluster = Cluster::start("throw", 2, GUIDE);
    let host = &cluster.hosts[0];
    let (near, far) = (host.container("a").unwrap(), cluster.hosts[1].container("b").unwrap());
    let pool = GUIDE.prefix;
    host.ip("-6 rule add pref 100 lookup 100").unwrap();
    host.ip_batch(&format!(
        "route add throw 2001:db8::/64 table 100 proto static
         route add throw {pool} table 100 proto static
         route add default via 2001:db8::fe dev eth0 table 100 proto static"
    ))
    .unwrap();
    poll("the peer's container answers", 10 * SECONDS, || near.ping(far.address())?.replied());
    cluster.expect_full_mesh();
    all_is_well(&cluster);
    host.ip(&format!("-6 route del throw {pool} table 100")).unwrap();
    status_has(&cluster, "conflict with ::/0 proto static");
    host.ip(&format!("-6 route add throw {pool} table 100 proto static")).unwrap();
    all_is_well(&cluster);
}

#[test]
fn a_route_to_the_link_whose_next_hops_the_kernel_hides_is_named() {
    let cluster = Cluster::start("nexthop objects", 2, GUIDE);
    let host = &cluster.hosts[0];
    let by_object = || {
        host.ip_batch("route del 2001:db8::/64\nroute add 2001:db8::/64 nhid 5 proto static").unwrap();
    };
    host.ip("-6 nexthop add id 5 dev eth0").unwrap();
    by_object();
    cluster.expect_full_mesh();
    all_is_well(&cluster);
    host.sysctl("net/ipv4/nexthop_compat_mode", "0").unwrap();
    by_object();
    status_has(&cluster, "the route to 2001:db8::/64 has a nexthop object");
    // The fix, word for word.
    host.sysctl("net/ipv4/nexthop_compat_mode", "1").unwrap();
    by_object();
    all_is_well(&cluster);
    cluster.expect_full_mesh();
}
