use sextant_proto::Prefix;

use super::*;
use crate::{
    kernel::{Further, Link, MAIN_TABLE},
    problems::Finding,
    routes::{Actual, Entry},
    uplinks::route,
};

const OWN: &str = "2001:db8:8000::/64";
const PEER: &str = "2001:db8:8001::/64";

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn entry(text: &str) -> Entry {
    let route = route(text);
    (route.key, route.target)
}

fn rule(priority: u32, table: u32) -> Rule {
    Rule { priority, action: RuleAction::Table(table), ..Rule::default() }
}

fn local() -> Rule {
    rule(0, LOCAL_TABLE)
}

fn main() -> Rule {
    rule(32766, MAIN_TABLE)
}

/// This host, between containers and other nodes.
fn here<T>(then: impl FnOnce(&Place<'_>) -> T) -> T {
    let networks = [entry("2001:db8:8000::/80 dev 7 metric 256")];
    let peer = entry("2001:db8:8001::/64 via 2001:db8::2 dev 2 metric 512");
    then(&Place {
        own: vec![prefix(OWN)],
        networks: &networks,
        peers: vec![(prefix(PEER), Some(&peer.1)), (prefix("2001:db8:8002::/64"), None)],
        inside: vec!["br0", "br1"],
        outside: vec!["eth0"],
        addresses: vec![prefix("2001:db8::1/128"), prefix("2001:db8:8000::1/128")],
    })
}

/// The findings of this host with these rules, and these routes of others in table 77.
fn found(rules: Vec<Rule>, others: &[&str]) -> Vec<Finding> {
    let mut actual = Actual::default();
    others.iter().for_each(|it| actual.saw(&route(&format!("{it} table 77"))));
    let policy = Policy { rules: &rules, table: MAIN_TABLE, others: &actual.foreign };
    let link = Link { index: 2, name: "eth0".into(), ..Link::default() };
    here(|place| policy.findings(&place.flows(), &[prefix("2001:db8:8000::/40")], &[link]))
}

/// The priority of the rule that takes packets of containers to other nodes, and the first of these nodes' prefixes.
fn takes(rules: &[Rule], others: &[&str]) -> Vec<(u32, String)> {
    let mut actual = Actual::default();
    others.iter().for_each(|it| actual.saw(&route(it)));
    let policy = Policy { rules, table: MAIN_TABLE, others: &actual.foreign };
    let taken = here(|place| policy.judge(&place.flows()).taken);
    let of_containers = taken.iter().flat_map(|it| {
        let packets = it.packets.iter().filter(|(traffic, ..)| *traffic == Traffic::FromContainers);
        packets.map(|(_, to, _)| (it.rule.priority, to.to_string()))
    });
    of_containers.collect()
}

/// The kinds of packets that are taken from a host with this rule before that of the main table.
fn taken(rule: Rule, others: &[&str]) -> String {
    let found = found(vec![local(), rule, main()], others);
    let kinds = found.iter().map(|it| {
        let (_, kinds) = it.saw.split_once(" for ").unwrap();
        kinds.split_once(": those").unwrap().0.to_owned()
    });
    kinds.collect::<Vec<_>>().join("; ")
}

const FROM: &str = "packets of containers to other nodes";
const TO: &str = "packets of other nodes to containers";
const HOST: &str = "packets of this host to containers";

fn refuses() -> Rule {
    Rule { priority: 100, action: RuleAction::Refuse("prohibit"), ..Rule::default() }
}

#[test]
fn a_rule_that_refuses_takes_what_it_matches() {
    let all = format!("{FROM}, {TO}, {HOST}");
    let further = |met_by| Further { met_by, words: String::new() };
    for (rule, expected) in [
        (Rule { from: Some(prefix(OWN)), ..refuses() }, format!("{FROM}, {HOST}")),
        (Rule { from: Some(prefix("2001:db8:8000:0:0:1::/96")), ..refuses() }, FROM.to_owned()),
        (Rule { from: Some(prefix("2001:db8::/32")), ..refuses() }, all.clone()),
        (Rule { from: Some(prefix("2001:db8::2/128")), ..refuses() }, TO.to_owned()),
        (Rule { from: Some(prefix(PEER)), ..refuses() }, TO.to_owned()),
        (Rule { from: Some(prefix("fd00::/8")), ..refuses() }, String::new()),
        (Rule { to: Some(prefix(PEER)), ..refuses() }, format!("{FROM}, {HOST}")),
        (Rule { to: Some(prefix("2001:db8:8002::7/128")), ..refuses() }, format!("{FROM}, {HOST}")),
        (Rule { to: Some(prefix(OWN)), ..refuses() }, format!("{TO}, {HOST}")),
        (Rule { to: Some(prefix("2001:db8:80ff::/64")), ..refuses() }, String::new()),
        (Rule { iif: Some("br1".into()), conditional: true, ..refuses() }, FROM.to_owned()),
        (Rule { iif: Some("eth0".into()), conditional: true, ..refuses() }, TO.to_owned()),
        (Rule { iif: Some("lo".into()), conditional: true, ..refuses() }, HOST.to_owned()),
        (Rule { iif: Some("eth7".into()), conditional: true, ..refuses() }, String::new()),
        (Rule { iif: Some("eth7".into()), conditional: true, inverted: true, ..refuses() }, all.clone()),
        (Rule { further: further(Share::None), conditional: true, ..refuses() }, String::new()),
        (Rule { further: further(Share::Some), conditional: true, ..refuses() }, all.clone()),
        (Rule { further: further(Share::None), conditional: true, inverted: true, ..refuses() }, all),
    ] {
        assert_eq!(taken(rule.clone(), &[]), expected, "{rule:?}");
    }
}

#[test]
fn a_rule_with_a_table_takes_what_that_leads_elsewhere() {
    let from = |table| Rule { from: Some(prefix(OWN)), ..rule(100, table) };
    let both = format!("{FROM}, {HOST}");
    for (rule, others, expected) in [
        (from(77), &[][..], ""),
        (from(MAIN_TABLE), &[], ""),
        (from(77), &["::/0 via fe80::9 dev 3"], &both),
        (from(77), &["2001:db8:8001:5::/80 dev 3"], ""),
        (from(77), &["2001:db8:8001:0:5::/80 dev 3"], &both),
        (from(77), &["blackhole 2001:db8:8001::/48"], &both),
        (from(77), &["throw ::/0"], ""),
        (from(77), &["fd00::/8 via fe80::9 dev 3"], ""),
        // The same next hop, also beside a default route.
        (from(77), &["2001:db8:8001::/64 via 2001:db8::2 dev 2"], ""),
        (
            from(77),
            &[
                "2001:db8:8001::/64 via 2001:db8::2 dev 2",
                "2001:db8:8000::/80 dev 7",
                "::/0 via fe80::9 dev 3",
            ],
            "",
        ),
        (Rule { suppress_prefix_len: Some(0), ..from(77) }, &["::/0 via fe80::9 dev 3"], ""),
        (
            Rule { iif: Some("eth0".into()), conditional: true, ..rule(100, 77) },
            &["::/0 via fe80::9 dev 3"],
            TO,
        ),
        (
            Rule { iif: Some("eth0".into()), conditional: true, ..rule(100, 77) },
            &["2001:db8:8000::/80 dev 7", "::/0 via fe80::9 dev 3"],
            "",
        ),
        (
            Rule { to: Some(prefix("2001:db8:8001:0:7::/80")), ..rule(100, 77) },
            &["2001:db8:8001::/64 dev 3"],
            &both,
        ),
        (
            Rule { to: Some(prefix("2001:db8:8001:0:7::/80")), ..rule(100, 77) },
            &["2001:db8:8001:0:8::/80 dev 3"],
            "",
        ),
    ] {
        assert_eq!(taken(rule.clone(), others), expected, "{rule:?} {others:?}");
    }
}

#[test]
fn a_rule_that_comes_later_takes_nothing() {
    let later = Rule { from: Some(prefix(OWN)), priority: 32767, ..refuses() };
    let ours = Rule { to: Some(prefix("2001:db8:8000::/40")), ..rule(99, MAIN_TABLE) };
    let mark = Rule { from: Some(prefix(OWN)), ..refuses() };
    for rules in [
        vec![local(), main(), later],
        vec![local(), ours, mark, main()],
        vec![local(), Rule { suppress_prefix_len: Some(0), ..rule(99, MAIN_TABLE) }, refuses(), main()],
    ] {
        assert!(found(rules.clone(), &[]).is_empty(), "{rules:?}");
    }
}

#[test]
fn a_jump_past_our_table_takes_packets_too() {
    let jump = |priority, from: Option<&str>| Rule {
        from: from.map(prefix),
        action: RuleAction::Goto(priority),
        ..refuses()
    };
    assert_eq!(taken(jump(32767, Some(OWN)), &[]), format!("{FROM}, {HOST}"));
    assert_eq!(taken(jump(32766, Some(OWN)), &[]), "");
    let selective = Rule { from: Some(prefix("fd00::/8")), ..rule(50, 77) };
    let rules = vec![local(), selective, jump(32767, None), main()];
    assert!(found(rules, &[])[0].saw.contains("skip the rules that lead there"));
    let skipped = Rule { from: Some(prefix(OWN)), priority: 200, ..refuses() };
    assert!(found(vec![local(), jump(300, None), skipped, main()], &[]).is_empty());
}

#[test]
fn packets_that_no_rule_leads_to_our_table_are_reported() {
    let only = Rule { from: Some(prefix(OWN)), ..rule(100, MAIN_TABLE) };
    let found = found(vec![local(), only], &[]);
    assert_eq!(found.iter().map(|it| it.what).collect::<Vec<_>>(), ["table-without-rule"]);
    assert!(found[0].saw.contains(TO) && !found[0].saw.contains(FROM), "{found:?}");
    assert!(found[0].fix.contains("`ip -6 rule add lookup main pref 32766`"), "{found:?}");
}

/// A program of the host that has not chosen a source address yet is matched by no rule with one.
#[test]
fn a_rule_for_all_addresses_of_the_host_leads_not_all_of_its_packets() {
    let all = Rule { from: Some(prefix("2001:db8::/32")), ..rule(100, MAIN_TABLE) };
    let found = found(vec![local(), all], &[]);
    let [finding] = &found[..] else { panic!("{found:?}") };
    assert!(finding.saw.starts_with(&format!("no rule leads {HOST} to routing table 254")), "{finding:?}");
}

#[test]
fn a_finding_names_the_rule_the_packets_and_both_fixes() {
    let from = Rule { from: Some(prefix(OWN)), ..rule(100, 77) };
    let found = found(vec![local(), from, main()], &["::/0 via fe80::9 dev 2 metric 7"]);
    assert_eq!(
        found[0].saw,
        "rule 100: from 2001:db8:8000::/64 lookup 77 is evaluated before routing table 254 for packets of containers to other \
         nodes, packets of this host to containers: those to 2001:db8:8001::/64 take default via fe80::9 dev eth0 metric 7 table 77"
    );
    assert_eq!(
        found[0].fix,
        "remove the rule (`ip -6 rule del pref 100 from 2001:db8:8000::/64 lookup 77`), also where it is configured; or, if other \
         packets need it, add one before it: `ip -6 rule add to 2001:db8:8000::/40 lookup 254 pref 99`"
    );
}

#[test]
fn what_is_for_no_packets_or_for_all_of_them_is_not_judged() {
    let none = || Further { met_by: Share::None, words: String::new() };
    let of_others = Rule { further: none(), conditional: true, ..rule(100, 77) };
    let to = |table| Rule { from: Some(prefix(OWN)), ..rule(100, table) };
    for (rule, judged, table) in [
        (rule(100, 77), false, None),
        (of_others.clone(), false, None),
        (Rule { inverted: true, ..of_others }, true, Some(77)),
        (to(77), true, Some(77)),
        (to(MAIN_TABLE), true, None),
        (to(LOCAL_TABLE), true, None),
        (Rule { from: Some(prefix(OWN)), ..refuses() }, true, None),
    ] {
        let rules = [local(), rule.clone(), main()];
        assert_eq!(is_judged(&rules), judged, "{rule:?}");
        assert_eq!(selected(&rules, MAIN_TABLE).collect::<Vec<_>>(), Vec::from_iter(table), "{rule:?}");
    }
    // Others' routes in a table for all packets are conflicts.
    let selective = Rule { from: Some(prefix("fd00::/8")), ..rule(50, 78) };
    let rules = [local(), selective, rule(100, 77), main()];
    assert_eq!(takes(&rules, &["::/0 via fe80::9 dev 3 table 77"]), []);
}

#[test]
fn a_rule_that_leads_some_packets_right_leaves_the_others_to_later_rules() {
    let some = || Further { met_by: Share::Some, words: String::new() };
    let marked = |rule: Rule| Rule { further: some(), conditional: true, from: Some(prefix(OWN)), ..rule };
    let refused = || Rule { priority: 200, from: Some(prefix(OWN)), ..refuses() };
    let part = prefix("2001:db8:8001:0:7::/80");
    let right = &["2001:db8:8001::/64 via 2001:db8::2 dev 2 table 77"][..];
    for (what, rule, others) in [
        ("alike", marked(rule(100, 77)), right),
        ("a part of the prefix", Rule { to: Some(part), ..rule(100, MAIN_TABLE) }, &[]),
        ("a suppressed route", Rule { suppress_prefix_len: Some(64), ..rule(100, MAIN_TABLE) }, &[]),
        ("a jump", marked(Rule { action: RuleAction::Goto(300), ..rule(100, 0) }), &[]),
    ] {
        let rules = [local(), rule, refused(), main()];
        assert_eq!(takes(&rules, others), [(200, PEER.to_owned())], "{what}");
    }
    let whole = Rule { from: Some(prefix(OWN)), ..rule(100, 77) };
    assert_eq!(takes(&[local(), whole, refused(), main()], right), [(200, "2001:db8:8002::/64".to_owned())]);
}

#[test]
fn the_table_of_a_rule_is_read_as_the_kernel_reads_it() {
    let from = || Rule { from: Some(prefix(OWN)), ..rule(100, 77) };
    let all_but = Rule { to: Some(prefix("2001:db8:8001:0:7::/80")), inverted: true, ..rule(100, 77) };
    let taken = || vec![(100, PEER.to_owned())];
    for (what, rule, others, expected) in [
        ("another table", from(), &["2001:db8:8001::/64 dev 3 table 76"][..], vec![]),
        (
            "the table of addresses",
            Rule { action: RuleAction::Table(LOCAL_TABLE), ..from() },
            &["2001:db8:8001::/64 dev 3 table 255"],
            vec![],
        ),
        (
            "the lowest metric",
            from(),
            &[
                "2001:db8:8001::/64 via 2001:db8::2 dev 2 metric 100 table 77",
                "2001:db8:8001::/64 dev 3 metric 200 table 77",
            ],
            vec![],
        ),
        (
            "not the lowest metric",
            from(),
            &[
                "2001:db8:8001::/64 via 2001:db8::2 dev 2 metric 300 table 77",
                "2001:db8:8001::/64 dev 3 metric 200 table 77",
            ],
            taken(),
        ),
        ("all but one part", all_but, &["2001:db8:8001:0:8::/80 dev 3 table 77"], taken()),
    ] {
        assert_eq!(takes(&[local(), rule, main()], others), expected, "{what}");
    }
}

#[test]
fn of_jumps_the_first_one_takes_packets_and_none_goes_back() {
    let jump =
        |priority, to| Rule { from: Some(prefix(OWN)), priority, action: RuleAction::Goto(to), ..refuses() };
    assert_eq!(takes(&[local(), jump(100, 150), jump(150, 32767), main()], &[]), [(100, PEER.to_owned())]);
    let earlier = Rule { from: Some(prefix("fd00::/8")), ..rule(50, 77) };
    assert_eq!(takes(&[local(), earlier, jump(100, 50), main()], &[]), []);
}
