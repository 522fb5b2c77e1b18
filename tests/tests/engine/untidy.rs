//! Hosts that are set up in ways that nobody had in mind: each is named with its fix, and the fix works as it is written.

use anyhow::ensure;
use sextant_tests::{
    AgentOptions, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

/// Each host that forwards has the subnet-router anycast address of its links, and answers for it: a peer would send packets to
/// itself, or to any other host.
#[test]
fn the_address_of_all_routers_of_a_link_is_no_next_hop() {
    let mut cluster = Cluster::without_agents("anycast", 2, GUIDE);
    let host = cluster.hosts[0].clone();
    host.ip_batch("address del 2001:db8::1/64 dev eth0\naddress add 2001:db8::/64 dev eth0 nodad").unwrap();
    cluster.start_agent(0);
    cluster.start_agent(1);
    poll("it is reported", 20 * SECONDS, || {
        let status = cluster.sextant(&["status"]);
        let words =
            ["node h1: uplink eth0 has no usable IPv6 address", "2001:db8::/64 is the subnet-router anycast"];
        ensure!(words.iter().all(|word| status.contains(word)), "{status}");
        anyhow::Ok(())
    });
    let routes = cluster.hosts[1].routes_of(66).unwrap();
    assert!(!routes.iter().any(|route| route.contains("via 2001:db8:: ")), "{routes:#?}");
    host.ip("address add 2001:db8::1/64 dev eth0 nodad").unwrap();
    cluster.settle();
    cluster.expect_full_mesh();
    let (near, far) = (host.container("a").unwrap(), cluster.hosts[1].container("b").unwrap());
    poll("the path between them", 10 * SECONDS, || near.ping(far.address())?.replied());
}

/// As in a container without privileges.
#[test]
fn sysctls_that_the_agent_cannot_write_are_named_with_the_values_to_set() {
    let mut cluster = Cluster::without_agents("read-only sysctls", 2, GUIDE);
    let read_only = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec \"$@\"";
    let under = ["unshare", "--mount", "sh", "-ec", read_only, "sh"].map(str::to_owned).to_vec();
    cluster.start_agent_with(0, AgentOptions { under, ..AgentOptions::default() });
    cluster.start_agent(1);
    let mut followed = Vec::new();
    poll("the host is ready once all advice is followed", 40 * SECONDS, || {
        let status = cluster.sextant(&["status"]);
        let advice = status.split("set it in the agent's network namespace: sysctl -w ").nth(1);
        if let Some(setting) = advice.and_then(|rest| rest.split_whitespace().next()) {
            cluster.hosts[0].check(&["sysctl", "-w", setting])?;
            followed.push(setting.to_owned());
        }
        let node = cluster.node("h1");
        ensure!(node["state"] == "ready", "{followed:?}\n{status}");
        anyhow::Ok(())
    });
    assert!(followed.iter().any(|it| it == "net/ipv6/conf/docker0/accept_ra=0"), "{followed:?}");
    assert!(followed.iter().any(|it| it == "net/ipv6/conf/all/forwarding=1"), "{followed:?}");
    cluster.expect_full_mesh();
}
