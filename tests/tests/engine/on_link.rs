//! Which peers are neighbours: the kernel's routes say it, however they and the addresses came to be.

use std::time::Duration;

use sextant_tests::{
    Host, MILLISECONDS, Process, SECONDS,
    cluster::{Cluster, GUIDE},
    expect_text, poll,
};

/// Three hosts, and a router that all have their default route through and that knows the prefixes of the hosts.
fn behind_a_router(test: &str) -> (Cluster, Host) {
    let cluster = Cluster::start(test, 3, GUIDE);
    let router = cluster.lab.router().unwrap();
    router.ip("address add fe80::fe/64 dev eth0 nodad").unwrap();
    for host in &cluster.hosts {
        host.ip("-6 route add default via fe80::fe dev eth0 proto static").unwrap();
        router.ip(&format!("-6 route add {} via {}", cluster.prefix(host.name()), host.address())).unwrap();
    }
    (cluster, router)
}

/// Waits until the first host has direct routes to just these peers.
fn direct(cluster: &Cluster, peers: &[&str], deadline: Duration) {
    let hops = ["h2", "h3"].map(|name| (name, cluster.prefix(name)));
    let expected = peers.join(" ");
    expect_text("the first host's direct routes", deadline, &expected, || {
        let routes = cluster.hosts[0].routes_of(66)?;
        let is_direct =
            |prefix: &str| routes.iter().any(|it| it.starts_with(&format!("{prefix} via 2001:db8:")));
        let direct = hops.iter().filter(|(_, prefix)| is_direct(&prefix.to_string())).map(|(name, _)| *name);
        anyhow::Ok(direct.collect::<Vec<_>>().join(" "))
    });
}

fn no_route_fails(cluster: &Cluster) {
    let status = cluster.sextant(&["status"]);
    assert!(!status.contains("failed") && !status.contains("fails"), "{status}");
}

#[test]
fn peers_are_left_to_the_router_while_no_route_makes_them_neighbours() {
    let (cluster, _router) = behind_a_router("noprefixroute");
    let host = &cluster.hosts[0];
    let (near, far) = (host.container("a").unwrap(), cluster.hosts[1].container("b").unwrap());
    direct(&cluster, &["h2", "h3"], 5 * SECONDS);

    // The address stays as it is, and has its length.
    host.ip("-6 address change 2001:db8::1/64 dev eth0 nodad noprefixroute").unwrap();
    host.ip("-6 route flush 2001:db8::/64 dev eth0 proto kernel").unwrap();
    let own = cluster.prefix("h1");
    expect_text("the host's routes", 5 * SECONDS, &format!("unreachable {own}"), || {
        let routes = host.routes_of(66)?;
        anyhow::Ok(routes.iter().filter_map(|it| it.split(" proto").next()).collect::<Vec<_>>().join("\n"))
    });
    poll("the router delivers", 10 * SECONDS, || near.ping(far.address())?.replied());
    no_route_fails(&cluster);

    // A route without any address of its own, for some peers or all of them; an event tells of each.
    for (route, peers) in [
        ("2001:db8::/64 proto static", &["h2", "h3"][..]),
        ("2001:db8::2/128 proto dhcp", &["h2"]),
        ("2001:db8::/126 proto ra metric 100", &["h2", "h3"]),
        ("2001:db8::/32 proto 99 metric 2000", &["h2", "h3"]),
    ] {
        host.ip(&format!("-6 route add {route} dev eth0")).unwrap();
        direct(&cluster, peers, 2 * SECONDS);
        no_route_fails(&cluster);
        host.ip(&format!("-6 route del {route} dev eth0")).unwrap();
        direct(&cluster, &[], 2 * SECONDS);
    }
    poll("the router delivers", 10 * SECONDS, || near.ping(far.address())?.replied());
}

#[test]
fn a_longer_route_that_leads_elsewhere_leaves_the_peer_to_the_router() {
    let (cluster, _router) = behind_a_router("longer route");
    let host = &cluster.hosts[0];
    for route in
        ["2001:db8::2/128 via fe80::fe dev eth0", "unreachable 2001:db8::2/127", "2001:db8::2/128 dev lo"]
    {
        host.ip(&format!("-6 route add {route} proto static")).unwrap();
        let left: &[&str] = if route.contains("/127") { &[] } else { &["h3"] };
        direct(&cluster, left, 2 * SECONDS);
        no_route_fails(&cluster);
        host.ip(&format!("-6 route del {route}")).unwrap();
        direct(&cluster, &["h2", "h3"], 2 * SECONDS);
    }
    // In a table of its own, by a rule.
    host.ip("-6 route add 2001:db8::2/128 via fe80::fe dev eth0 proto static table 100").unwrap();
    direct(&cluster, &["h2", "h3"], 2 * SECONDS);
    host.ip("-6 rule add to 2001:db8::2/128 lookup 100 pref 100").unwrap();
    direct(&cluster, &["h3"], 2 * SECONDS);
    host.ip("-6 rule del to 2001:db8::2/128 lookup 100 pref 100").unwrap();
    direct(&cluster, &["h2", "h3"], 2 * SECONDS);
    cluster.expect_full_mesh();
}

