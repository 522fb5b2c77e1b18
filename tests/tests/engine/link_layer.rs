//! Uplinks whose MAC address changes, as at a failover of virtual machines: peers hear of it at once.

use sextant_tests::{AgentOptions, Host, MILLISECONDS, SECONDS, UdpStream, poll};

use crate::{
    kept::{expect_status, value},
    testbed::Testbed,
};

fn expect_mac(host: &Host, interface: &str, mac: &str) {
    let shown = host.ip(&format!("-o link show dev {interface}")).unwrap();
    assert!(shown.contains(mac), "{shown}");
}

/// The datagrams go on within a second.
fn goes_on(stream: UdpStream) {
    stream.flows(20, 20 * SECONDS).unwrap();
    let report = stream.finish().unwrap();
    assert!(report.longest_outage() < SECONDS, "{report}");
}

#[test]
fn peers_use_an_uplinks_new_mac_address_within_a_second() {
    let testbed = Testbed::start("new mac", 3);
    let host = testbed.host();
    let far = host.container("far").unwrap();
    let near = [1, 2].map(|peer: usize| testbed.cluster.hosts[peer].container("near").unwrap());
    let streams = near.each_ref().map(|near| {
        poll("the path between them", 10 * SECONDS, || near.ping(far.address())?.replied());
        let stream = near.udp_stream(&far, 5 * MILLISECONDS).unwrap();
        stream.flows(20, 10 * SECONDS).unwrap();
        stream
    });
    host.ip("link set eth0 address 02:00:00:00:aa:01").unwrap();
    streams.into_iter().for_each(goes_on);
    expect_mac(host, "eth0", "02:00:00:00:aa:01");
    // One that changes while the link is down: as soon as the host may use its addresses. Real hosts detect duplicates before that,
    // which takes longer than a switch needs to use the port.
    for name in ["accept_dad", "dad_transmits"] {
        host.sysctl(&format!("net/ipv6/conf/eth0/{name}"), "1").unwrap();
    }
    let again = format!(
        "link set eth0 down
         link set eth0 address 02:00:00:00:aa:02
         link set eth0 up
         address replace {}/64 dev eth0",
        host.address()
    );
    host.ip_batch(&again).unwrap();
    poll("the kernel has detected no duplicate", 10 * SECONDS, || {
        let shown = host.ip("-6 -o address show dev eth0")?;
        let both = shown.contains("inet6 2001:db8::") && shown.contains("inet6 fe80::");
        anyhow::ensure!(both && !shown.contains("tentative"), "{shown}");
        Ok(())
    });
    // The kernel solicits this host's neighbours from its link-local address, once in a second while there is no answer. Without an
    // announcement, they would use the former MAC address for 8 s: until they doubt it, 5 s, and have asked it three times.
    for near in &near {
        poll("peers use it", 3 * SECONDS, || near.ping(far.address())?.replied());
    }
}

/// A bridge takes the MAC address of its only port of hardware, so it changes with it.
#[test]
fn peers_use_the_new_mac_address_of_an_uplink_that_is_a_bridge() {
    let mut testbed = Testbed::start("new mac of a bridge", 2);
    let host = testbed.host().clone();
    testbed.cluster.agents.remove(0).process.terminate(10 * SECONDS).unwrap();
    let address = host.address();
    host.ip_batch(&format!(
        "link add uplink0 type bridge
         link set eth0 master uplink0
         address del {address}/64 dev eth0
         address add {address}/64 dev uplink0 nodad
         link set uplink0 up"
    ))
    .unwrap();
    let options = AgentOptions { uplink: "uplink0".to_owned(), ..AgentOptions::default() };
    testbed.cluster.agents.insert(0, testbed.cluster.lab.agent(&host, options).unwrap());
    testbed.cluster.settle();
    let stream = testbed.stream(1, 0);
    host.ip("link set eth0 address 02:00:00:00:aa:03").unwrap();
    goes_on(stream);
    expect_mac(&host, "uplink0", "02:00:00:00:aa:03");
}

#[test]
fn i13_the_announcement_of_a_new_mac_address_is_restored_and_reported() {
    let testbed = Testbed::start("kept announcement", 2);
    let host = testbed.host();
    let is_on = || {
        poll("ndisc_notify of the uplink is 1", 5 * SECONDS, || {
            let now = value(host, "eth0/ndisc_notify")?;
            anyhow::ensure!(now == "1", "{now}");
            Ok(())
        });
    };
    is_on();
    assert_eq!(value(host, "docker0/ndisc_notify").unwrap(), "0", "only uplinks");
    host.sysctl("net/ipv6/conf/eth0/ndisc_notify", "0").unwrap();
    is_on();
    expect_status(&testbed.cluster, "another process changed sysctl net.ipv6.conf.eth0.ndisc_notify: 0");
    let stream = testbed.stream(1, 0);
    host.ip("link set eth0 address 02:00:00:00:aa:04").unwrap();
    goes_on(stream);
}
