use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;

use super::*;

/// Hosts with prefixes of several pools.
mod pools;

fn subnet(text: &str) -> Subnet {
    text.parse().unwrap()
}

fn host(pool: &str, prefix: &str) -> HostPrefix {
    HostPrefix { pool: pool.parse().unwrap(), prefix: subnet(prefix) }
}

fn space() -> Space {
    Space {
        primary: None,
        hosts: vec![host("main", "2001:db8:1::/64")],
        ipv4: subnet("172.30.0.0/16"),
        reserved: vec![subnet("2001:db8:1::/80")],
    }
}

fn ipv6() -> PoolRequest {
    PoolRequest { ipv6: true, ..PoolRequest::default() }
}

fn wanting(text: &str) -> PoolRequest {
    PoolRequest { ipv6: text.contains(':'), subnet: Some(subnet(text)), ..PoolRequest::default() }
}

#[test]
fn networks_get_parts_of_the_host_prefix_and_of_the_ipv4_range() {
    let mut leases = Leases::default();
    let mut next = |asked: &PoolRequest| leases.request_pool(asked, &space()).unwrap().1.to_string();
    assert_eq!(next(&ipv6()), "2001:db8:1:0:1::/80", "after the bridge's");
    assert_eq!(next(&ipv6()), "2001:db8:1:0:2::/80");
    assert_eq!(next(&PoolRequest { length: Some(96), ..ipv6() }), "2001:db8:1:0:3::/96");
    assert_eq!(next(&ipv6()), "2001:db8:1:0:4::/80");
    assert_eq!(next(&wanting("2001:db8:1:0:8000::/65")), "2001:db8:1:0:8000::/65");
    assert_eq!(next(&PoolRequest::default()), "172.30.0.0/24");
    assert_eq!(next(&PoolRequest::default()), "172.30.1.0/24");
    assert_eq!(next(&wanting("10.1.0.0/16")), "10.1.0.0/16", "IPv4 is the operator's");
}

#[test]
fn what_cannot_be_leased_is_refused_with_the_fix() {
    let mut leases = Leases::default();
    leases.request_pool(&ipv6(), &space()).unwrap();
    let mut refused = |asked: &PoolRequest, space: &Space, words: &str| {
        let before = leases.clone();
        let text = leases.request_pool(asked, space).unwrap_err().to_string();
        assert!(text.contains(words) && text.contains(';') || text.contains("See"), "{text}");
        assert_eq!(leases, before);
    };
    refused(
        &wanting("2001:db8:2::/80"),
        &space(),
        "2001:db8:2::/80 is not inside of this host's prefix 2001:db8:1::/64",
    );
    refused(&wanting("2001:db8:1::/64"), &space(), "overlaps 2001:db8:1:0:1::/80, which another network has");
    refused(&wanting("2001:db8:1::/96"), &space(), "overlaps 2001:db8:1::/80, which is in use otherwise");
    let without = Space { hosts: vec![], ..space() };
    refused(&ipv6(), &without, "no IPv6 prefix yet");
    refused(&wanting("2001:db8:1:0:9::/80"), &without, "no IPv6 prefix yet");
    let small = Space { hosts: vec![host("main", "2001:db8:1:0:1::/80")], ..space() };
    refused(&ipv6(), &small, "no /84 of this host's 2001:db8:1:0:1::/80 is free");
    let small = Space { ipv4: subnet("10.0.0.0/28"), reserved: vec![subnet("10.0.0.0/8")], ..space() };
    refused(&PoolRequest::default(), &small, "no /28 of this host's 10.0.0.0/28 is free");
    let range = Some(subnet("10.1.0.0/24"));
    refused(&PoolRequest { range, ..wanting("10.2.0.0/16") }, &space(), "--ip-range 10.1.0.0/24");
    for length in [0, 64, 127, 255] {
        let text = leases.request_pool(&PoolRequest { length: Some(length), ..ipv6() }, &space());
        assert!(text.unwrap_err().to_string().contains("65 to 126"), "{length}");
    }
}

