use super::*;

fn passes(from_cluster: FromCluster) -> Passes {
    Passes {
        own: "2001:db8:1::/80".parse().unwrap(),
        pools: vec!["2001:db8::/32".parse().unwrap(), "fd00::/48".parse().unwrap()],
        from_cluster,
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
        }
    }
    for change in changes.iter().filter_map(|change| change.strip_prefix("-I ")) {
        let mut words = change.splitn(3, ' ');
        let (chain, at, rule) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let first =
            lines.iter().position(|line| line.starts_with(&format!("-A {chain} "))).unwrap_or(lines.len());
        lines.insert(first + at.parse::<usize>().unwrap() - 1, format!("-A {chain} {rule}"));
    }
    lines
}

#[test]
fn rules_come_before_the_engines_once() {
    let mark = "-m comment --comment sextant -j ACCEPT";
    let table = [
        (Table::Filter, FILTER, 4, format!("-I FORWARD 1 -s 2001:db8::/32 -d 2001:db8:1::/80 {mark}")),
        (Table::Nat, NAT, 2, format!("-I POSTROUTING 1 -s 2001:db8:1::/80 -d 2001:db8::/32 {mark}")),
        (Table::Raw, RAW, 2, format!("-I PREROUTING 1 -s 2001:db8::/32 -d 2001:db8:1::/80 {mark}")),
    ];
    for (table, text, count, first) in table {
        let (before, open) = (lines(text), passes(FromCluster::Open));
        let made = changes(table, &before, Some(&open));
        assert_eq!((made.len(), &made[0]), (count, &first), "{table:?}");
        let after = changed(&before, &made);
        assert!(changes(table, &after, Some(&open)).is_empty(), "{after:?}");
        // Nobody wants them any more.
        let removed = changes(table, &after, None);
        assert_eq!(changed(&after, &removed), before, "{table:?}");
    }
}

#[test]
fn without_an_engines_rules_there_are_none() {
    for table in Table::ALL {
        let clean =
            lines("-P FORWARD ACCEPT\n-P POSTROUTING ACCEPT\n-P PREROUTING ACCEPT\n-A FORWARD -j DROP");
        assert!(changes(table, &clean, Some(&passes(FromCluster::Open))).is_empty(), "{table:?}");
    }
}

#[test]
fn ports_that_are_published_stay_the_only_ones_where_that_is_set() {
    let published = passes(FromCluster::Published);
    assert!(changes(Table::Filter, &lines(FILTER), Some(&published)).is_empty());
    assert!(changes(Table::Raw, &lines(RAW), Some(&published)).is_empty());
    assert_eq!(changes(Table::Nat, &lines(NAT), Some(&published)).len(), 2, "a source is never replaced");
}

#[test]
fn the_chain_for_users_is_used_where_there_is_one() {
    let open = passes(FromCluster::Open);
    let jump = FILTER.replacen("-A FORWARD", "-A FORWARD -j DOCKER-USER\n-A FORWARD", 1);
    let before = lines(&format!("-N DOCKER-USER\n{jump}"));
    let made = changes(Table::Filter, &before, Some(&open));
    assert!(made.iter().all(|line| line.starts_with("-I DOCKER-USER ")), "{made:?}");
    // Somebody has flushed the chain that leads there.
    let mut cut = changed(&before, &made);
    cut.retain(|line| !line.starts_with("-A FORWARD"));
    let moved = changed(&cut, &changes(Table::Filter, &cut, Some(&open)));
    assert!(
        moved.iter().filter(|line| is_ours(line)).all(|line| line.starts_with("-A FORWARD ")),
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
    assert_eq!(changes(Table::Nat, &engine, Some(&open)).len(), 4, "deleted and inserted");
    let mut other = right;
    other.insert(2, "-A POSTROUTING -j KUBE-POSTROUTING".into());
    assert!(changes(Table::Nat, &other, Some(&open)).is_empty(), "others may be first");
}

#[test]
fn rules_of_an_earlier_prefix_are_replaced() {
    let open = passes(FromCluster::Open);
    let right = changed(&lines(FILTER), &changes(Table::Filter, &lines(FILTER), Some(&open)));
    let moved = Passes { own: "2001:db8:9::/80".parse().unwrap(), ..open };
    let after = changed(&right, &changes(Table::Filter, &right, Some(&moved)));
    assert!(!after.iter().any(|line| is_ours(line) && line.contains("2001:db8:1::/80")), "{after:?}");
    assert!(changes(Table::Filter, &after, Some(&moved)).is_empty());
}
