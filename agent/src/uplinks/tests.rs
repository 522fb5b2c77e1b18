use on_link::tests::{link_routes, route};

use super::*;
use crate::kernel::{MAIN_TABLE, Rule, RuleAction};

pub(super) fn link(index: u32, name: &str) -> Link {
    Link { index, name: name.into(), up: true, carrier: true, ..Link::default() }
}

fn address(link: u32, addr: &str) -> Address {
    Address {
        link,
        addr: addr.parse().unwrap(),
        len: 64,
        global: true,
        tentative: false,
        dad_failed: false,
        deprecated: false,
        temporary: false,
        permanent: true,
        prefix_route: true,
    }
}

/// The uplink `eth0` with the index 2, by the main table's `routes`.
fn eth0(addresses: &[Address], routes: &[&str]) -> LocalUplink {
    let main = Rule { action: RuleAction::Table(MAIN_TABLE), ..Rule::default() };
    let routes: Vec<_> = routes.iter().map(|it| route(it)).collect();
    let links = [link(1, "lo"), link(2, "eth0"), link(3, "eth1")];
    let names = ["eth0".into(), "gone".into()];
    let mut found = local_uplinks(&names, &links, addresses, &link_routes(&[main], &routes));
    assert_eq!(found.len(), 1);
    found.remove(0)
}

fn announce(local: &LocalUplink, next_hop: NextHopKind) -> Vec<String> {
    let addresses = announced(local, next_hop).addresses;
    addresses.iter().map(|it| format!("{} in {}", it.addr, it.on_link)).collect()
}

#[test]
fn only_verified_addresses_are_announced_the_deprecated_ones_last() {
    let addresses = [
        Address { tentative: true, ..address(2, "2001:db8::1") },
        Address { deprecated: true, ..address(2, "2001:db8::2") },
        Address { temporary: true, ..address(2, "2001:db8::3") },
        Address { global: false, ..address(2, "fe80::1") },
        Address { permanent: false, ..address(2, "2001:db8::4") },
        address(2, "2001:db8::5"),
        address(3, "2001:db8::6"),
    ];
    let uplink = eth0(&addresses, &[]);
    let announced: Vec<_> = uplink.uplink.addresses.iter().map(|it| it.addr.to_string()).collect();
    assert_eq!(announced, ["2001:db8::5", "2001:db8::4", "2001:db8::2"]);
    assert_eq!(uplink.link_local, Some("fe80::1".parse().unwrap()));
}

#[test]
fn what_is_on_link_is_announced_by_the_routes() {
    let addresses = [
        Address { len: 128, ..address(2, "2001:db8::5") },
        address(2, "2001:db8:1::5"),
        address(2, "fd00::5"),
    ];
    let routes = [
        "::/0 via fe80::9 dev 2",
        "2001:db8::/60 dev 2 proto 9",
        "2001:db8:1::/64 via fe80::9 dev 2",
        "fd00::/120 dev 2",
    ];
    assert_eq!(
        announce(&eth0(&addresses, &routes), NextHopKind::Global),
        ["2001:db8::5 in 2001:db8::/60", "2001:db8:1::5 in 2001:db8:1::5/128", "fd00::5 in fd00::/120"]
    );
}

#[test]
fn an_uplink_announces_no_more_than_some_addresses() {
    let addresses: Vec<_> = (1..=100).map(|n| address(2, &format!("2001:db8::{n:x}"))).collect();
    let announced = announce(&eth0(&addresses, &[]), NextHopKind::Global);
    assert_eq!((announced.len(), &*announced[0]), (MOST_ADDRESSES, "2001:db8::1 in 2001:db8::1/128"));
}

#[test]
fn an_unnumbered_uplink_has_the_address_of_the_loopback_interface() {
    let own = Address { global: false, ..address(2, "fe80::2") };
    let loopback = [Address { global: false, ..address(1, "::1") }, address(1, "2001:db8:f::1")];
    let with = |more: &[Address]| [&loopback, more].concat();
    let announced = |more: &[Address]| announce(&eth0(&with(more), &[]), NextHopKind::Global);
    assert_eq!(announced(std::slice::from_ref(&own)), ["2001:db8:f::1 in 2001:db8:f::1/128"]);
    assert_eq!(announced(&[]), [""; 0], "it takes no part in IPv6");
    assert_eq!(announced(&[own.clone(), address(2, "2001:db8::2")]), ["2001:db8::2 in 2001:db8::2/128"]);
    let problems = |more: &[Address]| {
        findings(&["eth0".into()], &[link(1, "lo"), link(2, "eth0")], &with(more), &[]).len()
    };
    assert_eq!((problems(&[own]), problems(&[])), (0, 1));
}