#[test]
fn addresses_start_with_the_gateway_and_are_not_used_again_soon() {
    let mut leases = Leases::default();
    let (id, _) = leases.request_pool(&wanting("10.0.0.0/29"), &space()).unwrap();
    let address = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    let mut next = |asked, gateway| leases.request_address(&id, asked, gateway).map(|it| it.0.to_string());
    assert_eq!(next(None, true).unwrap(), "10.0.0.1");
    assert_eq!(next(None, true).unwrap(), "10.0.0.1", "asked again");
    assert_eq!(next(address("10.0.0.1"), true).unwrap(), "10.0.0.1");
    assert_eq!(next(address("10.0.0.3"), false).unwrap(), "10.0.0.3");
    assert_eq!(next(None, false).unwrap(), "10.0.0.2");
    assert_eq!(next(None, false).unwrap(), "10.0.0.4");
    for (bad, words) in [
        ("10.0.0.3", "is in use"),
        ("10.0.0.0", "is no address"),
        ("10.0.0.7", "is no address"),
        ("10.0.1.1", "is no"),
    ] {
        assert!(next(address(bad), false).unwrap_err().to_string().contains(words), "{bad}");
    }
    leases.release_address(&id, "10.0.0.2".parse().unwrap());
    let mut next = || leases.request_address(&id, None, false).map(|it| it.0.to_string());
    assert_eq!([(); 3].map(|()| next().unwrap()), ["10.0.0.5", "10.0.0.6", "10.0.0.2"]);
    assert!(next().unwrap_err().to_string().contains("all addresses of 10.0.0.0/29 are in use"));
}

#[test]
fn addresses_come_from_the_range() {
    let mut leases = Leases::default();
    let range = Some(subnet("2001:db8:1:0:5::ff00/120"));
    let (id, _) =
        leases.request_pool(&PoolRequest { range, ..wanting("2001:db8:1:0:5::/80") }, &space()).unwrap();
    let mut next = || leases.request_address(&id, None, false).unwrap().0.to_string();
    assert_eq!([next(), next()], ["2001:db8:1:0:5::ff00", "2001:db8:1:0:5::ff01"]);
    let outside = "2001:db8:1:0:5::7".parse().unwrap();
    assert_eq!(leases.request_address(&id, Some(outside), false).unwrap().0, outside);
}

#[test]
fn a_release_that_comes_late_ends_no_other_lease() {
    let mut leases = Leases::default();
    let (first, subnet) = leases.request_pool(&ipv6(), &space()).unwrap();
    leases.release_pool(&first);
    let (second, again) = leases.request_pool(&ipv6(), &space()).unwrap();
    assert_eq!(subnet, again);
    leases.release_pool(&first);
    assert!(leases.request_address(&first, None, false).is_err());
    assert!(leases.request_address(&second, None, true).is_ok());
    for unknown in ["", "x", "2001:db8:1:0:1::/80", "2001:db8:1:0:1::/80#x", "2001:db8:1:0:7::/80#2"] {
        leases.release_pool(unknown);
        assert!(leases.request_address(unknown, None, false).is_err(), "{unknown}");
    }
}

fn used(pools: &[(&str, &[&str])]) -> Used {
    let pool = |(text, addresses): &(&str, &[&str])| {
        let mut addresses: BTreeSet<IpAddr> = addresses.iter().map(|it| it.parse().unwrap()).collect();
        let gateway = addresses.pop_first();
        (subnet(text), UsedPool { network: "web".into(), gateway, addresses: Some(addresses) })
    };
    Used(pools.iter().map(pool).collect())
}

#[test]
fn a_network_without_a_lease_gets_one_and_the_engines_id_is_its() {
    let (mut leases, mut doubts) = (Leases::default(), Doubts::default());
    let found = used(&[("2001:db8:1:0:1::/80", &["2001:db8:1:0:1::1", "2001:db8:1:0:1::2"])]);
    let outcome = doubts.reconcile(&mut leases, &found, Duration::ZERO);
    assert_eq!(outcome.adopted, [(subnet("2001:db8:1:0:1::/80"), "web".to_owned())]);
    assert!(doubts.reconcile(&mut leases, &found, Duration::ZERO).is_nothing());
    assert_eq!(leases.request_pool(&ipv6(), &space()).unwrap().1.to_string(), "2001:db8:1:0:2::/80");
    let (address, _) = leases.request_address("2001:db8:1:0:1::/80#77", None, false).unwrap();
    assert_eq!(address.to_string(), "2001:db8:1:0:1::3");
    leases.release_pool("2001:db8:1:0:1::/80#77");
    assert_eq!(leases.subnets().count(), 1);
}

