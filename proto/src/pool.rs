//! Pools of host prefixes.

use crate::{PoolName, Prefix};

/// A prefix that the cluster hands out from.
///
/// `prefix.len() <= host_len <= container_len <= 126`. A pool that is longer than a link's `/64` is a part of it, as NDP proxies serve.
/// Versions before that topology refuse one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// What users call it.
    pub name: PoolName,
    /// All of it.
    pub prefix: Prefix,
    /// How long a host prefix is, in bits.
    pub host_len: u8,
    /// How long the part on a host's container bridge is, in bits.
    pub container_len: u8,
    /// Whether it is closed to new claims.
    pub draining: bool,
}

/// The longest pool: of one host.
const MAX_POOL_LEN: u8 = MAX_CONTAINER_LEN;
/// The longest prefix with room for a bridge's and a container's address.
const MAX_CONTAINER_LEN: u8 = 126;
/// The longest container prefix whose addresses can end in a container's MAC.
const MAX_MAC_LEN: u8 = 80;

/// Why a pool is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The pool has no room for a host prefix.
    #[error(
        "pool {name} {prefix} is longer than /{MAX_POOL_LEN}; give it a prefix of /{MAX_POOL_LEN} or shorter"
    )]
    PoolLength {
        /// The pool.
        name: PoolName,
        /// Its prefix.
        prefix: Prefix,
    },
    /// A host prefix would not fit into the pool.
    #[error("--host-len {host_len} is shorter than pool {name} {prefix} itself; give it {} to {MAX_CONTAINER_LEN}", prefix.len())]
    HostLength {
        /// The pool.
        name: PoolName,
        /// Its prefix.
        prefix: Prefix,
        /// The length asked for.
        host_len: u32,
    },
    /// A container prefix would not fit into a host prefix, or has no room for a container.
    #[error(
        "--container-len {container_len} of pool {name} does not fit its host prefixes (/{host_len}); \
         give it {host_len} to {MAX_CONTAINER_LEN}"
    )]
    ContainerLength {
        /// The pool.
        name: PoolName,
        /// The length of its host prefixes.
        host_len: u32,
        /// The length asked for.
        container_len: u32,
    },
    /// Addresses that cannot be given to hosts.
    #[error(
        "pool {name} {prefix} overlaps {reserved}, which is {what}; take a unicast prefix, e.g. 2001:db8:1::/48 or fd00:1::/48"
    )]
    NotUnicast {
        /// The pool.
        name: PoolName,
        /// Its prefix.
        prefix: Prefix,
        /// What it overlaps.
        reserved: Prefix,
        /// What that is for.
        what: &'static str,
    },
}

impl Pool {
    /// A pool, if its lengths fit each other.
    ///
    /// # Errors
    /// A [`PoolError`] with the invalid value.
    pub fn new(name: PoolName, prefix: Prefix, host_len: u32, container_len: u32) -> Result<Self, PoolError> {
        if prefix.len() > MAX_POOL_LEN {
            return Err(PoolError::PoolLength { name, prefix });
        }
        if host_len < prefix.len().into() || host_len > MAX_CONTAINER_LEN.into() {
            return Err(PoolError::HostLength { name, prefix, host_len });
        }
        if container_len < host_len || container_len > MAX_CONTAINER_LEN.into() {
            return Err(PoolError::ContainerLength { name, host_len, container_len });
        }
        if let Some((reserved, what)) =
            not_unicast().into_iter().find(|(reserved, _)| reserved.overlaps(prefix))
        {
            return Err(PoolError::NotUnicast { name, prefix, reserved, what });
        }
        let (host_len, container_len) = (host_len as u8, container_len as u8);
        Ok(Self { name, prefix, host_len, container_len, draining: false })
    }

    /// How many host prefixes it holds.
    pub fn capacity(&self) -> u128 {
        self.prefix.count(self.host_len)
    }

    /// Whether a host prefix of this length fits into it, and has space for containers.
    pub fn fits(&self, host_len: u32) -> bool {
        (self.prefix.len().into()..=MAX_CONTAINER_LEN.into()).contains(&host_len)
    }

    /// Whether a container's address can end in its MAC address, as Docker's do by default.
    pub fn carries_mac(&self) -> bool {
        self.container_len <= MAX_MAC_LEN
    }
}

/// What RFC 4291 §2.4 and §2.5 set apart from global unicast.
fn not_unicast() -> [(Prefix, &'static str); 3] {
    let prefix = |first: u16, len| {
        let addr = std::net::Ipv6Addr::new(first, 0, 0, 0, 0, 0, 0, 0);
        Prefix::containing(addr, len).expect("a length up to 128")
    };
    [
        (prefix(0, 8), "unspecified, loopback and mapped"),
        (prefix(0xfe80, 10), "link-local"),
        (prefix(0xff00, 8), "multicast"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(prefix: &str, host_len: u32, container_len: u32) -> Result<Pool, PoolError> {
        Pool::new("main".parse().unwrap(), prefix.parse().unwrap(), host_len, container_len)
    }

    #[test]
    fn lengths_fit_each_other() {
        assert!(pool("2001:db8:1::/48", 64, 80).is_ok());
        assert!(pool("2001:db8:1::/64", 64, 64).is_ok());
        assert!(pool("2001:db8:1::/64", 76, 80).is_ok());
        assert!(pool("2001:db8:1::/72", 80, 80).is_ok());
        assert!(pool("2001:db8::c000/126", 126, 126).is_ok());
        assert!(matches!(pool("2001:db8:1::/127", 127, 127), Err(PoolError::PoolLength { .. })));
        assert!(matches!(pool("2001:db8:1::/48", 40, 80), Err(PoolError::HostLength { host_len: 40, .. })));
        assert!(matches!(pool("2001:db8:1::/48", 64, 63), Err(PoolError::ContainerLength { .. })));
        assert!(matches!(pool("2001:db8:1::/48", 64, 127), Err(PoolError::ContainerLength { .. })));
    }

    #[test]
    fn only_unicast_is_handed_out() {
        for prefix in ["::/0", "fe80::/64", "ff02::/16", "::/64", "fe00::/8"] {
            assert!(matches!(pool(prefix, 64, 64), Err(PoolError::NotUnicast { .. })), "{prefix}");
        }
    }

    #[test]
    fn the_mac_fits_up_to_80() {
        assert!(pool("fd00:1::/48", 64, 80).unwrap().carries_mac());
        assert!(!pool("fd00:1::/48", 64, 81).unwrap().carries_mac());
    }
}
