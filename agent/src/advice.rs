//! What an operator may do about routes and rules of other processes. Pure.
//!
//! A command is shown only where it takes nothing from others when it is run as it is: no route of an interface's own prefix, none
//! that a router has advertised, none that leads to containers, none that carries other traffic too.

use sextant_proto::{NodeName, PoolName, Prefix, link_name_word};

use crate::kernel::{Link, MAIN_TABLE, NextHop, RouteKey, RouteProtocol, RouteTarget, Rule, RuleAction};

/// About a route that stands in the way of ours to one of `prefixes`; its target, if it is known.
pub(crate) fn about_route(
    key: &RouteKey,
    protocol: RouteProtocol,
    target: Option<&RouteTarget>,
    prefixes: &[Prefix],
) -> String {
    let (to, table) = (destination(key), in_table(key));
    let show = format!("ip -6 route show {to}{table}");
    let on_link = |target: &RouteTarget| match target {
        RouteTarget::Via(hops) => hops.iter().any(|hop| hop.gateway.is_none()),
        RouteTarget::Unreachable | RouteTarget::Other(_) => false,
    };
    if protocol == RouteProtocol::KERNEL || target.is_some_and(on_link) {
        return format!(
            "{show} # it belongs to an interface: if containers or hosts are there, keep it and give them another prefix where \
             they are configured; otherwise remove the interface's address where it is configured"
        );
    }
    if !MADE_BY_HAND.contains(&protocol) {
        return format!("{show} # proto {protocol}: change the router or the program that makes it");
    }
    if !prefixes.iter().any(|prefix| prefix.covers(key.destination)) {
        return format!("{show} # it carries other traffic too: keep it");
    }
    format!("ip -6 route del {to} proto {protocol} metric {}{table}", key.metric)
}

/// boot (ip(8) by default) and static.
const MADE_BY_HAND: [RouteProtocol; 2] = [RouteProtocol(3), RouteProtocol(4)];

/// About a host prefix in which there is an address or a link of this host: what does not belong there goes first, since a router's
/// advertisement, or a mistake on this host, must not move another host. `host` is "this host" or "that host".
pub(crate) fn about_infrastructure(prefix: Prefix, host: &str, node: &NodeName, pool: &PoolName) -> String {
    format!(
        "see what it is on this host (`ip -6 address show to {prefix}`, `ip -6 route show root {prefix}`): if it does not belong \
         there, e.g. by a router's advertisement, remove it where it comes from; otherwise move {host} to another prefix: sextant \
         node reassign {node} --pool {pool}, and create its containers again"
    )
}

/// About a rule that is evaluated before our `table`: ours comes before it, for `prefixes` only.
pub(crate) fn about_rule(rule: &Rule, table: u32, prefixes: &[Prefix]) -> String {
    let Some(before) = rule.priority.checked_sub(1).filter(|_| !prefixes.is_empty()) else {
        return "ip -6 rule show # change the rules where they are configured".to_owned();
    };
    let add = |prefix: &Prefix| format!("ip -6 rule add to {prefix} lookup {table} pref {before}");
    prefixes.iter().map(add).collect::<Vec<_>>().join("; ")
}

/// The destination as `ip` shows it.
pub(crate) fn destination(key: &RouteKey) -> String {
    if key.destination.len() == 0 { "default".into() } else { key.destination.to_string() }
}

/// The table as `ip` takes it; empty for the main table.
pub(crate) fn in_table(key: &RouteKey) -> String {
    if key.table == MAIN_TABLE { String::new() } else { format!(" table {}", key.table) }
}

/// The command that deletes a rule, and no other one.
pub(crate) fn delete_rule(rule: &Rule) -> String {
    format!("ip -6 rule del pref {} {}", rule.priority, rule_words(rule))
}

/// The conditions and the action of a rule, as `ip rule` takes them.
pub(crate) fn rule_words(rule: &Rule) -> String {
    let inverted = if rule.inverted { "not " } else { "" };
    let from = rule.from.map_or_else(|| "all".to_owned(), |from| from.to_string());
    let to = rule.to.map(|to| format!("to {to}"));
    let iif = rule.iif.as_ref().map(|iif| format!("iif {}", link_name_word(iif)));
    let further = Some(rule.further.words.clone()).filter(|words| !words.is_empty());
    let action = match rule.action {
        RuleAction::Table(MAIN_TABLE) => "lookup main".to_owned(),
        RuleAction::Table(table) => format!("lookup {table}"),
        RuleAction::Refuse(kind) => kind.to_owned(),
        RuleAction::Goto(priority) => format!("goto {priority}"),
        RuleAction::Other => "nop".to_owned(),
    };
    let suppress = rule.suppress_prefix_len.map(|len| format!("suppress_prefixlength {len}"));
    let all = [Some(format!("{inverted}from {from}")), to, iif, further, Some(action), suppress];
    all.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// A route as `ip -6 route` shows it, without its protocol.
pub(crate) fn route_text(key: &RouteKey, target: &RouteTarget, links: &[Link]) -> String {
    let leads = if let RouteTarget::Other(_) = target { String::new() } else { leads(target, links) };
    format!("{}{}{leads} metric {}{}", kind(target), destination(key), key.metric, in_table(key))
}

/// The kind of a route, as `ip` has it before the destination.
pub(crate) fn kind(target: &RouteTarget) -> &'static str {
    match target {
        RouteTarget::Unreachable => "unreachable ",
        &RouteTarget::LOCAL => "local ",
        &RouteTarget::BLACKHOLE => "blackhole ",
        &RouteTarget::PROHIBIT => "prohibit ",
        &RouteTarget::THROW => "throw ",
        _ => "",
    }
}

