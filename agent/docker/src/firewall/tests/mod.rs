mod packets;

use sextant_proto::Prefix;

use super::{
    policy::{FromCluster, FromOutside},
    *,
};

/// The prefix of another network of this host.
const OTHER_NETWORK: &str = "fd00:0:0:1::/80";

fn passes(from_cluster: FromCluster) -> Passes {
    Passes {
        own: ["2001:db8:1::/80", OTHER_NETWORK].map(|own| own.parse().unwrap()).to_vec(),
        pools: vec!["2001:db8::/32".parse().unwrap(), "fd00::/48".parse().unwrap()],
        from_cluster,
        from_outside: FromOutside::Published,
        published: Vec::new(),
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).collect()
}

/// What an engine of 20.10 has.
const FILTER: &str = "-P FORWARD DROP
    -N DOCKER
    -N DOCKER-ISOLATION-STAGE-1
    -A FORWARD -j DOCKER-ISOLATION-STAGE-1
    -A FORWARD -o sextant0 -j DOCKER
    -A FORWARD -i sextant0 ! -o sextant0 -j ACCEPT";
const NAT: &str = "-P POSTROUTING ACCEPT
    -N DOCKER
    -A POSTROUTING -s 2001:db8:1::/80 ! -o sextant0 -j MASQUERADE";
/// What engines from 28 on have.
const RAW: &str = "-P PREROUTING ACCEPT
    -A PREROUTING -d 2001:db8:1::2/128 ! -i sextant0 -j DROP";

/// The lines after these changes.
fn changed(lines: &[String], changes: &[String]) -> Vec<String> {
    let mut lines = lines.to_vec();
    for change in changes {
        if let Some(rule) = change.strip_prefix("-D ") {
            let at = lines.iter().position(|line| *line == format!("-A {rule}")).unwrap();
            lines.remove(at);
        } else if let Some(rule) = change.strip_prefix("-I ") {
            let words: Vec<_> = rule.splitn(3, ' ').collect();
            let [chain, at, rule] = words[..] else { panic!("{change}") };
            let first = lines.iter().position(|line| line.starts_with(&format!("-A {chain} ")));
            let at = first.unwrap_or(lines.len()) + at.parse::<usize>().unwrap() - 1;
            lines.insert(at, format!("-A {chain} {rule}"));
        } else if let Some(chain) = change.strip_prefix(':').and_then(|rest| rest.strip_suffix(" - [0:0]")) {
            lines.retain(|line| !line.starts_with(&format!("-A {chain} ")) && *line != format!("-N {chain}"));
            lines.push(format!("-N {chain}"));
        } else if let Some(chain) = change.strip_prefix("-F ") {
            lines.retain(|line| !line.starts_with(&format!("-A {chain} ")));
        } else if let Some(chain) = change.strip_prefix("-X ") {
            assert!(!lines.iter().any(|line| line.ends_with(&format!("-j {chain}"))), "{lines:?}");
            lines.retain(|line| *line != format!("-N {chain}"));
        } else {
            assert!(change.starts_with("-A "), "{change}");
            lines.push(change.clone());
        }
    }
    lines
}

#[test]
fn rules_come_before_the_engines_once() {
    for (table, text) in [(Table::Filter, FILTER), (Table::Nat, NAT), (Table::Raw, RAW)] {
        let (before, open) = (lines(text), passes(FromCluster::Open));
        let after = changed(&before, &changes(table, &before, Some(&open)));
        assert!(changes(table, &after, Some(&open)).is_empty(), "{after:?}");
        let first = rules(&after, table.chain(&after)).next().unwrap();
        assert!(is_ours(first), "{table:?}: {first}");
        // Nobody wants them any more.
        let removed = changes(table, &after, None);
        assert_eq!(changed(&after, &removed), before, "{table:?}");
    }
}

#[test]
fn without_an_engines_rules_there_are_those_of_a_policy_that_needs_some() {
    let clean = lines("-P FORWARD ACCEPT\n-P POSTROUTING ACCEPT\n-P PREROUTING ACCEPT\n-A FORWARD -j DROP");
    let open = Passes { from_outside: FromOutside::Open, ..passes(FromCluster::Open) };
    for table in Table::ALL {
        assert!(changes(table, &clean, Some(&open)).is_empty(), "{table:?}");
        let closed = Passes { from_outside: FromOutside::Closed, ..open.clone() };
        assert_eq!(changes(table, &clean, Some(&closed)).is_empty(), table != Table::Filter, "{table:?}");
    }
}

