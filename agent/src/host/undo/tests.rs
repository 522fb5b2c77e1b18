use super::*;
use crate::{
    kernel::{RouteKey, fake::permanent},
    state::MadeBridge,
};

fn link(index: u32, name: &str) -> Link {
    let mac = vec![2, 0, 0, 0, 0, index as u8];
    Link { index, name: name.into(), up: true, carrier: true, mac, ..Link::default() }
}

fn ledger() -> Ledger {
    let address =
        BridgeAddress { interface: "docker0".into(), addr: "2001:db8::1".parse().unwrap(), len: 80 };
    let sysctls = [("all/forwarding", "0"), ("eth0/accept_ra", "1"), ("eth1/forwarding", "1")];
    Ledger {
        bridge: Some("docker0".into()),
        bridge_mac: Some("02:00:00:00:00:03".into()),
        addresses: vec![address],
        sysctls: sysctls.map(|(name, value)| (format!("net/ipv6/conf/{name}"), value.into())).into(),
        ..Ledger::default()
    }
}

fn found() -> Found {
    let route = |target, metric| Route {
        mtu: None,
        key: RouteKey { table: 254, destination: "2001:db8:1::/64".parse().unwrap(), metric },
        protocol: RouteProtocol::OURS,
        target,
    };
    let sysctls = [("all/forwarding", "1"), ("eth0/accept_ra", "2"), ("eth1/forwarding", "1")];
    Found {
        links: vec![link(2, "eth0"), Link { bridge: true, ..link(3, "docker0") }],
        addresses: vec![permanent(3, "2001:db8::1".parse().unwrap(), 80)],
        routes: vec![route(RouteTarget::Unreachable, 4), route(RouteTarget::Via([].into()), 512)],
        sysctls: sysctls.map(|(name, value)| (format!("net/ipv6/conf/{name}"), value.into())).into(),
        ..Found::default()
    }
}

/// The undo of a cleanup.
fn all(ledger: &Ledger, found: &Found) -> Undo {
    undo(ledger, found, &Wanted::default())
}

fn lines(undo: &Undo) -> Vec<String> {
    undo.steps.iter().map(Step::to_string).chain(undo.kept.iter().map(Kept::to_string)).collect()
}

#[test]
fn a_cleanup_disables_forwarding_first_and_deletes_unreachable_routes_last() {
    assert_eq!(
        lines(&all(&ledger(), &found())),
        [
            "sysctl net/ipv6/conf/all/forwarding: 1 back to 0",
            "sysctl net/ipv6/conf/eth1/forwarding: 0 back to 1",
            "sysctl net/ipv6/conf/eth0/accept_ra: 2 back to 1",
            "route 2001:db8:1::/64 metric 512 table 254 removed",
            "route unreachable 2001:db8:1::/64 metric 4 table 254 removed",
            "address 2001:db8::1/80 of docker0 removed",
            "bridge docker0 deleted",
        ]
    );
    let nothing = all(&Ledger::default(), &Found { routes: vec![], ..found() });
    assert_eq!(nothing, Undo::default(), "changes that are not recorded are not ours");
    let done = Found { links: vec![link(2, "eth0")], ..Found::default() };
    assert_eq!(all(&ledger(), &done), Undo::default(), "nothing to undo for missing objects");
}

#[test]
fn changes_by_other_processes_are_kept() {
    let mut found = found();
    found.routes.clear();
    found.links[1].mac = vec![2, 0, 0, 0, 0, 9];
    found.sysctls.insert("net/ipv6/conf/all/forwarding".into(), "0".into());
    found.sysctls.insert("net/ipv6/conf/eth0/accept_ra".into(), "0".into());
    found.addresses.clear();
    assert_eq!(
        lines(&all(&ledger(), &found)),
        [
            "sysctl net/ipv6/conf/eth0/accept_ra left at 0: changed by another process",
            "bridge docker0 kept: it is not the bridge that the agent created",
        ]
    );
}

