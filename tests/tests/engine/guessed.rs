//! Which link is the uplink where no setting says it, and uplinks that lead to no peer.

use sextant_tests::{
    AgentOptions, Host, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};

/// Two hosts on the switch, each with a NAT link of its own, `eth9`, which has the default route and these addresses: as the
/// virtual machines of VirtualBox have it.
fn behind_nat(test: &str, addresses: [&str; 2]) -> Cluster {
    let cluster = Cluster::without_agents(test, 2, GUIDE);
    for (host, address) in cluster.hosts.iter().zip(addresses) {
        host.ip_batch(&format!(
            "link add eth9 type veth peer name nat
             link set nat up
             address add fe80::2/64 dev nat nodad
             link set eth9 up
             address add {address}/64 dev eth9 nodad
             route add default via fe80::2 dev eth9 proto static"
        ))
        .unwrap();
    }
    cluster
}

fn start(cluster: &mut Cluster, uplink: &str) {
    for index in 0..2 {
        cluster.start_agent_with(index, AgentOptions { uplink: uplink.into(), ..AgentOptions::default() });
    }
    cluster.settle();
}

fn status_says(cluster: &Cluster, words: &[&str]) {
    poll(&format!("status says {words:?}"), 40 * SECONDS, || {
        let status = cluster.sextant(&["status"]);
        anyhow::ensure!(words.iter().all(|word| status.contains(word)), "{status}");
        anyhow::Ok(())
    });
}

const SAME: [&str; 2] = ["fd17:625c:f037:2::15", "fd17:625c:f037:2::15"];
const ISOLATED: [&str; 2] = ["fd17:625c:f037:2::15", "fd17:625c:f037:2::16"];

#[test]
fn the_link_to_the_controller_is_the_uplink_and_not_that_of_the_default_route() {
    let mut cluster = behind_nat("guessed uplink", SAME);
    start(&mut cluster, "");
    cluster.expect_full_mesh();
    let (near, far) = (cluster.hosts[0].container("a").unwrap(), cluster.hosts[1].container("b").unwrap());
    poll("the path between them", 10 * SECONDS, || near.ping(far.address())?.replied());
}

/// The interface gets another name, then the way to the controller another link.
#[test]
fn the_uplink_is_guessed_again_when_the_host_changes() {
    let mut cluster = behind_nat("guessed again", ISOLATED);
    start(&mut cluster, "");
    let host = &cluster.hosts[0];
    let leads = |device: &str| {
        let expected = format!("{} via 2001:db8::2 dev {device} proto 66 metric 512", cluster.prefix("h2"));
        poll(&expected, 20 * SECONDS, || {
            let routes = host.routes_of(66)?;
            anyhow::ensure!(routes.contains(&expected), "{routes:#?}");
            anyhow::Ok(())
        });
    };
    leads("eth0");
    rename(host, "eth0", "lan.5");
    leads("lan.5");
    let switch = cluster.lab.switch();
    switch
        .ip(&format!("link add q1 type veth peer name lan6 netns {}", std::ops::Deref::deref(host).name()))
        .unwrap();
    switch.ip("link set q1 master br0 up").unwrap();
    host.ip("link set lan.5 down").unwrap();
    host.ip_batch("link set lan6 up\naddress add 2001:db8::1/64 dev lan6 nodad").unwrap();
    leads("lan6");
    cluster.settle();
}

fn rename(host: &Host, from: &str, to: &str) {
    host.ip_batch(&format!(
        "link set {from} down\nlink set {from} name {to}\nlink set {to} up\naddress add 2001:db8::1/64 dev {to} nodad"
    ))
    .unwrap();
}

#[test]
fn an_address_that_two_nodes_have_is_reported() {
    let mut cluster = behind_nat("shared next hop", SAME);
    start(&mut cluster, "eth9");
    status_says(&cluster, &["on uplink eth9, as their next hop: h2 (fd17:625c:f037:2::15)", "--uplink"]);
}

#[test]
fn an_uplink_that_no_peer_is_behind_is_reported() {
    let mut cluster = behind_nat("silent uplink", ISOLATED);
    start(&mut cluster, "eth9");
    status_says(&cluster, &["no peer answers", "uplink eth9,", "--uplink", "ICMPv6"]);
    // The second uplink leads to the peers; only the first one is reported.
    let mut cluster = behind_nat("one silent uplink", ISOLATED);
    start(&mut cluster, "eth9,eth0");
    status_says(&cluster, &["no peer answers", "uplink eth9,"]);
    let status = cluster.sextant(&["status"]);
    assert!(!status.contains("uplink eth0,"), "{status}");
}
