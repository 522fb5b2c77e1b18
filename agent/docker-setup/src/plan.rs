//! What `daemon.json` and the engine's default bridge need for the host's prefix. Pure.

use std::net::Ipv6Addr;

use serde_json::{Value, json};
use sextant_proto::Prefix;

use crate::json::{Document, Keys};

/// The key with the prefix of the default bridge.
pub const FIXED_CIDR: &str = "fixed-cidr-v6";
/// The key with the prefixes that networks get by themselves.
pub const POOLS: &str = "default-address-pools";
/// The first major version that takes IPv6 prefixes for networks from [`POOLS`].
const POOLS_SINCE: u32 = 27;
/// The first major version that skips a byte order mark.
const MARK_SINCE: u32 = 23;
/// The IPv4 pools of an engine without [`POOLS`], which the key replaces.
const IPV4_POOLS: [(&str, u8); 7] = [
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
];

/// The prefixes of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefixes {
    /// The host prefix.
    pub host: Prefix,
    /// The container prefix, which is within it.
    pub container: Prefix,
    /// The cluster's pools that this host has claims of.
    pub pools: Vec<Prefix>,
}

/// What is known of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Engine {
    /// Its version; empty if it is not known.
    pub version: String,
    /// Its default bridge.
    pub bridge: String,
    /// The global addresses on that bridge, each with its length.
    pub addresses: Vec<(Ipv6Addr, u8)>,
    /// The routes that the engine has put on that bridge (`proto boot`).
    pub routes: Vec<Prefix>,
    /// Whether it answers.
    pub answers: bool,
    /// The IPv6 prefix of its default network, if it answers.
    pub network: Option<Prefix>,
    /// The prefixes of its other networks, with their names.
    pub others: Vec<(String, Prefix)>,
}

/// Why a host is not set up. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The engine is too old for pools.
    #[error(
        "Docker {0} takes no IPv6 prefixes for networks from {POOLS}, as versions from {POOLS_SINCE} on do; use --mode daemon, or \
         upgrade Docker"
    )]
    NoPools(String),
    /// The engine's version is not known.
    #[error(
        "the version of Docker is not known, and {POOLS} needs {POOLS_SINCE} or later: start Docker, and try again"
    )]
    NoVersion,
    /// The host prefix has no room beside the container prefix.
    #[error(
        "the container prefix {0} is the whole host prefix, so networks have no room in it; use --mode daemon, or give the pool a \
         longer --container-len"
    )]
    NoRoom(Prefix),
    /// The default bridge is another one.
    #[error(
        "daemon.json has \"bridge\": {found}, and the agent's bridge is {wanted}; remove that key, or set [bridge] interface"
    )]
    Bridge {
        /// The key's value.
        found: Value,
        /// The bridge of the agent.
        wanted: String,
    },
    /// A gateway is set.
    #[error(
        "daemon.json has \"default-gateway-v6\": {0}, and Docker does not start with an address that it gives to its own bridge; remove that key"
    )]
    Gateway(Value),
    /// The pools are no list of pools.
    #[error(
        "daemon.json has \"{POOLS}\": {0}, which is no list of {{\"base\": …, \"size\": …}}; correct it, or remove that key"
    )]
    Pools(Value),
    /// Another network has the prefix.
    #[error(
        "Docker's network {network} has {prefix}, and docker0 cannot have {wanted} beside it; stop the agent if it keeps that network, \
         remove it (`docker network rm {network}`) with its bridge, and try again"
    )]
    Taken {
        /// Its name.
        network: String,
        /// Its prefix.
        prefix: Prefix,
        /// The container prefix.
        wanted: Prefix,
    },
    /// The default bridge has the prefix, which another network is to have.
    #[error(
        "daemon.json has \"{FIXED_CIDR}\": \"{0}\", and a network cannot have the same prefix; take that back \
         (`sextant-agent docker setup --undo`), restart Docker, and try again"
    )]
    TakenByBridge(Prefix),
    /// The same address with another length is on the bridge.
    #[error(
        "{bridge} has {addr}/{now} and is to have {addr}/{wanted}: Docker puts the former one back when it starts, and fails or keeps \
         it. Start it once without IPv6: run this command with --restart, or write \"ipv6\": false into daemon.json, restart \
         Docker, `ip -6 address del {addr}/{now} dev {bridge}`, and try again"
    )]
    OtherLength {
        /// The bridge.
        bridge: String,
        /// The address.
        addr: Ipv6Addr,
        /// Its length now.
        now: u8,
        /// The length of the container prefix.
        wanted: u8,
    },
    /// The engine does not read the file.
    #[error(
        "daemon.json begins with a byte order mark, with which Docker {0} does not start; save it without one"
    )]
    Mark(String),
}

/// The keys that `daemon.json` is to have; with `pools` also prefixes for networks.
///
/// # Errors
/// If the engine would not start, or not do it.
pub fn keys(prefixes: &Prefixes, engine: &Engine, document: &Document, pools: bool) -> Result<Keys, Refusal> {
    if let Some(found) = document.value("bridge").filter(|found| found.as_str() != Some(&engine.bridge)) {
        return Err(Refusal::Bridge { found: found.clone(), wanted: engine.bridge.clone() });
    }
    if let Some(gateway) = document.value("default-gateway-v6") {
        return Err(Refusal::Gateway(gateway.clone()));
    }
    let major = major(&engine.version);
    if document.has_mark() && major.is_some_and(|major| major < MARK_SINCE) {
        return Err(Refusal::Mark(engine.version.clone()));
    }
    let mut keys = vec![("ipv6", json!(true)), (FIXED_CIDR, json!(prefixes.container.to_string()))];
    if pools {
        match major {
            None => return Err(Refusal::NoVersion),
            Some(major) if major < POOLS_SINCE => return Err(Refusal::NoPools(engine.version.clone())),
            Some(_) => keys.push((POOLS, network_pools(prefixes, document.value(POOLS))?)),
        }
    }
    Ok(keys)
}

