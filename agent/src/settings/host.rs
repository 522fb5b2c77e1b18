//! The settings that name something on this host.

use std::path::{Path, PathBuf};

use sextant_daemon::{SettingsError, layered};

use super::{
    CommandLine, DEFAULT_BRIDGE, DEFAULT_CONFIG, DEFAULT_STATE_DIR, MAIN_TABLE, Role, Settings, host_name,
    keys::Keys,
};

/// The settings that name something on a host, or that a claim may contradict: all that a look at a host needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSettings {
    /// This node's name.
    pub node: String,
    /// What this machine is.
    pub role: Role,
    /// The pool to claim from.
    pub pool: Option<String>,
    /// How long its host prefix is to be, if not as the pool says.
    pub host_len: Option<u32>,
    /// Where the agent keeps what it must not forget.
    pub state_dir: PathBuf,
    /// The uplinks' names, as far as they are named.
    pub uplinks: Vec<String>,
    /// The bridge's name.
    pub bridge: String,
    /// The routing table.
    pub table: u32,
}

impl CommandLine {
    /// What can be said of this host without a controller.
    ///
    /// # Errors
    /// If the config file is wrong.
    pub fn host(&self) -> Result<HostSettings, SettingsError> {
        let keys: Keys = layered(self.config.as_deref(), Path::new(DEFAULT_CONFIG), &self.keys)?;
        Ok(HostSettings {
            node: keys.node.unwrap_or_else(host_name),
            role: keys.role.unwrap_or_default(),
            pool: keys.pool,
            host_len: keys.host_len,
            state_dir: keys.state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into()),
            uplinks: keys.uplink.interface.unwrap_or_default(),
            bridge: keys.bridge.interface.unwrap_or_else(|| DEFAULT_BRIDGE.into()),
            table: keys.routes.table.unwrap_or(MAIN_TABLE),
        })
    }
}

impl Settings {
    /// Those of them that name something on the host.
    pub fn host(&self) -> HostSettings {
        HostSettings {
            node: self.node.to_string(),
            role: self.role,
            pool: self.pool.as_ref().map(ToString::to_string),
            host_len: self.host_len,
            state_dir: self.state_dir.clone(),
            uplinks: self.uplinks.clone(),
            bridge: self.bridge.name.clone(),
            table: self.routes.table,
        }
    }
}
