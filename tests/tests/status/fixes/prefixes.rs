//! Prefixes and pools with infrastructure inside, and other routes to a node's prefix.

use sextant_tests::Host;

use super::bed::{Bed, commands, setting};

const ETH0: &str = "uplink.interface = \"eth0\"";

/// An address inside of a prefix that comes to the host's link.
fn add_inside(host: &Host, prefix: sextant_proto::Prefix) -> String {
    let inside = format!("{}/64", std::net::Ipv6Addr::from_bits(prefix.addr().to_bits() + 0x5));
    host.ip(&format!("-6 address add {inside} dev eth0 nodad")).unwrap();
    inside
}

/// A prefix of this host, and one of a peer.
#[test]
fn a_prefix_with_infrastructure_is_replaced() {
    for (node, index) in [("h1", 0), ("h2", 1)] {
        let mut bed = Bed::well("fixed prefix");
        let before = bed.cluster.prefix(node);
        add_inside(bed.host(0), before);
        let text = bed.expect(&format!("host prefix {before} of "));
        let fix = commands(&text);
        assert!(fix.len() == 1 && text.contains("create its containers again"), "{text}");
        bed.run(0, fix[0]);
        bed.renew_container(index);
        bed.expect_healed();
        assert_ne!(bed.cluster.prefix(node), before);
    }
}

/// The whole procedure.
#[test]
fn a_pool_with_a_link_inside_is_left_for_another_one() {
    let mut bed = Bed::well("fixed pool");
    let host = bed.host(0).clone();
    host.ip("-6 route add 2001:db8::/32 dev eth0 proto static").unwrap();
    let text =
        bed.expect("packets to unassigned addresses of pool main 2001:db8:8000::/40 are not refused here");
    let commands = commands(&text);
    let [add, drain, forget, remove] = commands[..] else { panic!("{commands:#?}") };
    bed.run(0, &add.replace("NAME", "other").replace("PREFIX", "fd00:0:5e00::/40"));
    bed.run(0, drain);
    let both = setting(&text, "pool", "");
    for index in 0..2 {
        bed.restart(index, &format!("{}\n{ETH0}", both.replace("NAME", "other")));
        bed.cluster.settle();
        bed.renew_container_in(index, "other");
    }
    bed.expect_reached();
    let only = setting(text.split_once("then").unwrap().1, "pool", "");
    for (index, node) in ["h1", "h2"].into_iter().enumerate() {
        bed.restart(index, &format!("{}\n{ETH0}", only.replace("NAME", "other")));
        bed.cluster.settle();
        bed.run(0, &forget.replace("NODE", node));
    }
    bed.run(0, remove);
    bed.expect_well();
    let routes = host.routes_of(66).unwrap();
    assert!(routes.iter().any(|it| it.starts_with("unreachable fd00:0:5e00::/40")), "{routes:#?}");
    assert!(!routes.iter().any(|it| it.contains("2001:db8:8")), "{routes:#?}");
}

#[test]
fn other_routes_to_a_nodes_prefix_are_kept_or_removed_by_where_they_lead() {
    let bed = Bed::well("fixed conflict");
    let (host, far) = (bed.host(0), bed.cluster.prefix("h2"));
    let conflict = format!("conflict with {far} proto");
    // By a gateway, and to an old bridge.
    host.ip(&format!("-6 route add {far} via fe80::99 dev eth0 proto static metric 100")).unwrap();
    let text = bed.expect(&conflict);
    let show = commands(&text)[0];
    let shown = host.check(&["sh", "-c", show]).unwrap();
    assert!(shown.contains("via fe80::99") && text.contains("to a gateway, remove it"), "{shown} {text}");
    host.ip(&format!("-6 route del {far} via fe80::99 dev eth0 proto static metric 100")).unwrap();
    bed.expect_healed();

    host.ip("link add br-old type bridge").unwrap();
    host.ip("link set br-old up").unwrap();
    let old = format!("{}/64", far.first_host());
    host.ip(&format!("-6 address add {old} dev br-old nodad")).unwrap();
    let text = bed.expect(&conflict);
    let shown = host.check(&["sh", "-c", commands(&text)[0]]).unwrap();
    assert!(
        shown.contains("dev br-old") && text.contains("keep it and give the containers"),
        "{shown} {text}"
    );
    host.ip("-6 address add fd00:1::1/64 dev br-old nodad").unwrap();
    host.ip(&format!("-6 address del {old} dev br-old")).unwrap();
    bed.expect_healed();
}
