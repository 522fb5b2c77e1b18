//! The addresses of a leased subnet. Pure.

use std::{collections::BTreeSet, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::subnet::Subnet;

/// A leased subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Pool {
    /// The number of its id; none if the lease was made after the network, whose id only the engine knows.
    pub(super) serial: Option<u64>,
    /// The part that addresses come from.
    range: Subnet,
    #[serde(default)]
    gateway: Option<IpAddr>,
    /// The addresses of containers, and those that the engine reserves.
    #[serde(default)]
    addresses: BTreeSet<IpAddr>,
    /// The last address that was leased without being asked for.
    #[serde(default)]
    last: Option<IpAddr>,
}

impl Pool {
    pub(super) fn new(serial: Option<u64>, range: Subnet) -> Self {
        Self { serial, range, gateway: None, addresses: BTreeSet::new(), last: None }
    }

    /// Whether it has an id with this number.
    pub(super) fn is(&self, serial: u64) -> bool {
        self.serial.is_none_or(|own| own == serial)
    }

    /// The leased addresses, sorted.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let mut all = self.addresses.clone();
        all.extend(self.gateway);
        all.into_iter()
    }

    /// Those of containers, and those that the engine reserves, sorted.
    pub(super) fn of_containers(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().copied()
    }

    /// The gateway of a network that has had no lease, if it is not known: the one that the engine would have got.
    pub(super) fn needs_gateway(&self, subnet: Subnet) -> Option<IpAddr> {
        if self.gateway.is_some() || self.serial.is_some() { None } else { self.next(subnet, 0) }
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.gateway == Some(address) || self.addresses.contains(&address)
    }

    pub(super) fn request(
        &mut self,
        subnet: Subnet,
        asked: Option<IpAddr>,
        gateway: bool,
    ) -> Result<IpAddr, Refusal> {
        if let Some(present) = self.gateway.filter(|present| gateway && asked.is_none_or(|it| it == *present))
        {
            return Ok(present);
        }
        let address = match asked {
            Some(address) if !is_host(subnet, address) => return Err(Refusal::NotInside { address, subnet }),
            Some(address) if self.has(address) => return Err(Refusal::AddressTaken { address, subnet }),
            Some(address) => address,
            None => {
                let start = self.last.filter(|_| !gateway).map_or(0, |last| self.range.number(last) + 1);
                let address = self.next(subnet, start).ok_or(Refusal::Full(subnet))?;
                if !gateway {
                    self.last = Some(address);
                }
                address
            }
        };
        self.take(address, gateway);
        Ok(address)
    }

    /// The address is in use, as a gateway or otherwise.
    pub(super) fn take(&mut self, address: IpAddr, gateway: bool) {
        if gateway && self.gateway.is_none() {
            self.addresses.remove(&address);
            self.gateway = Some(address);
        } else if self.gateway != Some(address) {
            self.addresses.insert(address);
        }
    }

    pub(super) fn release(&mut self, address: IpAddr) {
        self.gateway = self.gateway.filter(|gateway| *gateway != address);
        self.addresses.remove(&address);
    }

    /// The first free address of the range from this number on, then from the first one.
    fn next(&self, subnet: Subnet, start: u128) -> Option<IpAddr> {
        let mut candidates = (start..=size(self.range)).chain(0..start).map(|number| self.range.nth(number));
        candidates.find(|address| is_host(subnet, *address) && !self.has(*address))
    }
}

/// The number of the last address.
fn size(range: Subnet) -> u128 {
    let bits = if range.is_ipv4() { 32 } else { 128 } - u32::from(range.len());
    1u128.checked_shl(bits).map_or(u128::MAX, |count| count - 1)
}

/// Whether a host may have the address: not the subnet-router anycast address (RFC 4291 §2.6.1), nor the address or broadcast address of an
/// IPv4 subnet.
fn is_host(subnet: Subnet, address: IpAddr) -> bool {
    if !subnet.contains(address) {
        return false;
    }
    let number = subnet.number(address);
    let tiny = subnet.last_host() <= 1;
    (number > 0 || tiny) && number <= subnet.last_host()
}
