//! The prefixes of the engine's networks, compared with the claims and pools. Pure.

use sextant_docker::{
    live::{Live, MOST_NETWORKS},
    network::Network,
    wanted::{BRIDGE_NAME, is_ours},
};
use sextant_proto::{Claim, Prefix, convert::MOST_CONTAINER_PREFIXES, shell_operands};

use crate::{
    cluster::Input,
    ipam::DRIVER,
    problems::Finding,
    settings::{DockerMode, DockerSettings},
};

/// The label of a network whose prefix the operator has routed otherwise.
const ROUTED_BY: &str = "sextant.routed-by";
/// Global unicast addresses (RFC 4291 §2.4, as assigned by IANA).
const GLOBAL: &str = "2000::/3";
/// So many networks are named in findings.
const MOST_NAMED: usize = 16;

/// What the networks are compared with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) input: &'a Input,
    /// The containers' bridge of the settings.
    pub(super) bridge: &'a str,
    pub(super) mode: DockerMode,
    /// The names of the networks that the agent keeps with [`DockerMode::Network`].
    pub(super) kept: &'a [String],
}

impl Place<'_> {
    /// Whether another part of the agent reports what is wrong with this network.
    fn is_reported(&self, network: &Network) -> bool {
        match self.mode {
            DockerMode::Network => self.kept.contains(&network.name) || is_ours(network),
            DockerMode::Daemon | DockerMode::Pools => network.is_default(),
            DockerMode::Off | DockerMode::None | DockerMode::Ipam => false,
        }
    }
}

/// The bridge of a network.
pub(crate) fn bridge_of(network: &Network) -> String {
    match network.options.get(BRIDGE_NAME) {
        Some(name) => name.clone(),
        None => format!("br-{}", network.id.get(..12).unwrap_or(&network.id)),
    }
}

/// The prefixes of networks inside of a host prefix, besides those of the bridge: as many as an announcement takes.
pub(super) fn others(live: &Live, place: &Place<'_>) -> Vec<Prefix> {
    let mut others = Vec::new();
    for claim in &place.input.claims {
        let own = claim.container_prefix();
        let inside = |prefix: &Prefix| claim.prefix.covers(*prefix) && !own.overlaps(*prefix);
        let behind = live.prefixes().filter(|(network, _)| !network.is_beside_host());
        let mut found: Vec<_> = behind.map(|(_, prefix)| prefix).filter(inside).collect();
        found.sort();
        found.dedup();
        found.truncate(MOST_CONTAINER_PREFIXES - 1);
        others.extend(found);
    }
    others.sort();
    others
}

/// As [`findings`], for the claims alone.
pub(crate) fn of_networks(
    live: &Live,
    input: &Input,
    bridge: &str,
    settings: &DockerSettings,
) -> Vec<Finding> {
    findings(live, &Place { input, bridge, mode: settings.mode, kept: &settings.kept() })
}

/// What is wrong with the prefixes of networks.
///
/// A prefix of a pool is routed to the node that holds it: another host's is a fault. For a global prefix outside of the pools, the
/// agent knows no router that leads it here, unless the network's label names one; that of a link which containers are on beside the
/// host needs none. Networks with unique local
/// addresses (RFC 4193) outside of the pools are private to their host on purpose, and link-local ones always.
pub(super) fn findings(live: &Live, place: &Place<'_>) -> Vec<Finding> {
    // Before the first claim and the first view, everything would be another's.
    if place.input.claims.is_empty() {
        return Vec::new();
    }
    let judged = live.prefixes().filter(|(network, _)| !place.is_reported(network));
    let found = judged.filter_map(|(network, prefix)| finding(live, network, prefix, place));
    found.take(MOST_NAMED).collect()
}

