//! Router advertisements of routers, which the host keeps, and of containers, which it ignores.

use std::{
    net::{Ipv6Addr, SocketAddrV6},
    ops::Deref,
};

use sextant_tests::{
    Host, SECONDS,
    cluster::{Cluster, GUIDE},
    poll,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::kept::{expect_status, value};

/// A router advertisement (RFC 4861 §4.2): a default router, and a prefix for addresses.
fn advertisement(prefix: Ipv6Addr) -> Vec<u8> {
    let mut bytes = vec![134, 0, 0, 0, 64, 0];
    bytes.extend(1800u16.to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend([3, 4, 64, 0xc0]);
    bytes.extend(86_400u32.to_be_bytes());
    bytes.extend(14_400u32.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(prefix.octets());
    bytes
}

/// Sends one from `interface`.
fn advertise(from: &Host, interface: &str, prefix: &str) -> anyhow::Result<()> {
    let bytes = advertisement(prefix.parse()?);
    let link = from.ip(&format!("-o link show {interface}"))?;
    let index: u32 = link.split(':').next().unwrap_or_default().parse()?;
    from.enter(|| {
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
        socket.set_multicast_hops_v6(255)?;
        socket.set_multicast_if_v6(index)?;
        let all_nodes = SocketAddrV6::new("ff02::1".parse()?, 0, 0, index);
        socket.send_to(&bytes, &SockAddr::from(all_nodes))?;
        anyhow::Ok(())
    })?
}

/// Connects `bridge` of the host, or the host itself by a link of that name, with an interface of the other one.
fn connect(host: &Host, other: &Host, link: &str, interface: &str, bridge: Option<&str>) {
    let target = other.deref().name();
    host.ip(&format!("link add {link} type veth peer name {interface} netns {target}")).unwrap();
    let controller = bridge.map_or_else(String::new, |bridge| format!("master {bridge}"));
    host.ip(&format!("link set {link} {controller} up")).unwrap();
    other.ip(&format!("link set {interface} up")).unwrap();
}

fn learned(host: &Host) -> String {
    let routes = host.ip("-6 route show proto ra").unwrap();
    routes + &host.ip("-6 -o address show scope global dynamic").unwrap()
}

/// Advertises until the host has received some more.
fn advertise_in_vain(host: &Host, from: &Host, interface: &str) {
    let received = || host.counters().map(|counters| counters.of("Icmp6InRouterAdvertisements"));
    let before = received().unwrap();
    poll(&format!("advertisements of {interface} arrive"), 10 * SECONDS, || {
        advertise(from, interface, "2001:db8:bad::")?;
        let now = received()?;
        anyhow::ensure!(now >= before + 3, "{now}, before {before}");
        anyhow::Ok(())
    });
}

fn expect_values(host: &Host, expected: &[(&str, &str)]) {
    for (link, expected) in expected {
        poll(&format!("accept_ra of {link} is {expected}"), 10 * SECONDS, || {
            let now = value(host, &format!("{link}/accept_ra"))?;
            anyhow::ensure!(now == *expected, "{now}");
            anyhow::Ok(())
        });
    }
}

#[test]
fn a_containers_router_advertisement_gives_the_host_nothing_whatever_the_default_is() {
    let mut cluster = Cluster::without_agents("container RAs", 2, GUIDE);
    let (host, other) = (cluster.hosts[0].clone(), cluster.hosts[1].clone());
    host.sysctl("net/ipv6/conf/default/accept_ra", "2").unwrap();
    host.ip("link add br-x type bridge").unwrap();
    host.ip("link set br-x up").unwrap();
    connect(&host, &other, "vx", "x0", Some("br-x"));
    cluster.start_agent(0);
    cluster.settle();
    // A bridge that comes after the agent's start, and a port of the agent's own one.
    host.ip("link add br-y type bridge").unwrap();
    host.ip("link set br-y up").unwrap();
    connect(&host, &other, "vy", "y0", Some("br-y"));
    connect(&host, &other, "vd", "d0", Some("docker0"));
    expect_values(
        &host,
        &[("docker0", "0"), ("br-x", "0"), ("br-y", "0"), ("vx", "0"), ("vy", "0"), ("vd", "0")],
    );
    for interface in ["x0", "y0", "d0"] {
        advertise_in_vain(&host, &other, interface);
    }
    assert_eq!(learned(&host), "");
    // What was set by hand is restored.
    host.sysctl("net/ipv6/conf/br-y/accept_ra", "2").unwrap();
    expect_values(&host, &[("br-y", "0")]);
    expect_status(&cluster, "another process changed sysctl net.ipv6.conf.br-y.accept_ra: 2");
}

/// An advertisement of a router is kept on any link, also on one that is no uplink. The fix for what a container has advertised
/// before the agent's start is carried out.
#[test]
fn what_a_router_advertised_stays_and_what_a_container_advertised_is_reported() {
    let mut cluster = Cluster::without_agents("learned", 2, GUIDE);
    let (host, other) = (cluster.hosts[0].clone(), cluster.hosts[1].clone());
    host.ip("link add br-x type bridge").unwrap();
    host.ip("link set br-x up").unwrap();
    connect(&host, &other, "vx", "x0", Some("br-x"));
    connect(&host, &other, "eth1", "r1", None);
    connect(&host, &other, "eth2", "r2", None);
    // The host forwards already: the kernel drops no default route when the agent starts.
    host.sysctl("net/ipv6/conf/all/forwarding", "1").unwrap();
    for (link, accept_ra) in [("br-x", "2"), ("eth1", "2"), ("eth2", "1")] {
        host.sysctl(&format!("net/ipv6/conf/{link}/accept_ra"), accept_ra).unwrap();
    }
    poll("the host has learned from both", 20 * SECONDS, || {
        advertise(&other, "x0", "2001:db8:bad::")?;
        advertise(&other, "r1", "2001:db8:900d::")?;
        let learned = learned(&host);
        let both = ["dev br-x", "dev eth1", "2001:db8:bad:", "2001:db8:900d:"];
        anyhow::ensure!(both.iter().all(|it| learned.contains(it)), "{learned}");
        anyhow::Ok(())
    });
    host.sysctl("net/ipv6/conf/eth1/accept_ra", "1").unwrap();
    cluster.start_agent(0);
    cluster.settle();
    expect_values(&host, &[("br-x", "0"), ("eth1", "2"), ("eth2", "1")]);
    let text = expect_status(&cluster, "a router advertisement on bridge br-x");
    assert!(!text.contains("eth1"), "{text}");
    let fix = text.split_once("to end it now: ").unwrap().1.split(" (since").next().unwrap();
    assert_eq!(fix.split("; ").count(), 2, "{fix}");
    host.check(&["sh", "-c", fix]).unwrap();
    poll("status is well again", 20 * SECONDS, || {
        let text = cluster.sextant(&["status"]);
        if text.starts_with("All is well") { Ok(()) } else { Err(text) }
    });
    let left = learned(&host);
    assert!(left.contains("default") && left.contains("dev eth1") && !left.contains("br-x"), "{left}");
}
