use super::*;
use crate::kernel::{MAIN_TABLE, NextHop, RouteKey};

/// A route as `ip -6 route` shows it: `2001:db8::/64 via fe80::1 dev 2 metric 256 table 254`, or `unreachable …` and other
/// kinds.
pub(crate) fn route(text: &str) -> Route {
    let words: Vec<&str> = text.split_whitespace().collect();
    let after = |word: &str| words.iter().position(|it| *it == word).map(|at| words[at + 1]);
    let kind = match words[0] {
        "unreachable" => Some(RouteTarget::Unreachable),
        "prohibit" => Some(RouteTarget::PROHIBIT),
        "blackhole" => Some(RouteTarget::BLACKHOLE),
        "local" => Some(RouteTarget::LOCAL),
        "anycast" => Some(RouteTarget::ANYCAST),
        "throw" => Some(RouteTarget::THROW),
        "hidden" => Some(RouteTarget::NEXTHOP_OBJECT),
        _ => None,
    };
    let destination = words[usize::from(kind.is_some())];
    let hop = || NextHop {
        gateway: after("via").map(|gateway| gateway.parse().unwrap()),
        link: after("dev").unwrap().parse().unwrap(),
        onlink: words.contains(&"onlink"),
    };
    Route {
        mtu: None,
        key: RouteKey {
            table: after("table").map_or(MAIN_TABLE, |table| table.parse().unwrap()),
            destination: destination.parse().unwrap(),
            metric: after("metric").map_or(1024, |metric| metric.parse().unwrap()),
        },
        protocol: RouteProtocol(after("proto").map_or(3, |protocol| protocol.parse().unwrap())),
        target: kind.unwrap_or_else(|| RouteTarget::Via(hop().into())),
    }
}

fn main_rule() -> Rule {
    Rule { priority: 32766, action: RuleAction::Table(MAIN_TABLE), ..Rule::default() }
}

/// The routes of all tables that `rules` lead to.
pub(crate) fn link_routes(rules: &[Rule], routes: &[Route]) -> LinkRoutes {
    link_routes_towards(rules, routes, &[])
}

pub(crate) fn link_routes_towards(rules: &[Rule], routes: &[Route], towards: &[Ipv6Addr]) -> LinkRoutes {
    let (lookups, read) = read_by(rules, routes);
    LinkRoutes::new(lookups, read, towards)
}

/// The readers of the main table with these routes.
pub(crate) fn read(routes: &[&str]) -> (Vec<Lookup>, BTreeMap<u32, LinkRouteReader>) {
    let routes: Vec<_> = routes.iter().map(|it| route(it)).collect();
    read_by(&[main_rule()], &routes)
}

/// As [`read`], with a rule for the table 100 before.
pub(crate) fn read_of_two(routes: &[&str]) -> (Vec<Lookup>, BTreeMap<u32, LinkRouteReader>) {
    let routes: Vec<_> = routes.iter().map(|it| route(it)).collect();
    let first = Rule { priority: 1000, action: RuleAction::Table(100), ..Rule::default() };
    read_by(&[first, main_rule()], &routes)
}

fn read_by(rules: &[Rule], routes: &[Route]) -> (Vec<Lookup>, BTreeMap<u32, LinkRouteReader>) {
    let lookups = lookups(rules, MAIN_TABLE);
    let read = |lookup: &Lookup| {
        let mut reader = LinkRouteReader::default();
        reader.begin();
        let of_table = routes.iter().filter(|route| route.key.table == lookup.table);
        of_table.for_each(|route| reader.take(route.clone()));
        (lookup.table, reader)
    };
    let read = lookups.iter().map(read).collect();
    (lookups, read)
}

/// These routes of the main table.
pub(crate) fn routes_of_main(routes: &[&str]) -> LinkRoutes {
    let routes: Vec<_> = routes.iter().map(|it| route(it)).collect();
    link_routes(&[main_rule()], &routes)
}

/// The neighbours on `link` by these routes of the main table, for a host with the addresses `own`.
pub(crate) fn on_link_by(link: u32, own: impl IntoIterator<Item = Ipv6Addr>, routes: &[&str]) -> OnLink {
    routes_of_main(routes).on(link, &own.into_iter().collect())
}