#[test]
fn leases_of_no_network_end_after_a_minute_or_with_the_engine() {
    let (mut leases, mut doubts) = (Leases::default(), Doubts::default());
    let (id, _) = leases.request_pool(&ipv6(), &space()).unwrap();
    leases.request_address(&id, None, true).unwrap();
    for text in ["2001:db8:1:0:1::5", "2001:db8:1:0:1::6"] {
        leases.request_address(&id, text.parse().ok(), false).unwrap();
    }
    let (forgotten, gone) = leases.request_pool(&ipv6(), &space()).unwrap();
    let found = used(&[("2001:db8:1:0:1::/80", &["2001:db8:1:0:1::1", "2001:db8:1:0:1::5"])]);
    let at = Duration::from_secs;
    assert!(doubts.reconcile(&mut leases, &found, at(100)).is_nothing());
    assert!(doubts.reconcile(&mut leases, &found, at(159)).is_nothing());
    let outcome = doubts.reconcile(&mut leases, &found, at(160));
    assert_eq!((outcome.released, outcome.addresses), (vec![gone], 1));
    assert!(leases.request_address(&forgotten, None, false).is_err());
    assert_eq!(leases.addresses(subnet("2001:db8:1:0:1::/80")).count(), 2);
    // One that was in use in between is doubtful anew.
    let (_, second) = leases.request_pool(&ipv6(), &space()).unwrap();
    let more = used(&[
        ("2001:db8:1:0:2::/80", &[]),
        ("2001:db8:1:0:1::/80", &["2001:db8:1:0:1::1", "2001:db8:1:0:1::5"]),
    ]);
    for (seconds, found) in [(200, &found), (250, &more), (270, &found)] {
        assert!(doubts.reconcile(&mut leases, found, at(seconds)).is_nothing());
    }
    doubts.engine_ended(&leases);
    let (_, third) = leases.request_pool(&ipv6(), &space()).unwrap();
    assert_eq!(doubts.reconcile(&mut leases, &found, at(271)).released, [second]);
    assert_eq!(leases.subnets().last(), Some(third), "asked for after the end");
}

#[test]
fn an_address_that_the_next_engine_asked_for_is_not_one_of_the_former_engine() {
    let (mut leases, mut doubts) = (Leases::default(), Doubts::default());
    let (id, subnet) = leases.request_pool(&ipv6(), &space()).unwrap();
    let [kept, left] = [5, 6].map(|number| Some(subnet.nth(number)));
    for address in [kept, left] {
        leases.request_address(&id, address, false).unwrap();
    }
    doubts.engine_ended(&leases);
    leases.release_address(&id, kept.unwrap());
    leases.request_address(&id, kept, false).unwrap();
    doubts.asked(subnet, kept.unwrap());
    let found = used(&[(&subnet.to_string(), &[])]);
    assert_eq!(doubts.reconcile(&mut leases, &found, Duration::ZERO).addresses, 1);
    assert_eq!(leases.addresses(subnet).map(Some).collect::<Vec<_>>(), [kept]);
}

#[test]
fn the_gateway_is_the_networks_even_if_the_engine_does_not_show_it() {
    let (mut leases, mut doubts) = (Leases::default(), Doubts::default());
    let (id, _) = leases.request_pool(&ipv6(), &space()).unwrap();
    leases.request_address(&id, None, true).unwrap();
    leases.request_address(&id, None, false).unwrap();
    let found = used(&[("2001:db8:1:0:1::/80", &[]), ("2001:db8:1:0:2::/80", &[])]);
    for seconds in [0, 100, 200] {
        doubts.reconcile(&mut leases, &found, Duration::from_secs(seconds));
    }
    let held = |text: &str| leases.addresses(subnet(text)).map(|it| it.to_string()).collect::<Vec<_>>();
    assert_eq!(held("2001:db8:1:0:1::/80"), ["2001:db8:1:0:1::1"]);
    assert_eq!(held("2001:db8:1:0:2::/80"), ["2001:db8:1:0:2::1"], "the one that it would have got");
    let unknown = UsedPool { addresses: None, ..UsedPool::default() };
    let unknown = Used(
        [(subnet("2001:db8:1:0:1::/80"), unknown), (subnet("2001:db8:1:0:2::/80"), UsedPool::default())]
            .into(),
    );
    leases.request_address(&id, None, false).unwrap();
    for seconds in [300, 400] {
        assert!(doubts.reconcile(&mut leases, &unknown, Duration::from_secs(seconds)).is_nothing());
    }
}

