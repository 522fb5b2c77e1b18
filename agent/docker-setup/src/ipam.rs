//! The IPAM driver's socket: where Docker finds it, and the unit by which systemd listens there. Pure.

use std::path::{Path, PathBuf};

use crate::record::Edit;

/// The name of the socket unit.
pub const SOCKET_UNIT: &str = "sextant-docker-ipam.socket";
/// The unit, for the default socket.
const UNIT: &str = include_str!("../../../deploy/systemd/sextant-docker-ipam.socket");
/// The socket in it.
const DEFAULT_SOCKET: &str = "/run/sextant/docker-ipam.sock";

/// What is known of the driver on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Driver {
    /// Its socket.
    pub socket: PathBuf,
    /// The file that names the socket for Docker, if that has to be written.
    pub spec: Option<PathBuf>,
    /// The file of the socket unit, if that has to be written.
    pub unit: Option<PathBuf>,
    /// systemd listens at the socket, and does so after a boot.
    pub listens: bool,
}

/// A file that has one content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    /// The content.
    pub content: String,
}

impl Whole {
    /// The file that names a driver's socket for Docker.
    pub fn spec(socket: &Path) -> Self {
        Self { content: format!("unix://{}\n", socket.display()) }
    }

    /// The socket unit.
    pub fn unit(socket: &Path) -> Self {
        Self { content: UNIT.replace(DEFAULT_SOCKET, &socket.display().to_string()) }
    }
}

impl Edit for Whole {
    fn edited(&self, _: Option<&[u8]>) -> Result<Vec<u8>, String> {
        Ok(self.content.clone().into_bytes())
    }

    fn undone(&self, _: Option<&[u8]>, _: &[u8], now: Option<&[u8]>) -> Result<Option<Vec<u8>>, String> {
        match now {
            None => Ok(None),
            Some(_) => Err("it was changed since; remove it by hand if nothing needs it".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_name_the_socket_of_the_settings() {
        let default = Path::new(DEFAULT_SOCKET);
        assert_eq!(Whole::unit(default).content, UNIT);
        assert!(UNIT.contains(&format!("ListenStream={DEFAULT_SOCKET}\n")));
        assert_eq!(Whole::spec(default).content, include_str!("../../../deploy/docker/sextant.spec"));
        let other = Path::new("/srv/ipam.sock");
        assert!(Whole::unit(other).content.contains("ListenStream=/srv/ipam.sock\n"));
        assert_eq!(Whole::spec(other).content, "unix:///srv/ipam.sock\n");
    }
}
