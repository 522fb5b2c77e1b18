//! Texts for operators.

use std::fmt;

use sextant_proto::link_name_word;

use super::{Kept, Step};
use crate::kernel::{OwnRoute, RouteTarget};

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl { path, now, before } => write!(f, "sysctl {path}: {now} back to {before}"),
            Self::Route(OwnRoute { key, target }) => {
                let kind = if *target == RouteTarget::Unreachable { "unreachable " } else { "" };
                let (destination, metric, table) = (key.destination, key.metric, key.table);
                write!(f, "route {kind}{destination} metric {metric} table {table} removed")
            }
            Self::Proxy { interface, addr, .. } => write!(f, "proxy entry {addr} of {interface} removed"),
            Self::Address { interface, addr, len, .. } => {
                write!(f, "address {addr}/{len} of {interface} removed")
            }
            Self::Down { interface, .. } => write!(f, "interface {interface} set down"),
            Self::Bridge { interface, .. } => write!(f, "bridge {interface} deleted"),
        }
    }
}

impl Step {
    /// The command that does the same; of a route, the agent itself does it.
    pub(in crate::host) fn command(&self) -> Option<String> {
        Some(match self {
            Self::Sysctl { path, before, .. } => format!("sysctl -w {path}={before}"),
            Self::Route(_) => return None,
            Self::Proxy { interface, addr, .. } => {
                format!("ip -6 neighbour del proxy {addr} dev {}", link_name_word(interface))
            }
            Self::Address { interface, addr, len, .. } => {
                format!("ip -6 address del {addr}/{len} dev {}", link_name_word(interface))
            }
            Self::Down { interface, .. } => format!("ip link set {} down", link_name_word(interface)),
            Self::Bridge { interface, .. } => format!("ip link delete {}", link_name_word(interface)),
        })
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl { path, now } => {
                write!(f, "sysctl {path} left at {now}: changed by another process")
            }
            Self::BusyBridge { interface, ports } => write!(
                f,
                "bridge {interface} kept: {} are connected to it; stop the containers, and run this again",
                ports.join(", ")
            ),
            Self::BusyInterface { interface, ports } => write!(
                f,
                "interface {interface} left up: {} are connected to it; stop the containers, and run this again",
                ports.join(", ")
            ),
            Self::AddressedInterface { interface, addresses } => write!(
                f,
                "interface {interface} left up: it also has {}, not added by the agent; stop whatever uses it, and run this \
                 again",
                addresses.join(", ")
            ),
            Self::UsedAddress { address, interface, ports } => write!(
                f,
                "address {address} of {interface} kept: {} are connected to it and may use it as their gateway; stop the \
                 containers, and run this again",
                ports.join(", ")
            ),
            Self::UsedSysctl { path, now, bridges } => write!(
                f,
                "sysctl {path} left at {now}: the containers on {} need this host to forward; stop them, and run this again",
                bridges.join(", ")
            ),
            Self::OtherBridge(interface) => {
                write!(f, "bridge {interface} kept: it is not the bridge that the agent created")
            }
        }
    }
}
