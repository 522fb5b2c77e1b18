//! Where subnets come from: this host's prefixes. Pure.

use sextant_proto::PoolName;

use super::Refusal;
use crate::subnet::Subnet;

/// A host prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPrefix {
    /// The pool that it is of.
    pub pool: PoolName,
    /// The prefix.
    pub prefix: Subnet,
}

/// Where subnets come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// The pool of networks that name none, if it is known; otherwise they get parts of the first host prefix.
    pub primary: Option<PoolName>,
    /// The host prefixes: one of each pool that the host has a claim of.
    pub hosts: Vec<HostPrefix>,
    /// The range of IPv4 subnets.
    pub ipv4: Subnet,
    /// Subnets that are in use otherwise: the container prefix of a bridge, and networks of other IPAM drivers.
    pub reserved: Vec<Subnet>,
}

impl Space {
    /// The host prefix of this pool, or of the primary one.
    pub(super) fn host(&self, pool: Option<&PoolName>) -> Result<&HostPrefix, Refusal> {
        let first = self.hosts.first().ok_or(Refusal::NoPrefix)?;
        let Some(pool) = pool.or(self.primary.as_ref()) else { return Ok(first) };
        let found = self.hosts.iter().find(|host| host.pool == *pool);
        found.ok_or_else(|| Refusal::NoClaim { pool: pool.clone(), held: list(&self.hosts, |it| &it.pool) })
    }

    /// The host prefix that a subnet is in: that of this pool, or else any of them.
    pub(super) fn host_of(&self, subnet: Subnet, pool: Option<&PoolName>) -> Result<&HostPrefix, Refusal> {
        let among = match pool {
            Some(_) => std::slice::from_ref(self.host(pool)?),
            None if self.hosts.is_empty() => return Err(Refusal::NoPrefix),
            None => &self.hosts,
        };
        let found = among.iter().find(|host| host.prefix.covers(subnet));
        found.ok_or_else(|| Refusal::Outside { subnet, hosts: list(among, |it| &it.prefix) })
    }

    /// The words about the other pools, for a network that has no room in this one.
    pub(super) fn instead_of(&self, pool: &PoolName) -> String {
        let other = self.hosts.iter().find(|host| host.pool != *pool);
        other
            .map(|it| format!(", or for one of another pool: --ipam-opt sextant.pool={}", it.pool))
            .unwrap_or_default()
    }
}

fn list<T: ToString>(hosts: &[HostPrefix], of: impl Fn(&HostPrefix) -> &T) -> String {
    hosts.iter().map(|host| of(host).to_string()).collect::<Vec<_>>().join(", ")
}
