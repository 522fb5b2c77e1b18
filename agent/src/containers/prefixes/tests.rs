use std::collections::BTreeMap;

use sextant_proto::{Epoch, Incarnation, Pool, Revision};

use super::*;

fn input() -> Input {
    let pool = Pool::new("main".parse().unwrap(), "2001:db8:8000::/40".parse().unwrap(), 64, 80).unwrap();
    let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(1) };
    let claims = vec![Claim { prefix: "2001:db8:8000:7::/64".parse().unwrap(), epoch, pool }];
    Input { claims, ..Input::default() }
}

fn network(prefixes: &[&str]) -> Network {
    let prefixes = prefixes.iter().map(|prefix| (prefix.parse().unwrap(), None)).collect();
    Network { id: "0123456789abcdef".into(), name: "n".into(), ipv6: true, prefixes, ..Network::default() }
}

/// The networks that the agent keeps.
fn kept() -> Vec<String> {
    ["sextant", "db"].map(str::to_owned).to_vec()
}

fn live(networks: Vec<Network>) -> Live {
    let mut live = Live::default();
    live.set_networks(networks);
    live
}

fn found(network: Network) -> Vec<(&'static str, String, String)> {
    let input = input();
    let place = Place { input: &input, bridge: "docker0", mode: DockerMode::None, kept: &kept() };
    findings(&live(vec![network]), &place).into_iter().map(|it| (it.what, it.saw, it.fix)).collect()
}

#[test]
fn prefixes_inside_of_the_host_prefix_are_its_own() {
    let input = input();
    let place = Place { input: &input, bridge: "docker0", mode: DockerMode::None, kept: &kept() };
    let inside = ["2001:db8:8000:7:2::/80", "2001:db8:8000:7:1::/80"];
    let live = live(vec![
        network(&inside),
        network(&["2001:db8:8000:7:1::/80", "fd00::/64"]),
        network(&["2001:db8:8000:7::/80"]),
        network(&["2001:db8:8000:8::/80"]),
        Network { ipv6: false, ..network(&["2001:db8:8000:7:9::/80"]) },
    ]);
    assert_eq!(others(&live, &place), [inside[1].parse().unwrap(), inside[0].parse().unwrap()]);
    let many: Vec<_> = (1..100).map(|n| format!("2001:db8:8000:7:{n:x}::/80")).collect();
    let many = super::tests::live(vec![network(&many.iter().map(String::as_str).collect::<Vec<_>>())]);
    assert_eq!(others(&many, &place).len(), MOST_CONTAINER_PREFIXES - 1);
    assert_eq!(others(&many, &Place { input: &Input::default(), ..place }), []);
}

#[test]
fn only_prefixes_that_nobody_routes_here_are_reported() {
    for good in ["2001:db8:8000:7:1::/80", "fd00:5::/64", "fe80::/64"] {
        assert_eq!(found(network(&[good])), [], "{good}");
    }
    let theirs = &found(network(&["2001:db8:8000:8::/64"]))[0];
    assert!(theirs.1.contains("network n has 2001:db8:8000:8::/64 of pool main, but outside"), "{theirs:?}");
    assert!(theirs.2.contains("e.g. 2001:db8:8000:7:1::/80 (`docker network rm n` first)"), "{theirs:?}");
    for around in ["2001:db8:8000::/40", "2001:db8::/32"] {
        assert_eq!(found(network(&[around]))[0].0, "docker-network-prefix", "{around}");
    }
    let global = &found(network(&["2001:db8:1::/64"]))[0];
    assert!(global.1.contains("the global prefix 2001:db8:1::/64"), "{global:?}");
    let labels = BTreeMap::from([(ROUTED_BY.to_owned(), "edge".to_owned())]);
    assert_eq!(found(Network { labels: labels.clone(), ..network(&["2001:db8:1::/64"]) }), []);
    assert_eq!(found(Network { labels, ..network(&["2001:db8:8000:8::/64"]) }).len(), 1, "of a pool");
    assert_eq!(found(Network { ipv6: false, ..network(&["2001:db8:1::/64"]) }), []);
}

