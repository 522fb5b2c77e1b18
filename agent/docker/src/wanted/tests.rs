use super::*;

pub(crate) fn wanted() -> Wanted {
    Wanted {
        name: "sextant".into(),
        bridge: "sextant0".into(),
        prefix: "2001:db8:1::/80".parse().unwrap(),
        gateway: "2001:db8:1::1".parse().unwrap(),
        mtu: None,
        from_cluster: FromCluster::Open,
        replace_used: false,
    }
}

/// The network that the engine makes of it.
pub(crate) fn made(wanted: &Wanted) -> Network {
    Network {
        id: format!("id of {}", wanted.prefix),
        name: wanted.name.clone(),
        driver: "bridge".into(),
        ipv6: true,
        internal: false,
        prefixes: vec![(wanted.prefix, Some(wanted.gateway))],
        options: wanted.options(20),
        labels: BTreeMap::from([(MADE_BY.0.into(), MADE_BY.1.into())]),
        ..Network::default()
    }
}

fn other(name: &str, prefixes: &[&str]) -> Network {
    let prefixes = prefixes.iter().map(|prefix| (prefix.parse().unwrap(), None)).collect();
    Network {
        id: name.into(),
        name: name.into(),
        driver: "bridge".into(),
        ipv6: true,
        prefixes,
        ..Network::default()
    }
}

pub(super) fn web() -> Container {
    Container { name: "web".into(), id: "1234".into() }
}

#[test]
fn it_is_made_once() {
    let others = [other("bridge", &[]), other("lab", &["fd00::/64"])];
    assert_eq!(wanted().step(20, &others, &[]), Step::Create);
    let [bridge, lab] = others;
    assert_eq!(wanted().step(20, &[bridge, made(&wanted()), lab], &[web()]), Step::Nothing);
}

#[test]
fn one_that_an_operator_made_is_as_good_if_it_is_right() {
    let mut theirs = Network { labels: BTreeMap::new(), ..made(&wanted()) };
    theirs.options.insert("com.docker.network.bridge.enable_icc".into(), "true".into());
    assert_eq!(wanted().step(20, std::slice::from_ref(&theirs), &[]), Step::Nothing);
    theirs.prefixes[0].1 = None;
    assert_eq!(wanted().step(20, &[theirs], &[]), Step::Nothing, "the engine names no gateway");
}

#[test]
fn one_that_differs_is_replaced_if_it_is_ours_and_unused() {
    type Change = fn(&mut Network);
    let table: [(&str, Change); 7] = [
        ("it is internal: its containers have no way out of the host", |it| it.internal = true),
        ("it has 2001:db8:2::/80", |it| it.prefixes[0].0 = "2001:db8:2::/80".parse().unwrap()),
        ("its gateway is 2001:db8:1::5, not 2001:db8:1::1", |it| {
            it.prefixes[0].1 = Some("2001:db8:1::5".parse().unwrap())
        }),
        ("IPv6 is off in it", |it| it.ipv6 = false),
        ("it has 0 IPv6 prefixes", |it| it.prefixes.clear()),
        ("its driver is macvlan, not bridge", |it| it.driver = "macvlan".into()),
        ("its option com.docker.network.bridge.name is \"\", not \"sextant0\"", |it| it.options.clear()),
    ];
    for (differs, change) in table {
        let mut present = made(&wanted());
        change(&mut present);
        let id = present.id.clone();
        let theirs = Network { labels: BTreeMap::new(), ..present.clone() };
        let step =
            |present: Network, wanted: &Wanted, users: &[Container]| wanted.step(20, &[present], users);
        let replace = |users: &[Container]| Step::Replace {
            id: id.clone(),
            differs: differs.into(),
            users: users.to_vec(),
        };
        assert_eq!(step(present.clone(), &wanted(), &[]), replace(&[]));
        let allowed = Wanted { replace_used: true, ..wanted() };
        assert_eq!(step(present.clone(), &allowed, &[web()]), replace(&[web()]));
        let Step::Blocked(used) = step(present, &wanted(), &[web()]) else { panic!("{differs}") };
        assert!(used.to_string().contains(differs) && used.to_string().ends_with("on it: web"), "{used}");
        assert!(used.fix().contains("docker rm -f web"), "{}", used.fix());
        let Step::Blocked(taken) = step(theirs, &wanted(), &[]) else { panic!("{differs}") };
        assert!(taken.to_string().contains("the agent did not make, and"), "{taken}");
    }
}

#[test]
fn an_obstacle_is_named() {
    let overlapping = other("compose_default", &["fd00::/64", "2001:db8:1::/64"]);
    let Step::Blocked(trouble) = wanted().step(20, &[overlapping], &[]) else { panic!() };
    assert!(trouble.to_string().contains("compose_default has 2001:db8:1::/64, which overlaps"), "{trouble}");
    assert!(trouble.fix().contains("docker network rm compose_default"), "{}", trouble.fix());
    let mut same_bridge = other("mine", &[]);
    same_bridge.options.insert(BRIDGE_NAME.into(), "sextant0".into());
    let Step::Blocked(trouble) = wanted().step(20, &[same_bridge], &[]) else { panic!() };
    assert!(trouble.to_string().contains("mine is on the bridge sextant0"), "{trouble}");
}

#[test]
fn of_two_with_its_name_ours_counts() {
    let theirs = Network { id: "first".into(), ..other("sextant", &["fd00::/64"]) };
    assert_eq!(wanted().step(20, &[theirs, made(&wanted())], &[]), Step::Nothing);
}

#[test]
fn a_later_engine_is_asked_not_to_drop_packets_to_ports_that_are_published() {
    let mut published = wanted();
    published.from_cluster = FromCluster::Published;
    assert_eq!(published.options(28)[GATEWAY_MODE], "routed");
    for (wanted, major) in [(&published, 26), (&wanted(), 28)] {
        assert!(!wanted.options(major).contains_key(GATEWAY_MODE), "{major}");
    }
    // After an upgrade of the engine.
    assert!(matches!(published.step(28, &[made(&published)], &[]), Step::Replace { .. }));
}
