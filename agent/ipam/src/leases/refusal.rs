//! Why a lease is refused.

use std::net::IpAddr;

use sextant_proto::PoolName;

use super::LONGEST;
use crate::subnet::Subnet;

/// Why a wish is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no host prefix yet.
    #[error(
        "this host holds no IPv6 prefix yet: its agent waits for a controller. See `systemctl status sextant-agent`, and create the \
         network again"
    )]
    NoPrefix,
    /// There is none of this pool.
    #[error(
        "this host holds no prefix of pool {pool}, but of {held}; name one of these (--ipam-opt sextant.pool=NAME), or let the host \
         claim one of {pool}: `pool` in agent.toml, and `sextant status` says why it has none"
    )]
    NoClaim {
        /// The pool.
        pool: PoolName,
        /// The pools that it has prefixes of.
        held: String,
    },
    /// All are leased.
    #[error("no /{length} of this host's {of} is free; {fix}")]
    Exhausted {
        /// The length.
        length: u8,
        /// The host prefix or the IPv4 range.
        of: Subnet,
        /// What an operator can do.
        fix: String,
    },
    /// It is not inside of a host prefix.
    #[error("subnet {subnet} is not inside of this host's prefix {hosts}; give another --subnet, or none")]
    Outside {
        /// The subnet.
        subnet: Subnet,
        /// The host prefixes that it may be in.
        hosts: String,
    },
    /// It overlaps another one.
    #[error("subnet {subnet} overlaps {other}, which {user}; give another --subnet, or none")]
    Taken {
        /// The subnet.
        subnet: Subnet,
        /// The other one.
        other: Subnet,
        /// The user of the other one.
        user: &'static str,
    },
    /// The length cannot be.
    #[error("sextant.length={length}: give it the length of a part of {host}: {shortest} to {LONGEST}", shortest = host.len() + 1)]
    Length {
        /// The length.
        length: u8,
        /// The host prefix.
        host: Subnet,
    },
    /// The range is not inside of the subnet.
    #[error("--ip-range {range} is not inside of --subnet {subnet}; give a part of the subnet")]
    Range {
        /// The range.
        range: Subnet,
        /// The subnet.
        subnet: Subnet,
    },
    /// No such lease.
    #[error(
        "no subnet with id {0:?} is leased; remove its network (`docker network rm`), and create it again"
    )]
    UnknownPool(String),
    /// The address is not one of the subnet's.
    #[error("{address} is no address for a container or gateway of {subnet}; give another one, or none")]
    NotInside {
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: Subnet,
    },
    /// The address is leased.
    #[error("{address} of {subnet} is in use; give another one, or none")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: Subnet,
    },
    /// No address is left.
    #[error("all addresses of {0} are in use; remove containers, or create a network with a larger subnet")]
    Full(Subnet),
}