/// The pools for networks: those that are there, or else the engine's own for IPv4, and the host prefix.
fn network_pools(prefixes: &Prefixes, present: Option<&Value>) -> Result<Value, Refusal> {
    if prefixes.container == prefixes.host {
        return Err(Refusal::NoRoom(prefixes.container));
    }
    let mut list = match present {
        None => IPV4_POOLS.iter().map(|(base, size)| json!({"base": base, "size": size})).collect(),
        Some(Value::Array(list)) if list.iter().all(|pool| base(pool).is_some()) => list.clone(),
        Some(other) => return Err(Refusal::Pools(other.clone())),
    };
    let own = json!({"base": prefixes.host.to_string(), "size": prefixes.container.len()});
    // An earlier prefix of this host, or of somebody else by now.
    let of_cluster = |pool: &Value| {
        let base = base(pool).and_then(|base| base.parse::<Prefix>().ok());
        base.is_some_and(|base| prefixes.pools.iter().any(|pool| pool.overlaps(base)))
    };
    let place = list.iter().position(of_cluster).unwrap_or(list.len());
    list.retain(|pool| !of_cluster(pool));
    list.insert(place.min(list.len()), own);
    Ok(Value::Array(list))
}

fn base(pool: &Value) -> Option<&str> {
    pool.get("base")?.as_str()
}

/// The 20 of `20.10.24+dfsg1`.
pub fn major(version: &str) -> Option<u32> {
    version.split('.').next().and_then(|major| major.parse().ok())
}

/// What an earlier prefix has left on the default bridge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stale {
    /// Addresses, each with its length.
    pub addresses: Vec<(Ipv6Addr, u8)>,
    /// Routes of the engine.
    pub routes: Vec<Prefix>,
}

impl Stale {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.routes.is_empty()
    }
}

/// What has to go from the default bridge: addresses and routes of the cluster's pools, or of the prefix that `former` daemon.json
/// has, which are not of the container prefix. With them the engine does not start, or has the wrong prefix; and packets to the
/// prefix's next owner would end here.
pub fn stale(prefixes: &Prefixes, engine: &Engine, former: &Document) -> Stale {
    let former = former.value(FIXED_CIDR).and_then(|value| value.as_str()?.parse::<Prefix>().ok());
    let earlier: Vec<_> = prefixes.pools.iter().copied().chain(former).collect();
    let is_right =
        |addr: Ipv6Addr, len: u8| len == prefixes.container.len() && prefixes.container.contains(addr);
    let addresses = engine.addresses.iter().copied();
    let addresses =
        addresses.filter(|(addr, len)| !is_right(*addr, *len) && earlier.iter().any(|it| it.contains(*addr)));
    let routes = engine.routes.iter().copied();
    let routes =
        routes.filter(|route| *route != prefixes.container && earlier.iter().any(|it| it.covers(*route)));
    Stale { addresses: addresses.collect(), routes: routes.collect() }
}

/// The address that the engine would give to its bridge a second time, with the length that it has now. The engine puts the
/// former one there when it starts, and then either fails or keeps it. A start without IPv6 in between makes it forget that.
pub fn other_length(prefixes: &Prefixes, engine: &Engine) -> Option<(Ipv6Addr, u8)> {
    let (first, len) = (prefixes.container.first_host(), prefixes.container.len());
    if engine.network == Some(prefixes.container) {
        return None;
    }
    let network = engine.network.map(|network| (network.first_host(), network.len()));
    let mut all = engine.addresses.iter().copied().chain(network);
    all.find(|(addr, now)| *addr == first && *now != len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes() -> Prefixes {
        Prefixes {
            host: "2001:db8:8000:1::/64".parse().unwrap(),
            container: "2001:db8:8000:1::/80".parse().unwrap(),
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
    fn what_the_engine_would_not_do_is_refused_with_the_fix() {
        let table = [
            ("20.10.24", "{}", true, "Docker 20.10.24 takes no IPv6 prefixes"),
            ("", "{}", true, "start Docker"),
            ("28.5.2", "{\"default-address-pools\": 1}", true, "\"default-address-pools\": 1"),
            ("28.5.2", "{\"default-address-pools\": [{}]}", true, "remove that key"),
            ("28.5.2", "{\"bridge\": \"none\"}", false, "daemon.json has \"bridge\": \"none\""),
            ("28.5.2", "{\"default-gateway-v6\": \"2001:db8:8000:1::1\"}", false, "remove that key"),
            ("20.10.24", "\u{feff}{}", false, "save it without one"),
        ];
        for (version, text, pools, words) in table {
            let error = keys_of(version, text, pools).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(keys_of("28.5.2", "\u{feff}{\"bridge\": \"docker0\"}", false).is_ok());
        let whole = Prefixes { host: prefixes().container, ..prefixes() };
        let refused = keys(&whole, &engine("28.5.2"), &Document::parse(None).unwrap(), true);
        assert_eq!(refused, Err(Refusal::NoRoom(whole.container)));
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
}