#[test]
fn a_bridge_with_containers_is_kept_and_reported_with_the_fix() {
    let mut found = found();
    found.links.push(Link { controller: Some(3), ..link(7, "ve1") });
    let undo = all(&ledger(), &found);
    assert!(!undo.steps.iter().any(|step| matches!(step, Step::Bridge { .. })));
    let kept = undo.kept[0].to_string();
    assert!(undo.kept[0].is_ours() && kept.contains("ve1") && kept.contains("stop the containers"), "{kept}");
}

fn wanted(bridge: &str) -> Wanted {
    let addresses = vec![("2001:db8::1".parse().unwrap(), 80)];
    Wanted::of_host(bridge, addresses, vec!["eth0".into()])
}

#[test]
fn wanted_changes_are_not_undone() {
    let undo = undo(&ledger(), &found(), &wanted("docker0"));
    assert_eq!((lines(&undo), undo.left), (vec![], ledger()));
}

#[test]
fn a_former_bridge_that_is_an_uplink_now_loses_its_address_only() {
    let addresses = wanted("br1").addresses;
    for port in [true, false] {
        let mut found = found();
        if port {
            found.links.push(Link { controller: Some(3), ..link(7, "eth1") });
        }
        let now = Wanted::of_host("br1", addresses.clone(), vec!["eth0".into(), "docker0".into()]);
        let undo = undo(&ledger(), &found, &now);
        assert_eq!(lines(&undo), ["address 2001:db8::1/80 of docker0 removed"]);
        assert_eq!(undo.left.made_bridges().count(), 1);
    }
}

#[test]
fn a_former_bridge_loses_its_address_and_is_deleted_once_it_has_no_ports() {
    let (mut found, mut ledger) = (found(), ledger());
    let on_new = BridgeAddress { interface: "br1".into(), ..ledger.addresses[0].clone() };
    ledger.making("br1");
    ledger.addresses.push(on_new.clone());
    found.links.push(Link { bridge: true, ..link(4, "br1") });
    let of_busy = {
        let mut found = found.clone();
        found.links.push(Link { controller: Some(3), ..link(7, "ve1") });
        undo(&ledger, &found, &wanted("br1"))
    };
    assert_eq!(lines(&of_busy)[0], "address 2001:db8::1/80 of docker0 removed");
    assert!(lines(&of_busy)[1].starts_with("bridge docker0 kept: ve1 are connected"), "{of_busy:?}");
    assert_eq!(of_busy.left.addresses, [on_new]);
    let names = |ledger: &Ledger| ledger.made_bridges().map(|it| it.name).collect::<Vec<_>>();
    assert_eq!(names(&of_busy.left), ["br1", "docker0"], "a later check deletes it");
    found.addresses.clear();
    let of_free = undo(&of_busy.left, &found, &wanted("br1"));
    assert_eq!(
        (lines(&of_free), names(&of_free.left)),
        (vec!["bridge docker0 deleted".into()], vec!["br1".into()])
    );
    let former = MadeBridge { name: "docker0".into(), mac: Some("02:00:00:00:00:03".into()) };
    assert_eq!(of_busy.left.former_bridges, [former]);
}

#[test]
fn an_earlier_address_is_removed_before_the_setup_and_the_rest_after() {
    let claim_moved = Wanted::of_host("br1", vec![("2001:db8:9::1".parse().unwrap(), 80)], vec![]);
    let first = undo(&ledger(), &found(), &claim_moved.clone().before_setup());
    assert_eq!(lines(&first), ["address 2001:db8::1/80 of docker0 removed"]);
    let same = undo(&ledger(), &found(), &wanted("br1").before_setup());
    assert_eq!(lines(&same), Vec::<String>::new(), "the same address moves after the setup");
}

#[test]
fn an_interface_is_set_down_again_unless_it_has_ports() {
    let ledger = Ledger { set_up: vec!["br9".into()], ..Ledger::default() };
    let mut found = Found { links: vec![link(9, "br9")], ..Found::default() };
    let free = undo(&ledger, &found, &wanted("br1"));
    assert_eq!((lines(&free), &free.left), (vec!["interface br9 set down".into()], &Ledger::default()));
    assert_eq!(lines(&undo(&ledger, &found, &wanted("br9"))), Vec::<String>::new());
    found.links.push(Link { controller: Some(9), ..link(7, "ve1") });
    let busy = undo(&ledger, &found, &wanted("br1"));
    assert!(busy.steps.is_empty() && busy.left == ledger && busy.kept[0].is_ours(), "{busy:?}");
}

