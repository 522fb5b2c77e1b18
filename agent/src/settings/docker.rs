//! The settings of the host's Docker engine.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sextant_docker::{
    firewall::policy::{FromCluster, FromOutside, Passes},
    parts::Further,
};
use sextant_ipam::subnet::Subnet;
use sextant_proto::Prefix;

use super::{
    BridgeSettings, Invalid, Role,
    bridge::bridge,
    docker_networks::{self, NetworkKey, network_name},
    keys::Keys,
    value,
};

/// Docker's default bridge.
pub(super) const DEFAULT_BRIDGE: &str = "docker0";
/// The bridge of a network that the agent keeps.
const NETWORK_BRIDGE: &str = "sextant0";
/// The range of IPv4 subnets of the IPAM driver.
const IPV4_RANGE: &str = "172.30.0.0/16";
/// The socket of the IPAM driver.
const IPAM_SOCKET: &str = "/run/sextant/docker-ipam.sock";
/// The name of that network.
const NETWORK: &str = "sextant";
/// The engine's configuration file.
const DAEMON_JSON: &str = "/etc/docker/daemon.json";

/// How Docker's containers get addresses of the container prefix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DockerMode {
    /// The agent leaves Docker alone.
    #[default]
    Off,
    /// The agent keeps a network of Docker's with the container prefix.
    Network,
    /// The agent gives networks of the IPAM driver `sextant` prefixes of the host prefix.
    Ipam,
    /// The agent changes nothing in Docker, and watches its networks and containers.
    None,
    /// Docker's default bridge has the container prefix, by its `daemon.json`.
    Daemon,
    /// As `daemon`, and networks get prefixes of the host prefix by themselves.
    Pools,
}

impl DockerMode {
    /// Whether the agent keeps the rules of the firewall, and asks the engine for that.
    pub fn keeps_rules(self) -> bool {
        !matches!(self, Self::Off | Self::None)
    }

    /// Its name in the config file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Network => "network",
            Self::Ipam => "ipam",
            Self::None => "none",
            Self::Daemon => "daemon",
            Self::Pools => "pools",
        }
    }
}

/// What packets between containers of the cluster may reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// All ports.
    #[default]
    Open,
    /// The ports that are published.
    Published,
}

/// What packets from outside the cluster may reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutsideReach {
    /// The ports that are published.
    #[default]
    Published,
    /// All ports.
    Open,
    /// Nothing but answers.
    Closed,
}

/// What the agent does with the host's Docker engine, which it watches in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerSettings {
    /// How containers get their addresses; never [`DockerMode::Off`].
    pub mode: DockerMode,
    /// The engine's socket.
    pub socket: PathBuf,
    /// The name of the network with the container prefix.
    pub network: String,
    /// Further networks.
    pub further: Vec<Further>,
    /// What packets between containers of the cluster may reach.
    pub from_cluster: FromCluster,
    /// What packets from elsewhere may reach.
    pub from_outside: FromOutside,
    /// Whether networks are made anew under containers.
    pub replace_used: bool,
    /// The engine's configuration file.
    pub daemon_json: PathBuf,
    /// Whether `docker setup` may restart the engine.
    pub restart: bool,
    /// The range of IPv4 subnets of the IPAM driver.
    pub ipv4_range: Subnet,
    /// The socket of the IPAM driver.
    pub ipam_socket: PathBuf,
}

pub(super) fn mode(keys: &Keys) -> DockerMode {
    keys.docker.mode.unwrap_or_default()
}

impl DockerSettings {
    /// The names of the networks that the agent keeps.
    pub fn kept(&self) -> Vec<String> {
        std::iter::once(&self.network).chain(self.further.iter().map(|it| &it.name)).cloned().collect()
    }

    /// The policy for containers of these prefixes in a cluster with these pools.
    pub fn passes(&self, own: Vec<Prefix>, pools: Vec<Prefix>) -> Passes {
        let (from_cluster, from_outside) = (self.from_cluster, self.from_outside);
        Passes { own, pools, from_cluster, from_outside, published: Vec::new() }
    }
}

pub(super) fn is_network(keys: &Keys) -> bool {
    mode(keys) == DockerMode::Network
}

/// Whether the containers' bridge is one of the agent's own name: Docker's default bridge has none of the host's prefixes.
fn has_own_bridge(keys: &Keys) -> bool {
    is_network(keys) || keys.docker.mode == Some(DockerMode::Ipam)
}

