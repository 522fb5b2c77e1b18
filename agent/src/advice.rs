//! What an operator may do about routes and rules of other processes. Pure.
//!
//! A command is shown only where it takes nothing from others when it is run as it is: no route of an interface's own prefix, none
//! that a router has advertised, none that leads to containers, none that carries other traffic too.

use sextant_proto::Prefix;

use crate::kernel::{MAIN_TABLE, RouteKey, RouteProtocol, RouteTarget, Rule};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{NextHop, RuleAction};

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
