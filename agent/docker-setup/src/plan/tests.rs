use sextant_proto::{Epoch, Incarnation, Pool, Revision};

use super::*;

fn prefixes() -> Prefixes {
    Prefixes {
        host: "2001:db8:8000:1::/64".parse().unwrap(),
        container: "2001:db8:8000:1::/80".parse().unwrap(),
        further: vec![],
        pools: vec!["2001:db8:8000::/40".parse().unwrap()],
    }
}

fn engine(version: &str) -> Engine {
    Engine { version: version.into(), bridge: "docker0".into(), ..Engine::default() }
}

fn keys_of(version: &str, text: &str, pools: bool) -> Result<Value, Refusal> {
    let document = Document::parse(Some(text.as_bytes())).unwrap();
    let keys = keys(&prefixes(), &engine(version), &document, pools)?;
    Ok(Value::Object(keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()))
}

#[test]
fn the_default_bridge_gets_the_container_prefix_and_nothing_else() {
    let expected = json!({"ipv6": true, "fixed-cidr-v6": "2001:db8:8000:1::/80"});
    for version in ["20.10.24+dfsg1", "26.1.5", "28.5.2", ""] {
        assert_eq!(keys_of(version, "{\"ip6tables\": true}", false), Ok(expected.clone()), "{version}");
    }
}

#[test]
fn networks_get_the_host_prefix_beside_the_pools_that_are_there() {
    let own = json!({"base": "2001:db8:8000:1::/64", "size": 80});
    let pools = |text: &str| keys_of("28.5.2", text, true).unwrap()[POOLS].clone();
    let default = pools("{}");
    assert_eq!(default.as_array().unwrap().len(), 8);
    assert_eq!((&default[0]["base"], &default[7]), (&json!("172.17.0.0/16"), &own));
    let theirs = json!({"base": "10.9.0.0/16", "size": 24});
    let ula = json!({"base": "fd00::/48", "size": 64});
    let former = json!({"base": "2001:db8:8000:7::/64", "size": 80});
    let text = |list: Value| json!({POOLS: list}).to_string();
    assert_eq!(pools(&text(json!([theirs]))), json!([theirs, own]));
    assert_eq!(pools(&text(json!([theirs, former, ula]))), json!([theirs, own, ula]));
    assert_eq!(pools(&text(json!([theirs, own]))), json!([theirs, own]), "nothing to change");
}

#[test]
fn networks_get_the_half_of_further_prefixes_that_has_no_address_of_the_agent() {
    let claim = |pool: &str, prefix: &str, container_len: u32| {
        let prefix: Prefix = prefix.parse().unwrap();
        let host_len = prefix.len().into();
        let pool =
            Pool::new(pool.parse().unwrap(), prefix.ancestor(40).unwrap(), host_len, container_len).unwrap();
        let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(1) };
        Claim { prefix, epoch, pool }
    };
    let claims = [
        claim("main", "2001:db8:8000:1::/64", 80),
        claim("ula", "fd00:5e00:7::/64", 80),
        claim("halves", "fd00:5f00:0:1::/64", 65),
        claim("whole", "fd00:6000:0:1::/64", 64),
    ];
    let prefixes = Prefixes::of(&claims).unwrap();
    let document = Document::parse(Some(b"{\"default-address-pools\": []}")).unwrap();
    let keys = keys(&prefixes, &engine("28.5.2"), &document, true).unwrap();
    let expected = json!([
        {"base": "2001:db8:8000:1::/64", "size": 80},
        {"base": "fd00:5e00:7:0:8000::/65", "size": 80},
        {"base": "fd00:5f00:0:1:8000::/65", "size": 65},
    ]);
    assert_eq!(keys.last(), Some(&(POOLS, expected)));
    assert_eq!(Prefixes::of(&[]), None);
}