/// The name of the containers' bridge.
pub(super) fn bridge_name(keys: &Keys) -> &str {
    let default = if has_own_bridge(keys) { NETWORK_BRIDGE } else { DEFAULT_BRIDGE };
    keys.bridge.interface.as_deref().unwrap_or(default)
}

/// The name of the engine's default bridge.
pub(super) fn engines_bridge(keys: &Keys) -> &str {
    if has_own_bridge(keys) { DEFAULT_BRIDGE } else { bridge_name(keys) }
}

/// The bridge, and the network that is on it.
pub(super) fn bridge_and_docker(keys: &Keys) -> Result<(BridgeSettings, Option<DockerSettings>), Invalid> {
    let (is_network, is_off) = (is_network(keys), mode(keys) == DockerMode::Off);
    if keys.role == Some(Role::Router) && !is_off {
        let fix = "is for hosts: a router holds no prefix; remove it";
        return Err(value("--docker-mode", &mode(keys).name(), &fix));
    }
    let bridge = bridge(keys)?;
    if is_network && bridge.name == DEFAULT_BRIDGE {
        let fix =
            "belongs to Docker's own network; name another one, or none, with [docker] mode = \"network\"";
        return Err(value("--bridge", &bridge.name, &fix));
    }
    if is_network && !bridge.create {
        let fix = "with [docker] mode = \"network\" the agent makes the bridge; remove it";
        return Err(value("--bridge-create", &false, &fix));
    }
    let further = docker_networks::check(keys, &bridge.name, main_network(keys))?;
    Ok((bridge, if is_off { None } else { Some(DockerSettings { further, ..docker(keys)? }) }))
}

pub(super) fn docker(keys: &Keys) -> Result<DockerSettings, Invalid> {
    let network = network_name("--docker-network", main_network(keys))?;
    let socket = keys.docker.socket.clone().unwrap_or_else(sextant_docker::engine::default_socket);
    let daemon_json = keys.docker.daemon_json.clone().unwrap_or_else(|| DAEMON_JSON.into());
    let ipam_socket = keys.docker.ipam_socket.clone().unwrap_or_else(|| IPAM_SOCKET.into());
    for (key, path, example) in [
        ("--docker-socket", &socket, "/run/docker.sock"),
        ("--docker-daemon-json", &daemon_json, DAEMON_JSON),
        ("--docker-ipam-socket", &ipam_socket, IPAM_SOCKET),
    ] {
        if !path.is_absolute() {
            return Err(value(key, &path.display(), &format!("give it the whole path, e.g. {example}")));
        }
    }
    let from_cluster = match keys.docker.from_cluster.unwrap_or_default() {
        Reach::Open => FromCluster::Open,
        Reach::Published => FromCluster::Published,
    };
    let from_outside = match keys.docker.from_outside.unwrap_or_default() {
        OutsideReach::Published => FromOutside::Published,
        OutsideReach::Open => FromOutside::Open,
        OutsideReach::Closed => FromOutside::Closed,
    };
    Ok(DockerSettings {
        mode: mode(keys),
        socket,
        network,
        further: Vec::new(),
        from_cluster,
        from_outside,
        replace_used: keys.docker.replace_used.unwrap_or(false),
        daemon_json,
        restart: keys.docker.restart.unwrap_or(false),
        ipv4_range: ipv4_range(keys.docker.ipv4_range.as_deref().unwrap_or(IPV4_RANGE))?,
        ipam_socket,
    })
}

fn ipv4_range(text: &str) -> Result<Subnet, Invalid> {
    let usable = |range: &Subnet| range.is_ipv4() && (1..=30).contains(&range.len());
    text.parse().ok().filter(usable).ok_or_else(|| {
        let fix = "give an IPv4 subnet of /1 to /30 without host bits, e.g. 172.30.0.0/16";
        value("--docker-ipv4-range", &sextant_proto::quoted(text), &fix)
    })
}

