//! The troubles as text.

use std::fmt;

use super::Trouble;

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
            Self::Retired { name, containers } => write!(
                f,
                "agent.toml does not name Docker's network {name} any more, but containers are on it: {}",
                containers.join(", ")
            ),
            Self::NotConnected { name, container, error } => write!(
                f,
                "container {container} was on Docker's network {name}, which was made again, and Docker refuses to connect it: {error}"
            ),
            Self::Length { name, pool, host, length } => write!(
                f,
                "Docker's network {name} cannot have a /{length} of {host}, this host's prefix of pool {pool}"
            ),
            Self::NoRoom { name, pool, host, length } => write!(
                f,
                "Docker's network {name} has no prefix: no /{length} of {host}, this host's prefix of pool {pool}, is free"
            ),
            Self::NoParts { name, pool, host } => write!(
                f,
                "Docker's network {name} has no prefix: this host's prefix {host} of pool {pool} is the container prefix too"
            ),
            Self::NotStored { error } => {
                write!(f, "the prefixes of Docker's networks cannot be stored: {error}")
            }
            Self::Firewall { error } => {
                write!(f, "the rules beside Docker's firewall cannot be kept: {error}")
            }
            Self::Refused { what, error } => write!(f, "Docker refuses to {what}: {error}"),
        }
    }
}
