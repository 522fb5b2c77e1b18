//! The leases compared with the engine's networks: a lease whose request the engine has forgotten ends, and a network without a lease gets
//! one. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use super::{Leases, Pool};
use crate::subnet::Subnet;

/// How long no network may have a lease: the engine may be making the network, or starting the container.
const GRACE: Duration = Duration::from_secs(60);

/// The subnets and addresses of the engine's networks of this driver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used(pub BTreeMap<Subnet, UsedPool>);

/// A subnet of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsedPool {
    /// The name of the network.
    pub network: String,
    /// Its gateway, if the engine shows it.
    pub gateway: Option<IpAddr>,
    /// The addresses of its containers, and those that are reserved. `None`: they are not known.
    pub addresses: Option<BTreeSet<IpAddr>>,
}

/// A lease: of a subnet, or of one of its addresses.
type Lease = (Subnet, Option<u64>, Option<IpAddr>);

/// Leases that no network has, or may soon not have.
#[derive(Debug, Default)]
pub struct Doubts {
    /// When that was seen first, on a monotonic clock.
    since: BTreeMap<Lease, Duration>,
    /// Those that stood when the engine ended: it asks for none of them any more.
    ended: BTreeSet<Lease>,
}

/// What has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Subnets of networks that had no lease, with the name of the network.
    pub adopted: Vec<(Subnet, String)>,
    /// Subnets whose leases ended, because no network has them.
    pub released: Vec<Subnet>,
    /// The number of addresses whose leases began or ended.
    pub addresses: usize,
}

impl Outcome {
    /// Whether nothing has changed.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Doubts {
    /// The engine has ended. What it was about to make will never be.
    pub fn engine_ended(&mut self, leases: &Leases) {
        self.ended = leases.pools.iter().flat_map(|(subnet, pool)| all(*subnet, pool)).collect();
    }

    /// An engine has asked for the address: it is one that runs.
    pub fn asked(&mut self, subnet: Subnet, address: IpAddr) {
        self.ended.retain(|(of, _, lease)| (*of, *lease) != (subnet, Some(address)));
    }

    /// Compares the leases with what the engine has now.
    pub fn reconcile(&mut self, leases: &mut Leases, used: &Used, now: Duration) -> Outcome {
        let mut outcome = leases.adopt(used);
        let unused: BTreeSet<_> = leases
            .pools
            .iter()
            .flat_map(|(subnet, pool)| all(*subnet, pool))
            .filter(|lease| !used.has(lease))
            .collect();
        self.since.retain(|lease, _| unused.contains(lease));
        let ended = std::mem::take(&mut self.ended);
        for lease in unused {
            let since = *self.since.entry(lease).or_insert(now);
            if now.saturating_sub(since) < GRACE && !ended.contains(&lease) {
                continue;
            }
            self.since.remove(&lease);
            match lease {
                (subnet, _, None) => {
                    leases.pools.remove(&subnet);
                    outcome.released.push(subnet);
                }
                (subnet, _, Some(address)) => {
                    if let Some(pool) = leases.pools.get_mut(&subnet) {
                        pool.release(address);
                        outcome.addresses += 1;
                    }
                }
            }
        }
        outcome
    }
}

/// The lease of a subnet, and those of its containers' addresses. The gateway is the network's as long as it stands: engines do not show one
/// that nobody asked for.
fn all(subnet: Subnet, pool: &Pool) -> impl Iterator<Item = Lease> {
    let serial = pool.serial;
    let addresses = pool.of_containers().map(move |address| (subnet, serial, Some(address)));
    std::iter::once((subnet, serial, None)).chain(addresses)
}

impl Used {
    /// Whether a network has the lease, or may have it.
    fn has(&self, (subnet, _, address): &Lease) -> bool {
        let Some(pool) = self.0.get(subnet) else { return false };
        let has = |address: IpAddr| {
            pool.addresses.as_ref().is_none_or(|all| all.contains(&address)) || pool.gateway == Some(address)
        };
        address.is_none_or(has)
    }
}

impl Leases {
    fn adopt(&mut self, used: &Used) -> Outcome {
        let mut outcome = Outcome::default();
        for (subnet, found) in &used.0 {
            let pool = self.pools.entry(*subnet).or_insert_with(|| {
                outcome.adopted.push((*subnet, found.network.clone()));
                Pool::new(None, *subnet)
            });
            let gateway = found.gateway.or_else(|| pool.needs_gateway(*subnet));
            let gateway = gateway.into_iter().map(|address| (address, true));
            let addresses = found.addresses.iter().flatten().map(|address| (*address, false));
            for (address, gateway) in gateway.chain(addresses) {
                if !pool.has(address) && subnet.contains(address) {
                    pool.take(address, gateway);
                    outcome.addresses += 1;
                }
            }
        }
        outcome
    }
}
