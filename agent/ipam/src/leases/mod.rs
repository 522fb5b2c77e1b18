//! Which subnets and addresses are leased to the engine's networks and containers. Pure.
//!
//! The engine repeats a request whose answer it has not got, also a release, and other requests may come in between. So the id of a pool
//! has a serial number: a late release does not end the lease of another network. A gateway that is asked for again is the same one, and
//! an address that was released is the last to be leased again.

mod pool;
mod reconcile;
mod refusal;
mod space;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};
use sextant_proto::PoolName;

pub use pool::Pool;
pub use reconcile::{Doubts, Outcome, Used, UsedPool};
pub use refusal::Refusal;
pub use space::{HostPrefix, Space};

use crate::subnet::Subnet;

/// The length of an IPv6 subnet that nobody asked for otherwise: an address has room for a MAC address.
pub const IPV6_LENGTH: u8 = 80;
/// The length of an IPv4 subnet that nobody asked for otherwise.
pub const IPV4_LENGTH: u8 = 24;
/// The longest IPv6 subnet: with an address for the gateway and for containers.
const LONGEST: u8 = 126;

/// The wish for a subnet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolRequest {
    /// Whether it is one of IPv6.
    pub ipv6: bool,
    /// The subnet (`--subnet`).
    pub subnet: Option<Subnet>,
    /// The part of it that containers get their addresses from (`--ip-range`).
    pub range: Option<Subnet>,
    /// The length of an IPv6 subnet.
    pub length: Option<u8>,
    /// The cluster's pool whose host prefix an IPv6 subnet is a part of; none: the primary one.
    pub pool: Option<PoolName>,
}

/// All leases. As it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Leases {
    /// The last serial number.
    serial: u64,
    pools: BTreeMap<Subnet, Pool>,
}

impl Leases {
    /// None; the serial numbers follow this one. It must be past those that an engine may still know.
    pub fn none_after(serial: u64) -> Self {
        Self { serial, pools: BTreeMap::new() }
    }

    /// The leased subnets, sorted.
    pub fn subnets(&self) -> impl Iterator<Item = Subnet> {
        self.pools.keys().copied()
    }

    /// The leased addresses of a subnet, the gateway's among them, sorted.
    pub fn addresses(&self, subnet: Subnet) -> impl Iterator<Item = IpAddr> {
        self.pools.get(&subnet).into_iter().flat_map(Pool::addresses)
    }

    /// Leases a subnet. Returns its id.
    ///
    /// # Errors
    /// If none can be leased.
    pub fn request_pool(&mut self, asked: &PoolRequest, space: &Space) -> Result<(String, Subnet), Refusal> {
        let subnet = match asked.subnet {
            Some(subnet) => self.asked(subnet, asked.pool.as_ref(), space)?,
            None if asked.ipv6 => self.next_ipv6(asked, space)?,
            None => self.next_ipv4(space)?,
        };
        if let Some(range) = asked.range.filter(|range| !subnet.covers(*range)) {
            return Err(Refusal::Range { range, subnet });
        }
        self.serial += 1;
        let range = asked.range.unwrap_or(subnet);
        self.pools.insert(subnet, Pool::new(Some(self.serial), range));
        Ok((id(subnet, self.serial), subnet))
    }

    /// Ends the lease of a subnet and of its addresses. It is right if there is none.
    pub fn release_pool(&mut self, id: &str) {
        if let Ok((subnet, _)) = self.find(id) {
            self.pools.remove(&subnet);
        }
    }

    /// Leases an address, or this one.
    ///
    /// # Errors
    /// If it cannot be leased.
    pub fn request_address(
        &mut self,
        id: &str,
        address: Option<IpAddr>,
        gateway: bool,
    ) -> Result<(IpAddr, Subnet), Refusal> {
        let (subnet, pool) = self.find(id)?;
        Ok((pool.request(subnet, address, gateway)?, subnet))
    }

    /// Ends the lease of an address. It is right if there is none.
    pub fn release_address(&mut self, id: &str, address: IpAddr) {
        if let Ok((_, pool)) = self.find(id) {
            pool.release(address);
        }
    }

    fn find(&mut self, id: &str) -> Result<(Subnet, &mut Pool), Refusal> {
        let unknown = || Refusal::UnknownPool(id.to_owned());
        let (subnet, serial) = parse_id(id).ok_or_else(unknown)?;
        let pool = self.pools.get_mut(&subnet).filter(|pool| pool.is(serial)).ok_or_else(unknown)?;
        Ok((subnet, pool))
    }

    /// What a subnet overlaps, with the user of that.
    fn overlap(&self, subnet: Subnet, space: &Space) -> Option<(Subnet, &'static str)> {
        let reserved =
            space.reserved.iter().copied().map(|other| (other, "is in use otherwise on this host"));
        let mut all = self.subnets().map(|other| (other, "another network has")).chain(reserved);
        all.find(|(other, _)| other.overlaps(subnet))
    }

    fn asked(&self, subnet: Subnet, pool: Option<&PoolName>, space: &Space) -> Result<Subnet, Refusal> {
        if !subnet.is_ipv4() {
            space.host_of(subnet, pool)?;
        }
        match self.overlap(subnet, space) {
            Some((other, user)) => Err(Refusal::Taken { subnet, other, user }),
            None => Ok(subnet),
        }
    }

    fn next_ipv6(&self, asked: &PoolRequest, space: &Space) -> Result<Subnet, Refusal> {
        let HostPrefix { pool, prefix: of } = space.host(asked.pool.as_ref())?;
        if let Some(length) = asked.length.filter(|length| !(of.len() + 1..=LONGEST).contains(length)) {
            return Err(Refusal::Length { length, host: *of });
        }
        // A long host prefix has room for some networks too.
        let length = asked.length.unwrap_or_else(|| IPV6_LENGTH.max((of.len() + 4).min(LONGEST)));
        self.next(*of, length, space).ok_or_else(|| {
            let smaller = "remove a network that is not used, or ask for a smaller part of it, e.g. with --ipam-opt sextant.length=112";
            Refusal::Exhausted { length, of: *of, fix: format!("{smaller}{}", space.instead_of(pool)) }
        })
    }

    fn next_ipv4(&self, space: &Space) -> Result<Subnet, Refusal> {
        let of = space.ipv4;
        let length = IPV4_LENGTH.max(of.len());
        let fix = "remove a network that is not used, set a larger [docker] ipv4-range in agent.toml, or give an IPv4 --subnet";
        self.next(of, length, space).ok_or_else(|| Refusal::Exhausted { length, of, fix: fix.to_owned() })
    }

    fn next(&self, of: Subnet, length: u8, space: &Space) -> Option<Subnet> {
        of.first_free(length, |candidate| Some(self.overlap(candidate, space)?.0))
    }
}

fn id(subnet: Subnet, serial: u64) -> String {
    format!("{subnet}#{serial}")
}

fn parse_id(id: &str) -> Option<(Subnet, u64)> {
    let (subnet, serial) = id.split_once('#')?;
    Some((subnet.parse().ok()?, serial.parse().ok()?))
}
