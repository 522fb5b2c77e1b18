//! The content of the files.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use serde::{Deserialize, Serialize};
use sextant_proto::Prefix;

/// The agent's changes to this host, so that they can be undone (DESIGN I4). Routes are not in it: their protocol number
/// identifies them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// The bridge, if the agent created it.
    pub bridge: Option<String>,
    /// Its MAC address, which distinguishes it from a later bridge of the same name.
    pub bridge_mac: Option<String>,
    /// Bridges that the agent created for earlier settings, and has not deleted yet.
    pub former_bridges: Vec<MadeBridge>,
    /// Interfaces that were down, and that the agent set up.
    pub set_up: Vec<String>,
    /// Addresses that the agent added to interfaces.
    pub addresses: Vec<BridgeAddress>,
    /// The values of sysctls before the agent set them.
    pub sysctls: BTreeMap<String, String>,
    /// Those of them that the agent set to 0: `accept_ra` of links that containers are on.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub switched_off: BTreeSet<String>,
    /// The bridge that the host was last set up with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stood: Option<String>,
    /// The indices of the interfaces that it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<LinkIndices>,
}

/// The indices of links by their names: a link is the same one while it has its index, until the host boots.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkIndices {
    /// The boot of the host in which they were read.
    pub boot_id: String,
    /// By the names.
    pub by_name: BTreeMap<String, u32>,
}

/// A bridge that the agent created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeBridge {
    /// Its name.
    pub name: String,
    /// Its MAC address, once it is created.
    pub mac: Option<String>,
}

impl Ledger {
    /// All bridges that the agent created.
    pub fn made_bridges(&self) -> impl Iterator<Item = MadeBridge> {
        let current = self.bridge.clone().map(|name| MadeBridge { name, mac: self.bridge_mac.clone() });
        current.into_iter().chain(self.former_bridges.iter().cloned())
    }

    /// Whether the agent created a bridge of this name.
    pub fn made(&self, name: &str) -> bool {
        self.made_bridges().any(|bridge| bridge.name == name)
    }

    /// Records that the agent is about to create the bridge `name`. An earlier one with another name stays recorded.
    pub fn making(&mut self, name: &str) {
        if let Some(before) = self.bridge.take().filter(|before| before != name) {
            self.former_bridges.push(MadeBridge { name: before, mac: self.bridge_mac.take() });
        }
        self.former_bridges.retain(|former| former.name != name);
        (self.bridge, self.bridge_mac) = (Some(name.to_owned()), None);
    }

    /// Remembers the indices of those links that it names.
    pub fn know(&mut self, boot_id: &str, links: &BTreeMap<String, u32>) {
        let of_sysctls: BTreeSet<&str> = self.sysctls.keys().filter_map(|path| interface(path)).collect();
        let named = links.iter().filter(|(name, _)| of_sysctls.contains(name.as_str()) || self.names(name));
        let by_name: BTreeMap<_, _> = named.map(|(name, index)| (name.clone(), *index)).collect();
        let is_of_use = !by_name.is_empty() && !boot_id.is_empty();
        self.links = is_of_use.then(|| LinkIndices { boot_id: boot_id.to_owned(), by_name });
    }

    /// The same without what holds in another boot only.
    #[must_use]
    pub fn in_boot(mut self, boot_id: &str) -> Self {
        self.links = self.links.filter(|links| links.boot_id == boot_id);
        self
    }

    /// Whether a change of this interface is in it, besides those of sysctls.
    fn names(&self, interface: &str) -> bool {
        self.made(interface)
            || self.stood.as_deref() == Some(interface)
            || self.set_up.iter().any(|name| name == interface)
            || self.addresses.iter().any(|address| address.interface == interface)
    }

    /// The interface `from` has the name `to` now.
    pub fn renamed(&mut self, from: &str, to: &str) {
        let rename = |name: &mut String| {
            if name == from {
                to.clone_into(name);
            }
        };
        if self.made(from) {
            self.former_bridges.retain(|former| former.name != to);
        }
        self.bridge.iter_mut().chain(&mut self.stood).for_each(rename);
        self.former_bridges.iter_mut().map(|former| &mut former.name).for_each(rename);
        self.set_up.iter_mut().for_each(rename);
        self.addresses.iter_mut().map(|address| &mut address.interface).for_each(rename);
        let path = |path: String| renamed_sysctl(&path, from, to).unwrap_or(path);
        let (of_it, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.sysctls)
            .into_iter()
            .partition(|(path, _)| renamed_sysctl(path, from, to).is_some());
        // Those of an earlier interface of the name `to` are gone with it.
        self.sysctls =
            others.into_iter().chain(of_it.into_iter().map(|(it, value)| (path(it), value))).collect();
        if let Some(links) = &mut self.links
            && let Some(index) = links.by_name.remove(from)
        {
            links.by_name.insert(to.to_owned(), index);
        }
        self.switched_off = std::mem::take(&mut self.switched_off).into_iter().map(path).collect();
    }

