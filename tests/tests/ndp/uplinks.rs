//! Uplinks of other shapes: two on one link, a bridge, several addresses, and one that is removed and made again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use sextant_tests::{
    AgentOptions, Asker, Container, Host, MILLISECONDS, Mac, Namespace, SECONDS, Solicitation,
    cluster::Cluster, poll,
};

use super::{INSIDE, MODES, doctor::doctor, losses, options, outsider, problems};

const NOTHING_LOST: &str = " 0% packet loss";

/// One host without an agent.
fn one_host(test: &str) -> (Cluster, Host, Host) {
    let cluster = Cluster::without_agents(test, 1, INSIDE);
    let (host, outsider) = (cluster.hosts[0].clone(), outsider(&cluster));
    (cluster, host, outsider)
}

/// Connects another interface of the host to the switch.
fn connect(cluster: &Cluster, host: &Host, interface: &str, port: &str, address: &str) {
    let (switch, netns) = (cluster.lab.switch(), Namespace::name(host));
    switch.ip(&format!("link add {port} type veth peer name {interface} netns {netns}")).unwrap();
    switch.ip(&format!("link set {port} master br0 up")).unwrap();
    host.ip(&format!("address add {address}/64 dev {interface} nodad")).unwrap();
    host.ip(&format!("link set {interface} up")).unwrap();
}

fn mac(host: &Host, interface: &str) -> Mac {
    host.asker(interface, host.address()).unwrap().mac
}

fn is_reached(from: &Host, container: &Container) {
    poll("it is reached", 10 * SECONDS, || from.ping(container.address())?.replied());
}

fn nothing_is_reported(cluster: &Cluster) {
    poll("nothing is reported of the answers", 10 * SECONDS, || {
        let found = problems(cluster, "h1");
        anyhow::ensure!(!found.contains("\"ndp-"), "{found}");
        Ok(())
    });
}

fn is_the_kernels(host: &Host, interfaces: &[&str], target: Ipv6Addr) {
    poll("the kernel answers for it", 10 * SECONDS, || {
        for interface in interfaces {
            let shown = host.ip(&format!("-6 neighbour show proxy dev {interface}"))?;
            anyhow::ensure!(shown.contains(&target.to_string()), "{interface}: {shown}");
        }
        Ok(())
    });
}

/// How often each link-layer address answers; each answers as its own. Unsolicited advertisements are no answers.
fn answers(asker: &Asker, ask: &Solicitation) -> BTreeMap<Mac, usize> {
    let mut all = BTreeMap::new();
    for it in asker.answers(ask, SECONDS).unwrap().into_iter().filter(|it| it.solicited) {
        // The kernel tells a neighbour that knows it only that it is still there.
        assert!(it.mac.is_none_or(|mac| mac == it.from), "{it:?}");
        assert!(it.router && !it.overrides, "{it:?}");
        *all.entry(it.from).or_default() += 1;
    }
    all
}

/// Waits until each of these link-layer addresses answers so often, and no other one does. The outsider's kernel checks its neighbours by
/// itself now and then (RFC 4861 §7.3): then there is one answer more.
fn are_answered(asker: &Asker, ask: &Solicitation, expected: &[(Mac, usize)], what: &str) {
    let expected = expected.iter().copied().collect();
    poll(&format!("{what}: the answers are as expected"), 10 * SECONDS, || {
        let found = answers(asker, ask);
        anyhow::ensure!(found == expected, "{found:?} instead of {expected:?}");
        Ok(())
    });
}

/// The link-layer addresses at which a neighbour knows it, for a while.
fn known_at(outsider: &Host, target: Ipv6Addr, during: Duration) -> BTreeSet<String> {
    let (end, mut all) = (Instant::now() + during, BTreeSet::new());
    while Instant::now() < end {
        let shown = outsider.ip(&format!("-6 neighbour show {target}")).unwrap();
        all.extend(shown.split("lladdr ").nth(1).and_then(|it| it.split(' ').next()).map(str::to_owned));
        std::thread::sleep(50 * MILLISECONDS);
    }
    all
}

