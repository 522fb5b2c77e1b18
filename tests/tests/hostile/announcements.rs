//! Announcements that no honest agent makes.

use sextant_proto::{
    convert::octets,
    v1::{Announce, AnnouncedClaim, Claim, InterfaceAddress, Prefix, Uplink},
};
use sextant_tests::{
    Host, SECONDS,
    cluster::{Cluster, GUIDE},
    expect_text, poll,
};

use crate::node::HostileNode;

/// The announcement of these next hops, each of a /64.
pub fn of(claim: &Claim, hops: &[&str]) -> Announce {
    let address = |hop: &&str| InterfaceAddress { address: octets(hop.parse().unwrap()), length: 64 };
    Announce {
        uplinks: vec![Uplink { interface: "eth0".into(), addresses: hops.iter().map(address).collect() }],
        container_prefix: None,
        claims: vec![AnnouncedClaim {
            epoch: claim.epoch.clone(),
            container_prefixes: vec![container(claim)],
        }],
        pool_order: Vec::new(),
    }
}

/// The container prefix of a claim.
pub fn container(claim: &Claim) -> Prefix {
    let pool = claim.pool.as_ref().unwrap();
    Prefix { length: pool.container_len, ..claim.prefix.clone().unwrap() }
}

/// Waits until the agents of all hosts have applied all changes; the hostile node says nothing of them.
fn wait_for_hosts(cluster: &Cluster) {
    poll("all changes are applied", 20 * SECONDS, || {
        for host in &cluster.hosts {
            let node = cluster.node(host.name());
            anyhow::ensure!(node["behind"] == 0, "{node}");
        }
        Ok(())
    });
}

/// The routes of a host but for those to `prefix`.
fn routes_but(host: &Host, prefix: &str) -> String {
    let mut routes = host.routes_of(66).unwrap();
    routes.retain(|route| !route.contains(prefix));
    routes.sort();
    routes.join("\n")
}

#[test]
fn i14_no_announcement_changes_a_route_outside_of_the_nodes_own_prefix() {
    let cluster = Cluster::start("hostile announcements", 3, GUIDE);
    let controller = cluster.controller.as_ref().unwrap();
    let mut evil = HostileNode::new(controller, "evil");
    let claim = evil.claim.clone();
    evil.announce(of(&claim, &["2001:db8::66"])).unwrap();
    let prefix = cluster.node("evil")["prefix"].as_str().unwrap().to_owned();
    poll("a route to it", 10 * SECONDS, || {
        let routes = cluster.hosts[0].routes_of(66)?.join("\n");
        anyhow::ensure!(routes.contains(&prefix), "{routes}");
        Ok(())
    });
    let of_others = |host: &Host| routes_but(host, &prefix);
    let before: Vec<_> = cluster.hosts.iter().map(of_others).collect();
    let inside_another = cluster.node("h2")["prefix"].as_str().unwrap().replace("/64", "7");
    let taken: [(&str, &[&str]); 8] = [
        ("off-link", &["2001:db8:77::1"]),
        ("inside the pool, in no claim", &["2001:db8:80ff:ffff::1"]),
        ("inside another's prefix", &[&inside_another]),
        ("in its own prefix", &[&prefix.replace("/64", "5")]),
        ("none", &[]),
        ("another host's", &["2001:db8::1"]),
        ("the controller's", &["2001:db8::c:1"]),
        ("link-local alone", &["fe80::1"]),
    ];
    for (what, hops) in taken {
        evil.announce(of(&claim, hops)).unwrap_or_else(|status| panic!("{what}: {status}"));
        wait_for_hosts(&cluster);
        for (host, before) in cluster.hosts.iter().zip(&before) {
            expect_text(what, 5 * SECONDS, before, || anyhow::Ok(of_others(host)));
        }
    }
}

#[test]
fn i14_what_no_host_can_be_set_up_for_is_refused() {
    let cluster = Cluster::start("refused announcements", 2, GUIDE);
    let controller = cluster.controller.as_ref().unwrap();
    let mut evil = HostileNode::new(controller, "evil");
    let claim = evil.claim.clone();
    let good = of(&claim, &["2001:db8::66"]);
    let with_container = |prefix: Prefix| {
        let claims = vec![AnnouncedClaim { epoch: claim.epoch.clone(), container_prefixes: vec![prefix] }];
        Announce { claims, ..good.clone() }
    };
    let others: Prefix = {
        let prefix: sextant_proto::Prefix = cluster.node("h1")["prefix"].as_str().unwrap().parse().unwrap();
        prefix.into()
    };
    let shorter = Prefix { address: octets("2001:db8:8000::".parse().unwrap()), length: 40 };
    let many = vec!["2001:db8::66"; 190_000];
    let table = [
        ("loopback", of(&claim, &["::1"]), "::1 cannot be a next hop"),
        ("a group", of(&claim, &["2001:db8::66", "ff02::1"]), "ff02::1 cannot be a next hop"),
        ("IPv4", of(&claim, &["::ffff:192.0.2.1"]), "cannot be a next hop"),
        ("no address", of(&claim, &["::"]), ":: cannot be a next hop"),
        ("190,000 addresses", of(&claim, &many), "190000 are too many"),
        ("another's container prefix", with_container(others), "not inside its host prefix"),
        ("the pool as container prefix", with_container(shorter), "not inside its host prefix"),
    ];
    for (what, announce, why) in table {
        let refused = evil.announce(announce).unwrap_err();
        assert!(refused.message().contains(why), "{what}: {refused}");
        assert_eq!(cluster.node("evil")["state"], "joining", "{what}");
    }
    // Others still get what is new.
    wait_for_hosts(&cluster);
    evil.announce(good).unwrap();
    assert_eq!(cluster.node("evil")["state"], "ready");
}