#[test]
fn what_the_engine_would_not_do_is_refused_with_the_fix() {
    let table = [
        ("20.10.24", "{}", true, "Docker 20.10.24 takes no IPv6 prefixes"),
        ("", "{}", true, "start Docker"),
        ("28.5.2", "{\"default-address-pools\": 1}", true, "\"default-address-pools\": 1"),
        ("28.5.2", "{\"default-address-pools\": [{}]}", true, "remove that key"),
        ("28.5.2", "{\"bridge\": \"none\"}", false, "daemon.json has \"bridge\": \"none\""),
        ("28.5.2", "{\"default-gateway-v6\": \"2001:db8:8000:1::1\"}", false, "remove that key"),
        ("28.5.2", "{\"bip6\": \"fd00::1/64\"}", false, "daemon.json has \"bip6\": \"fd00::1/64\""),
        ("20.10.24", "\u{feff}{}", false, "save it without one"),
    ];
    for (version, text, pools, words) in table {
        let error = keys_of(version, text, pools).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    for right in [
        "\u{feff}{\"bridge\": \"docker0\"}",
        "{\"bridge\": \"\", \"default-gateway-v6\": \"\"}",
        "{\"bip6\": \"2001:db8:8000:1::1/80\"}",
    ] {
        assert!(keys_of("28.5.2", right, false).is_ok(), "{right}");
    }
    let whole = Prefixes { host: prefixes().container, ..prefixes() };
    let refused = keys(&whole, &engine("28.5.2"), &Document::parse(None).unwrap(), true);
    assert_eq!(refused, Err(Refusal::NoRoom(whole.container)));
}

#[test]
fn flags_that_the_engine_does_not_accept_beside_a_key_are_refused() {
    let refused = |words: &str, pools: bool| {
        let words = words.split(' ').map(str::to_owned).collect();
        let engine = Engine { words, ..engine("28.5.2") };
        keys(&prefixes(), &engine, &Document::default(), pools).err().map(|error| error.to_string())
    };
    let named = |words: &str, flag: &str| {
        let refused = refused(words, true).unwrap();
        assert!(refused.contains(&format!("the flag {flag},")), "{refused}");
    };
    named("dockerd --ipv6", "--ipv6");
    named("dockerd -H fd:// --fixed-cidr-v6=fd00::/64 --debug", "--fixed-cidr-v6");
    named("dockerd --default-address-pool base=10.0.0.0/8,size=24", "--default-address-pool");
    assert_eq!(refused("dockerd --default-address-pool base=10.0.0.0/8,size=24", false), None);
    assert_eq!(refused("dockerd --ip6tables --bip 10.0.0.1/24", true), None);
    for (words, found) in [
        ("dockerd -b none --debug", "started with -b none, and the agent's bridge is docker0"),
        ("dockerd --bridge=br0", "started with --bridge br0,"),
        ("dockerd --default-gateway-v6 2001:db8:8000:1::1", "--default-gateway-v6 2001:db8:8000:1::1, and"),
        ("dockerd --bip6 fd00::1/64", "started with --bip6 fd00::1/64"),
    ] {
        let refused = refused(words, false).unwrap();
        assert!(refused.contains(found) && refused.contains("systemctl edit docker"), "{refused}");
    }
    assert_eq!(refused("dockerd --bridge docker0", false), None);
    let engine = Engine {
        words: ["dockerd", "--config-file", "/x", "--debug"].map(str::to_owned).into(),
        ..engine("")
    };
    assert_eq!(
        (engine.flag("--config-file"), engine.flag("--debug"), engine.flag("-H")),
        (Some("/x"), Some(""), None)
    );
}

#[test]
fn only_what_an_earlier_prefix_has_left_is_stale() {
    let address = |text: &str| text.parse::<Ipv6Addr>().unwrap();
    let route = |text: &str| text.parse::<Prefix>().unwrap();
    let engine = Engine {
        addresses: vec![
            (address("2001:db8:8000:1::1"), 80),
            (address("2001:db8:8000:1::1"), 64),
            (address("2001:db8:8000:7::1"), 80),
            (address("fd00:1::1"), 64),
            (address("fd00:2::1"), 64),
        ],
        routes: vec![
            route("2001:db8:8000:1::/80"),
            route("2001:db8:8000:7::/80"),
            route("fd00:1::/64"),
            route("fd00:2::/64"),
            route("::/0"),
        ],
        ..engine("20.10")
    };
    let former = Document::parse(Some(b"{\"fixed-cidr-v6\": \"fd00:1::/64\"}")).unwrap();
    let stale = stale(&prefixes(), &engine, &former);
    let expected = [("2001:db8:8000:1::1", 64), ("2001:db8:8000:7::1", 80), ("fd00:1::1", 64)];
    assert_eq!(stale.addresses, expected.map(|(it, len)| (address(it), len)));
    assert_eq!(stale.routes, ["2001:db8:8000:7::/80", "fd00:1::/64"].map(route));
    assert_eq!(other_length(&prefixes(), &engine), Some((address("2001:db8:8000:1::1"), 64)));
    let right = Engine { addresses: vec![(address("2001:db8:8000:1::1"), 80)], ..engine };
    assert_eq!(other_length(&prefixes(), &right), None);
    let kept = Engine { network: Some(route("2001:db8:8000:1::/64")), ..right };
    assert_eq!(other_length(&prefixes(), &kept), Some((address("2001:db8:8000:1::1"), 64)));
}

#[test]
fn the_agents_address_of_a_further_claim_is_not_stale() {
    let further =
        Further { host: "fd00:1:0:7::/64".parse().unwrap(), container: "fd00:1:0:7::/80".parse().unwrap() };
    let pools = vec!["fd00:1::/48".parse().unwrap()];
    let prefixes = Prefixes { further: vec![further], pools, ..prefixes() };
    let [own, longer, former] =
        ["fd00:1:0:7::1", "fd00:1:0:7::1", "fd00:1:0:9::1"].map(|it| it.parse().unwrap());
    let engine = Engine {
        addresses: vec![(own, 80), (longer, 64), (former, 80)],
        routes: vec![further.container, "fd00:1:0:9::/80".parse().unwrap()],
        ..engine("28.5.2")
    };
    let found = stale(&prefixes, &engine, &Document::default());
    assert_eq!(found.addresses, [(longer, 64), (former, 80)]);
    assert_eq!(found.routes, [engine.routes[1]]);
}

#[test]
fn routes_that_a_setup_leaves_are_those_that_no_network_has() {
    let all: Vec<Prefix> =
        ["2001:db8:8000:1::/80", "2001:db8:8000:7::/80", "fd00:7::/64"].map(|it| it.parse().unwrap()).into();
    let pool = ["2001:db8:8000::/40".parse().unwrap()];
    let stopped = Engine { routes: all.clone(), ..engine("20.10.24") };
    assert_eq!(left(&pool, &stopped), all[..2]);
    let with = |network: Option<usize>, other: Option<usize>| Engine {
        network: network.map(|at| all[at]),
        others: other.map(|at| ("web".to_owned(), all[at])).into_iter().collect(),
        ..stopped.clone()
    };
    assert_eq!(left(&pool, &with(Some(0), None)), [all[1]]);
    assert!(left(&pool, &with(Some(0), Some(1))).is_empty());
    assert!(left(&[], &stopped).is_empty());
}
