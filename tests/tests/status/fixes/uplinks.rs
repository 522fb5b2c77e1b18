//! Uplinks: missing, without a usable address, silent, shared, or not those that the peers are on.

use sextant_tests::{Host, SECONDS, poll};

use super::bed::{Bed, commands, setting};
use crate::cluster::Cluster;

const ETH0: &str = "uplink.interface = \"eth0\"";
const ETH9: &str = "uplink.interface = \"eth9\"";

/// Each host has a NAT link of its own, `eth9`, with these addresses.
fn behind_nat(addresses: [&str; 2]) -> impl FnOnce(&Cluster) {
    move |cluster| {
        for (host, address) in cluster.hosts.iter().zip(addresses) {
            host.ip_batch(&format!(
                "link add eth9 type veth peer name nat
                 link set nat up
                 link set eth9 up
                 address add {address}/64 dev eth9 nodad"
            ))
            .unwrap();
        }
    }
}

#[test]
fn a_silent_uplink_and_a_shared_next_hop_are_left_for_the_one_that_leads_to_the_hosts() {
    for (addresses, words) in [
        (["fd17::15", "fd17::16"], "no peer answers neighbour solicitations on uplink eth9"),
        (["fd17::15", "fd17::15"], "other nodes announce an address of this host, on uplink eth9"),
    ] {
        let mut bed = Bed::start("fixed uplinks", [ETH9; 2], behind_nat(addresses));
        let line = setting(&bed.expect(words), "uplink.interface", "\"eth0\"");
        (0..2).for_each(|index| bed.restart(index, &line));
        bed.expect_healed();
    }
}

#[test]
fn a_next_hop_that_two_nodes_have_on_the_right_link_is_changed() {
    let bed = Bed::well("fixed next hop");
    for host in &bed.cluster.hosts {
        host.ip("-6 address add 2001:db8::77/64 dev eth0 nodad").unwrap();
    }
    let text = bed.expect("other nodes announce an address of this host, on uplink eth0");
    assert!(text.contains("another address"), "{text}");
    bed.host(1).ip("-6 address del 2001:db8::77/64 dev eth0").unwrap();
    bed.host(1).ip("-6 address add 2001:db8::78/64 dev eth0 nodad").unwrap();
    bed.expect_healed();
}

#[test]
fn an_uplink_with_another_name_is_named_or_gets_its_name_back() {
    let mut bed = Bed::well("fixed name");
    let renamed = |bed: &Bed| {
        bed.host(0).ip("link set eth0 name lan0").unwrap();
        bed.expect("uplink \"eth0\" is named \"lan0\" now")
    };
    let text = renamed(&bed);
    bed.expect_reached();
    bed.run(0, commands(&text)[0]);
    bed.expect_healed();
    let text = renamed(&bed);
    bed.restart(0, &setting(&text, "uplink.interface", ""));
    bed.expect_well();

    // It has none of the settings' names any more.
    bed.host(0).ip("link set lan0 name eth0").unwrap();
    bed.restart(0, ETH0);
    bed.expect_healed();
}

#[test]
fn an_uplink_without_a_usable_address_gets_one() {
    let bed = Bed::well("fixed address");
    let (host, own, other) = (bed.host(0), bed.host(0).address(), bed.host(1).address());
    host.ip(&format!("-6 address del {own}/64 dev eth0")).unwrap();
    let text = bed.expect_unready(0, "uplink eth0 has no usable IPv6 address (global");
    let add = commands(&text)[0].replace("ADDRESS/LENGTH", &format!("{own}/64"));
    bed.run(0, &add);
    bed.expect_healed();

    host.ip(&format!("-6 address del {own}/64 dev eth0")).unwrap();
    for sysctl in ["accept_dad", "dad_transmits"] {
        host.sysctl(&format!("net/ipv6/conf/eth0/{sysctl}"), "1").unwrap();
    }
    host.ip(&format!("-6 address add {other}/64 dev eth0")).unwrap();
    let text = bed.expect_unready(0, "another host on the link uses");
    let [find, delete, ..] = commands(&text)[..] else { panic!("{text}") };
    bed.cluster.lab.switch().check(&["ip", "-6", "neigh", "show", "dev", "br0"]).unwrap();
    assert_eq!(find, "ip -6 neigh show dev eth0");
    bed.run(0, delete);
    bed.run(0, &add);
    bed.expect_healed();
}

/// The controller is reached by a route of its own.
#[test]
fn a_flushed_route_of_the_link_comes_back_with_its_address_or_is_none() {
    let bed = Bed::well("fixed flush");
    let host = bed.host(0);
    host.ip("-6 route add 2001:db8::c:1/128 dev eth0 proto static").unwrap();
    let flush = || {
        host.ip("-6 route flush 2001:db8::/64 dev eth0 proto kernel").unwrap();
        bed.expect("its route to 2001:db8::/64 was removed by another process")
    };
    let text = flush();
    let [again, none] = commands(&text)[..] else { panic!("{text}") };
    bed.run(0, again);
    bed.expect_healed();
    flush();
    bed.run(0, none);
    poll("nothing is reported", 20 * SECONDS, || {
        let status = bed.cluster.sextant(&["status"]);
        if status.contains("was removed by another process") { Err(status) } else { Ok(()) }
    });
    bed.run(0, again);
    bed.expect_healed();
}

