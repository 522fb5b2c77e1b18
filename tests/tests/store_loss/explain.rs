//! `sextant explain`: the assignment of an address.

use std::net::Ipv6Addr;

use sextant_tests::cluster::{Cluster, GUIDE};

#[test]
fn an_address_is_explained() {
    let cluster = Cluster::start("explain", 2, GUIDE);
    let prefix = cluster.prefix("h1");
    let explain = |address: Ipv6Addr| cluster.lab.cli_json(&["explain", &address.to_string()]).unwrap();
    let node = cluster.node("h1");

    let container = explain(prefix.first_host());
    assert_eq!(container["place"], "container_prefix", "{container}");
    for (key, of_node) in [("host_prefix", "prefix"), ("container_prefix", "container_prefix")] {
        assert_eq!(container[key], node[of_node], "{key}");
    }
    assert_eq!(container["node"], "h1");
    assert_eq!(container["pool"], "main");
    assert_eq!(container["next_hops"], node["next_hops"]);
    assert_eq!(container["claimed_unix_ms"], node["claimed_unix_ms"]);
    assert_eq!(container["applied"], serde_json::json!(["h2"]), "its own host has no such route");

    assert_eq!(explain(prefix.last_addr())["place"], "host_prefix");
    let unclaimed = explain("2001:db8:80ff:ffff::1".parse().unwrap());
    assert_eq!((&unclaimed["place"], &unclaimed["node"]), (&"unclaimed".into(), &serde_json::Value::Null));
    let uplink = explain(cluster.hosts[1].address());
    assert_eq!((&uplink["place"], &uplink["node"]), (&"uplink".into(), &"h2".into()));
    let nowhere = cluster.lab.cli(&["explain", "2001:db9::1"]).unwrap();
    assert_eq!(nowhere.code, 3, "{nowhere:?}");
    assert!(nowhere.stderr.contains("2001:db9::1 is in no pool"), "{nowhere:?}");
    let text = cluster.sextant(&["explain", &prefix.first_host().to_string()]);
    assert!(text.contains("is a container address on h1"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("routed by") && line.ends_with("h2")), "{text}");
}
