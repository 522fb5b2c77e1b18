//! The settings that refer to this host.

use std::{
    net::Ipv6Addr,
    path::{Path, PathBuf},
};

use sextant_daemon::{SettingsError, layered};
use sextant_ndp::proxy::Source;
use sextant_proto::{link_name_octets, link_name_text};

use super::{
    CommandLine, ControllerUrl, DEFAULT_CONFIG, DEFAULT_STATE_DIR, DockerSettings, JoinFiles, MAIN_TABLE,
    Role, Settings, Tls, Topology, docker, host_name, keys::Keys, tls,
};

/// The settings that refer to a host, or that a claim may contradict: all settings for checks of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSettings {
    /// This node's name.
    pub node: String,
    /// The role of this machine.
    pub role: Role,
    /// The pools to claim from; empty: the controller chooses one.
    pub pools: Vec<String>,
    /// The length of its host prefix, if not the pool's default.
    pub host_len: Option<u32>,
    /// The directory of the agent's persistent state.
    pub state_dir: PathBuf,
    /// How TLS is spoken; plain text without.
    pub tls: Option<Tls>,
    /// The addresses of controllers that are no host names.
    pub controllers: Vec<Ipv6Addr>,
    /// The uplinks' names; empty for a guess.
    pub uplinks: Vec<String>,
    /// The bridge's name.
    pub bridge: String,
    /// The routing table.
    pub table: u32,
    /// What the agent does with the host's Docker engine.
    pub docker: Option<DockerSettings>,
    /// The source of the advertisements for containers; `None` if the host answers no neighbour solicitations for them.
    pub ndp_source: Option<Source>,
}

impl CommandLine {
    /// The settings of this host, which require no controller.
    ///
    /// # Errors
    /// If the config file is invalid.
    pub fn host(&self) -> Result<HostSettings, SettingsError> {
        let keys: Keys = layered(self.config.as_deref(), Path::new(DEFAULT_CONFIG), &self.keys)?;
        let bridge = shown(docker::bridge_name(&keys));
        // Invalid settings stop the agent, which says why.
        let docker = docker::bridge_and_docker(&keys).ok().and_then(|(_, docker)| docker);
        let state_dir = keys.state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into());
        let urls = keys.controller.unwrap_or_default();
        let join = JoinFiles { token: keys.join_token_file, ca: keys.join_ca_file };
        let tls = tls::tls(keys.tls, join, &urls, &state_dir).ok().flatten();
        Ok(HostSettings {
            tls,
            node: keys.node.unwrap_or_else(host_name),
            role: keys.role.unwrap_or_default(),
            pools: keys.pool.unwrap_or_default(),
            host_len: keys.host_len,
            state_dir,
            bridge,
            docker,
            controllers: literal(&urls),
            uplinks: keys.uplink.interface.unwrap_or_default().iter().map(|name| shown(name)).collect(),
            table: keys.routes.table.unwrap_or(MAIN_TABLE),
            ndp_source: (keys.topology == Some(Topology::NdpProxy))
                .then(|| keys.ndp.source.unwrap_or_default().into()),
        })
    }
}

/// Where the settings come from, as far as they name the containers' bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSource {
    /// A setting names it, or a mode of Docker that has one.
    pub named: bool,
    /// The config file.
    pub config: PathBuf,
}

impl CommandLine {
    /// Whether a setting names the containers' bridge.
    ///
    /// # Errors
    /// If the config file is invalid.
    pub fn bridge_source(&self) -> Result<BridgeSource, SettingsError> {
        let keys: Keys = layered(self.config.as_deref(), Path::new(DEFAULT_CONFIG), &self.keys)?;
        let named = keys.bridge.interface.is_some() || keys.docker.mode.is_some();
        Ok(BridgeSource { named, config: self.config.clone().unwrap_or_else(|| DEFAULT_CONFIG.into()) })
    }
}

impl Settings {
    /// The settings that refer to the host.
    pub fn host(&self) -> HostSettings {
        HostSettings {
            node: self.node.to_string(),
            role: self.role,
            pools: self.pools.iter().map(ToString::to_string).collect(),
            host_len: self.host_len,
            state_dir: self.state_dir.clone(),
            tls: self.tls.clone(),
            controllers: self.controllers.iter().filter_map(ControllerUrl::literal_address).collect(),
            uplinks: self.uplinks.clone(),
            bridge: self.bridge.name.clone(),
            table: self.routes.table,
            docker: self.docker.clone(),
            ndp_source: self.ndp.map(|ndp| ndp.source),
        }
    }
}

fn literal(urls: &[String]) -> Vec<Ipv6Addr> {
    let endpoints = urls.iter().filter_map(|url| url.parse::<ControllerUrl>().ok());
    endpoints.filter_map(|endpoint| endpoint.literal_address()).collect()
}

/// The name of an interface as the kernel's are shown.
fn shown(name: &str) -> String {
    link_name_text(&link_name_octets(name))
}
