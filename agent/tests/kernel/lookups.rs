//! Lookups of routes, and routing rules.

use std::net::Ipv6Addr;

use nix::libc::{EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH};
use sextant_agent::kernel::{Kernel, NetlinkKernel, Route, RouteProtocol, Rule, RuleAction};

use crate::namespace::{MAIN, METRIC, ip, key, via, with_uplink};

async fn lookup(kernel: &NetlinkKernel, to: &str) -> Result<Route, i32> {
    let source: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let found = kernel.lookup(source, to.parse().unwrap()).await.unwrap();
    found.map_err(|errno| errno.code)
}

#[test]
fn a_lookup_returns_the_route_in_the_table() {
    with_uplink(async |kernel, up0| {
        ip("route add 2001:db8:9::/64 via 2001:db8::2 dev up0 proto 66 metric 512");
        ip("route add 2001:db8:9::/64 via 2001:db8::3 dev up0 proto static metric 600");
        ip("route add unreachable 2001:db8:8::/45 proto 66 metric 4000000000");
        ip("route add prohibit 2001:db8:b::/64");
        ip("route add blackhole 2001:db8:c::/64");
        let ours = Route {
            mtu: None,
            key: key("2001:db8:9::/64"),
            protocol: RouteProtocol::OURS,
            target: via("2001:db8:9::/64", &["2001:db8::2"], up0).target,
        };
        assert_eq!(lookup(&kernel, "2001:db8:9::5").await, Ok(ours));
        for (to, errno) in [
            ("2001:db8:a::5", EHOSTUNREACH),
            ("2001:db8:b::5", EACCES),
            ("2001:db8:c::5", EINVAL),
            ("fd00::1", ENETUNREACH),
        ] {
            assert_eq!(lookup(&kernel, to).await, Err(errno), "{to}");
        }
        assert_eq!((MAIN, METRIC), (254, 512));
    });
}

#[test]
fn rules_are_read_in_their_order() {
    with_uplink(async |kernel, _| {
        ip("rule add pref 100 from 2001:db8::/64 to 2001:db8:9::/64 table 1077");
        ip("rule add pref 200 fwmark 7 table 78");
        ip("rule add pref 300 to 2001:db8:b::/64 prohibit");
        ip("rule add pref 400 table 254 suppress_prefixlength 0");
        let rules = kernel.rules().await.unwrap();
        let prefix = |text: &str| Some(text.parse().unwrap());
        let table = |priority, table| Rule { priority, action: RuleAction::Table(table), ..Rule::default() };
        let expected = [
            table(0, 255),
            Rule { from: prefix("2001:db8::/64"), to: prefix("2001:db8:9::/64"), ..table(100, 1077) },
            Rule { conditional: true, ..table(200, 78) },
            Rule { to: prefix("2001:db8:b::/64"), action: RuleAction::Refuse("prohibit"), ..table(300, 0) },
            Rule { suppress_prefix_len: Some(0), ..table(400, 254) },
            table(32766, 254),
        ];
        assert_eq!(rules, expected);
        // A lookup follows a rule to another table.
        ip("route add 2001:db8:9::/64 via 2001:db8::2 dev up0 proto 66 metric 512");
        ip("route add 2001:db8:9::/64 via 2001:db8::3 dev up0 proto static metric 5 table 1077");
        let found = lookup(&kernel, "2001:db8:9::5").await.unwrap();
        assert_eq!((found.key.table, found.key.metric), (1077, 5));
    });
}

#[test]
fn a_route_may_have_an_mtu_of_its_own() {
    with_uplink(async |kernel, _| {
        ip("route add 2001:db8:9::/64 via 2001:db8::2 dev up0 mtu 1400 hoplimit 9");
        ip("route add 2001:db8:8::/64 via 2001:db8::2 dev up0 hoplimit 9");
        let mtu = async |to| lookup(&kernel, to).await.unwrap().mtu;
        assert_eq!((mtu("2001:db8:9::5").await, mtu("2001:db8:8::5").await), (Some(1400), None));
    });
}

#[test]
fn the_mtu_of_a_link_is_set() {
    with_uplink(async |kernel, up0| {
        kernel.set_mtu(up0, 1400).await.unwrap();
        let links = kernel.links().await.unwrap();
        assert_eq!(links.iter().find(|link| link.index == up0).unwrap().mtu, 1400);
        assert!(kernel.set_mtu(up0, 1).await.is_err());
    });
}
