//! Lookups of routes, and routing rules.

use std::net::Ipv6Addr;

use nix::libc::{EACCES, EHOSTUNREACH, EINVAL, ENETUNREACH};
use sextant_agent::kernel::{
    Further, Kernel, NetlinkKernel, Route, RouteProtocol, RouteTarget, Rule, RuleAction, Scope, Share,
};

use crate::namespace::{MAIN, METRIC, ip, key, via, with_uplink};

async fn lookup(kernel: &NetlinkKernel, to: &str) -> Result<Route, i32> {
    let source: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let found = kernel.lookup(source, to.parse().unwrap(), None).await.unwrap();
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
        ip("rule add pref 500 not iif up0 oif up1 uidrange 7-8 prohibit");
        ip("rule add pref 600 ipproto tcp dport 80 goto 700");
        ip("rule add pref 700 iif lo fwmark 0/0xff table 78");
        let rules = kernel.rules().await.unwrap();
        let prefix = |text: &str| Some(text.parse().unwrap());
        let table = |priority, table| Rule { priority, action: RuleAction::Table(table), ..Rule::default() };
        let further = |met_by, words: &str| Further { met_by, words: words.into() };
        let expected = [
            table(0, 255),
            Rule { from: prefix("2001:db8::/64"), to: prefix("2001:db8:9::/64"), ..table(100, 1077) },
            Rule {
                conditional: true,
                further: further(Share::None, "fwmark 0x7/0xffffffff"),
                ..table(200, 78)
            },
            Rule { to: prefix("2001:db8:b::/64"), action: RuleAction::Refuse("prohibit"), ..table(300, 0) },
            Rule { suppress_prefix_len: Some(0), ..table(400, 254) },
            Rule {
                conditional: true,
                iif: Some("up0".into()),
                inverted: true,
                further: further(Share::None, "oif up1 uidrange 7-8"),
                action: RuleAction::Refuse("prohibit"),
                ..table(500, 0)
            },
            Rule {
                conditional: true,
                further: further(Share::Some, "dport 80 ipproto 6"),
                action: RuleAction::Goto(700),
                ..table(600, 0)
            },
            Rule {
                conditional: true,
                iif: Some("lo".into()),
                further: further(Share::All, "fwmark 0x0/0xff"),
                ..table(700, 78)
            },
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

/// Of a forwarded packet, the interface that it came in by is known.
#[test]
fn a_lookup_for_a_forwarded_packet_follows_rules_for_its_interface() {
    with_uplink(async |kernel, up0| {
        ip("route add 2001:db8:9::/64 via 2001:db8::2 dev up0 proto 66 metric 512");
        ip("rule add pref 100 iif up0 prohibit");
        assert!(lookup(&kernel, "2001:db8:9::5").await.is_ok());
        let (from, to) = ("2001:db8:7::1".parse().unwrap(), "2001:db8:9::5".parse().unwrap());
        let forwarded = kernel.lookup(from, to, Some(up0)).await.unwrap();
        assert_eq!(forwarded.map_err(|errno| errno.code), Err(EACCES));
    });
}

/// They are no routes of ours any more, and put back by a replacement.
#[test]
fn metrics_that_another_process_gives_a_route_of_ours_are_read() {
    with_uplink(async |kernel, up0| {
        let ours = via("2001:db8:9::/64", &["2001:db8::2"], up0);
        kernel.apply(&[sextant_agent::kernel::Change::Add(ours.clone())]).await.unwrap();
        let target = async || kernel.routes(Scope::Ours).await.unwrap().remove(0).target;
        assert_eq!(target().await, ours.target);
        for more in ["mtu lock 1280", "mtu 1400", "advmss 1000", "hoplimit 9", "src 2001:db8::1", "realm 3"] {
            ip(&format!("route change 2001:db8:9::/64 via 2001:db8::2 dev up0 proto 66 metric 512 {more}"));
            if more.starts_with("realm") && target().await == ours.target {
                continue; // The kernel has no realms for IPv6.
            }
            assert_eq!(target().await, RouteTarget::Other(1), "{more}");
            kernel.apply(&[sextant_agent::kernel::Change::Replace(ours.clone())]).await.unwrap();
            assert_eq!(target().await, ours.target, "{more}");
        }
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
