//! Rules of the routing policy that take packets from the agents' routes.

use super::bed::{Bed, commands};

const WORDS: &str = "is evaluated before routing table 254 for ";
const FROM: &str = "packets of containers to other nodes";
const TO: &str = "packets of other nodes to containers";
const HOST: &str = "packets of this host to containers";

/// Each is found with the packets that it takes, and either fix ends it.
#[test]
fn a_rule_that_takes_packets_is_removed_or_preceded() {
    let bed = Bed::well("fixed rule");
    let (host, own, far) = (bed.host(0), bed.cluster.prefix("h1"), bed.cluster.prefix("h2"));
    host.ip("-6 route add default via fe80::99 dev eth0 proto static table 77").unwrap();
    let (container, both) = (bed.containers[0].address(), format!("{FROM}, {HOST}"));
    for (rule, packets) in [
        (format!("from {own} lookup 77"), both.as_str()),
        (format!("from {container} prohibit"), FROM),
        ("iif docker0 blackhole".to_owned(), FROM),
        ("ipproto ipv6-icmp to 2001:db8:8000::/40 unreachable".to_owned(), &format!("{FROM}, {TO}, {HOST}")),
        (format!("to {far} prohibit"), &both),
        (format!("from {far} iif eth0 lookup 77"), TO),
        (format!("from {own} goto 32767"), &both),
    ] {
        host.ip("-6 rule add lookup 78 pref 32767").unwrap();
        let add = || host.ip(&format!("-6 rule add {rule} pref 100")).unwrap();
        add();
        let text = bed.expect(WORDS);
        assert!(text.contains(&format!("{WORDS}{packets}: those to ")), "{rule}: {text}");
        let [delete, precede] = commands(&text)[..] else { panic!("{text}") };
        bed.run(0, delete);
        assert!(!host.ip("-6 rule show").unwrap().contains("100:"), "{delete}");
        bed.expect_healed();
        add();
        let again = bed.expect(WORDS);
        assert_eq!(commands(&again)[1], precede);
        bed.run(0, precede);
        bed.expect_healed();
        // Never the rule alone: its finding would still be there when the next one is looked for.
        for pref in [100, 99, 32767] {
            host.ip(&format!("-6 rule del pref {pref}")).unwrap();
        }
        bed.expect_healed();
    }
}

/// They match none of the packets, or lead them where ours do.
#[test]
fn a_rule_by_which_packets_fare_the_same_is_no_trouble() {
    let bed = Bed::well("harmless rules");
    let (host, own, far) = (bed.host(0), bed.cluster.prefix("h1"), bed.cluster.prefix("h2"));
    host.ip(&format!("-6 route add {far} via {} dev eth0 proto static table 77", bed.host(1).address()))
        .unwrap();
    host.ip("-6 route add default via fe80::99 dev eth0 proto static table 78").unwrap();
    for rule in [
        format!("from {own} lookup main"),
        format!("from {own} lookup 77"),
        "fwmark 7 lookup 78".to_owned(),
        "uidrange 1000-2000 prohibit".to_owned(),
        "oif eth0 lookup 78".to_owned(),
        "iif eth9 prohibit".to_owned(),
        "to 2001:db8:9000::/64 prohibit".to_owned(),
        format!("from {own} lookup 78 suppress_prefixlength 0"),
    ] {
        host.ip(&format!("-6 rule add {rule} pref 100")).unwrap();
    }
    // The agent has seen them: this one is reported.
    host.ip(&format!("-6 rule add from {own} lookup 78 pref 200")).unwrap();
    let text = bed.expect(WORDS);
    assert!(text.contains("rule 200: "), "{text}");
    bed.run(0, commands(&text)[0]);
    bed.expect_healed();
}

/// A route that comes into a table of such a rule later.
#[test]
fn a_route_in_the_table_of_a_rule_is_noticed() {
    let bed = Bed::well("later route");
    let (host, own) = (bed.host(0), bed.cluster.prefix("h1"));
    host.ip(&format!("-6 rule add from {own} lookup 77 pref 100")).unwrap();
    bed.expect_healed();
    host.ip("-6 route add default via fe80::99 dev eth0 proto static table 77").unwrap();
    let text = bed.expect(WORDS);
    assert!(text.contains("take default via fe80::99 dev eth0 metric 1024 table 77"), "{text}");
    host.ip("-6 route del default via fe80::99 dev eth0 proto static table 77").unwrap();
    bed.expect_healed();
}

/// The host reaches nothing without it, nor does its agent reach the controller.
#[test]
fn the_rule_of_the_main_table_is_added_again() {
    let bed = Bed::well("fixed main rule");
    bed.host(0).ip("-6 rule del pref 32766").unwrap();
    let text = bed.expect_unready(0, "no rule uses routing table 254");
    bed.run(0, commands(&text)[0]);
    bed.expect_healed();

    // A rule that is left leads packets of containers only.
    let own = bed.cluster.prefix("h1");
    bed.host(0).ip(&format!("-6 rule add from {own} lookup main pref 1000")).unwrap();
    bed.host(0).ip("-6 rule del pref 32766").unwrap();
    let text = bed.expect_unready(0, "no rule leads ");
    assert!(text.contains("to routing table 254"), "{text}");
    bed.run(0, commands(&text)[0]);
    bed.expect_healed();
}
