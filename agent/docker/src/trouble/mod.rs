//! What keeps containers from the prefix, with the fix.

mod shown;

use std::path::{Path, PathBuf};

use sextant_proto::{PoolName, Prefix, shell_operands};

use crate::{engine::EngineError, network::DEFAULT_NETWORK, parts::LONGEST};

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
        /// The prefix that it is to have.
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
        /// The prefix that a network of the agent is to have.
        wanted: Prefix,
    },
    /// Another network is on the bridge.
    BridgeTaken {
        /// Its name.
        network: String,
        /// The bridge.
        bridge: String,
    },
    /// Containers are on a network of the agent that the settings do not name any more.
    Retired {
        /// Its name.
        name: String,
        /// The names of the containers.
        containers: Vec<String>,
    },
    /// A container was taken off a network that was made anew, and the engine does not connect it again.
    NotConnected {
        /// The name of the network.
        name: String,
        /// The name of the container.
        container: String,
        /// The engine's answer.
        error: String,
    },
    /// A network cannot have a part of this length.
    Length {
        /// Its name.
        name: String,
        /// The pool of the host prefix.
        pool: PoolName,
        /// The host prefix.
        host: Prefix,
        /// The length.
        length: u8,
    },
    /// The host prefix has no further part of this length.
    NoRoom {
        /// The name of the network.
        name: String,
        /// The pool of the host prefix.
        pool: PoolName,
        /// The host prefix.
        host: Prefix,
        /// The length.
        length: u8,
    },
    /// The host prefix has no part but the container prefix.
    NoParts {
        /// The name of the network.
        name: String,
        /// The pool of the host prefix.
        pool: PoolName,
        /// The host prefix.
        host: Prefix,
    },
    /// The parts of the host prefixes that networks have cannot be stored.
    NotStored {
        /// Why, with the fix.
        error: String,
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
            EngineError::Away(_) | EngineError::Closed | EngineError::Events(_) | EngineError::Refused(_) => {
                Self::Away { socket, error: error.to_string() }
            }
        }
    }

    /// Whether containers have the addresses that they are to have, and work.
    pub fn is_served(&self) -> bool {
        matches!(self, Self::Away { .. } | Self::Mtu { .. } | Self::Retired { .. })
    }

    /// Whether it may be over without an event of the engine.
    pub fn is_tried_again_soon(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::NotConnected { .. } | Self::Firewall { .. } | Self::NotStored { .. }
        )
    }

    /// The network that it is about; empty if it is none.
    pub fn network(&self) -> &str {
        match self {
            Self::NameTaken { name, .. }
            | Self::Used { name, .. }
            | Self::Mtu { name, .. }
            | Self::Retired { name, .. }
            | Self::NotConnected { name, .. }
            | Self::Length { name, .. }
            | Self::NoRoom { name, .. }
            | Self::NoParts { name, .. } => name,
            Self::Overlaps { network, .. } | Self::BridgeTaken { network, .. } => network,
            _ => "",
        }
    }

    /// The kind, in lower case with hyphens.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Away { .. } => "docker-away",
            Self::NoAccess { .. } => "docker-access",
            Self::NameTaken { .. } | Self::Overlaps { .. } | Self::BridgeTaken { .. } => "docker-network",
            Self::Used { .. } => "docker-network-used",
            Self::Retired { .. } => "docker-network-retired",
            Self::NotConnected { .. } => "docker-not-connected",
            Self::Length { .. } | Self::NoRoom { .. } | Self::NoParts { .. } => "docker-network-part",
            Self::NotStored { .. } => "state-directory",
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
                "remove that network once nothing uses it (`docker network rm {}`), or give the agent's network another \
                 name in agent.toml",
                shell_operands([name.as_str()])
            ),
            Self::Used { name, wanted, containers, .. } => format!(
                "create these containers again after `docker rm -f {}`: the agent then gives network {name} the prefix {wanted}; \
                 or set replace-used = true under [docker] in agent.toml: the agent then disconnects them",
                containers.join(" ")
            ),
            Self::Mtu { name, mtu, ours: false, .. } => format!(
                "create network {name} again with `--opt com.docker.network.driver.mtu={mtu}` (`docker network rm {}` first), or \
                 remove it: the agent then makes it",
                shell_operands([name.as_str()])
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
                "remove network {network} once nothing uses it (`docker network rm {}`), or create it again elsewhere",
                shell_operands([network.as_str()])
            ),
            Self::Retired { name, containers } => format!(
                "remove these containers (`docker rm -f {}`): the agent then removes the network; or name network {name} in agent.toml \
                 again, under [[docker.network]]",
                containers.join(" ")
            ),
            Self::NotConnected { name, container, .. } => format!(
                "correct that, or create the container again (`docker rm -f {container}`) with `--network {name}`; it is tried again"
            ),
            Self::Length { name, host, .. } => format!(
                "set length = {} to {LONGEST} for network {name} in agent.toml, under [[docker.network]]",
                host.len() + 1
            ),
            Self::NoRoom { name, .. } => format!(
                "set a larger length for network {name} in agent.toml, under [[docker.network]], or remove a network that has a part of \
                 the host prefix"
            ),
            Self::NoParts { name, pool, .. } => format!(
                "give network {name} another pool in agent.toml, under [[docker.network]], or remove it there: pool {pool} was added with \
                 one length for both (`sextant pool add`, --host-len and --container-len)"
            ),
            Self::NotStored { .. } => "no network is made until that works; it is tried again".to_owned(),
            Self::Firewall { .. } => {
                "Docker's own rules may refuse packets to containers until that works; run the command by hand; it is tried again"
                    .to_owned()
            }
            Self::Refused { .. } => "see the engine's log (`journalctl -u docker`); it is tried again".to_owned(),
        }
    }
}