#[test]
fn a_source_is_never_replaced_inside_the_cluster() {
    let published = passes(FromCluster::Published);
    let mark = "-m comment --comment sextant -j ACCEPT";
    let pools = ["2001:db8::/32", "fd00::/48"];
    let expected: Vec<_> = ["2001:db8:1::/80", OTHER_NETWORK]
        .iter()
        .flat_map(|own| pools.map(|pool| format!("-s {own} -d {pool} {mark}")))
        .collect();
    assert_eq!(
        front(&changed(&lines(NAT), &changes(Table::Nat, &lines(NAT), Some(&published))), "POSTROUTING"),
        expected
    );
}

#[test]
fn the_chain_for_users_is_used_where_there_is_one() {
    let open = passes(FromCluster::Open);
    let jump = FILTER.replacen("-A FORWARD", "-A FORWARD -j DOCKER-USER\n-A FORWARD", 1);
    let before = lines(&format!("-N DOCKER-USER\n{jump}"));
    let made = changes(Table::Filter, &before, Some(&open));
    let inserted = made.iter().filter(|line| line.starts_with("-I "));
    assert!(
        inserted.clone().count() > 0 && inserted.clone().all(|line| line.starts_with("-I DOCKER-USER ")),
        "{made:?}"
    );
    // Somebody has flushed the chain that leads there.
    let mut cut = changed(&before, &made);
    cut.retain(|line| !line.starts_with("-A FORWARD"));
    let moved = changed(&cut, &changes(Table::Filter, &cut, Some(&open)));
    assert!(
        moved
            .iter()
            .filter(|line| is_ours(line) && !line.starts_with("-A SEXTANT-"))
            .all(|line| line.starts_with("-A FORWARD ")),
        "{moved:?}"
    );
    assert!(changes(Table::Filter, &moved, Some(&open)).is_empty(), "{moved:?}");
}

#[test]
fn an_engine_that_puts_its_rules_first_is_answered_and_others_are_not() {
    let open = passes(FromCluster::Open);
    let right = changed(&lines(NAT), &changes(Table::Nat, &lines(NAT), Some(&open)));
    let mut engine = right.clone();
    engine.insert(2, "-A POSTROUTING -s 2001:db8:2::/80 ! -o br1 -j MASQUERADE".into());
    assert_eq!(changes(Table::Nat, &engine, Some(&open)).len(), 8, "deleted and inserted");
    let mut other = right;
    other.insert(2, "-A POSTROUTING -j KUBE-POSTROUTING".into());
    assert!(changes(Table::Nat, &other, Some(&open)).is_empty(), "others may be first");
}

#[test]
fn rules_of_an_earlier_prefix_are_replaced() {
    let open = passes(FromCluster::Open);
    let right = changed(&lines(FILTER), &changes(Table::Filter, &lines(FILTER), Some(&open)));
    let moved = Passes { own: vec!["2001:db8:9::/80".parse().unwrap()], ..open };
    let after = changed(&right, &changes(Table::Filter, &right, Some(&moved)));
    assert!(!after.iter().any(|line| is_ours(line) && line.contains("2001:db8:1::/80")), "{after:?}");
    assert!(changes(Table::Filter, &after, Some(&moved)).is_empty());
}

#[test]
fn missing_rules_are_named_and_further_ones_are_right() {
    let port =
        policy::Port { address: "2001:db8:1::5".parse().unwrap(), protocol: policy::Protocol::Tcp, port: 80 };
    let kept = Passes { published: vec![port], ..passes(FromCluster::Open) };
    // Who asks knows one pool of two.
    let asked = Passes { pools: kept.pools[..1].to_vec(), ..kept.clone() };
    for (table, text) in [(Table::Filter, FILTER), (Table::Nat, NAT), (Table::Raw, RAW)] {
        let before = lines(text);
        let after = changed(&before, &changes(table, &before, Some(&kept)));
        assert_eq!(missing(table, &after, &asked), [""; 0], "{after:?}");
        assert!(!missing(table, &before, &asked).is_empty(), "{table:?}");
        let without =
            |word: &str| after.iter().filter(|line| !line.contains(word)).cloned().collect::<Vec<_>>();
        if table != Table::Nat {
            let found = missing(table, &without("--dport 80 "), &asked);
            assert!(
                matches!(&found[..], [rule] if rule.starts_with("-A SEXTANT-PUBLISHED -d 2001:db8:1::5/128")),
                "{found:?}"
            );
        }
        let chain = table.chain(&after);
        let late = [vec![format!("-A {chain} -j DROP")], after.clone()].concat();
        assert!(!missing(table, &late, &asked).is_empty(), "behind a rule that decides: {late:?}");
    }
}
