//! Who is answered, and for what.

use std::net::Ipv6Addr;

use sextant_tests::{
    Host, Namespace, SECONDS,
    cluster::{Cluster, PoolArgs},
    poll,
};

use super::{INSIDE, MODES, end, entries, options, outsider, problems, start, start_in};

#[test]
fn containers_are_reached_from_the_link_as_they_come_and_go() {
    for mode in MODES {
        let cluster = start(&format!("ndp proxy {mode}"), 3, &["--ndp-mode", mode]);
        let outsider = outsider(&cluster);
        let containers = cluster.containers();
        for container in &containers {
            poll("it is reached from outside", 5 * SECONDS, || outsider.ping(container.address())?.replied());
            poll("it reaches the outside", 5 * SECONDS, || container.ping(outsider.address())?.replied());
        }
        assert_eq!(sextant_tests::ping_matrix(&containers).unwrap(), "", "{mode}");
        for (index, host) in cluster.hosts.iter().enumerate() {
            let mut expected: Vec<_> =
                containers[2 * index..2 * index + 2].iter().map(|it| it.address().to_string()).collect();
            expected.push(host.bridge_address().unwrap().0.to_string());
            expected.sort();
            poll("the kernel answers for them", 5 * SECONDS, || {
                let found = entries(host);
                anyhow::ensure!(found == expected, "{mode}: {found:?} instead of {expected:?}");
                Ok(())
            });
        }
        let (host, gone) = (&cluster.hosts[1], &containers[2]);
        end(host, gone);
        poll("it is no longer answered for", 2 * SECONDS, || {
            let found = entries(host);
            anyhow::ensure!(!found.contains(&gone.address().to_string()), "{found:?}");
            Ok(())
        });
        outsider.ip("neighbour flush all").unwrap();
        assert!(outsider.ping(gone.address()).unwrap().replied().is_err());
        let neighbours = outsider.ip(&format!("-6 neighbour show {}", gone.address())).unwrap();
        assert!(!neighbours.contains("lladdr"), "{mode}: {neighbours}");
    }
}

#[test]
fn nothing_but_addresses_in_use_is_answered_for() {
    let cluster = start("ndp authority", 2, &[]);
    let outsider = outsider(&cluster);
    let container = cluster.hosts[0].container("c").unwrap();
    poll("it is reached", 5 * SECONDS, || outsider.ping(container.address())?.replied());
    let prefix = cluster.prefix("h1");
    let in_use = [container.address(), cluster.hosts[0].bridge_address().unwrap().0];
    let unused: Vec<_> = (1..8).map(|n| Ipv6Addr::from_bits(prefix.addr().to_bits() + n)).collect();
    let outside = Ipv6Addr::from_bits(prefix.last_addr().to_bits() + 1);
    for target in unused.into_iter().filter(|it| !in_use.contains(it)).chain([outside]) {
        let outcome = outsider.ping(target).unwrap();
        assert!(outcome.replied().is_err(), "{target}: {outcome}");
        let entry = outsider.ip(&format!("-6 neighbour show {target}")).unwrap();
        assert!(!entry.contains("lladdr"), "{entry}");
    }
    assert_eq!(problems(&cluster, "h1"), "[]");
    assert_eq!(problems(&cluster, "h2"), "[]");
    let (_, metrics) = cluster.agents[0].metrics("text/plain").unwrap();
    for line in ["sextant_agent_ndp_addresses 2", "sextant_agent_problems 0", "sextant_agent_claims 1"] {
        assert!(metrics.lines().any(|it| it == line), "{line}: {metrics}");
    }
    assert!(metrics.contains("sextant_agent_ndp_refused_total{reason=\"unknown\"}"), "{metrics}");
}

