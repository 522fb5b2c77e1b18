//! Compares the leases with the engine's networks.

use std::collections::BTreeSet;

use sextant_docker::{
    engine::{Engine, EngineError},
    network::Network,
    rules::{Looked, Observer},
};
use sextant_ipam::{
    keeper::Handle,
    leases::{Outcome, Used, UsedPool},
    subnet::Subnet,
};
use tokio::sync::watch;

use super::{DRIVER, replace};

/// How often the engine is asked again where a release came meanwhile; after that, with its next event.
const TRIES: usize = 5;

/// Reads the engine's networks for the owner of the leases.
#[derive(Debug)]
pub(super) struct LeaseObserver {
    handle: Handle,
    /// The subnets of networks of other IPAM drivers.
    others: watch::Sender<Vec<Subnet>>,
}

impl LeaseObserver {
    pub(super) fn new(handle: Handle, others: watch::Sender<Vec<Subnet>>) -> Self {
        Self { handle, others }
    }

    /// What the engine's networks of this driver use.
    async fn used(&self, engine: &Engine, whole: bool) -> Result<Used, EngineError> {
        let networks = engine.networks().await?;
        replace(&self.others, others(&networks));
        let mut used = Used::default();
        for network in networks.iter().filter(|network| network.ipam == DRIVER) {
            let addresses = match whole {
                true => Some(engine.addresses_on(network).await?),
                false => None,
            };
            used.0.extend(pools(network, addresses.as_deref()));
        }
        Ok(used)
    }
}

impl Observer for LeaseObserver {
    async fn look(&mut self, engine: &Engine, whole: bool) -> Result<Looked, EngineError> {
        for _ in 0..TRIES {
            // Without an owner of the leases, the agent ends.
            let Ok(releases) = self.handle.releases().await else { break };
            let used = self.used(engine, whole).await?;
            match self.handle.seen(used, releases).await {
                Ok(None) => {}
                Ok(Some(outcome)) => {
                    log(&outcome);
                    break;
                }
                Err(_) => break,
            }
        }
        Ok(Looked::default())
    }

    async fn ended(&mut self) {
        let _agent_ends = self.handle.engine_ended().await;
    }
}

fn log(Outcome { adopted, released, addresses }: &Outcome) {
    for (subnet, network) in adopted {
        tracing::info!(network, %subnet, "lease added for a Docker network that had none");
    }
    for subnet in released {
        tracing::info!(%subnet, "lease ended: no Docker network has it");
    }
    if *addresses > 0 {
        tracing::info!(addresses, "leases of addresses corrected by those of containers");
    }
}

/// The subnets of networks of other drivers, sorted.
fn others(networks: &[Network]) -> Vec<Subnet> {
    let others = networks.iter().filter(|network| network.ipam != DRIVER);
    let subnets = others.flat_map(|network| &network.subnets);
    let mut subnets: Vec<_> = subnets.filter_map(|it| it.subnet.parse().ok()).collect();
    subnets.sort();
    subnets
}

/// The subnets of a network, with its containers' `addresses` if they are known.
fn pools(network: &Network, addresses: Option<&[std::net::IpAddr]>) -> Vec<(Subnet, UsedPool)> {
    let pool = |it: &sextant_docker::network::Subnet| {
        let subnet: Subnet = it.subnet.parse().ok()?;
        let inside = |all: &[std::net::IpAddr]| -> BTreeSet<_> {
            all.iter().chain(&it.reserved).copied().filter(|address| subnet.contains(*address)).collect()
        };
        let pool =
            UsedPool { network: network.name.clone(), gateway: it.gateway, addresses: addresses.map(inside) };
        Some((subnet, pool))
    };
    network.subnets.iter().filter_map(pool).collect()
}

#[cfg(test)]
mod tests {
    use sextant_docker::network;

    use super::*;

    fn network(ipam: &str, subnet: &str) -> Network {
        let subnet = network::Subnet {
            subnet: subnet.into(),
            gateway: None,
            reserved: vec!["10.0.0.9".parse().unwrap()],
        };
        Network { name: "n".into(), ipam: ipam.into(), subnets: vec![subnet], ..Network::default() }
    }

    #[test]
    fn networks_of_other_drivers_are_known_by_their_subnets_only() {
        let networks =
            [network("default", "fd00::/64"), network(DRIVER, "fd01::/64"), network("default", "x")];
        assert_eq!(others(&networks), ["fd00::/64".parse().unwrap()]);
    }

    #[test]
    fn addresses_are_those_of_the_subnet_and_the_reserved_ones() {
        let all = ["10.0.0.2", "fd00::2"].map(|it| it.parse().unwrap());
        let found = pools(&network(DRIVER, "10.0.0.0/24"), Some(&all));
        let addresses: Vec<_> = found[0].1.addresses.iter().flatten().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.2", "10.0.0.9"]);
        assert_eq!(pools(&network(DRIVER, "10.0.0.0/24"), None)[0].1.addresses, None);
    }
}