/// Where a route leads, with a space before it.
pub(crate) fn leads(target: &RouteTarget, links: &[Link]) -> String {
    let hop = |hop: &NextHop| {
        let name = links.iter().find(|link| link.index == hop.link).map(|link| link.name.clone());
        let name = name.unwrap_or_else(|| format!("if{}", hop.link));
        let onlink = if hop.onlink { " onlink" } else { "" };
        hop.gateway
            .map_or_else(|| format!(" dev {name}"), |gateway| format!(" via {gateway} dev {name}{onlink}"))
    };
    match target {
        RouteTarget::Via(hops) if hops.len() == 1 => hops.iter().map(hop).collect(),
        RouteTarget::Via(hops) => hops.iter().map(|it| format!(" nexthop{}", hop(it))).collect(),
        RouteTarget::Unreachable => " dev lo".into(),
        RouteTarget::Other(kind) => format!(" type {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Further, Share};

    #[test]
    fn no_host_is_moved_before_what_does_not_belong_in_its_prefix_is_looked_for() {
        let (node, pool) = ("h2".parse().unwrap(), "main".parse().unwrap());
        let advice = about_infrastructure(PREFIX.parse().unwrap(), "that host", &node, &pool);
        let at = |words: &str| advice.find(words).unwrap_or_else(|| panic!("no \"{words}\" in {advice}"));
        assert!(at(&format!("ip -6 route show root {PREFIX}")) < at("sextant node reassign h2 --pool main"));
        assert!(at("remove it where it comes from; otherwise") < at("sextant node reassign"));
    }

    #[test]
    fn a_rule_is_deleted_by_all_of_its_words() {
        let plain = Rule { priority: 100, action: RuleAction::Table(77), ..Rule::default() };
        assert_eq!(delete_rule(&plain), "ip -6 rule del pref 100 from all lookup 77");
        let all = Rule {
            from: PREFIX.parse().ok(),
            to: "2001:db8:8000:3::/64".parse().ok(),
            iif: Some("br0".into()),
            inverted: true,
            further: Further { met_by: Share::None, words: "fwmark 0x1/0xff".into() },
            action: RuleAction::Table(MAIN_TABLE),
            suppress_prefix_len: Some(0),
            ..plain
        };
        assert_eq!(
            rule_words(&all),
            "not from 2001:db8:8000:2::/64 to 2001:db8:8000:3::/64 iif br0 fwmark 0x1/0xff lookup main suppress_prefixlength 0"
        );
    }

    const PREFIX: &str = "2001:db8:8000:2::/64";

    fn about(destination: &str, protocol: u8, target: Option<&RouteTarget>) -> String {
        let key = RouteKey { table: MAIN_TABLE, destination: destination.parse().unwrap(), metric: 100 };
        about_route(&key, RouteProtocol(protocol), target, &[PREFIX.parse().unwrap()])
    }

    fn hop(gateway: Option<&str>) -> RouteTarget {
        let gateway = gateway.map(|gateway| gateway.parse().unwrap());
        RouteTarget::Via([NextHop { gateway, link: 2, onlink: false }].into())
    }

    #[test]
    fn only_a_route_by_hand_to_the_prefix_itself_is_to_be_deleted() {
        let via = hop(Some("2001:db8::99"));
        for protocol in [3, 4] {
            let command = format!("ip -6 route del {PREFIX} proto {} metric 100", RouteProtocol(protocol));
            assert_eq!(about(PREFIX, protocol, Some(&via)), command);
            assert_eq!(about(PREFIX, protocol, None), command);
        }
        let part = about("2001:db8:8000:2::7/128", 4, Some(&RouteTarget::Unreachable));
        assert!(part.starts_with("ip -6 route del 2001:db8:8000:2::7/128 "), "{part}");
    }

    #[test]
    fn no_other_route_is_to_be_deleted() {
        let (via, on_link) = (hop(Some("fe80::1")), hop(None));
        for (destination, protocol, target, says) in [
            (PREFIX, 2, Some(&on_link), "belongs to an interface"),
            (PREFIX, 2, None, "belongs to an interface"),
            (PREFIX, 3, Some(&on_link), "belongs to an interface"),
            (PREFIX, 9, Some(&via), "proto ra: change the router"),
            (PREFIX, 186, Some(&via), "proto bgp: change the router"),
            ("::/0", 4, Some(&via), "other traffic"),
            ("2001:db8::/32", 3, Some(&via), "other traffic"),
        ] {
            let advice = about(destination, protocol, target);
            assert!(advice.starts_with("ip -6 route show ") && advice.contains(says), "{advice}");
        }
    }

    #[test]
    fn a_rule_is_preceded_and_not_deleted() {
        let rule = |priority| Rule { priority, action: RuleAction::Table(77), ..Rule::default() };
        let prefixes = [PREFIX.parse().unwrap()];
        assert_eq!(
            about_rule(&rule(100), 254, &prefixes),
            format!("ip -6 rule add to {PREFIX} lookup 254 pref 99")
        );
        for (priority, prefixes) in [(0, &prefixes[..]), (100, &[])] {
            assert!(about_rule(&rule(priority), 254, prefixes).starts_with("ip -6 rule show #"));
        }
    }
}