#[test]
fn an_address_of_dhcp_has_the_neighbours_of_the_advertised_prefix() {
    let cluster = Cluster::start("dhcp", 2, GUIDE);
    for host in &cluster.hosts {
        host.ip_batch(&format!(
            "address del {0}/64 dev eth0
             address add {0}/128 dev eth0 nodad
             route add 2001:db8::/64 dev eth0 proto ra metric 100",
            host.address()
        ))
        .unwrap();
    }
    cluster.settle();
    cluster.expect_full_mesh();
    let (near, far) = (cluster.hosts[0].container("a").unwrap(), cluster.hosts[1].container("b").unwrap());
    poll("the path between them", 10 * SECONDS, || near.ping(far.address())?.replied());
}

/// Advertises `2001:db8:5::/64` for addresses, and as on-link or not.
fn advertises(router: &Host, on_link: bool) -> Process {
    let (file, pid) = (router.dir().join("radvd.conf"), router.dir().join("radvd.pid"));
    let on_link = if on_link { "on" } else { "off" };
    std::fs::write(
        &file,
        format!(
            "interface eth0 {{ AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;
               prefix 2001:db8:5::/64 {{ AdvOnLink {on_link}; AdvAutonomous on; }}; }};\n"
        ),
    )
    .unwrap();
    let (file, pid) = (file.display().to_string(), pid.display().to_string());
    router.spawn("radvd", &["radvd", "-n", "-m", "stderr", "-C", &file, "-p", &pid]).unwrap()
}

#[test]
fn an_advertised_prefix_is_on_link_with_the_l_flag_only() {
    let mut cluster = Cluster::without_agents("router advertisements", 2, GUIDE);
    let router = cluster.lab.router().unwrap();
    router.ip("address add 2001:db8:5::fe/64 dev eth0 nodad").unwrap();
    let switch = cluster.lab.switch();
    switch.ip(&format!("-6 route add 2001:db8:5::/64 via {}", router.address())).unwrap();
    for host in &cluster.hosts {
        host.sysctl("net/ipv6/conf/eth0/accept_ra", "2").unwrap();
        host.ip(&format!("-6 address del {}/64 dev eth0", host.address())).unwrap();
    }
    let not_on_link = advertises(&router, false);
    for host in &cluster.hosts {
        poll("an address and a default route", 20 * SECONDS, || {
            let (addresses, routes) =
                (host.ip("-6 address show dev eth0")?, host.ip("-6 route show default")?);
            anyhow::ensure!(addresses.contains("2001:db8:5:") && !routes.is_empty(), "{addresses}{routes}");
            anyhow::Ok(())
        });
    }
    (0..2).for_each(|index| cluster.start_agent(index));
    cluster.settle();
    let to_peer = cluster.prefix("h2");
    let direct = |expected: bool| {
        poll(&format!("a direct route: {expected}"), 20 * SECONDS, || {
            let routes = cluster.hosts[0].routes_of(66)?;
            let found = routes.iter().any(|it| it.starts_with(&format!("{to_peer} via 2001:db8:5:")));
            anyhow::ensure!(found == expected, "{routes:#?}");
            anyhow::Ok(())
        });
    };
    direct(false);
    for host in &cluster.hosts {
        let next_hop = cluster.node(host.name())["next_hops"][0].as_str().unwrap().to_owned();
        router.ip(&format!("-6 route add {} via {next_hop}", cluster.prefix(host.name()))).unwrap();
    }
    let (near, far) = (cluster.hosts[0].container("a").unwrap(), cluster.hosts[1].container("b").unwrap());
    poll("the router delivers", 10 * SECONDS, || near.ping(far.address())?.replied());

    not_on_link.terminate(10 * SECONDS).unwrap();
    let _on_link = advertises(&router, true);
    direct(true);
    poll("the path between them", 10 * SECONDS, || near.ping(far.address())?.replied());
}