/// Whoever answers where nobody may ask is taken for an attacker.
#[test]
fn only_links_that_have_the_prefix_are_answered_on() {
    let mut cluster = Cluster::without_agents("ndp uplinks", 1, INSIDE);
    let (host, outsider) = (cluster.hosts[0].clone(), outsider(&cluster));
    let other = cluster.lab.second_segment(&outsider).unwrap().host("h9", 9).unwrap();
    let (switch, netns) = (cluster.lab.switch(), Namespace::name(&host));
    switch.ip(&format!("link add pb1 type veth peer name eth1 netns {netns}")).unwrap();
    switch.ip("link set pb1 master br1 up").unwrap();
    host.ip("address add 2001:db8:0:b::1/64 dev eth1 nodad").unwrap();
    host.ip("link set eth1 up").unwrap();
    cluster.start_agent_with(0, options(&["--uplink", "eth1"]));
    cluster.settle();
    let container = host.container("c").unwrap();
    poll("it is reached", 5 * SECONDS, || outsider.ping(container.address())?.replied());
    let of = |uplink: &str| {
        let shown = host.ip(&format!("-6 neighbour show proxy dev {uplink}")).unwrap();
        shown.lines().filter(|line| line.contains(&container.address().to_string())).count()
    };
    poll("the kernel answers for it", 5 * SECONDS, || {
        anyhow::ensure!(of("eth0") == 1);
        Ok(())
    });
    assert_eq!(of("eth1"), 0);
    let asker = other.asker("eth0", "2001:db8:0:b::9".parse().unwrap()).unwrap();
    assert!(asker.ask(&asker.solicitation("2001:db8:0:b::1".parse().unwrap()), SECONDS).is_ok());
    for target in [container.address(), host.bridge_address().unwrap().0] {
        assert!(asker.ask(&asker.solicitation(target), SECONDS).is_err(), "{target}");
    }
    // An uplink that has lost its address is answered on as before.
    let (agent, before) = (&cluster.agents[0].process, cluster.agents[0].process.log_len());
    host.ip(&format!("address del {}/64 dev eth0", host.address())).unwrap();
    agent.wait_for_line_after(before, "ndp-not-on-link", 10 * SECONDS).unwrap();
    assert_eq!(of("eth0"), 1);
    host.ip(&format!("address add {}/64 dev eth0 nodad", host.address())).unwrap();
    poll("it is reached again", 5 * SECONDS, || outsider.ping(container.address())?.replied());
    poll("nothing is reported", 10 * SECONDS, || {
        let found = problems(&cluster, "h1");
        anyhow::ensure!(found == "[]", "{found}");
        Ok(())
    });
}

/// Duplicate address detection by a host that wants an address of a container (RFC 4862 §5.4).
#[test]
fn a_duplicate_is_detected_if_and_only_if_the_address_is_in_use() {
    for mode in MODES {
        let cluster = start(&format!("ndp dad {mode}"), 1, &["--ndp-mode", mode]);
        let outsider = outsider(&cluster);
        let container = cluster.hosts[0].container("c").unwrap();
        let free = Ipv6Addr::from_bits(cluster.prefix("h1").addr().to_bits() + 6);
        for sysctl in ["accept_dad", "dad_transmits"] {
            outsider.sysctl(&format!("net/ipv6/conf/eth0/{sysctl}"), "1").unwrap();
        }
        outsider.ip(&format!("address add {}/128 dev eth0", container.address())).unwrap();
        outsider.ip(&format!("address add {free}/128 dev eth0")).unwrap();
        let state = |address: Ipv6Addr| outsider.ip(&format!("-6 -o address show dev eth0 to {address}"));
        poll("the free address is usable", 5 * SECONDS, || {
            let state = state(free)?;
            anyhow::ensure!(!state.contains("tentative") && state.contains("global"), "{state}");
            Ok(())
        });
        let shown = state(container.address()).unwrap();
        assert!(shown.contains("dadfailed"), "{mode}: {shown}");
    }
}