/// Nothing but the host's own uplinks needs it, so no container on others' bridges keeps it.
#[test]
fn the_announcement_of_new_mac_addresses_is_undone_on_a_former_uplink() {
    let (mut ledger, mut found) = (ledger(), found());
    let path = "net/ipv6/conf/eth0/ndisc_notify".to_owned();
    ledger.sysctls = [(path.clone(), "0".into())].into();
    found.sysctls = [(path, "1".into())].into();
    found.links.push(Link { controller: Some(3), kind: "veth".into(), ..link(7, "ve1") });
    let with = |uplink: &str| Wanted::of_host("docker0", wanted("docker0").addresses, vec![uplink.into()]);
    assert_eq!(lines(&undo(&ledger, &found, &with("eth0"))), Vec::<String>::new());
    let expected = "sysctl net/ipv6/conf/eth0/ndisc_notify: 1 back to 0";
    assert_eq!(lines(&undo(&ledger, &found, &with("eth1"))), [expected]);
    assert!(lines(&all(&ledger, &found)).contains(&expected.to_owned()));
}

#[test]
fn accept_ra_is_restored_where_it_is_not_needed() {
    let (mut ledger, mut found) = (ledger(), found());
    let with = |bridge: &str, uplinks: &[&str]| {
        let uplinks = uplinks.iter().map(|&name| name.to_owned()).collect();
        Wanted::of_host(bridge, wanted(bridge).addresses, uplinks)
    };
    let no_uplink_now = undo(&ledger, &found, &with("docker0", &["eth1"]));
    assert!(
        no_uplink_now.steps.is_empty(),
        "the host forwards, and would ignore router advertisements on eth0: {no_uplink_now:?}"
    );
    let as_bridge = undo(&ledger, &found, &with("eth0", &["eth1"]));
    assert_eq!(
        as_bridge.steps[0].to_string(),
        "sysctl net/ipv6/conf/eth0/accept_ra: 2 back to 1",
        "a container could give the host a route"
    );
    let path = "net/ipv6/conf/docker0/accept_ra".to_owned();
    ledger.sysctls.insert(path.clone(), "2".into());
    ledger.switched_off.insert(path.clone());
    found.sysctls.insert(path.clone(), "0".into());
    assert_eq!(lines(&undo(&ledger, &found, &with("docker0", &["eth0"]))), Vec::<String>::new());
    let of_uplink = undo(&ledger, &found, &with("br1", &["docker0"]));
    let restored = format!("sysctl {path}: 0 back to 2");
    assert!(lines(&of_uplink).contains(&restored) && of_uplink.left.switched_off.is_empty(), "{of_uplink:?}");
    assert!(lines(&all(&ledger, &found)).contains(&restored), "a cleanup restores it");
    found.sysctls.insert(path, "1".into());
    assert!(
        lines(&all(&ledger, &found)).iter().any(|line| line.contains("left at 1")),
        "another process's value"
    );
}

/// A bridge that Docker uses: an address of its own, and a container.
fn used_by_docker(found: &mut Found) {
    found.links.push(Link { controller: Some(3), kind: "veth".into(), ..link(7, "ve1") });
    found.ipv4.insert(3);
}

