//! Why a host is not set up.

use std::net::Ipv6Addr;

use serde_json::Value;
use sextant_proto::{Prefix, shell_operands};

use super::{FIXED_CIDR, POOLS, POOLS_SINCE, Set};

/// Why a host is not set up. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The engine is too old for pools.
    #[error(
        "Docker {0} takes no IPv6 prefixes for networks from {POOLS}, as versions from {POOLS_SINCE} on do; use --mode daemon, or \
         upgrade Docker"
    )]
    NoPools(String),
    /// The engine's version is not known.
    #[error(
        "the version of Docker is not known, and {POOLS} needs {POOLS_SINCE} or later: start Docker, and try again"
    )]
    NoVersion,
    /// The host prefix has no room beside the container prefix.
    #[error(
        "the container prefix {0} is the whole host prefix, so networks have no room in it; use --mode daemon, or give the pool a \
         longer --container-len"
    )]
    NoRoom(Prefix),
    /// The default bridge is another one.
    #[error("{found}, and the agent's bridge is {wanted}; {}, or set [bridge] interface", .found.removal())]
    Bridge {
        /// The bridge that is set.
        found: Set,
        /// The bridge of the agent.
        wanted: String,
    },
    /// A gateway is set.
    #[error(
        "{0}, and Docker does not start with an address that it gives to its own bridge; {removal}",
        removal = .0.removal()
    )]
    Gateway(Set),
    /// The default bridge is to have another address.
    #[error("{found}, and this host's containers need {wanted} on Docker's bridge; {}", .found.removal())]
    Address {
        /// The address that is set.
        found: Set,
        /// The first one of the container prefix.
        wanted: String,
    },
    /// The pools are no list of pools.
    #[error(
        "daemon.json has \"{POOLS}\": {0}, which is no list of {{\"base\": …, \"size\": …}}; correct it, or remove that key"
    )]
    Pools(Value),
    /// Another network has the prefix.
    #[error(
        "Docker's network {network} has {prefix}, and docker0 cannot have {wanted} beside it; stop the agent if it keeps that network, \
         remove it (`docker network rm {}`) with its bridge, and try again",
        shell_operands([.network.as_str()])
    )]
    Taken {
        /// Its name.
        network: String,
        /// Its prefix.
        prefix: Prefix,
        /// The container prefix.
        wanted: Prefix,
    },
    /// The default bridge has the prefix, which another network is to have.
    #[error(
        "daemon.json has \"{FIXED_CIDR}\": \"{0}\", which no setup wrote, and a network cannot have the same prefix; \
         remove that key, restart Docker, and try again"
    )]
    TakenByBridge(Prefix),
    /// Networks get addresses by the IPAM driver.
    #[error(
        "Docker's networks {0} get addresses by the IPAM driver, and containers on them could not start without it; remove them \
         (`docker network rm {0}`), and try again"
    )]
    DriverUsed(String),
    /// The same address with another length is on the bridge.
    #[error(
        "{bridge} has {addr}/{now} and is to have {addr}/{wanted}: Docker puts the former one back when it starts, and fails or keeps \
         it. Start it once without IPv6: run this command with --restart, or write \"ipv6\": false into daemon.json, restart \
         Docker, `ip -6 address del {addr}/{now} dev {bridge}`, and try again"
    )]
    OtherLength {
        /// The bridge.
        bridge: String,
        /// The address.
        addr: Ipv6Addr,
        /// Its length now.
        now: u8,
        /// The length of the container prefix.
        wanted: u8,
    },
    /// A flag has the same meaning as a key.
    #[error(
        "Docker was started with the flag {flag}, and does not start with \"{key}\" in daemon.json beside it; remove the flag from \
         its unit (`systemctl edit docker`, or /etc/default/docker), restart Docker, and try again"
    )]
    Flag {
        /// The flag.
        flag: &'static str,
        /// The key.
        key: &'static str,
    },
    /// The engine reads another file.
    #[error("Docker was started with --config-file {0}; set [docker] daemon-json = \"{0}\", and try again")]
    OtherFile(String),
    /// The engine does not read the file.
    #[error(
        "daemon.json begins with a byte order mark, with which Docker {0} does not start; save it without one"
    )]
    Mark(String),
}