#[test]
fn containers_beside_the_host_are_reached_by_their_link_alone() {
    for driver in ["macvlan", "ipvlan"] {
        let of = |prefix: &str| Network { driver: driver.into(), ..network(&[prefix]) };
        assert_eq!(found(of("2001:db8::/64")), [], "the prefix of the link");
        for own in ["2001:db8:8000:7:1::/80", "2001:db8:8000:7::/80"] {
            let found = &found(of(own))[0];
            assert!(found.0 == "docker-network-driver" && found.1.contains(driver), "{found:?}");
            assert!(found.2.contains("`docker network rm n` first"), "{found:?}");
        }
        assert_eq!(found(of("2001:db8:8000:8::/64"))[0].0, "docker-network-prefix", "another host's");
        let input = input();
        let place = Place { input: &input, bridge: "docker0", mode: DockerMode::None, kept: &kept() };
        assert_eq!(others(&live(vec![of("2001:db8:8000:7:1::/80")]), &place), []);
    }
}

#[test]
fn a_name_of_several_words_is_one_in_the_fix() {
    let name = "two words; id".to_owned();
    let found = found(Network { name, ..network(&["2001:db8:8000:8::/64"]) });
    assert!(found[0].2.contains("(`docker network rm 'two words; id'` first)"), "{found:?}");
}

#[test]
fn the_fix_is_one_that_docker_can_do() {
    let theirs = "2001:db8:8000:8::/64";
    // Its own network.
    let bridge = Network { name: "bridge".into(), ..network(&[theirs]) };
    for prefix in [theirs, "2001:db8:1::/64", "2001:db8:8000:7::/80"] {
        let options = BTreeMap::from([(BRIDGE_NAME.to_owned(), "docker1".to_owned())]);
        let found = &found(Network {
            options,
            ..Network { prefixes: network(&[prefix]).prefixes, ..bridge.clone() }
        })[0];
        assert!(found.2.contains("cannot be removed") && found.2.contains("fixed-cidr-v6"), "{found:?}");
        assert!(!found.2.contains("docker network rm") && !found.2.contains("--label"), "{found:?}");
    }
    // A network of the driver gets its prefix by itself.
    let driver = &found(Network { ipam: "sextant".into(), ..network(&[theirs]) })[0].2;
    assert!(driver.contains("`docker network rm n` first") && !driver.contains("e.g."), "{driver}");
    // The prefix of the example is used by no other network.
    let input = input();
    let place = Place { input: &input, bridge: "docker0", mode: DockerMode::None, kept: &kept() };
    let used = live(vec![network(&["2001:db8:8000:7:1::/80", "2001:db8:8000:7:2::/96"]), network(&[theirs])]);
    assert!(findings(&used, &place)[0].fix.contains("e.g. 2001:db8:8000:7:3::/80"));
}

#[test]
fn what_the_agent_keeps_itself_is_reported_elsewhere() {
    let input = input();
    let former = |name: &str| live(vec![Network { name: name.into(), ..network(&["2001:db8:8000:8::/80"]) }]);
    for (mode, own) in [
        (DockerMode::Network, "sextant"),
        (DockerMode::Network, "db"),
        (DockerMode::Daemon, "bridge"),
        (DockerMode::Pools, "bridge"),
    ] {
        let place = Place { input: &input, bridge: "docker0", mode, kept: &kept() };
        assert!(findings(&former(own), &place).is_empty(), "{own}");
        assert_eq!(findings(&former("web"), &place).len(), 1, "{mode:?}");
    }
}

#[test]
fn two_users_of_the_container_prefix_are_reported() {
    for prefix in ["2001:db8:8000:7::/80", "2001:db8:8000:7::/64", "2001:db8:8000:7::/112"] {
        let twice = found(network(&[prefix]));
        assert_eq!(twice[0].0, "container-prefix-twice", "{prefix}");
        assert!(twice[0].1.contains("on br-0123456789ab has"), "{twice:?}");
    }
    let options = BTreeMap::from([(BRIDGE_NAME.to_owned(), "docker0".to_owned())]);
    assert_eq!(found(Network { options, ..network(&["2001:db8:8000:7::/80"]) }), [], "it is that bridge");
}
