//! Host and container prefixes of other lengths, and static routes beside Sextant's.

use sextant_tests::{SECONDS, difference, expect_text, ping_matrix, poll};

use crate::cluster::{Cluster, GUIDE, PoolArgs};

fn reaches(test: &str, pool: PoolArgs) {
    let cluster = Cluster::start(test, 3, pool);
    cluster.expect_full_mesh();
    for host in &cluster.hosts {
        let (address, len) = host.bridge_address().unwrap();
        let prefix = cluster.prefix(host.name());
        assert_eq!(
            (prefix.len().to_string(), len.to_string()),
            (pool.host_len.into(), pool.container_len.into())
        );
        assert_eq!(address, prefix.first_host(), "the first container prefix of the host prefix");
    }
    let containers = cluster.containers();
    expect_text("all pings answered", 5 * SECONDS, "", || ping_matrix(&containers));
}

#[test]
fn the_container_prefix_may_be_the_whole_host_prefix() {
    reaches("64 and 64", PoolArgs { host_len: "64", container_len: "64", ..GUIDE });
}

#[test]
fn a_pool_of_64_bits_may_be_split_into_76s_with_80s() {
    reaches("76 and 80", PoolArgs { prefix: "2001:db8:9::/64", host_len: "76", container_len: "80" });
}

#[test]
fn the_bridges_connected_route_is_no_conflict() {
    let cluster = Cluster::start("no conflict", 2, PoolArgs { host_len: "64", container_len: "64", ..GUIDE });
    assert_eq!(
        cluster.node("h1")["applied"]["conflicts"].as_array().map(Vec::len),
        Some(0),
        "{}",
        cluster.node("h1")
    );
}

/// As in Docker's guide: a static route to a peer's prefix, metric 1024, is there before Sextant.
#[test]
fn i4_a_static_route_is_kept_and_reported() {
    let mut cluster = Cluster::without_agents("hand-made", 2, GUIDE);
    cluster.start_agent(1);
    let prefix = poll("h2 has a prefix", 10 * SECONDS, || {
        let node = cluster.node("h2");
        node["prefix"].as_str().map(str::to_owned).ok_or_else(|| node.to_string())
    });
    let by_hand = format!("-6 route add {prefix} via {} proto static", cluster.hosts[1].address());
    cluster.hosts[0].ip(&by_hand).unwrap();
    let before = cluster.hosts[0].foreign_routes().unwrap();
    cluster.agents.clear();
    (0..2).for_each(|index| cluster.start_agent(index));
    cluster.settle();
    cluster.expect_full_mesh();

    let after = cluster.hosts[0].foreign_routes().unwrap();
    let gone: Vec<_> =
        difference(&before, &after).lines().filter(|line| line.starts_with('-')).map(str::to_owned).collect();
    assert!(gone.is_empty(), "{gone:?}");
    let conflict = poll("the conflict is reported", 5 * SECONDS, || {
        let node = cluster.node("h1");
        let conflict = node["applied"]["conflicts"].get(0).cloned();
        conflict.ok_or_else(|| node.to_string())
    });
    assert_eq!(conflict["destination"], prefix.as_str());
    assert_eq!((&conflict["protocol"], &conflict["metric"]), (&"static".into(), &1024.into()));
    assert_eq!(conflict["ours_wins"], true);
    let status = cluster.sextant(&["status"]);
    assert!(status.contains(&prefix) && status.contains("static"), "{status}");
    let containers = cluster.containers();
    expect_text("all pings answered", 5 * SECONDS, "", || ping_matrix(&containers));
}