/// Something that an engine does.
#[derive(Debug, Clone)]
enum Act {
    Pool(PoolRequest),
    ReleasePool(usize),
    Address(usize, Option<u8>, bool),
    ReleaseAddress(usize, usize),
    Restart,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let length = proptest::option::of(66u8..72);
    let pool = (any::<bool>(), length, proptest::option::of(0u16..8)).prop_map(|(ipv6, length, asked)| {
        let subnet = asked.map(|n| match ipv6 {
            true => subnet(&format!("2001:db8:1:0:{n:x}000::/68")),
            false => subnet(&format!("172.30.{n}.0/24")),
        });
        Act::Pool(PoolRequest { ipv6, subnet, range: None, length: length.filter(|_| ipv6), pool: None })
    });
    let act = prop_oneof![
        4 => pool,
        2 => any::<usize>().prop_map(Act::ReleasePool),
        6 => (any::<usize>(), proptest::option::of(0u8..4), any::<bool>()).prop_map(|(at, asked, gateway)| Act::Address(at, asked, gateway)),
        3 => (any::<usize>(), any::<usize>()).prop_map(|(at, address)| Act::ReleaseAddress(at, address)),
        1 => Just(Act::Restart),
    ];
    proptest::collection::vec(act, 0..60)
}

proptest! {
    #[test]
    fn no_lease_overlaps_a_release_frees_and_a_restart_keeps(acts in acts()) {
        let (mut leases, space) = (Leases::none_after(7), space());
        let mut pools: Vec<(String, Subnet, Vec<IpAddr>)> = Vec::new();
        for act in acts {
            let count = pools.len().max(1);
            match act {
                Act::Pool(asked) => if let Ok((id, subnet)) = leases.request_pool(&asked, &space) {
                    let around = if subnet.is_ipv4() { space.ipv4 } else { space.hosts[0].prefix };
                    prop_assert!(around.covers(subnet));
                    prop_assert!(!space.reserved.iter().any(|it| it.overlaps(subnet)));
                    prop_assert!(!pools.iter().any(|it| it.1.overlaps(subnet) || it.0 == id));
                    prop_assert!(asked.length.is_none_or(|length| asked.subnet.is_some() || subnet.len() == length));
                    pools.push((id, subnet, Vec::new()));
                },
                Act::ReleasePool(at) => if pools.get(at % count).is_some() {
                    let (id, subnet, _) = pools.swap_remove(at % count);
                    leases.release_pool(&id);
                    let again = leases.clone().request_pool(&PoolRequest { subnet: Some(subnet), ..PoolRequest::default() }, &space);
                    prop_assert_eq!(again.map(|it| it.1), Ok(subnet));
                },
                Act::Address(at, asked, gateway) => if let Some((id, subnet, addresses)) = pools.get_mut(at % count) {
                    let asked = asked.map(|number| subnet.nth(number.into()));
                    let known = leases.clone();
                    if let Ok((address, of)) = leases.request_address(id, asked, gateway) {
                        prop_assert_eq!(of, *subnet);
                        prop_assert!(subnet.contains(address) && asked.is_none_or(|it| it == address));
                        prop_assert!(!addresses.contains(&address) || (gateway && known == leases));
                        if known != leases { addresses.push(address); }
                    }
                },
                Act::ReleaseAddress(at, address) => if let Some((id, _, addresses)) = pools.get_mut(at % count)
                    && !addresses.is_empty()
                {
                    let address = addresses.swap_remove(address % addresses.len());
                    leases.release_address(id, address);
                    prop_assert!(leases.clone().request_address(id, Some(address), false).is_ok());
                },
                Act::Restart => {
                    let text = serde_json::to_string(&leases).unwrap();
                    let read: Leases = serde_json::from_str(&text).unwrap();
                    prop_assert_eq!(&read, &leases);
                    leases = read;
                }
            }
            let held: BTreeSet<_> = pools.iter().map(|it| it.1).collect();
            prop_assert_eq!(leases.subnets().collect::<BTreeSet<_>>(), held);
            for (_, subnet, addresses) in &pools {
                let held: BTreeSet<_> = addresses.iter().copied().collect();
                prop_assert_eq!(leases.addresses(*subnet).collect::<BTreeSet<_>>(), held);
            }
        }
    }
}
