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
        // The first two show what it is, which belongs there.
        assert!(fix.len() == 3 && text.contains("create its containers again"), "{text}");
        fix.iter().for_each(|command| bed.run(0, command));
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
    assert!(
        shown.contains("via fe80::99") && text.contains("otherwise remove it where it is configured"),
        "{shown} {text}"
    );
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

/// Each is found and its fix carried out: by a gateway, dropped, on a link of the host, as an address without a route for its link; and
/// in a table that is looked up first.
#[test]
fn routes_inside_of_a_peers_prefix_are_removed_or_their_link_gets_another_prefix() {
    let bed = Bed::well("fixed inside");
    let (host, far) = (bed.host(0), bed.cluster.prefix("h2"));
    let inside = far.nth(80, 0).unwrap();
    host.ip("link add br-old type bridge").unwrap();
    host.ip("link set br-old up").unwrap();
    for route in [
        format!("{inside} via fe80::99 dev eth0 proto static"),
        format!("blackhole {inside} proto bird"),
        format!("{inside} dev br-old proto boot metric 4000"),
    ] {
        host.ip(&format!("-6 route add {route}")).unwrap();
        let text = expect_shown(&bed, &format!("conflict with {inside} "), &inside.to_string());
        assert!(text.contains(&format!("theirs wins over {far}, so packets to node h2 take it")), "{text}");
        assert!(text.contains("otherwise remove it where it is configured"), "{text}");
        host.ip(&format!("-6 route del {route}")).unwrap();
        bed.expect_healed();
    }
    for (options, shown) in [("", inside.to_string()), ("noprefixroute", format!("{}", inside.first_host()))]
    {
        let address = format!("{}/80", inside.first_host());
        host.ip(&format!("-6 address add {address} dev br-old nodad {options}")).unwrap();
        let text = expect_shown(&bed, &format!("conflict with {shown}"), &shown);
        assert!(text.contains("give the containers or hosts there another prefix"), "{text}");
        host.ip("-6 address replace fd00:1::1/64 dev br-old nodad").unwrap();
        host.ip(&format!("-6 address del {address} dev br-old")).unwrap();
        bed.expect_healed();
    }
    host.ip("-6 rule add lookup 77 pref 1000").unwrap();
    host.ip("-6 route add 2001:db8:8000::/33 via fe80::99 dev eth0 table 77").unwrap();
    let text = expect_shown(&bed, "conflict with 2001:db8:8000::/33 ", "table 77");
    assert!(text.contains("theirs wins over"), "{text}");
    host.ip("-6 route del 2001:db8:8000::/33 via fe80::99 dev eth0 table 77").unwrap();
    bed.expect_healed();
}

/// They take packets from the containers of the host itself.
#[test]
fn routes_inside_of_the_own_network_are_removed_or_their_link_gets_another_prefix() {
    let bed = Bed::well("fixed own");
    let (host, network) = (bed.host(0), bed.cluster.prefix("h1").nth(80, 0).unwrap());
    let inside = sextant_proto::Prefix::containing(bed.containers[0].address(), 112).unwrap();
    host.ip("link add br-old type bridge").unwrap();
    host.ip("link set br-old up").unwrap();
    for (route, words) in [
        (format!("blackhole {inside}"), "theirs wins over"),
        (format!("{inside} dev br-old"), "theirs wins over"),
        (format!("unreachable {} proto static", bed.containers[0].address()), "theirs wins over"),
        (format!("throw {inside} proto bird"), "theirs wins over"),
        (format!("prohibit {network} metric 100"), "theirs wins"),
    ] {
        host.ip(&format!("-6 route add {route}")).unwrap();
        let to = route.split(' ').find_map(|word| word.split('/').next()?.parse::<std::net::Ipv6Addr>().ok());
        let to = to.unwrap().to_string();
        let text = expect_shown(&bed, &format!("conflict with {to}"), &to);
        assert!(
            text.contains(words) && text.contains("packets to containers of this node take it"),
            "{text}"
        );
        host.ip(&format!("-6 route del {route}")).unwrap();
        bed.expect_healed();
    }
    host.ip(&format!("-6 route add blackhole {network} proto boot metric 1024")).unwrap();
    bed.expect(&format!("conflict with {network} proto boot metric 1024 blackhole: ours wins"));
    host.ip(&format!("-6 route del blackhole {network} proto boot metric 1024")).unwrap();
    bed.expect_healed();
    // An engine's network, and a container on a link of its own.
    host.ip(&format!("-6 address add {}/112 dev br-old nodad", network.nth(112, 9).unwrap().first_host()))
        .unwrap();
    host.ip(&format!("-6 route add {}/128 dev br-old", network.nth(112, 8).unwrap().first_host())).unwrap();
    host.ip(&format!("-6 route add blackhole {network} proto boot metric 1024")).unwrap();
    bed.expect("ours wins");
    host.ip(&format!("-6 route del blackhole {network} proto boot metric 1024")).unwrap();
    bed.expect_well();
}

/// Waits for a conflict; the command of its fix shows the route.
fn expect_shown(bed: &Bed, words: &str, destination: &str) -> String {
    let text = bed.expect(words);
    let shown = bed.host(0).check(&["sh", "-c", commands(&text)[0]]).unwrap();
    assert!(shown.contains(destination), "{shown:?} {text}");
    text
}

/// In unassigned addresses of the pool.
#[test]
fn a_route_inside_of_the_pool_is_removed_or_its_prefix_reserved() {
    let bed = Bed::well("fixed unassigned");
    let (host, free) = (bed.host(0), "2001:db8:80ff::/64");
    let route = format!("{free} via fe80::99 dev eth0 proto static");
    host.ip(&format!("-6 route add {route}")).unwrap();
    let text = expect_shown(&bed, &format!("conflict with {free} "), free);
    assert!(text.contains("unassigned addresses of pool main"), "{text}");
    host.ip(&format!("-6 route del {route}")).unwrap();
    bed.expect_healed();
    host.ip(&format!("-6 route add {route}")).unwrap();
    let text = bed.expect(&format!("conflict with {free} "));
    bed.run(0, commands(&text).last().unwrap());
    bed.expect_healed();
}
