//! Finds the rule and the route that decide about a packet: repeats the kernel's lookup, which does not report the rule. Pure.

use std::{cmp::Reverse, collections::BTreeMap, net::Ipv6Addr};

use sextant_proto::Prefix;

use crate::kernel::{Route, RouteTarget, Rule, RuleAction, Share};

/// RTN_THROW: ends the lookup in this table, as without a match.
const THROW: u8 = 9;

/// The rules in the kernel's order, and their tables.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) rules: Vec<Rule>,
    pub(super) tables: BTreeMap<u32, Vec<Route>>,
}

/// The deciding rule, and the route that it finds, unless it refuses packets itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decides {
    pub(super) rule: Rule,
    pub(super) route: Option<Route>,
}

/// The decision about an ordinary packet that comes in by `iif`, which is `lo` for one of this host; none without a route. Rules that
/// some ordinary packets match, e.g. by a port, are ignored.
pub(super) fn decides(
    all: &Tables,
    source: Option<Ipv6Addr>,
    target: Ipv6Addr,
    iif: &str,
) -> Option<Decides> {
    let from_it = |from: Prefix| source.is_some_and(|source| from.contains(source));
    let matching = all.rules.iter().filter(|rule| {
        let meets = rule.from.is_none_or(from_it)
            && rule.to.is_none_or(|to| to.contains(target))
            && rule.iif.as_ref().is_none_or(|name| name == iif)
            && rule.further.met_by == Share::All;
        rule.further.met_by != Share::Some && meets != rule.inverted
    });
    matching.into_iter().find_map(|rule| match rule.action {
        RuleAction::Refuse(_) => Some(Decides { rule: rule.clone(), route: None }),
        RuleAction::Table(table) => {
            let route = longest(all.tables.get(&table)?, target)?;
            let suppressed =
                rule.suppress_prefix_len.is_some_and(|len| u32::from(route.key.destination.len()) <= len);
            let counts = !suppressed && route.target != RouteTarget::Other(THROW);
            counts.then(|| Decides { rule: rule.clone(), route: Some(route.clone()) })
        }
        RuleAction::Goto(_) | RuleAction::Other => None,
    })
}

fn longest(routes: &[Route], target: Ipv6Addr) -> Option<&Route> {
    let covering = routes.iter().filter(|route| route.key.destination.contains(target));
    covering.min_by_key(|route| (Reverse(route.key.destination.len()), route.key.metric))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Further, MAIN_TABLE, RouteKey, RouteProtocol};

    fn route(table: u32, destination: &str, target: RouteTarget) -> Route {
        let key = RouteKey { table, destination: destination.parse().unwrap(), metric: 512 };
        Route { key, protocol: RouteProtocol(4), target, mtu: None }
    }

    fn rule(priority: u32, table: u32) -> Rule {
        Rule { priority, action: RuleAction::Table(table), ..Rule::default() }
    }

    /// The priority of the deciding rule, and the destination of its route.
    fn decided(rules: Vec<Rule>, source: Option<&str>) -> Option<(u32, Option<String>)> {
        let main = vec![
            route(MAIN_TABLE, "2001:db8::/32", RouteTarget::Unreachable),
            route(MAIN_TABLE, "2001:db8:2::/64", RouteTarget::Unreachable),
        ];
        let own = vec![route(77, "::/0", RouteTarget::Unreachable)];
        let throw = vec![route(78, "::/0", RouteTarget::Other(THROW))];
        let tables = [(MAIN_TABLE, main), (77, own), (78, throw)].into_iter().collect();
        let (source, target) = (source.map(|it| it.parse().unwrap()), "2001:db8:2::1".parse().unwrap());
        let decides = decides(&Tables { rules, tables }, source, target, "br0")?;
        Some((decides.rule.priority, decides.route.map(|route| route.key.destination.to_string())))
    }

    #[test]
    fn the_first_rule_with_a_match_decides() {
        let main = || rule(32766, MAIN_TABLE);
        let from = |from: &str| Rule { from: Some(from.parse().unwrap()), ..rule(100, 77) };
        let further = |met_by| Further { met_by, words: String::new() };
        let longest = Some((32766, Some("2001:db8:2::/64".to_owned())));
        let other = Some((100, Some("::/0".to_owned())));
        let here = Some("2001:db8:1::1");
        for (rules, source, expected) in [
            (vec![rule(0, 255), main()], here, longest.clone()),
            (vec![rule(100, 77), main()], here, other.clone()),
            (vec![from("2001:db8:1::/64"), main()], here, other.clone()),
            (vec![from("2001:db8:9::/64"), main()], here, longest.clone()),
            (vec![from("2001:db8:1::/64"), main()], None, longest.clone()),
            (vec![Rule { further: further(Share::None), ..rule(100, 77) }, main()], here, longest.clone()),
            (vec![Rule { further: further(Share::Some), ..rule(100, 77) }, main()], here, longest.clone()),
            (
                vec![Rule { further: further(Share::None), inverted: true, ..rule(100, 77) }, main()],
                here,
                other.clone(),
            ),
            (vec![Rule { iif: Some("br0".into()), ..rule(100, 77) }, main()], here, other.clone()),
            (vec![Rule { iif: Some("lo".into()), ..rule(100, 77) }, main()], here, longest.clone()),
            (vec![Rule { suppress_prefix_len: Some(0), ..rule(100, 77) }, main()], here, longest.clone()),
            (vec![rule(100, 78), main()], here, longest),
            (
                vec![Rule { action: RuleAction::Refuse("prohibit"), ..rule(9, 0) }, main()],
                here,
                Some((9, None)),
            ),
            (vec![rule(0, 255)], here, None),
        ] {
            assert_eq!(decided(rules.clone(), source), expected, "{rules:?}");
        }
    }
}
