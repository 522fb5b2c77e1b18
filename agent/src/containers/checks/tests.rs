use sextant_docker::network::Network;
use sextant_proto::{Epoch, Incarnation, Pool, Revision};

use super::*;
use crate::kernel::{NextHop, RouteKey, RouteProtocol, RouteTarget, fake::permanent};

fn facts() -> Facts {
    let pool = Pool::new("main".parse().unwrap(), "2001:db8:8000::/40".parse().unwrap(), 64, 80).unwrap();
    let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(1) };
    let link = |index, name: &str| Link { index, name: name.into(), up: true, ..Link::default() };
    Facts {
        pools: vec![pool.prefix],
        claims: vec![Claim { prefix: "2001:db8:8000:7::/64".parse().unwrap(), epoch, pool }],
        bridge: "docker0".into(),
        uplinks: vec!["eth0".into()],
        live: Live { version: "20.10".into(), ..Live::default() },
        links: vec![link(2, "eth0"), link(3, "docker0"), link(4, "br-12"), link(5, "other")],
        addresses: vec![
            permanent(2, "2001:db8::1".parse().unwrap(), 64),
            permanent(3, "2001:db8:8000:7::1".parse().unwrap(), 80),
            permanent(4, "fd00::1".parse().unwrap(), 64),
        ],
        ..Facts::default()
    }
}

fn found(facts: &Facts) -> Vec<(&'static str, Vec<String>)> {
    faults(facts).into_iter().map(|fault| (fault.finding.what, fault.safe)).collect()
}

fn route(destination: &str, link: u32, protocol: u8) -> Route {
    Route {
        mtu: None,
        key: RouteKey { table: 254, destination: destination.parse().unwrap(), metric: 1024 },
        protocol: RouteProtocol(protocol),
        target: RouteTarget::Via(NextHop { gateway: None, link, onlink: false }.into()),
    }
}

#[test]
fn a_good_host_has_no_faults() {
    assert_eq!(found(&facts()), []);
    let docker = "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -s 2001:db8:8000::/40 -d 2001:db8:8000:7::/80 -j ACCEPT\n\
                  -A FORWARD -s 2001:db8:8000:7::/80 -d 2001:db8:8000::/40 -j ACCEPT\nCOMMIT\n";
    assert_eq!(found(&Facts { rules: Rules::parse(docker), ..facts() }), []);
}

#[test]
fn what_an_earlier_prefix_left_is_removed_safely() {
    let mut it = facts();
    for link in [2, 3, 4, 5] {
        it.addresses.push(permanent(link, "2001:db8:8000:9::1".parse().unwrap(), 80));
    }
    it.routes = vec![
        route("2001:db8:8000:9::/80", 3, 3),
        route("2001:db8:8000:9::/80", 3, 2),
        route("2001:db8:8000:9::/80", 2, 3),
        route("2001:db8:8000:7:1::/80", 3, 3),
        route("2001:db8:9::/64", 3, 3),
    ];
    let commands: Vec<_> = found(&it).into_iter().flat_map(|(_, safe)| safe).collect();
    assert_eq!(
        commands,
        [
            "ip -6 address del 2001:db8:8000:9::1/80 dev docker0",
            "ip -6 address del 2001:db8:8000:9::1/80 dev br-12",
            "ip -6 route del 2001:db8:8000:9::/80 dev docker0 proto boot metric 1024",
        ]
    );
    // A network of the engine that has it is reported as one.
    let prefixes = vec![("2001:db8:8000:9::/64".parse().unwrap(), None)];
    let mut used = it.clone();
    used.live.set_networks(vec![Network { ipv6: true, prefixes, ..Network::default() }]);
    assert_eq!(found(&used), []);
    let away = Facts { live: Live::default(), ..it.clone() };
    assert!(
        found(&away).iter().all(|(_, safe)| safe.is_empty()) && found(&away).len() == 3,
        "a network may have it"
    );
    assert_eq!(found(&Facts { claims: vec![], ..it }), [], "nothing can be judged without a claim");
}

#[test]
fn the_firewall_of_both_directions_is_judged() {
    let rules = |saved: &str| Facts { rules: Rules::parse(saved), ..facts() };
    let drops = rules("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n");
    assert_eq!(found(&drops).iter().map(|it| it.0).collect::<Vec<_>>(), ["docker-firewall-drops"; 2]);
    let closed = "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -i docker0 -j ACCEPT\nCOMMIT\n";
    assert_eq!(found(&rules(closed)).len(), 1);
    assert_eq!(found(&Facts { only_published: true, ..rules(closed) }), [], "as the settings want it");
    assert_eq!(found(&Facts { links: Vec::new(), ..rules(closed) }), [], "the agent has no bridge there");
    // Another network of the host prefix, on its own bridge.
    let mut two = rules("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD ! -i br-12 -o br-12 -j DROP\nCOMMIT\n");
    assert_eq!(found(&two), []);
    let prefixes = vec![("2001:db8:8000:7:2::/80".parse().unwrap(), None)];
    two.live.set_networks(vec![Network { id: "12".into(), ipv6: true, prefixes, ..Network::default() }]);
    let fault = faults(&two).remove(0);
    assert!(fault.finding.saw.contains("from 2001:db8:8000::/40 to 2001:db8:8000:7:2::/80"), "{fault:?}");
    assert!(!fault.finding.unready && faults(&drops)[0].finding.unready, "the host serves its own network");
    let nat = rules("*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o eth0 -j MASQUERADE\nCOMMIT\n");
    let fault = faults(&nat).remove(0);
    assert!(fault.finding.what == "docker-masquerade" && !fault.finding.unready, "{fault:?}");
    assert!(fault.finding.fix.starts_with(
        "`ip6tables -t nat -I POSTROUTING 1 -s 2001:db8:8000:7::/80 -d 2001:db8:8000::/40 -j ACCEPT`"
    ));
}