/// Everything that the main table has is flushed, or all of the link: the agent's routes come back, and with the link's own route those
/// to peers. The controller is reached by a route in another table.
#[test]
fn a_flush_of_all_routes_is_named_and_its_fix_brings_back_all_of_them() {
    let bed = Bed::well("fixed flush of all");
    let host = bed.host(0);
    host.ip("-6 rule add to 2001:db8::c:1 lookup 99 pref 99").unwrap();
    host.ip("-6 route add 2001:db8::c:1/128 dev eth0 proto static table 99").unwrap();
    for flush in ["-6 route flush dev eth0", "-6 route flush table main"] {
        host.ip(flush).unwrap();
        let text = bed.expect("its route to 2001:db8::/64 was removed by another process");
        bed.run(0, commands(&text)[0]);
        bed.expect_reached();
        bed.cluster.expect_full_mesh();
        poll("nothing more is reported", 40 * SECONDS, || {
            let status = bed.cluster.sextant(&["status"]);
            let lasts = status
                .lines()
                .any(|line| line.contains("node h1") && !line.contains("another process changed"));
            if lasts { Err(status) } else { Ok(()) }
        });
    }
}

/// Neighbours that are known already are reached for a while.
#[test]
fn an_uplink_or_a_bridge_without_a_link_local_address_gets_one() {
    let bed = Bed::well("fixed link-local");
    let host = bed.host(0);
    host.ip("-6 address flush dev eth0 scope link").unwrap();
    host.ip("-6 neigh flush dev eth0").unwrap();
    let text = bed.expect("uplink eth0 has no link-local address");
    bed.run(0, commands(&text)[0]);
    bed.expect_healed();

    // The bridge of another network of the host's engine, with a port.
    let network = bed.cluster.prefix("h1").nth(80, 1).unwrap();
    host.ip_batch(&format!(
        "link add br-x type bridge
         link add px type veth peer name cx
         link set px master br-x up
         link set cx up
         link set br-x up
         address add {}/80 dev br-x nodad",
        network.first_host()
    ))
    .unwrap();
    poll("br-x has a link-local address", 10 * SECONDS, || {
        let shown = host.ip("-6 -o address show dev br-x scope link")?;
        anyhow::ensure!(shown.contains("fe80::"), "{shown}");
        anyhow::Ok(())
    });
    bed.expect_well();
    host.ip("-6 address flush dev br-x scope link").unwrap();
    let text = bed.expect("interface br-x has no link-local address");
    bed.run(0, commands(&text)[0]);
    bed.expect_well();
}

/// The second host is in another subnet, behind a router, which is returned.
fn behind_a_router(cluster: &Cluster) -> Host {
    let router = cluster.lab.router().unwrap();
    let (first, second) = (&cluster.hosts[0], &cluster.hosts[1]);
    router.ip("address add 2001:db8:0:2::fe/64 dev eth0 nodad").unwrap();
    second.ip(&format!("-6 address del {}/64 dev eth0", second.address())).unwrap();
    second.ip("-6 address add 2001:db8:0:2::2/64 dev eth0 nodad").unwrap();
    second.ip("-6 route add default via 2001:db8:0:2::fe proto static").unwrap();
    first.ip(&format!("-6 route add default via {} proto static", router.address())).unwrap();
    cluster.lab.switch().ip(&format!("-6 route add 2001:db8:0:2::/64 via {}", router.address())).unwrap();
    router
}

#[test]
fn peers_that_are_not_on_link_are_reached_through_the_gateway_or_left_to_the_router() {
    let mut router = None;
    let mut bed = Bed::start("fixed off-link", [ETH0; 2], |it| router = Some(behind_a_router(it)));
    let router = router.unwrap();
    for (name, hop) in [("h1", "2001:db8::1"), ("h2", "2001:db8:0:2::2")] {
        router.ip(&format!("-6 route add {} via {hop}", bed.cluster.prefix(name))).unwrap();
    }
    let text = bed.expect("node h1: not on-link on any uplink");
    for (key, route) in [
        ("routes.off-link", format!("{} via {} dev eth0", bed.cluster.prefix("h2"), router.address())),
        ("topology", format!("unreachable {}", bed.cluster.prefix("h1"))),
    ] {
        let line = setting(&text, key, "");
        (0..2).for_each(|index| bed.restart(index, &format!("{line}\n{ETH0}")));
        bed.expect_well();
        let routes = bed.host(0).routes_of(66).unwrap();
        assert!(routes.iter().any(|it| it.starts_with(&route)), "{routes:#?}");
    }
}

#[test]
fn peers_whose_uplink_is_another_link_get_the_right_one() {
    let mut bed = Bed::start("fixed peer", [ETH0, ETH9], behind_nat(["fd17::15", "fd17::16"]));
    let text = bed.expect("node h1: not on-link on any uplink, so packets to their prefixes are refused: h2");
    let show = commands(&text).pop().unwrap().replace("NAME", "h2");
    bed.run(0, &show);
    let line = setting(&text, "uplink.interface", "\"eth0\"");
    bed.restart(1, &line);
    bed.expect_healed();
}

/// The kernel believes it whatever it is: the peer is alive, and no packet reaches it.
#[test]
fn a_permanent_neighbour_entry_of_a_peer_is_removed() {
    let bed = Bed::well("fixed entry");
    let peer = bed.host(1).address();
    bed.host(0)
        .ip(&format!("-6 neigh replace {peer} lladdr 02:00:00:00:bb:01 dev eth0 nud permanent"))
        .unwrap();
    let text = bed.expect("neighbour entries of peers are permanent");
    assert!(text.contains(&format!("{peer} dev eth0 lladdr 02:00:00:00:bb:01 of node h2")), "{text}");
    bed.run(0, commands(&text)[0]);
    bed.expect_healed();
}
