//! What keeps the packets of containers from their way on this host: its firewall, and what earlier prefixes have left behind.
//!
//! [`faults`] is pure; [`read`] reads the facts. The watch reports what it finds again and again; `sextant-agent doctor` shows it
//! once, and carries out the commands of those that are safe.

mod firewall;
mod left;
mod read;
#[cfg(test)]
mod tests;

use sextant_docker::{firewall::verdict::Rules, live::Live};
use sextant_proto::{Claim, Prefix};

pub(crate) use read::{Place, read};

use super::prefixes::bridge_of;
use crate::{
    kernel::{Address, Link, Route},
    problems::Finding,
};

/// The facts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// What this node holds.
    pub(crate) claims: Vec<Claim>,
    /// The cluster's pools, as far as they are known.
    pub(crate) pools: Vec<Prefix>,
    /// The containers' bridge of the settings.
    pub(crate) bridge: String,
    /// The interfaces towards the other hosts.
    pub(crate) uplinks: Vec<String>,
    /// The engine leaves ports closed that are not published, as the settings want it.
    pub(crate) only_published: bool,
    /// What is known of the engine.
    pub(crate) live: Live,
    pub(crate) links: Vec<Link>,
    pub(crate) addresses: Vec<Address>,
    /// The routes of `proto boot`.
    pub(crate) routes: Vec<Route>,
    pub(crate) rules: Rules,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) finding: Finding,
    /// The commands of the fix, if nothing can break that works: what `--fix` carries out.
    pub(crate) safe: Vec<String>,
}

/// All that is wrong. Without a claim nothing can be judged.
pub(crate) fn faults(facts: &Facts) -> Vec<Fault> {
    if facts.claims.is_empty() {
        return Vec::new();
    }
    let shown = firewall::faults(facts).into_iter();
    shown.chain(left::addresses(facts)).chain(left::routes(facts)).collect()
}

/// Whether containers are on the link of this name: the `bridge` of the settings, Docker's own, or that of a network.
pub(crate) fn is_of_containers(
    name: &str,
    bridge: &str,
    uplinks: &[String],
    of_network: impl Fn(&str) -> bool,
) -> bool {
    let is_bridge = name == bridge || name == "docker0" || name.starts_with("br-") || of_network(name);
    is_bridge && !uplinks.iter().any(|uplink| uplink == name)
}

impl Facts {
    /// Whether a prefix is of a pool, and of another node or of nobody.
    fn is_anothers(&self, prefix: Prefix) -> bool {
        let of_pool = self.pools.iter().any(|pool| pool.covers(prefix));
        of_pool && !self.claims.iter().any(|claim| claim.prefix.overlaps(prefix))
    }

    /// Whether containers are on a link.
    fn is_of_containers(&self, link: &Link) -> bool {
        let of_network = |name: &str| self.live.networks.iter().any(|network| bridge_of(network) == name);
        is_of_containers(&link.name, &self.bridge, &self.uplinks, of_network)
    }
}