#[test]
fn on_two_uplinks_of_one_link_each_answers_once_as_its_own() {
    for mode in MODES {
        let (mut cluster, host, outsider) = one_host(&format!("ndp one link {mode}"));
        connect(&cluster, &host, "eth1", "pb1", "2001:db8::101");
        cluster.start_agent_with(0, options(&["--uplink", "eth1", "--ndp-mode", mode]));
        cluster.settle();
        outsider.sysctl("net/ipv6/neigh/eth0/base_reachable_time_ms", "1000").unwrap();
        outsider.sysctl("net/ipv6/neigh/eth0/delay_first_probe_time", "1").unwrap();
        let container = host.container("c").unwrap();
        let target = container.address();
        is_reached(&outsider, &container);
        is_the_kernels(&host, &["eth0", "eth1"], target);
        let asker = outsider.asker("eth0", outsider.address()).unwrap();
        let (one, other) = (mac(&host, "eth0"), mac(&host, "eth1"));
        let ask = asker.solicitation(target);
        are_answered(&asker, &ask, &[(one, 1), (other, 1)], mode);
        for mac in [one, other] {
            are_answered(&asker, &ask.clone().unicast(mac), &[(mac, 1)], mode);
        }
        // Its neighbour checks it every second or so.
        std::thread::scope(|scope| {
            let known = scope.spawn(|| known_at(&outsider, target, 6 * SECONDS));
            let lost = losses(&outsider, target, 6);
            assert!(lost.contains(NOTHING_LOST), "{mode}: {lost}");
            let known = known.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            assert_eq!(known.len(), 1, "{mode}: {known:?}");
        });
        nothing_is_reported(&cluster);
        assert_eq!(doctor(&cluster, &["--uplink", "eth1"]), super::doctor::NOTHING, "{mode}");
    }
}

/// The agent answers for an address that the kernel has no entry for.
#[test]
fn on_two_uplinks_of_one_link_the_agent_answers_once_on_each() {
    let (mut cluster, host, outsider) = one_host("ndp one link agent");
    connect(&cluster, &host, "eth1", "pb1", "2001:db8::101");
    cluster.start_agent_with(0, options(&["--uplink", "eth1", "--ndp-answer", "all"]));
    cluster.settle();
    let asker = outsider.asker("eth0", outsider.address()).unwrap();
    let ask = asker.solicitation(Ipv6Addr::from_bits(cluster.prefix("h1").addr().to_bits() + 5));
    let (one, other) = (mac(&host, "eth0"), mac(&host, "eth1"));
    are_answered(&asker, &ask, &[(one, 1), (other, 1)], "both uplinks");
    // The host itself gets no answer: each of its interfaces hears the other one.
    let own = host.asker("eth0", host.address()).unwrap();
    assert_eq!(answers(&own, &own.solicitation(ask.target)), [].into());
    assert!(answers(&own, &own.solicitation(ask.target).unicast(other)).is_empty());
    nothing_is_reported(&cluster);
}

/// Makes a bridge of the uplink, with more to be done before it is up.
fn make_bridge(host: &Host, more: &str) {
    let address = host.address();
    host.ip_batch(&format!(
        "link add uplink0 address 02:00:00:00:00:77 type bridge
         link set eth0 master uplink0
         address del {address}/64 dev eth0
         address add {address}/64 dev uplink0 nodad
         {more}
         link set uplink0 up"
    ))
    .unwrap();
}

fn on_bridge(mode: &str) -> AgentOptions {
    AgentOptions { uplink: "uplink0".to_owned(), ..options(&["--ndp-mode", mode]) }
}

