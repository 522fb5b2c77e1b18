//! The prefixes of the engine's networks, compared with the claims and pools. Pure.

use sextant_docker::{live::Live, network::Network, wanted::BRIDGE_NAME};
use sextant_proto::{Claim, Prefix, convert::MOST_CONTAINER_PREFIXES};

use crate::{cluster::Input, problems::Finding, settings::DockerMode};

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
        let mut found: Vec<_> = live.prefixes().map(|(_, prefix)| prefix).filter(inside).collect();
        found.sort();
        found.dedup();
        found.truncate(MOST_CONTAINER_PREFIXES - 1);
        others.extend(found);
    }
    others.sort();
    others
}

/// As [`findings`], for the claims alone.
pub(crate) fn of_networks(live: &Live, input: &Input, bridge: &str, mode: DockerMode) -> Vec<Finding> {
    findings(live, &Place { input, bridge, mode })
}

/// What is wrong with the prefixes of networks.
///
/// A prefix of a pool is routed to the node that holds it: another host's is a fault. For a global prefix outside of the pools, the
/// agent knows no router that leads it here, unless the network's label names one. Networks with unique local
/// addresses (RFC 4193) outside of the pools are private to their host on purpose, and link-local ones always.
pub(super) fn findings(live: &Live, place: &Place<'_>) -> Vec<Finding> {
    // Before the first claim and the first view, everything would be another's.
    if place.input.claims.is_empty() {
        return Vec::new();
    }
    let found = live.prefixes().filter_map(|(network, prefix)| finding(network, prefix, place));
    found.take(MOST_NAMED).collect()
}

fn finding(network: &Network, prefix: Prefix, place: &Place<'_>) -> Option<Finding> {
    if let Some(claim) = place.input.claims.iter().find(|claim| claim.prefix.covers(prefix)) {
        return twice(network, prefix, claim, place);
    }
    let pool = pools(place.input).find(|(_, pool)| pool.overlaps(prefix));
    let is_global = || GLOBAL.parse::<Prefix>().is_ok_and(|global| global.covers(prefix));
    let routed = network.labels.contains_key(ROUTED_BY);
    let (name, free) = (&network.name, free(place));
    match pool {
        Some((pool, _)) => Some(Finding::new(
            "docker-network-prefix",
            format!(
                "Docker's network {name} has {prefix} of pool {pool}, but outside of this host's {}: packets to its containers go \
                 to another node, or are refused",
                held(place)
            ),
            format!(
                "create it again with a prefix of this host, e.g. {free} (`docker network rm {name}` first), or without IPv6"
            ),
        )),
        None if is_global() && !routed => Some(Finding::new(
            "docker-network-prefix",
            format!(
                "Docker's network {name} has the global prefix {prefix}, which is in no pool: no host of the cluster reaches its \
                 containers"
            ),
            format!(
                "create it again with a prefix of this host, e.g. {free} (`docker network rm {name}` first); or, if a router leads \
                 {prefix} to this host, with `--label {ROUTED_BY}=ROUTER`"
            ),
        )),
        None => None,
    }
}

/// Two users of one prefix: a network, and the bridge of the settings.
fn twice(network: &Network, prefix: Prefix, claim: &Claim, place: &Place<'_>) -> Option<Finding> {
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
                "if containers are to be on network {name}, set [bridge] interface = \"{bridge}\" in agent.toml; otherwise create \
                 it again with another prefix, e.g. {} (`docker network rm {name}` first)",
                free(place)
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

/// An example of a prefix for another network: the second part of the primary host prefix.
fn free(place: &Place<'_>) -> String {
    let second = |claim: &Claim| claim.prefix.nth(claim.container_prefix().len(), 1);
    let found = place.input.claims.iter().find_map(second);
    found.map_or_else(|| "a part of a longer host prefix".to_owned(), |prefix| prefix.to_string())
}

#[cfg(test)]
mod tests {
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
        Network {
            id: "0123456789abcdef".into(),
            name: "n".into(),
            ipv6: true,
            prefixes,
            ..Network::default()
        }
    }

    fn live(networks: Vec<Network>) -> Live {
        let mut live = Live::default();
        live.set_networks(networks);
        live
    }

    fn found(network: Network) -> Vec<(&'static str, String, String)> {
        let input = input();
        let place = Place { input: &input, bridge: "docker0", mode: DockerMode::None };
        findings(&live(vec![network]), &place).into_iter().map(|it| (it.what, it.saw, it.fix)).collect()
    }

    #[test]
    fn prefixes_inside_of_the_host_prefix_are_its_own() {
        let input = input();
        let place = Place { input: &input, bridge: "docker0", mode: DockerMode::None };
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
        assert!(
            theirs.1.contains("network n has 2001:db8:8000:8::/64 of pool main, but outside"),
            "{theirs:?}"
        );
        assert!(theirs.2.contains("e.g. 2001:db8:8000:7:1::/80 (`docker network rm n`"), "{theirs:?}");
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
    fn two_users_of_the_container_prefix_are_reported() {
        for prefix in ["2001:db8:8000:7::/80", "2001:db8:8000:7::/64", "2001:db8:8000:7::/112"] {
            let twice = found(network(&[prefix]));
            assert_eq!(twice[0].0, "container-prefix-twice", "{prefix}");
            assert!(twice[0].1.contains("on br-0123456789ab has"), "{twice:?}");
        }
        let options = BTreeMap::from([(BRIDGE_NAME.to_owned(), "docker0".to_owned())]);
        assert_eq!(found(Network { options, ..network(&["2001:db8:8000:7::/80"]) }), [], "it is that bridge");
    }
}