#[test]
fn routes_that_decide_neighbours_are_noticed() {
    let uplink = eth0(&[address(2, "2001:db8::1")], &["2001:db8::/64 dev 2"]);
    let decides = |text: &str| uplink.is_decided_by(&route(text));
    for text in ["2001:db8:1::/64 dev 2", "2001:db8::/64 via fe80::1 dev 2", "unreachable 2001:db8::/120"] {
        assert!(decides(text), "{text}");
    }
    for text in ["::/0 via fe80::1 dev 2", "2001:db8:1::/64 dev 3", "fe80::/64 dev 2", "2001:db8::/48 dev 3"]
    {
        assert!(!decides(text), "{text}");
    }
}

#[test]
fn uplinks_without_usable_addresses_are_reported() {
    let names = ["eth0", "eth1", "eth2", "eth3", "eth4"].map(str::to_owned);
    let down = Link { up: false, ..link(5, "eth4") };
    let links = [link(2, "eth0"), link(3, "eth1"), link(4, "eth2"), down];
    let addresses = [
        address(2, "2001:db8::1"),
        Address { dad_failed: true, tentative: true, ..address(2, "2001:db8::9") },
        Address { dad_failed: true, tentative: true, ..address(3, "2001:db8:1::1") },
        Address { temporary: true, ..address(4, "2001:db8:2::1") },
        Address { global: false, dad_failed: true, ..address(4, "fe80::1") },
    ];
    let found = findings(&names, &links, &addresses, &[]);
    let kinds: Vec<_> = found.iter().map(|it| it.what).collect();
    assert_eq!(kinds, ["address-duplicate", "address-missing", "uplink-missing", "address-missing"]);
    assert!(found[0].saw.contains("2001:db8:1::1"), "{found:?}");
    assert!(found[1].saw.contains("eth2 has no usable IPv6 address (global"), "{found:?}");
    assert!(found[2].saw.contains("eth3"), "{found:?}");
    assert!(found[3].saw.contains("eth4") && found[3].saw.ends_with("the interface is down"), "{found:?}");
    assert!(found[3].fix.starts_with("`ip link set dev eth4 up`"), "{found:?}");
}

#[test]
fn an_address_that_all_routers_of_a_link_have_is_no_next_hop() {
    let shared = address(2, "2001:db8::");
    let of_dhcp = Address { len: 128, ..shared.clone() };
    let of_two_hosts = Address { len: 127, ..shared.clone() };
    for (has, routes, announced) in [
        (vec![shared.clone()], "2001:db8::/64 dev 2", vec![]),
        (vec![of_dhcp], "2001:db8::/64 dev 2", vec![]),
        (
            vec![shared.clone(), address(2, "2001:db8::5")],
            "2001:db8::/64 dev 2",
            vec!["2001:db8::5 in 2001:db8::/64"],
        ),
        (vec![of_two_hosts], "2001:db8::/127 dev 2", vec!["2001:db8:: in 2001:db8::/127"]),
    ] {
        assert_eq!(announce(&eth0(&has, &[routes]), NextHopKind::Global), announced, "{has:?}");
    }
    let found = findings(&["eth0".into()], &[link(2, "eth0")], &[shared], &[]);
    assert_eq!(found.iter().map(|it| it.what).collect::<Vec<_>>(), ["address-shared"]);
}

#[test]
fn a_link_local_next_hop_follows_each_address() {
    let mut addresses = vec![
        address(2, "2001:db8::5"),
        address(2, "2001:db8::6"),
        Address { global: false, ..address(2, "fe80::2") },
        Address { global: false, ..address(3, "fe80::1") },
    ];
    let announce = |addresses: &[Address], next_hop| {
        super::tests::announce(&eth0(addresses, &["2001:db8::/64 dev 2"]), next_hop)
    };
    let global = ["2001:db8::5 in 2001:db8::/64", "2001:db8::6 in 2001:db8::/64"];
    assert_eq!(announce(&addresses, NextHopKind::Global), global);
    let own = "fe80::2 in fe80::/64";
    assert_eq!(announce(&addresses, NextHopKind::LinkLocal), [global[0], own, global[1], own]);
    addresses[2].tentative = true;
    assert_eq!(announce(&addresses, NextHopKind::LinkLocal), global, "it may belong to another host");
}

#[test]
fn an_uplink_is_shown_as_operators_write_it() {
    let addresses = [address(2, "2001:db8::5"), Address { global: false, ..address(2, "fe80::2") }];
    let mut local = eth0(&addresses, &["2001:db8::/64 dev 2"]);
    assert_eq!(local.to_string(), "eth0 2001:db8::5/64 fe80::2");
    local.works = false;
    assert_eq!(local.to_string(), "eth0 2001:db8::5/64 fe80::2 (down)");
}

#[test]
fn a_missing_uplink_is_reported_with_the_existing_interfaces() {
    let error =
        existing_uplinks(&["eth7".into()], &[link(1, "lo"), link(2, "eth0")]).unwrap_err().to_string();
    assert!(error.starts_with("uplink \"eth7\" does not exist; interfaces: lo, eth0."), "{error}");
}