    /// Keeps the bridges whose names `keep` accepts.
    pub fn retain_bridges(&mut self, keep: impl Fn(&str) -> bool) {
        if self.bridge.as_deref().is_some_and(|name| !keep(name)) {
            (self.bridge, self.bridge_mac) = (None, None);
        }
        self.former_bridges.retain(|former| keep(&former.name));
    }
}

/// The path of a sysctl of the interface `from`, for the name `to`.
fn renamed_sysctl(path: &str, from: &str, to: &str) -> Option<String> {
    let (directory, interface, sysctl) = parts(path)?;
    (interface == from).then(|| [directory, to, sysctl].join("/"))
}

/// The interface of a sysctl.
fn interface(path: &str) -> Option<&str> {
    parts(path).map(|(_, interface, _)| interface)
}

/// The directory of a sysctl of an interface, the interface, and the sysctl's own name.
fn parts(path: &str) -> Option<(&str, &str, &str)> {
    let (rest, sysctl) = path.rsplit_once('/')?;
    let (directory, interface) = rest.rsplit_once('/')?;
    (directory.matches('/').count() == 2).then_some((directory, interface, sysctl))
}

/// An address on an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeAddress {
    /// The interface's name.
    pub interface: String,
    /// The address.
    pub addr: Ipv6Addr,
    /// The length of its on-link prefix.
    pub len: u8,
}

/// The announcement to routers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// The boot of the host in which it was made.
    pub boot_id: String,
    /// The first own prefix that is announced. Versions before claims of several pools read only this.
    #[serde(with = "as_text")]
    pub announced: Option<Prefix>,
    /// The others.
    #[serde(default, with = "as_texts", skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<Prefix>,
}

impl Exported {
    /// These prefixes, announced in this boot of the host.
    pub fn new(boot_id: &str, prefixes: &[Prefix]) -> Self {
        let more = prefixes.iter().skip(1).copied().collect();
        Self { boot_id: boot_id.to_owned(), announced: prefixes.first().copied(), more }
    }

    /// All announced prefixes.
    pub fn prefixes(&self) -> Vec<Prefix> {
        self.announced.iter().chain(&self.more).copied().collect()
    }
}

/// Prefixes as texts.
mod as_texts {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use sextant_proto::Prefix;

    pub(super) fn serialize<S: Serializer>(all: &[Prefix], serializer: S) -> Result<S::Ok, S::Error> {
        all.iter().map(ToString::to_string).collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Prefix>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

/// A prefix as text.
mod as_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use sextant_proto::Prefix;

    pub(super) fn serialize<S: Serializer>(it: &Option<Prefix>, serializer: S) -> Result<S::Ok, S::Error> {
        it.map(|prefix| prefix.to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(it: D) -> Result<Option<Prefix>, D::Error> {
        let text: Option<String> = Deserialize::deserialize(it)?;
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::time::{ClockId, clock_gettime};

    use super::*;

    /// The processor time of this thread.
    fn spent() -> Duration {
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
    }

    /// So many links, each with a sysctl that was set.
    fn cost_of_a_look(count: u32) -> Duration {
        let name = |n: u32| format!("veth{n}");
        let links: BTreeMap<_, _> = (0..2 * count).map(|n| (name(n), n)).collect();
        let path = |n| (format!("net/ipv6/conf/{}/accept_ra", name(n)), "1".to_owned());
        let sysctls = (0..count).map(path).chain([("net/ipv6/conf/all/forwarding".into(), "0".into())]);
        let mut ledger = Ledger { sysctls: sysctls.collect(), ..Ledger::default() };
        let look = |ledger: &mut Ledger| {
            let before = spent();
            ledger.know("boot", &links);
            spent() - before
        };
        let cost = (0..5).map(|_| look(&mut ledger)).min().unwrap();
        let known: Vec<_> = ledger.links.unwrap().by_name.into_values().collect();
        assert_eq!(known.len(), count as usize, "those with a change, and no others");
        cost
    }

    #[test]
    fn a_look_at_ten_times_as_many_links_costs_about_ten_times_as_much() {
        let (few, many) = (cost_of_a_look(300), cost_of_a_look(3000));
        // If each link were looked for among all sysctls, it would cost a hundred times as much.
        assert!(many < few.max(Duration::from_micros(100)) * 40, "{few:?} and {many:?}");
    }

    /// Two boots without an id would look like the same one.
    #[test]
    fn indices_are_known_only_of_named_links_and_in_a_boot_that_has_an_id() {
        let links = BTreeMap::from([("eth0".to_owned(), 2), ("veth1".to_owned(), 7)]);
        let set_up = vec!["eth0".to_owned()];
        let mut ledger = Ledger { set_up, ..Ledger::default() };
        ledger.know("", &links);
        assert_eq!(ledger.links, None);
        ledger.know("a", &links);
        let by_name = BTreeMap::from([("eth0".to_owned(), 2)]);
        assert_eq!(ledger.links, Some(LinkIndices { boot_id: "a".into(), by_name }));
        assert_eq!(ledger.clone().in_boot("a"), ledger);
        assert_eq!(ledger.in_boot("b").links, None);
    }
}