fn finding(live: &Live, network: &Network, prefix: Prefix, place: &Place<'_>) -> Option<Finding> {
    if let Some(claim) = place.input.claims.iter().find(|claim| claim.prefix.covers(prefix)) {
        if network.is_beside_host() {
            return Some(beside(network, prefix));
        }
        return twice(live, network, prefix, claim, place);
    }
    let pool = pools(place.input).find(|(_, pool)| pool.overlaps(prefix));
    let is_global = || GLOBAL.parse::<Prefix>().is_ok_and(|global| global.covers(prefix));
    let routed = network.labels.contains_key(ROUTED_BY);
    let (name, again) = (&network.name, again(live, network, place));
    match pool {
        Some((pool, _)) => Some(Finding::new(
            "docker-network-prefix",
            format!(
                "Docker's network {name} has {prefix} of pool {pool}, but outside of this host's {}: packets to its containers go \
                 to another node, or are refused",
                held(place)
            ),
            again,
        )),
        None if is_global() && !routed && !network.is_beside_host() => Some(Finding::new(
            "docker-network-prefix",
            format!(
                "Docker's network {name} has the global prefix {prefix}, which is in no pool: no host of the cluster reaches its \
                 containers"
            ),
            match network.is_default() {
                true => again,
                false => format!(
                    "{again}; or, if a router leads {prefix} to this host, with `--label {ROUTED_BY}=ROUTER`"
                ),
            },
        )),
        None => None,
    }
}

/// Packets to the prefix come to this host, whose containers on the network are not behind it.
fn beside(network: &Network, prefix: Prefix) -> Finding {
    let Network { name, driver, .. } = network;
    Finding::new(
        "docker-network-driver",
        format!(
            "Docker's network {name} of driver {driver} has {prefix} of this host's prefix, but its containers are on the link of its \
             parent interface, not behind this host: no host reaches them"
        ),
        format!(
            "create it again (`docker network rm {}` first) with the driver bridge, or with the prefix of that link",
            shell_operands([name.as_str()])
        ),
    )
}

/// Two users of one prefix: a network, and the bridge of the settings.
fn twice(
    live: &Live,
    network: &Network,
    prefix: Prefix,
    claim: &Claim,
    place: &Place<'_>,
) -> Option<Finding> {
    let (own, bridge) = (claim.container_prefix(), bridge_of(network));
    // Where the agent keeps the network, it reports what is in its way.
    let compared = place.mode != DockerMode::Network && bridge != place.bridge && own.overlaps(prefix);
    compared.then(|| {
        let (name, on) = (&network.name, place.bridge);
        Finding::unready(
            "container-prefix-twice",
            format!(
                "Docker's network {name} on {bridge} has {prefix}, which overlaps the container prefix {own} of bridge {on}"
            ),
            format!(
                "if containers are to be on network {name}, set [bridge] interface = \"{bridge}\" in agent.toml; otherwise {}",
                again(live, network, place)
            ),
        )
    })
}

/// The pools that are known, with their names.
fn pools(input: &Input) -> impl Iterator<Item = (String, Prefix)> {
    let of_claims = input.claims.iter().map(|claim| (claim.pool.name.to_string(), claim.pool.prefix));
    input.view.pools().map(|pool| (pool.name.to_string(), pool.prefix)).chain(of_claims)
}

fn held(place: &Place<'_>) -> String {
    let held: Vec<_> = place.input.claims.iter().map(|claim| claim.prefix.to_string()).collect();
    held.join(", ")
}

/// How a network gets another prefix.
fn again(live: &Live, network: &Network, place: &Place<'_>) -> String {
    let (name, free) = (shell_operands([network.name.as_str()]), free(live, place));
    let example = free.map(|free| format!(" with a prefix of this host, e.g. {free}")).unwrap_or_default();
    if network.is_default() {
        return format!(
            "Docker's own network cannot be removed: create others{example} for containers, remove \"fixed-cidr-v6\" from \
             daemon.json, and restart Docker (`systemctl restart docker`); or give it the container prefix (`sextant-agent docker \
             setup --mode daemon`)"
        );
    }
    if network.ipam == DRIVER {
        return format!(
            "create it again (`docker network rm {name}` first): it then gets a prefix of this host"
        );
    }
    format!("create it again{example} (`docker network rm {name}` first), or without IPv6")
}

/// An example of a prefix for another network: the first part of a host prefix that is free, besides the container prefix.
fn free(live: &Live, place: &Place<'_>) -> Option<Prefix> {
    let is_free = |prefix: &Prefix| !live.prefixes().any(|(_, used)| used.overlaps(*prefix));
    let parts = |claim: &Claim| {
        let (host, len) = (claim.prefix, claim.container_prefix().len());
        (1..=MOST_NETWORKS as u128 + 1).map_while(move |number| host.nth(len, number))
    };
    place.input.claims.iter().find_map(|claim| parts(claim).find(is_free))
}

#[cfg(test)]
mod tests;