/// The name of the network with the container prefix, which `network` may have too where there are no further ones.
fn main_network(keys: &Keys) -> &str {
    let named = match &keys.docker.network {
        Some(NetworkKey::Main(name)) => Some(name),
        _ => None,
    };
    keys.docker.main_network.as_ref().or(named).map_or(NETWORK, String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::settings;

    #[test]
    fn docker_is_left_alone_unless_a_mode_is_set() {
        assert_eq!(settings(&[]).unwrap().docker, None);
        assert_eq!(settings(&["--docker-mode", "off"]).unwrap().bridge.name, "docker0");
        let settings = settings(&["--docker-mode", "network"]).unwrap();
        let docker = settings.docker.unwrap();
        assert_eq!((docker.network.as_str(), docker.replace_used), ("sextant", false));
        assert_eq!(docker.socket.to_str(), Some("/run/docker.sock"));
        assert_eq!(
            settings.bridge,
            BridgeSettings { name: "sextant0".into(), create: true, advertise: false }
        );
    }

    #[test]
    fn docker_can_be_watched_only() {
        let settings = settings(&["--docker-mode", "none"]).unwrap();
        assert_eq!(settings.docker.unwrap().mode, DockerMode::None);
        assert_eq!(
            settings.bridge,
            BridgeSettings { name: "docker0".into(), create: false, advertise: false }
        );
    }

    #[test]
    fn dockers_own_bridge_is_the_engines() {
        for (name, mode) in [("daemon", DockerMode::Daemon), ("pools", DockerMode::Pools)] {
            let settings = settings(&["--docker-mode", name]).unwrap();
            assert_eq!(
                settings.bridge,
                BridgeSettings { name: "docker0".into(), create: false, advertise: false }
            );
            let docker = settings.docker.unwrap();
            assert_eq!((docker.mode, docker.mode.name(), docker.restart), (mode, name, false));
            assert_eq!(docker.daemon_json.to_str(), Some("/etc/docker/daemon.json"));
        }
        let error = settings(&["--docker-mode", "daemon", "--role", "router"]).unwrap_err().to_string();
        assert!(error.starts_with("--docker-mode daemon: is for hosts"), "{error}");
    }

    #[test]
    fn the_ipam_driver_needs_no_bridge() {
        let ipam = settings(&["--docker-mode", "ipam"]).unwrap();
        assert!(!ipam.needs_bridge());
        assert_eq!(ipam.bridge, BridgeSettings { name: "sextant0".into(), create: false, advertise: false });
        let docker = ipam.docker.unwrap();
        assert_eq!(docker.ipv4_range.to_string(), "172.30.0.0/16");
        assert_eq!(docker.ipam_socket.to_str(), Some("/run/sextant/docker-ipam.sock"));
        assert!(settings(&["--docker-mode", "ipam", "--bridge-create"]).unwrap().needs_bridge());
        for mode in ["off", "none", "network"] {
            assert!(settings(&["--docker-mode", mode]).unwrap().needs_bridge(), "{mode}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_fix() {
        let table: [(&[&str], &str); 13] = [
            (&["--bridge", "docker0"], "--bridge docker0: belongs to Docker's own network"),
            (&["--bridge-create", "false"], "--bridge-create false: with [docker] mode"),
            (&["--role", "router"], "--docker-mode network: is for hosts"),
            (&["--docker-network", "bridge"], "--docker-network bridge: use letters"),
            (&["--docker-network", "a b"], "--docker-network a b: use letters"),
            (&["--docker-network", ""], "--docker-network : use letters"),
            (&["--docker-socket", "docker.sock"], "--docker-socket docker.sock: give it the whole path"),
            (&["--docker-daemon-json", "d.json"], "--docker-daemon-json d.json: give it the whole path"),
            (&["--docker-ipam-socket", "x"], "--docker-ipam-socket x: give it the whole path"),
            (&["--docker-ipv4-range", "10.0.0.1/8"], "--docker-ipv4-range 10.0.0.1/8: give an IPv4 subnet"),
            (&["--docker-ipv4-range", "fd00::/64"], "--docker-ipv4-range fd00::/64: give an IPv4 subnet"),
            (&["--docker-ipv4-range", "10.0.0.0/31"], "--docker-ipv4-range 10.0.0.0/31: give an IPv4 subnet"),
            (&["--docker-ipv4-range", "0.0.0.0/0"], "--docker-ipv4-range 0.0.0.0/0: give an IPv4 subnet"),
        ];
        for (args, expected) in table {
            let error = settings(&[&["--docker-mode", "network"], args].concat()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        let error = settings(&["--docker-mode", "none", "--role", "router"]).unwrap_err().to_string();
        assert!(error.starts_with("--docker-mode none: is for hosts"), "{error}");
    }
}
