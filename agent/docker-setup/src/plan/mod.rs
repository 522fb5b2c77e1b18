//! What `daemon.json` and the engine's default bridge need for the host's prefix. Pure.

mod refusal;
mod set;

use std::net::Ipv6Addr;

use serde_json::{Value, json};
use sextant_proto::{Claim, Prefix};

pub use self::{refusal::Refusal, set::Set};
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
    /// The prefixes of this host's other claims.
    pub further: Vec<Further>,
    /// The cluster's pools that this host has claims of.
    pub pools: Vec<Prefix>,
}

/// The prefixes of another claim than the primary one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Further {
    /// The host prefix.
    pub host: Prefix,
    /// The container prefix, which is the first part of it.
    pub container: Prefix,
}

impl Prefixes {
    /// Those of a host's claims, the primary one first; none without a claim.
    pub fn of(claims: &[Claim]) -> Option<Self> {
        let primary = claims.first()?;
        let further = |claim: &Claim| Further { host: claim.prefix, container: claim.container_prefix() };
        Some(Self {
            host: primary.prefix,
            container: primary.container_prefix(),
            further: claims[1..].iter().map(further).collect(),
            pools: claims.iter().map(|claim| claim.pool.prefix).collect(),
        })
    }

    /// All host prefixes.
    pub fn hosts(&self) -> impl Iterator<Item = Prefix> {
        std::iter::once(self.host).chain(self.further.iter().map(|it| it.host))
    }

    /// All container prefixes.
    fn containers(&self) -> impl Iterator<Item = Prefix> {
        std::iter::once(self.container).chain(self.further.iter().map(|it| it.container))
    }
}

impl Further {
    /// The half of the host prefix without the container prefix: the agent's address on the bridge is in that, which the engine does not
    /// know. None if it has no room for a network.
    fn for_networks(&self) -> Option<Prefix> {
        self.host.nth(self.host.len() + 1, 1).filter(|half| half.len() <= self.container.len())
    }
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
    /// The names of the containers on its default network.
    pub containers: Vec<String>,
    /// The names of the networks that get addresses by the IPAM driver.
    pub driver_networks: Vec<String>,
    /// The names of the networks that the agent has made.
    pub kept: Vec<String>,
    /// The words of the command that started it, if they are known.
    pub words: Vec<String>,
}

/// The keys that `daemon.json` is to have; with `pools` also prefixes for networks.
///
/// # Errors
/// If the engine would not start, or not do it.
pub fn keys(prefixes: &Prefixes, engine: &Engine, document: &Document, pools: bool) -> Result<Keys, Refusal> {
    let set = |key, flags: &[&'static str]| Set::of(document, engine, key, flags);
    if let Some(found) = set("bridge", &["--bridge", "-b"]).filter(|found| !found.is(&engine.bridge)) {
        return Err(Refusal::Bridge { found, wanted: engine.bridge.clone() });
    }
    if let Some(gateway) = set("default-gateway-v6", &["--default-gateway-v6"]) {
        return Err(Refusal::Gateway(gateway));
    }
    let address = format!("{}/{}", prefixes.container.first_host(), prefixes.container.len());
    if let Some(found) = set("bip6", &["--bip6"]).filter(|found| !found.is(&address)) {
        return Err(Refusal::Address { found, wanted: address });
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
    match FLAGS.iter().find(|(key, flag)| keys.iter().any(|it| it.0 == *key) && engine.flag(flag).is_some()) {
        Some((key, flag)) => Err(Refusal::Flag { flag, key }),
        None => Ok(keys),
    }
}

/// The flags that an engine does not accept beside a key of the same meaning.
const FLAGS: [(&str, &str); 3] =
    [("ipv6", "--ipv6"), (FIXED_CIDR, "--fixed-cidr-v6"), (POOLS, "--default-address-pool")];

impl Engine {
    /// The value of a flag that it was started with; empty if it has none.
    pub fn flag(&self, flag: &str) -> Option<&str> {
        let at = self.words.iter().position(|word| word.split('=').next() == Some(flag))?;
        match self.words[at].split_once('=') {
            Some((_, value)) => Some(value),
            None => {
                self.words.get(at + 1).filter(|word| !word.starts_with('-')).map(String::as_str).or(Some(""))
            }
        }
    }
}

/// The pools for networks: those that are there, or else the engine's own for IPv4, and the host's prefixes, of which the engine uses the
/// first one that has room.
fn network_pools(prefixes: &Prefixes, present: Option<&Value>) -> Result<Value, Refusal> {
    if prefixes.container == prefixes.host {
        return Err(Refusal::NoRoom(prefixes.container));
    }
    let mut list = match present {
        None => IPV4_POOLS.iter().map(|(base, size)| json!({"base": base, "size": size})).collect(),
        Some(Value::Array(list)) if list.iter().all(|pool| base(pool).is_some()) => list.clone(),
        Some(other) => return Err(Refusal::Pools(other.clone())),
    };
    let further = prefixes.further.iter().filter_map(|it| Some((it.for_networks()?, it.container)));
    let own = std::iter::once((prefixes.host, prefixes.container)).chain(further);
    let own = own.map(|(base, part)| json!({"base": base.to_string(), "size": part.len()}));
    // An earlier prefix of this host, or of somebody else by now.
    let of_cluster = |pool: &Value| {
        let base = base(pool).and_then(|base| base.parse::<Prefix>().ok());
        base.is_some_and(|base| prefixes.pools.iter().any(|pool| pool.overlaps(base)))
    };
    let place = list.iter().position(of_cluster).unwrap_or(list.len());
    list.retain(|pool| !of_cluster(pool));
    let place = place.min(list.len());
    list.splice(place..place, own);
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
/// has, which are of no container prefix of the host. With them the engine does not start, or has the wrong prefix; and packets to the
/// prefix's next owner would end here.
pub fn stale(prefixes: &Prefixes, engine: &Engine, former: &Document) -> Stale {
    let former = former.value(FIXED_CIDR).and_then(|value| value.as_str()?.parse::<Prefix>().ok());
    let earlier: Vec<_> = prefixes.pools.iter().copied().chain(former).collect();
    let is_right =
        |addr: Ipv6Addr, len: u8| prefixes.containers().any(|own| own.len() == len && own.contains(addr));
    let addresses = engine.addresses.iter().copied();
    let addresses =
        addresses.filter(|(addr, len)| !is_right(*addr, *len) && earlier.iter().any(|it| it.contains(*addr)));
    let routes = engine.routes.iter().copied();
    let routes = routes.filter(|route| {
        !prefixes.containers().any(|own| own == *route) && earlier.iter().any(|it| it.covers(*route))
    });
    Stale { addresses: addresses.collect(), routes: routes.collect() }
}

/// The routes on the default bridge of prefixes inside `earlier` that no network of the engine has: what a setup that was taken back leaves
/// there. Without the engine's prefix, packets to the prefix's next owner would end here.
pub fn left(earlier: &[Prefix], engine: &Engine) -> Vec<Prefix> {
    let used = |route: &Prefix| {
        let others = engine.others.iter().map(|(_, prefix)| *prefix);
        engine.network.into_iter().chain(others).any(|prefix| prefix.overlaps(*route))
    };
    let routes = engine.routes.iter().copied();
    routes.filter(|route| earlier.iter().any(|it| it.covers(*route)) && !used(route)).collect()
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
mod tests;
