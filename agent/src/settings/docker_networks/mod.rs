//! `[[docker.network]]`: networks of Docker's beside the main one.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};
use sextant_docker::parts::{Further, LONGEST};
use sextant_proto::{PoolName, convert::MOST_CONTAINER_PREFIXES};

use super::{
    Invalid,
    docker::{DEFAULT_BRIDGE, is_network, mode},
    interface_name,
    keys::Keys,
    value,
};

/// The length of an interface's name.
const LONGEST_LINK: usize = 15;
/// The start of the name of a bridge that none was given to.
const BRIDGE: &str = "sx-";

/// The key `network` of `[docker]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum NetworkKey {
    /// The name of the network with the container prefix.
    Main(String),
    /// Further networks.
    Further(Vec<NetworkKeys>),
}

/// `[[docker.network]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct NetworkKeys {
    name: String,
    length: Option<u32>,
    pool: Option<String>,
    bridge: Option<String>,
}

impl<'de> Deserialize<'de> for NetworkKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NameOrNetworks)
    }
}

/// Reads both forms. An untagged enum would not name a wrong key.
struct NameOrNetworks;

impl<'de> de::Visitor<'de> for NameOrNetworks {
    type Value = NetworkKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[[docker.network]], or the name of a network")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<NetworkKey, E> {
        Ok(NetworkKey::Main(name.to_owned()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut networks: A) -> Result<NetworkKey, A::Error> {
        let mut all = Vec::new();
        while let Some(network) = networks.next_element()? {
            all.push(network);
        }
        Ok(NetworkKey::Further(all))
    }
}

/// The checked networks, beside the main one on the bridge `main_bridge`.
pub(super) fn check(keys: &Keys, main_bridge: &str, main: &str) -> Result<Vec<Further>, Invalid> {
    let Some(NetworkKey::Further(networks)) = &keys.docker.network else { return Ok(Vec::new()) };
    if let Some(first) = networks.first().filter(|_| !is_network(keys)) {
        let fix = format!(
            "is for [docker] mode = \"network\", and the mode is \"{}\"; set that mode, or remove the network",
            mode(keys).name()
        );
        return Err(value("[[docker.network]] name", &first.name, &fix));
    }
    let most = MOST_CONTAINER_PREFIXES - 1;
    if networks.len() > most {
        let fix = format!("{} networks are too many; name at most {most}", networks.len());
        return Err(value("[[docker.network]] name", &networks[most].name, &fix));
    }
    let mut checked: Vec<Further> = Vec::with_capacity(networks.len());
    for network in networks {
        let network = network.check(keys, main_bridge)?;
        if network.name == main {
            let fix = "is the name of the network with the container prefix ([docker] main-network); give it another one";
            return Err(value("[[docker.network]] name", &network.name, &fix));
        }
        for other in &checked {
            if other.name == network.name {
                return Err(value("[[docker.network]] name", &network.name, &"is named twice; remove one"));
            }
            if other.bridge == network.bridge {
                let fix =
                    format!("is the bridge of network {} too; give {} another one", other.name, network.name);
                return Err(value("[[docker.network]] bridge", &network.bridge, &fix));
            }
        }
        checked.push(network);
    }
    Ok(checked)
}

impl NetworkKeys {
    fn check(&self, keys: &Keys, main_bridge: &str) -> Result<Further, Invalid> {
        let name = network_name("[[docker.network]] name", &self.name)?;
        let pool = self.pool.as_ref().map(|pool| known_pool(pool, keys)).transpose()?;
        let length = self.length.map(|length| length_in(length, pool.as_ref(), keys)).transpose()?;
        let bridge = match &self.bridge {
            Some(bridge) => own_bridge(bridge, keys, main_bridge)?,
            None => bridge_of(&name),
        };
        Ok(Further { name, bridge, pool, length })
    }
}

/// A name that Docker accepts for a network.
pub(super) fn network_name(key: &'static str, name: &str) -> Result<String, Invalid> {
    if is_network_name(name) {
        return Ok(name.to_owned());
    }
    let fix =
        "use letters, digits, '_', '.' and '-', a letter or digit first; not bridge, host, none or default";
    Err(value(key, &sextant_proto::quoted(name), &fix))
}

/// Names that every version of Docker accepts for a network.
fn is_network_name(name: &str) -> bool {
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    let all = name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    first && all && !matches!(name, "bridge" | "host" | "none" | "default")
}

/// A pool that this host claims from.
fn known_pool(pool: &str, keys: &Keys) -> Result<PoolName, Invalid> {
    let key = "[[docker.network]] pool";
    let name: PoolName = pool.parse().map_err(|error| value(key, &pool, &error))?;
    match &keys.pool {
        Some(pools) if pools.iter().any(|it| it == pool) => Ok(name),
        Some(pools) => {
            let fix = format!(
                "is none of this host's pools ({}); add it to pool in agent.toml, or name one of them",
                pools.join(", ")
            );
            Err(value(key, &pool, &fix))
        }
        None => {
            let fix = "is none of this host's pools; name all of them in agent.toml, the primary one first: pool = [\"default\", \"ula\"]";
            Err(value(key, &pool, &fix))
        }
    }
}

/// The length of a part. That of the host prefix is known here only if the settings ask for one.
fn length_in(length: u32, pool: Option<&PoolName>, keys: &Keys) -> Result<u8, Invalid> {
    let primary = |pool: &PoolName| keys.pool.iter().flatten().next().is_some_and(|it| it == pool.as_str());
    let host_len = keys.host_len.filter(|_| pool.is_none_or(primary));
    let shortest = host_len.map_or(2, |host_len| host_len + 1);
    let valid = u8::try_from(length).ok().filter(|it| (shortest..=LONGEST.into()).contains(&u32::from(*it)));
    valid.ok_or_else(|| {
        let fix = format!("give it the length of a part of the host prefix: {shortest} to {LONGEST}");
        value("[[docker.network]] length", &length, &fix)
    })
}

/// A bridge that is for this network only.
fn own_bridge(bridge: &str, keys: &Keys, main_bridge: &str) -> Result<String, Invalid> {
    let key = "[[docker.network]] bridge";
    let refused = |fix: &str| Err(value(key, &bridge, &fix));
    let uplinks = keys.uplink.interface.iter().flatten();
    match interface_name(key, bridge)? {
        name if name == main_bridge => {
            refused("is the bridge of the network with the container prefix; name another one")
        }
        name if name == DEFAULT_BRIDGE => refused("belongs to Docker's own network; name another one"),
        name if uplinks.clone().any(|uplink| *uplink == name) => refused("is an uplink; name another one"),
        name => Ok(name),
    }
}

/// The bridge of a network that none was given to: the name, or the start of it with a hash of the whole.
fn bridge_of(name: &str) -> String {
    if BRIDGE.len() + name.len() <= LONGEST_LINK {
        return format!("{BRIDGE}{name}");
    }
    // FNV-1a, which is the same everywhere.
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let hash = format!("{hash:08x}");
    format!("{BRIDGE}{}-{}", &name[..LONGEST_LINK - BRIDGE.len() - 7], &hash[..6])
}

#[cfg(test)]
mod tests;