/// Whether `destination` is a neighbour on link 2 by these routes.
fn is_neighbour(rules: &[Rule], routes: &[&str], destination: &str) -> bool {
    let routes: Vec<_> = routes.iter().map(|it| route(it)).collect();
    let own = ["2001:db8::1".parse().unwrap()].into_iter().collect();
    link_routes(rules, &routes).on(2, &own).contains(destination.parse().unwrap())
}

#[test]
fn a_gateway_that_is_a_neighbour_by_its_own_route_is_one_on_that_link_only() {
    for (routes, neighbour, needs_saying) in [
        (vec!["::/0 via 2001:db8::2 dev 2 onlink"], true, true),
        (vec!["2001:db8:7::/48 via 2001:db8::2 dev 2 onlink proto 4"], true, true),
        (vec!["::/0 via 2001:db8::2 dev 2 onlink", "2001:db8::/64 dev 2"], true, false),
        (vec!["::/0 via 2001:db8::2 dev 3 onlink"], false, false),
        (vec!["::/0 via 2001:db8::2 dev 2"], false, false),
        (vec!["::/0 via 2001:db8::3 dev 2 onlink"], false, false),
        (vec!["::/0 via 2001:db8::2 dev 2 onlink table 77"], false, false),
    ] {
        let on_link = on_link_by(2, ["2001:db8::1".parse().unwrap()], &routes);
        let gateway = "2001:db8::2".parse().unwrap();
        let found = (on_link.contains(gateway), on_link.needs_saying(gateway));
        assert_eq!(found, (neighbour, needs_saying), "{routes:?}");
        assert!(!on_link.contains("2001:db8::9".parse().unwrap()) || routes.len() == 2, "no other is");
    }
    let own = on_link_by(2, ["2001:db8::2".parse().unwrap()], &["::/0 via 2001:db8::2 dev 2 onlink"]);
    assert!(!own.contains("2001:db8::2".parse().unwrap()));
}

#[test]
fn the_longest_route_to_a_neighbour_has_no_gateway() {
    let default = "::/0 via fe80::1 dev 2";
    for (routes, expected) in [
        (vec![default], false),
        (vec![default, "2001:db8::/64 dev 2 proto 2 metric 256"], true),
        // However it came: RA, DHCP, static; larger or smaller than the address's prefix.
        (vec![default, "2001:db8::/64 dev 2 proto 9 metric 1024"], true),
        (vec![default, "2001:db8::/60 dev 2 proto 4"], true),
        (vec![default, "2001:db8::2/128 dev 2 proto 16"], true),
        (vec![default, "2001:db8::/125 dev 2"], true),
        (vec![default, "2001:db8::8/125 dev 2"], false),
        // A longer route leads elsewhere, or is refused.
        (vec!["2001:db8::/64 dev 2", "2001:db8::2/128 via fe80::9 dev 2"], false),
        (vec!["2001:db8::/64 dev 2", "2001:db8::/120 dev 3"], false),
        (vec!["2001:db8::/64 dev 2", "unreachable 2001:db8::/120"], false),
        (vec!["2001:db8::/64 via fe80::1 dev 2", "2001:db8::/120 dev 2"], true),
        // Ours do not count; a host's own address is no neighbour's.
        (vec!["2001:db8::/64 dev 2", "unreachable 2001:db8::/120 proto 66"], true),
        (vec!["2001:db8::/64 dev 2 proto 66"], false),
        (vec![default, "2001:db8::1/128 dev 2 proto 2 metric 256"], false),
        // On one link the lowest metric decides, on two links both are as good.
        (vec!["2001:db8::/64 dev 2 metric 256", "2001:db8::/64 via fe80::1 dev 2 metric 100"], false),
        (vec!["2001:db8::/64 dev 2 metric 100", "2001:db8::/64 via fe80::1 dev 2 metric 256"], true),
        (vec!["2001:db8::/64 dev 2 metric 256", "2001:db8::/64 dev 3 metric 100"], true),
        // A link to just one other.
        (vec!["::/0 dev 2"], true),
    ] {
        assert_eq!(is_neighbour(&[main_rule()], &routes, "2001:db8::2"), expected, "{routes:?}");
    }
}