#[test]
fn a_prefix_that_moves_is_answered_by_its_new_host_at_once() {
    let cluster = start("ndp moves", 2, &[]);
    let outsider = outsider(&cluster);
    let prefix = cluster.prefix("h1");
    let before = cluster.hosts[0].container("c").unwrap();
    poll("it is reached", 5 * SECONDS, || outsider.ping(before.address())?.replied());
    let own = cluster.prefix("h2");
    end(&cluster.hosts[0], &before);
    cluster.sextant(&["node", "reassign", "h1"]);
    poll("the former host has another prefix", 20 * SECONDS, || {
        anyhow::ensure!(cluster.prefix("h1") != prefix);
        Ok(())
    });
    cluster.sextant(&["node", "reassign", "h2", "--prefix", &prefix.to_string()]);
    poll("the prefix has moved", 20 * SECONDS, || {
        anyhow::ensure!(
            cluster.prefix("h2") == prefix && cluster.hosts[1].bridge_address()?.0 != own.first_host()
        );
        Ok(())
    });
    let lladdr = || outsider.ip(&format!("-6 neighbour show {}", before.address())).unwrap();
    let mac = |host: &Host| {
        let shown = host.ip("-o link show dev eth0").unwrap();
        let mac = shown.split("link/ether ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        format!("lladdr {mac} ")
    };
    let [former, now] = [0, 1].map(|host| mac(&cluster.hosts[host]));
    assert!(lladdr().contains(&former), "its neighbour still knows it at the former host: {}", lladdr());
    let after = cluster.hosts[1].container_in("c", prefix).unwrap();
    assert_eq!(after.address(), before.address());
    poll("it is reached at its new host", 2 * SECONDS, || outsider.ping(after.address())?.replied());
    // Its former host forwards to it until then.
    poll("its neighbour knows it there", 2 * SECONDS, || {
        anyhow::ensure!(lladdr().contains(&now), "{}", lladdr());
        Ok(())
    });
    // The former host answers no more.
    let asker = outsider.asker("eth0", outsider.address()).unwrap();
    let ask = asker.solicitation(after.address());
    let from: std::collections::BTreeSet<_> =
        asker.answers(&ask, SECONDS).unwrap().into_iter().map(|it| it.from).collect();
    let own = cluster.hosts[1].asker("eth0", cluster.hosts[1].address()).unwrap().mac;
    assert_eq!(from, [own].into());
    let left = entries(&cluster.hosts[0]);
    assert!(!left.contains(&before.address().to_string()), "{left:?}");
}

/// The examples of Docker's guides, with their numbers, as docs/ndp-proxy.md has them.
#[test]
fn the_examples_of_the_guides_work() {
    for (hosts, prefix, host_len, container_len) in [
        (2, "2001:db8::c000/124", "125", "125"),
        (2, "2001:db8:0:0:8000::/65", "66", "80"),
        (1, "2001:db8::c008/125", "125", "125"),
    ] {
        let cluster = start_in("ndp guides", hosts, PoolArgs { prefix, host_len, container_len }, &[]);
        let outsider = outsider(&cluster);
        let containers = cluster.containers();
        for container in &containers {
            poll("it is reached from outside", 5 * SECONDS, || outsider.ping(container.address())?.replied());
        }
        assert_eq!(sextant_tests::ping_matrix(&containers).unwrap(), "", "{prefix}");
        assert_eq!(problems(&cluster, "h1"), "[]", "{prefix}");
    }
}

/// It has sent nothing, and nobody asks for it: a static address without duplicate address detection.
#[test]
fn a_silent_container_of_a_small_prefix_is_found() {
    let cluster = start("ndp silent", 1, &[]);
    let host = &cluster.hosts[0];
    for name in ["s", "t"] {
        let silent = host.container(name).unwrap().address().to_string();
        poll("the kernel answers for it", 10 * SECONDS, || {
            let entries = entries(host);
            anyhow::ensure!(entries.contains(&silent), "{silent} is not in {entries:?}");
            Ok(())
        });
    }
}
