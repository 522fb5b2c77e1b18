//! The steps as text.

use std::fmt;

use super::{Step, listen};
use crate::ipam::SOCKET_UNIT;

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { file, keys } => {
                let keys: Vec<_> = keys.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
                write!(f, "write into {}: {}", file.display(), keys.join(", "))
            }
            Self::RemoveStale { bridge, stale } => {
                let addresses = stale.addresses.iter().map(|(addr, len)| format!("address {addr}/{len}"));
                let routes = stale.routes.iter().map(|route| format!("route {route}"));
                let all: Vec<_> = addresses.chain(routes).collect();
                write!(f, "remove from {bridge}: {}", all.join(", "))
            }
            Self::RestartEngine => f.write_str("restart Docker: systemctl restart docker"),
            Self::Mode { file, mode } => {
                write!(f, "write into {}: [docker] mode = \"{mode}\"", file.display())
            }
            Self::Group { file, group } => {
                write!(f, "write into {}: SupplementaryGroups={group}", file.display())
            }
            Self::Spec { file, socket } => {
                write!(f, "write into {}: the socket {} of the IPAM driver", file.display(), socket.display())
            }
            Self::SocketUnit { file, socket } => {
                write!(f, "write {}: systemd listens at {} for the agent", file.display(), socket.display())
            }
            Self::Listen => write!(f, "let systemd listen: {}", listen()),
            Self::TakeBack { file } => {
                write!(f, "take back what an earlier setup wrote into {}", file.display())
            }
            Self::Unlisten => {
                write!(f, "let systemd no longer listen: systemctl disable --now {SOCKET_UNIT}")
            }
            Self::RestartAgent => f.write_str("restart the agent: systemctl restart sextant-agent"),
        }
    }
}