#[test]
fn an_uplink_that_is_a_bridge_is_answered_on() {
    for mode in MODES {
        let (mut cluster, host, outsider) = one_host(&format!("ndp bridge {mode}"));
        make_bridge(&host, "");
        cluster.start_agent_with(0, on_bridge(mode));
        cluster.settle();
        let container = host.container("c").unwrap();
        is_reached(&outsider, &container);
        is_the_kernels(&host, &["uplink0"], container.address());
        let asker = outsider.asker("eth0", outsider.address()).unwrap();
        let ask = asker.solicitation(container.address());
        let own = mac(&host, "uplink0");
        for it in [ask.clone(), ask.unicast(own)] {
            are_answered(&asker, &it, &[(own, 1)], mode);
        }
        nothing_is_reported(&cluster);
    }
}

/// Up to a second after a link got carrier, it is not operational: the kernel receives packets there, but none to a multicast group, and
/// solicits no neighbour for a packet that it forwards. An uplink that is dormant stays so.
#[test]
fn an_uplink_is_answered_on_before_the_kernel_hears_multicast_packets_there() {
    for mode in MODES {
        let (mut cluster, host, outsider) = one_host(&format!("ndp dormant {mode}"));
        make_bridge(&host, "link set uplink0 mode dormant");
        cluster.start_agent_with(0, on_bridge(mode));
        cluster.settle();
        let container = host.container("c").unwrap();
        is_the_kernels(&host, &["uplink0"], container.address());
        let asker = outsider.asker("eth0", outsider.address()).unwrap();
        let ask = asker.solicitation(container.address());
        let own = mac(&host, "uplink0");
        let both = [ask.clone(), ask.unicast(own)];
        for it in &both {
            are_answered(&asker, it, &[(own, 1)], &format!("{mode}: dormant"));
        }
        host.ip("link set uplink0 mode default state up").unwrap();
        poll("the link is operational", 5 * SECONDS, || {
            let shown = host.ip("link show uplink0")?;
            anyhow::ensure!(shown.contains("state UP"), "{shown}");
            Ok(())
        });
        is_reached(&outsider, &container);
        for it in &both {
            are_answered(&asker, it, &[(own, 1)], &format!("{mode}: operational"));
        }
        nothing_is_reported(&cluster);
    }
}

#[test]
fn an_uplink_with_several_addresses_answers_once() {
    let (mut cluster, host, outsider) = one_host("ndp addresses");
    for more in ["2001:db8::201/64", "2001:db8::202/128", "2001:db8:0:77::1/64", "fe80::77/64"] {
        host.ip(&format!("address add {more} dev eth0 nodad")).unwrap();
    }
    cluster.start_agent_with(0, options(&[]));
    cluster.settle();
    let container = host.container("c").unwrap();
    is_reached(&outsider, &container);
    let (asker, own) = (outsider.asker("eth0", outsider.address()).unwrap(), mac(&host, "eth0"));
    let ask = asker.solicitation(container.address());
    for it in [ask.clone(), ask.clone().unicast(own)] {
        are_answered(&asker, &it, &[(own, 1)], "several addresses");
    }
    // With one address after another gone, the last one still makes the prefix on-link.
    for gone in [format!("{}/64", host.address()), "2001:db8::202/128".to_owned(), "fe80::77/64".to_owned()] {
        host.ip(&format!("address del {gone} dev eth0")).unwrap();
    }
    is_the_kernels(&host, &["eth0"], container.address());
    are_answered(&asker, &ask, &[(own, 1)], "the last address");
    is_reached(&outsider, &container);
    nothing_is_reported(&cluster);
}