#[test]
fn a_deprecated_address_is_the_last_choice() {
    let cluster = Cluster::start("deprecated", 2, GUIDE);
    let (near, far) = (cluster.hosts[0].container("a").unwrap(), cluster.hosts[1].container("b").unwrap());
    let host = &cluster.hosts[0];
    host.ip("-6 address change 2001:db8::1/64 dev eth0 nodad preferred_lft 0").unwrap();
    poll("it is deprecated", 5 * SECONDS, || {
        let shown = host.ip("-6 address show dev eth0 deprecated")?;
        anyhow::ensure!(shown.contains("2001:db8::1/64"), "{shown}");
        anyhow::Ok(())
    });
    cluster.settle();
    let next_hops = || cluster.node("h1")["next_hops"].to_string();
    assert_eq!(next_hops(), r#"["2001:db8::1"]"#);
    cluster.expect_full_mesh();
    poll("the path between them", 10 * SECONDS, || near.ping(far.address())?.replied());
    host.ip("-6 address add 2001:db8::1:1/64 dev eth0 nodad").unwrap();
    poll("a preferred address comes first", 10 * SECONDS, || {
        anyhow::ensure!(next_hops() == r#"["2001:db8::1:1","2001:db8::1"]"#, "{}", next_hops());
        anyhow::Ok(())
    });
    host.ip("-6 address del 2001:db8::1:1/64 dev eth0").unwrap();
    poll("the deprecated one is back", 10 * SECONDS, || {
        anyhow::ensure!(next_hops() == r#"["2001:db8::1"]"#, "{}", next_hops());
        anyhow::Ok(())
    });
    cluster.expect_full_mesh();
}

/// A peer that is the gateway is a neighbour, though no route says so; others are left to it. Only its route says that it is one.
#[test]
fn a_peer_that_is_an_onlink_gateway_has_a_direct_route() {
    let (cluster, _router) = behind_a_router("onlink peer");
    let (host, gateway) = (&cluster.hosts[0], cluster.hosts[1].address());
    host.ip_batch(&format!(
        "address del {0}/64 dev eth0
         address add {0}/128 dev eth0 nodad
         route replace default via {gateway} dev eth0 onlink proto static",
        host.address(),
    ))
    .unwrap();
    direct(&cluster, &["h2"], 5 * SECONDS);
    no_route_fails(&cluster);
    let shown = host.ip(&format!("-6 route show {}", cluster.prefix("h2"))).unwrap();
    assert!(shown.contains(&format!("via {gateway} dev eth0")) && shown.contains("onlink"), "{shown}");
    let (near, far) = (host.container("a").unwrap(), cluster.hosts[1].container("b").unwrap());
    poll("the peer's containers answer", 10 * SECONDS, || near.ping(far.address())?.replied());

    // A route that makes it a neighbour needs no such word.
    host.ip("-6 route add 2001:db8::/64 dev eth0 proto static").unwrap();
    direct(&cluster, &["h2", "h3"], 5 * SECONDS);
    host.ip("-6 route del 2001:db8::/64 dev eth0 proto static").unwrap();
    direct(&cluster, &["h2"], 5 * SECONDS);
    host.ip("-6 route replace default via fe80::fe dev eth0 proto static").unwrap();
    direct(&cluster, &[], 5 * SECONDS);
    no_route_fails(&cluster);
}

/// As some providers have it: an address of its own only, and a gateway that no route says is a neighbour.
#[test]
fn a_host_with_an_onlink_gateway_only_leaves_its_peers_to_it() {
    let (cluster, router) = behind_a_router("onlink gateway");
    let host = &cluster.hosts[0];
    host.ip_batch(&format!(
        "address del {0}/64 dev eth0
         address add {0}/128 dev eth0 nodad
         route replace default via {1} dev eth0 onlink proto static",
        host.address(),
        router.address()
    ))
    .unwrap();
    direct(&cluster, &[], 5 * SECONDS);
    no_route_fails(&cluster);
    poll("it announces that nothing around its address is on-link", 5 * SECONDS, || {
        let uplinks = &cluster.node("h1")["uplinks"];
        anyhow::ensure!(uplinks[0]["addresses"][0] == "2001:db8::1/128", "{uplinks}");
        anyhow::Ok(())
    });
    let (near, far) = (host.container("a").unwrap(), cluster.hosts[1].container("b").unwrap());
    poll("the router delivers", 10 * SECONDS, || near.ping(far.address())?.replied());
}

/// Each announcement makes all peers change routes: a flapping address is announced a few times, then not before it lasts.
#[test]
fn a_flapping_address_is_not_announced_each_time() {
    let cluster = Cluster::start("flapping address", 2, GUIDE);
    let host = &cluster.hosts[0];
    let revision = || cluster.lab.cli_json(&["status"]).unwrap()["revision"].as_u64().unwrap();
    let before = revision();
    for _ in 0..30 {
        for change in ["add", "del"] {
            host.ip(&format!("-6 address {change} 2001:db8::1:1/64 dev eth0 nodad")).unwrap();
            std::thread::sleep(100 * MILLISECONDS);
        }
    }
    let announced = revision() - before;
    assert!((1..=12).contains(&announced), "{announced} changes of the store in 60 changes of an address");
    host.ip("-6 address add 2001:db8::1:1/64 dev eth0 nodad").unwrap();
    poll("the address is announced once it has settled", 10 * SECONDS, || {
        let next_hops = cluster.node("h1")["next_hops"].to_string();
        anyhow::ensure!(next_hops.contains("2001:db8::1:1"), "{next_hops}");
        anyhow::Ok(())
    });
}
