//! Bridges and uplinks without IPv6, in two roles, missing, or with another bridge's prefix.

use sextant_tests::{BRIDGE, SECONDS, poll};

use super::bed::{Bed, commands, setting};

const ETH0: &str = "uplink.interface = \"eth0\"";

/// The addresses of an uplink go with its IPv6.
#[test]
fn an_uplink_without_ipv6_gets_it_back() {
    let bed = Bed::well("fixed ipv6");
    let (host, own) = (bed.host(0), bed.host(0).address());
    for (cause, words) in [
        ("ip link set eth0 mtu 1200", "uplink eth0 has MTU 1200"),
        ("echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "IPv6 is disabled on uplink eth0"),
    ] {
        bed.run(0, cause);
        let text = bed.expect_unready(0, words);
        let others = text.split("; ").find(|text| text.contains("must be added again"));
        assert!(others.is_some(), "{text}");
        bed.run(0, commands(text.split_once(words).unwrap().1)[0]);
        host.ip(&format!("-6 address replace {own}/64 dev eth0 nodad")).unwrap();
        bed.expect_healed();
    }
}

#[test]
fn an_uplink_is_taken_out_of_the_bridge_or_the_bridge_becomes_the_uplink() {
    let mut bed = Bed::well("fixed roles");
    let two_roles = |bed: &Bed| {
        bed.host(0).ip(&format!("link set eth0 master {BRIDGE}")).unwrap();
        bed.expect_unready(0, "uplink \"eth0\" is a port of bridge")
    };
    let text = two_roles(&bed);
    bed.run(0, commands(&text)[0]);
    bed.expect_healed();

    // The containers are moved, as ever when the bridge is another one.
    bed.containers.remove(0);
    bed.host(0).ip("link delete ve1").unwrap();
    let (text, own) = (two_roles(&bed), bed.host(0).address());
    bed.host(0)
        .ip_batch(&format!("address del {own}/64 dev eth0\naddress add {own}/64 dev {BRIDGE} nodad"))
        .unwrap();
    let uplink = setting(&text, "uplink.interface", "");
    let bridge = setting(&text, "bridge.interface", "\"ctr0\"");
    bed.restart(0, &format!("{uplink}\n{bridge}\nbridge.create = true"));
    poll("the containers have another bridge", 20 * SECONDS, || bed.host(0).address_of("ctr0"));
    bed.expect_well();
}

#[test]
fn a_missing_bridge_is_created_by_the_operator_or_by_the_agent() {
    let mut bed = Bed::well("fixed bridge");
    for by_agent in [false, true] {
        bed.stop(0);
        bed.host(0).ip(&format!("link delete {BRIDGE}")).unwrap();
        bed.start_again(0, &format!("bridge.create = false\n{ETH0}"));
        let text = bed.expect(&format!("waiting for bridge \"{BRIDGE}\""));
        if by_agent {
            bed.restart(0, &format!("{}\n{ETH0}", setting(&text, "bridge.create", "")));
        } else {
            assert!(text.contains("create the bridge,"), "{text}");
            bed.host(0).ip(&format!("link add {BRIDGE} type bridge")).unwrap();
        }
        bed.cluster.settle();
        bed.renew_container(0);
        bed.expect_healed();
    }
}

#[test]
fn another_bridge_with_the_container_prefix_becomes_the_bridge_or_gets_another_prefix() {
    let mut bed = Bed::well("fixed elsewhere");
    let prefix = format!("{}/80", bed.host(0).bridge_address().unwrap().0);
    bed.host(0).ip("link add br1 type bridge").unwrap();
    bed.host(0).ip("link set br1 up").unwrap();
    let elsewhere = |bed: &Bed| {
        bed.host(0).ip(&format!("-6 address add {prefix} dev br1 nodad")).unwrap();
        bed.expect("interface br1 also has the container prefix")
    };
    let text = elsewhere(&bed);
    assert!(text.contains("give br1 another prefix"), "{text}");
    bed.host(0).ip(&format!("-6 address del {prefix} dev br1")).unwrap();
    bed.host(0).ip("-6 address add fd00:1::1/80 dev br1 nodad").unwrap();
    bed.expect_healed();

    // The containers are on it.
    let text = elsewhere(&bed);
    bed.host(0).ip("link set ve1 master br1").unwrap();
    bed.containers[0].ip("-6 neigh flush dev eth0").unwrap();
    bed.restart(0, &format!("{}\n{ETH0}", setting(&text, "bridge.interface", "")));
    bed.expect_healed();
}

/// The operator made it: the agent does not rename it, nor does it make a second one.
#[test]
fn a_renamed_bridge_of_the_operator_gets_its_name_back_or_is_named() {
    let prepare = |cluster: &crate::cluster::Cluster| {
        cluster.hosts[0].ip(&format!("link add {BRIDGE} type bridge")).unwrap();
    };
    let mut bed = Bed::start("fixed bridge name", [ETH0; 2], prepare);
    bed.expect_well();
    let renamed = |bed: &Bed| {
        bed.host(0).ip(&format!("link set {BRIDGE} name brx")).unwrap();
        let text = bed
            .expect(&format!("bridge {BRIDGE} does not exist, and interface brx has its container prefix"));
        bed.expect_reached();
        text
    };
    bed.run(0, commands(&renamed(&bed))[0]);
    bed.expect_healed();

    let text = renamed(&bed);
    bed.restart(0, ETH0);
    bed.cluster.settle();
    bed.expect(&format!("bridge {BRIDGE} does not exist"));
    assert!(!bed.host(0).ip("-br link show").unwrap().contains(BRIDGE), "there is no second one");
    bed.expect_reached();
    bed.restart(0, &format!("{}\n{ETH0}", setting(&text, "bridge.interface", "")));
    bed.expect_healed();
}

#[test]
fn a_table_without_a_rule_gets_one_or_another_table_is_set() {
    let mut bed = Bed::well("fixed table");
    let other = format!("routes.table = 100\nroutes.resync = 1\n{ETH0}");
    bed.restart(0, &other);
    let text = bed.expect("no rule uses routing table 100");
    let rules = commands(&text);
    assert_eq!(rules.len(), 2, "{rules:?}");
    rules.iter().for_each(|rule| bed.run(0, rule));
    bed.expect_well();
    assert!(text.contains("or change [routes] table"), "{text}");
    bed.host(0).ip("-6 rule del lookup 100 pref 1000").unwrap();
    bed.host(0).ip("-6 rule del lookup main suppress_prefixlength 0 pref 999").unwrap();
    bed.expect("no rule uses routing table 100");
    bed.restart(0, &format!("routes.table = 254\n{ETH0}"));
    bed.expect_healed();
}

/// Another process applies its file again and again.
#[test]
fn a_process_that_changes_sysctls_is_found_and_its_value_changed() {
    let bed = Bed::well("fixed sysctl");
    let dir = bed.cluster.lab.dir().join("sysctl.conf").display().to_string();
    std::fs::write(&dir, "net.ipv6.conf.all.forwarding=0\n").unwrap();
    bed.run(0, &format!("sysctl -q -p {dir}"));
    let text = bed.expect("another process changed sysctl net.ipv6.conf.all.forwarding: 0");
    let grep = commands(&text)[0];
    bed.run(0, &format!("{grep} || true"));
    let grep = format!("{} || true", grep.replace("/etc/sysctl.conf", &dir));
    let found = bed.host(0).check(&["sh", "-c", &grep]).unwrap();
    assert!(found.contains("net.ipv6.conf.all.forwarding=0"), "{found}");
    let value = text.split_once("the agent restored it: ").unwrap().1.split(';').next().unwrap();
    std::fs::write(&dir, format!("net.ipv6.conf.all.forwarding={value}\n")).unwrap();
    bed.run(0, &format!("sysctl -q -p {dir}"));
    bed.cluster.expect_full_mesh();
    bed.expect_reached();
    let again = bed.expect("another process changed sysctl net.ipv6.conf.all.forwarding: 0");
    assert!(again.contains(&text[..text.find(" (since").unwrap_or(text.len())]), "{again}\n{text}");
}