#[test]
fn an_uplink_that_is_removed_and_made_again_is_answered_on() {
    for mode in MODES {
        let (mut cluster, host, outsider) = one_host(&format!("ndp replaced {mode}"));
        connect(&cluster, &host, "eth1", "pb1", "2001:db8::101");
        cluster.start_agent_with(0, options(&["--uplink", "eth1", "--ndp-mode", mode]));
        cluster.settle();
        let container = host.container("c").unwrap();
        is_reached(&outsider, &container);
        is_the_kernels(&host, &["eth0", "eth1"], container.address());
        let asker = outsider.asker("eth0", outsider.address()).unwrap();
        let ask = asker.solicitation(container.address());
        host.ip("link del eth1").unwrap();
        let eth0 = mac(&host, "eth0");
        are_answered(&asker, &ask, &[(eth0, 1)], &format!("{mode}: without eth1"));
        connect(&cluster, &host, "eth1", "pb2", "2001:db8::101");
        is_the_kernels(&host, &["eth0", "eth1"], container.address());
        are_answered(&asker, &ask, &[(eth0, 1), (mac(&host, "eth1"), 1)], mode);
        // A new container is answered for on the new interface too.
        let later = host.container("d").unwrap();
        is_reached(&outsider, &later);
        is_the_kernels(&host, &["eth0", "eth1"], later.address());
        nothing_is_reported(&cluster);
    }
}

/// The outsider has no route to the host prefix: it knows the container at the uplink's MAC address.
#[test]
fn an_uplinks_new_mac_address_replaces_the_former_one_within_a_second() {
    for mode in MODES {
        let (mut cluster, host, outsider) = one_host(&format!("ndp new mac {mode}"));
        cluster.start_agent_with(0, options(&["--ndp-mode", mode]));
        cluster.settle();
        let containers = ["c", "d"].map(|name| host.container(name).unwrap());
        for container in &containers {
            is_reached(&outsider, container);
            is_the_kernels(&host, &["eth0"], container.address());
        }
        let before = mac(&host, "eth0");
        host.ip("link set eth0 address 02:00:00:00:aa:05").unwrap();
        for container in &containers {
            let now = ["02:00:00:00:aa:05".to_owned()].into();
            poll(&format!("its neighbour has the new one ({mode})"), SECONDS, || {
                let known = known_at(&outsider, container.address(), 50 * MILLISECONDS);
                if known == now { Ok(()) } else { Err(format!("{known:?}")) }
            });
            outsider.ping(container.address()).unwrap().replied().unwrap();
        }
        assert_ne!(mac(&host, "eth0"), before);
        nothing_is_reported(&cluster);
    }
}

/// Each advertisement replaces what a neighbour knew: it keeps the last one, whichever uplink that was of.
#[test]
fn on_two_uplinks_of_one_link_override_loses_nothing() {
    let (mut cluster, host, outsider) = one_host("ndp override");
    connect(&cluster, &host, "eth1", "pb1", "2001:db8::101");
    cluster.start_agent_with(0, options(&["--uplink", "eth1", "--ndp-override"]));
    cluster.settle();
    outsider.sysctl("net/ipv6/neigh/eth0/base_reachable_time_ms", "1000").unwrap();
    outsider.sysctl("net/ipv6/neigh/eth0/delay_first_probe_time", "1").unwrap();
    let container = host.container("c").unwrap();
    let target = container.address();
    is_reached(&outsider, &container);
    is_the_kernels(&host, &["eth0", "eth1"], target);
    let lost = losses(&outsider, target, 5);
    assert!(lost.contains(NOTHING_LOST), "{lost}");
    nothing_is_reported(&cluster);
    for (goes, stays) in [("eth1", "eth0"), ("eth0", "eth1")] {
        host.ip(&format!("link set {goes} down")).unwrap();
        is_reached(&outsider, &container);
        is_the_kernels(&host, &[stays], target);
        host.ip(&format!("link set {goes} up")).unwrap();
        let address = if goes == "eth1" { "2001:db8::101".to_owned() } else { host.address().to_string() };
        host.ip(&format!("address replace {address}/64 dev {goes} nodad")).unwrap();
        is_the_kernels(&host, &["eth0", "eth1"], target);
    }
}