#[test]
fn a_cleanup_takes_nothing_from_containers_on_a_bridge_that_others_use() {
    let (ledger, mut found) = (ledger(), found());
    used_by_docker(&mut found);
    let undo = all(&ledger, &found);
    assert_eq!(
        lines(&undo),
        [
            "route 2001:db8:1::/64 metric 512 table 254 removed",
            "route unreachable 2001:db8:1::/64 metric 4 table 254 removed",
            "sysctl net/ipv6/conf/all/forwarding left at 1: the containers on docker0 need this host to forward; stop them, \
             and run this again",
            "sysctl net/ipv6/conf/eth0/accept_ra left at 2: the containers on docker0 need this host to forward; stop them, and \
             run this again",
            "address 2001:db8::1/80 of docker0 kept: ve1 are connected to it and may use it as their gateway; stop the \
             containers, and run this again",
            "bridge docker0 kept: ve1 are connected to it; stop the containers, and run this again",
        ]
    );
    assert!(undo.kept.iter().all(Kept::is_ours));
    found.links.pop();
    let without_container = all(&ledger, &found);
    let kept: Vec<_> = without_container.kept.iter().map(Kept::to_string).collect();
    assert_eq!(
        kept,
        [
            "interface docker0 left up: it also has an IPv4 address, not added by the agent; stop whatever uses it, and run this \
          again"
        ]
    );
    assert_eq!(without_container.left.bridge.as_deref(), Some("docker0"));
}

#[test]
fn a_cleanup_leaves_forwarding_to_another_engines_containers_and_the_rest_goes() {
    let (ledger, mut found) = (ledger(), found());
    found.links.push(Link { bridge: true, kind: "bridge".into(), ..link(4, "br-x") });
    found.links.push(Link { controller: Some(4), kind: "veth".into(), ..link(7, "ve1") });
    assert_eq!(all(&ledger, &found).kept, [], "its containers have no IPv6");
    found.addresses.push(permanent(4, "fd00::1".parse().unwrap(), 64));
    let undo = all(&ledger, &found);
    let used = |kept: &Kept| matches!(kept, Kept::UsedSysctl { bridges, .. } if bridges == &["br-x"]);
    assert!(undo.kept.len() == 2 && undo.kept.iter().all(used), "{undo:?}");
    assert!(lines(&undo).contains(&"bridge docker0 deleted".to_owned()));
    assert!(undo.left.sysctls.contains_key(FORWARDING), "a later cleanup restores it");
}

#[test]
fn an_interface_with_an_address_of_others_is_not_set_down() {
    let ledger = Ledger { set_up: vec!["br9".into()], ..Ledger::default() };
    let up = Found { links: vec![link(9, "br9")], ..Found::default() };
    let ipv4 = Found { ipv4: [9].into(), ..up.clone() };
    let ipv6 = Found { addresses: vec![permanent(9, "fd00::1".parse().unwrap(), 64)], ..up };
    for found in [ipv4, ipv6] {
        let undo = all(&ledger, &found);
        assert!(undo.steps.is_empty() && undo.left == ledger && undo.kept[0].is_ours(), "{undo:?}");
    }
}

/// Nothing depends on limits of neighbours: not even containers on others' bridges.
#[test]
fn limits_of_neighbours_are_undone_where_no_containers_are() {
    let path = |link: &str| format!("net/ipv6/neigh/{link}/retrans_time_ms");
    let (mut ledger, mut found) = (ledger(), found());
    ledger.sysctls = [(path("docker0"), "1000".into()), (path("br-x"), "200".into())].into();
    found.sysctls = [(path("docker0"), "100".into()), (path("br-x"), "100".into())].into();
    found.links.push(Link { bridge: true, kind: "bridge".into(), ..link(4, "br-x") });
    found.links.push(Link { controller: Some(4), kind: "veth".into(), ..link(7, "ve1") });
    found.addresses.push(permanent(4, "2001:db8:2::1".parse().unwrap(), 80));
    let kept = undo(&ledger, &found, &wanted("docker0"));
    assert_eq!((lines(&kept), &kept.left), (vec![], &ledger));
    let all = lines(&all(&ledger, &found));
    let back = |link: &str, before: &str| format!("sysctl {}: 100 back to {before}", path(link));
    assert_eq!(all[..2], [back("br-x", "200"), back("docker0", "1000")]);
    let uplink = Wanted::of_host("docker0", vec![], vec!["br-x".into()]);
    let undone = undo(&ledger, &found, &uplink);
    assert!(lines(&undone).contains(&back("br-x", "200")) && undone.left.sysctls.len() == 1);
}