#[test]
fn the_rules_order_the_tables() {
    let table = |table| Rule { priority: 1000, action: RuleAction::Table(table), ..Rule::default() };
    let routes = ["2001:db8::/64 dev 2 table 100", "2001:db8::/64 via fe80::1 dev 2"];
    let of = |rules: &[Rule], routes: &[&str]| is_neighbour(rules, routes, "2001:db8::2");
    assert!(of(&[table(100), main_rule()], &routes));
    assert!(!of(&[main_rule()], &routes), "no rule leads to it");
    let with = |from: Option<&str>, to: Option<&str>, conditional| Rule {
        from: from.map(|it| it.parse().unwrap()),
        to: to.map(|it| it.parse().unwrap()),
        conditional,
        ..table(100)
    };
    let main = ["2001:db8::/64 dev 2 table 100"];
    assert!(!of(&[with(Some("2001:db8:1::/64"), None, false), main_rule()], &main));
    assert!(!of(&[with(None, None, true), main_rule()], &main));
    assert!(!of(&[with(None, Some("2001:db8:1::/64"), false), main_rule()], &main));
    assert!(of(&[with(None, Some("2001:db8::/64"), false), main_rule()], &main));
    // An earlier table has the last word, whatever the later one has.
    let to_router = ["2001:db8::2/128 via fe80::1 dev 2 table 100", "2001:db8::/64 dev 2"];
    assert!(!of(&[table(100), main_rule()], &to_router));
    assert!(!of(&[table(100), main_rule()], &["::/0 via fe80::1 dev 2 table 100", "2001:db8::/64 dev 2"]));
    // A throw route ends the lookup in its table only.
    let (around, thrown) = ("::/0 via fe80::1 dev 2 table 100", "throw 2001:db8::/64 table 100");
    assert!(of(&[table(100), main_rule()], &[around, thrown, "2001:db8::/64 dev 2"]));
    assert!(!of(&[table(100), main_rule()], &[around, thrown, "2001:db8::/64 via fe80::1 dev 2"]));
    assert!(!of(&[table(100), main_rule()], &["throw 2001:db8::/48 table 100", to_router[0], to_router[1]]));
    assert!(of(&[table(100), main_rule()], &["throw ::/0 table 100", "2001:db8::/64 dev 2"]));
    // The table of specific routes, then another one.
    let specific = Rule { suppress_prefix_len: Some(0), ..table(MAIN_TABLE) };
    assert!(of(&[specific, table(100)], &["::/0 dev 3", "2001:db8::/64 dev 2 table 100"]));
}

#[test]
fn the_route_that_leads_a_neighbour_elsewhere_is_named() {
    let by = |routes: &[&str]| {
        let own = ["2001:db8::1".parse().unwrap()];
        let by = on_link_by(2, own, routes).diverted_by("2001:db8::2".parse().unwrap());
        by.map_or_else(String::new, |by| by.to_string())
    };
    let (link, default) = ("2001:db8::/64 dev 2", "::/0 via fe80::1 dev 2");
    for (routes, expected) in [
        (&[link, default][..], ""),
        (&[default], ""),
        (&[link, "blackhole 2001:db8::2/128"], "2001:db8::2/128"),
        (&[link, "2001:db8::/120 dev 3"], "2001:db8::/120"),
        (&[link, "2001:db8::/120 via fe80::9 dev 2"], "2001:db8::/120"),
        (&[link, "2001:db8::/64 via fe80::9 dev 2 metric 1"], ""),
        (&[link, "blackhole 2001:db8::1/128"], ""),
    ] {
        assert_eq!(by(routes), expected, "{routes:?}");
    }
}

#[test]
fn prefixes_are_those_of_neighbours() {
    let routes = [
        "::/0 dev 2",
        "2001:db8::/64 dev 2",
        "2001:db8::/60 dev 2",
        "2001:db8::8:0/112 dev 3",
        "2001:db8:2::/64 via fe80::1 dev 2",
        "fe80::/64 dev 2",
    ]
    .map(route);
    let on_link = link_routes(&[main_rule()], &routes).on(2, &AddressSet::default());
    let prefixes: Vec<_> = on_link.prefixes().map(|prefix| prefix.to_string()).collect();
    assert_eq!(prefixes, ["2001:db8::/60", "2001:db8::/64"]);
    let around = |addr: &str| on_link.around(addr.parse().unwrap()).unwrap().to_string();
    assert_eq!(around("2001:db8::5"), "2001:db8::/60", "the widest");
    assert_eq!(around("2001:db8:7::5"), "2001:db8:7::5/128", "on no link");
    assert!(!on_link.is_empty() && OnLink::default().is_empty());
}
