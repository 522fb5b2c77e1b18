//! What keeps containers from the prefix, with the fix.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use sextant_proto::Prefix;

use crate::{engine::EngineError, network::DEFAULT_NETWORK};

/// What keeps containers from the prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The engine does not answer.
    Away {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        error: String,
    },
    /// The agent may not use the engine's socket.
    NoAccess {
        /// The socket.
        socket: PathBuf,
    },
    /// Somebody else made a network of the name.
    NameTaken {
        /// The name.
        name: String,
        /// How it differs.
        differs: String,
    },
    /// Containers are on the network, which has to be made anew.
    Used {
        /// The name of the network.
        name: String,
        /// How it differs.
        differs: String,
        /// The container prefix.
        wanted: Prefix,
        /// The names of the containers.
        containers: Vec<String>,
    },
    /// Packets of the network's containers are larger than those that the uplinks carry.
    Mtu {
        /// Its name.
        name: String,
        /// Its MTU.
        now: u32,
        /// The uplinks' MTU.
        mtu: u32,
        /// Whether the agent has made it.
        ours: bool,
        /// The names of the containers that are on it.
        containers: Vec<String>,
    },
    /// Another network has a part of the prefix.
    Overlaps {
        /// Its name.
        network: String,
        /// Its prefix.
        prefix: Prefix,
        /// The container prefix.
        wanted: Prefix,
    },
    /// Another network is on the bridge.
    BridgeTaken {
        /// Its name.
        network: String,
        /// The bridge.
        bridge: String,
    },
    /// The firewall cannot be read or changed.
    Firewall {
        /// Why.
        error: String,
    },
    /// The engine refuses.
    Refused {
        /// What was asked.
        what: String,
        /// Its answer.
        error: String,
    },
}

impl Trouble {
    /// The trouble with an engine that cannot be asked.
    pub fn of(error: &EngineError, socket: &Path) -> Self {
        let socket = socket.to_owned();
        match error {
            EngineError::NoAccess => Self::NoAccess { socket },
            EngineError::Away(error) | EngineError::Refused(error) => {
                Self::Away { socket, error: error.clone() }
            }
        }
    }

    /// Whether containers have the addresses that they are to have, and work.
    pub fn is_served(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Mtu { .. })
    }

    /// The kind, in lower case with hyphens.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Away { .. } => "docker-away",
            Self::NoAccess { .. } => "docker-access",
            Self::NameTaken { .. } | Self::Overlaps { .. } | Self::BridgeTaken { .. } => "docker-network",
            Self::Used { .. } => "docker-network-used",
            Self::Mtu { .. } => "docker-mtu",
            Self::Firewall { .. } => "docker-firewall",
            Self::Refused { .. } => "docker-refused",
        }
    }

    /// What an operator can do.
    pub fn fix(&self) -> String {
        match self {
            Self::Away { .. } => {
                "start it (`systemctl start docker`), or set [docker] socket in agent.toml; it is tried again".to_owned()
            }
            Self::NoAccess { .. } => {
                "let the agent use it: `sextant-agent docker setup --restart` as root, or `systemctl edit sextant-agent`, with \
                 SupplementaryGroups=docker under [Service], then `systemctl restart sextant-agent`"
                    .to_owned()
            }
            Self::NameTaken { name, .. } => format!(
                "remove that network once nothing uses it (`docker network rm {name}`), or set another [docker] network in \
                 agent.toml"
            ),
            Self::Used { name, wanted, containers, .. } => format!(
                "create these containers again after `docker rm -f {}`: the agent then gives network {name} the prefix {wanted}; \
                 or set replace-used = true under [docker] in agent.toml: the agent then disconnects them",
                containers.join(" ")
            ),
            Self::Mtu { name, mtu, ours: false, .. } => format!(
                "create network {name} again with `--opt com.docker.network.driver.mtu={mtu}` (`docker network rm {name}` first), or \
                 remove it: the agent then makes it"
            ),
            Self::Mtu { name, mtu, containers, .. } => format!(
                "create these containers again after `docker rm -f {}`: the agent then gives network {name} the MTU {mtu}; until \
                 then larger packets are refused with the right size",
                containers.join(" ")
            ),
            Self::Overlaps { network, .. } if network == DEFAULT_NETWORK => {
                "Docker's own network cannot be removed: remove \"fixed-cidr-v6\" from daemon.json, and restart Docker (`systemctl \
                 restart docker`)"
                    .to_owned()
            }
            Self::Overlaps { network, .. } | Self::BridgeTaken { network, .. } => format!(
                "remove network {network} once nothing uses it (`docker network rm {network}`), or create it again elsewhere"
            ),
            Self::Firewall { .. } => {
                "Docker's own rules may refuse packets to containers until that works; run the command by hand; it is tried again"
                    .to_owned()
            }
            Self::Refused { .. } => "see the engine's log (`journalctl -u docker`); it is tried again".to_owned(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away { socket, error } => {
                write!(f, "Docker does not answer at {}: {error}", socket.display())
            }
            Self::NoAccess { socket } => {
                write!(f, "the agent may not use Docker's socket {}: permission denied", socket.display())
            }
            Self::NameTaken { name, differs } => {
                write!(f, "Docker has a network {name} that the agent did not make, and {differs}")
            }
            Self::Used { name, differs, wanted, containers } => write!(
                f,
                "Docker's network {name} has to be made again for {wanted} ({differs}), but containers are on it: {}",
                containers.join(", ")
            ),
            Self::Mtu { name, now, mtu, containers, .. } => {
                write!(f, "Docker's network {name} has MTU {now}, and this host's uplinks carry {mtu}")?;
                match &containers[..] {
                    [] => Ok(()),
                    some => write!(f, "; containers are on it: {}", some.join(", ")),
                }
            }
            Self::Overlaps { network, prefix, wanted } => {
                write!(f, "Docker's network {network} has {prefix}, which overlaps this host's {wanted}")
            }
            Self::BridgeTaken { network, bridge } => {
                write!(f, "Docker's network {network} is on the bridge {bridge}")
            }
            Self::Firewall { error } => {
                write!(f, "the rules beside Docker's firewall cannot be kept: {error}")
            }
            Self::Refused { what, error } => write!(f, "Docker refuses to {what}: {error}"),
        }
    }
}
