//! Containers send no packet that the uplinks do not carry.

use sextant_tests::{SECONDS, expect_text, poll};

use crate::bed::Bed;

/// The MTU of an interface, by `ip link`.
fn mtu(link: &str) -> String {
    link.split("mtu ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default().to_owned()
}

fn of_container(bed: &Bed, index: usize, name: &str) -> String {
    bed.engines[index].run(&["exec", name, "ip", "link", "show", "eth0"]).map(|link| mtu(&link)).unwrap()
}

/// The bridge of a host has the MTU, and the network, so that a new container gets it. Starts one.
fn follows(bed: &Bed, index: usize, name: &str, expected: &str) -> String {
    let host = &bed.cluster.hosts[index];
    expect_text("the bridge's MTU", 10 * SECONDS, expected, || {
        host.ip("link show sextant0").map(|link| mtu(&link))
    });
    let option = r#"{{index .Options "com.docker.network.driver.mtu"}}"#;
    let expected_option = if expected == "1500" { "" } else { expected };
    expect_text("the network's MTU", 10 * SECONDS, expected_option, || {
        bed.engines[index].run(&["network", "inspect", "-f", option, "sextant"])
    });
    let address = bed.engines[index].container(name, &["--network", "sextant"]).unwrap();
    assert_eq!(of_container(bed, index, name), expected);
    address
}

#[test]
fn bridge_and_network_follow_the_smallest_uplink_while_the_agents_run() {
    let bed = Bed::start("docker mtu", 2, &[]);
    let set = |mtu: &str| {
        bed.cluster.hosts.iter().for_each(|host| drop(host.ip(&format!("link set eth0 mtu {mtu}")).unwrap()));
    };
    for (mtu, payload) in [("1400", "1352"), ("1300", "1252"), ("1500", "1452")] {
        set(mtu);
        let addresses = [0, 1].map(|index| follows(&bed, index, "web", mtu));
        // The largest packet that leaves in one piece.
        poll(&format!("a packet of {mtu} octets arrives"), 10 * SECONDS, || {
            let ping = ["exec", "web", "ping", "-c", "1", "-W", "1", "-s", payload, &addresses[1]];
            bed.engines[0].run(&ping)
        });
        bed.status_is_silent();
        bed.engines.iter().for_each(|engine| drop(engine.run(&["rm", "-f", "web"]).unwrap()));
    }
}

#[test]
fn a_used_network_keeps_its_containers_and_is_reported() {
    let bed = Bed::start("docker mtu used", 1, &["--docker-replace-used"]);
    let (engine, host) = (&bed.engines[0], &bed.cluster.hosts[0]);
    let address = engine.container("web", &["--network", "sextant"]).unwrap();
    // A router advertisement and a route have their own sizes.
    host.sysctl("net/ipv6/conf/eth0/mtu", "1400").unwrap();
    bed.status_has(&["network sextant has MTU 1500, and this host's uplinks carry 1400", "docker rm -f web"]);
    host.ip("-6 route add default via 2001:db8::ffff dev eth0 mtu 1350").unwrap();
    bed.status_has(&["this host's uplinks carry 1350"]);
    assert_eq!(engine.address("web").unwrap(), address, "it stays connected");
    // The fix, word for word.
    engine.run(&["rm", "-f", "web"]).unwrap();
    follows(&bed, 0, "web", "1350");
    bed.status_is_silent();
    // Smaller packets fit too.
    host.ip("-6 route del default").unwrap();
    host.sysctl("net/ipv6/conf/eth0/mtu", "1500").unwrap();
    bed.status_is_silent();
    assert_eq!(of_container(&bed, 0, "web"), "1350");
}
