//! The agent's settings: flags, `SEXTANT_…` variables, and `/etc/sextant/agent.toml`.

mod bgp;
mod bridge;
mod command_line;
mod docker;
mod docker_networks;
mod export;
mod host;
mod keys;
mod ndp;
mod routes;
mod setup;
mod tls;
mod topology;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use sextant_daemon::{LogFormat, SettingsError, layered};
use sextant_proto::{
    NodeName, PoolName, Prefix, convert::MOST_POOLS, is_link_name, link_name_octets, link_name_text,
};

use bgp::BgpKeys;
pub use bgp::{
    Accept, Announce, BgpSettings, Import, NeighbourSettings, Password, PoolSettings, PoolsSettings, Timing,
    listening_address,
};
pub use bridge::BridgeSettings;
pub use command_line::{Command, CommandLine, DockerCommand};
pub use docker::{DockerMode, DockerSettings, OutsideReach, Reach};
use export::ExportKeys;
pub use export::Mark;
pub use host::{BridgeSource, HostSettings};
use keys::Keys;
pub use ndp::{NdpAnswer, NdpMode, NdpSettings, NdpSource};
pub use routes::RouteSettings;
use routes::route_settings;
pub use setup::DockerSetup;
pub use sextant_identity::ControllerUrl;
pub use tls::{JoinFiles, Tls};
pub use topology::{Direct, NextHopKind, OffLink, Role, Topology};

/// The default config file.
const DEFAULT_CONFIG: &str = "/etc/sextant/agent.toml";
/// The default state directory.
const DEFAULT_STATE_DIR: &str = "/var/lib/sextant/agent";
/// The kernel's main table.
const MAIN_TABLE: u32 = 254;

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The controllers, in the order in which they are tried.
    pub controllers: Vec<ControllerUrl>,
    /// Plain text may leave this host.
    pub insecure: bool,
    /// How TLS is spoken; plain text without.
    pub tls: Option<Tls>,
    /// This node's name.
    pub node: NodeName,
    /// The role of this machine.
    pub role: Role,
    /// The pools to claim from, the primary one first; empty: the controller chooses one.
    pub pools: Vec<PoolName>,
    /// The prefixes that it claims from and routes to, whatever a controller sends; empty: all.
    pub accept_pools: Vec<Prefix>,
    /// The length of its host prefix in the primary pool, if not the pool's default.
    pub host_len: Option<u32>,
    /// The directory of the agent's persistent state.
    pub state_dir: PathBuf,
    /// The address of metrics and health checks.
    pub http: SocketAddr,
    /// The log level.
    pub log: String,
    /// The log format.
    pub log_format: LogFormat,
    /// The uplinks' names; empty for those of the default routes.
    pub uplinks: Vec<String>,
    /// The kind of address that peers use as next hop.
    pub next_hop: NextHopKind,
    /// The containers' bridge.
    pub bridge: BridgeSettings,
    /// The network that the agent keeps in the host's Docker engine.
    pub docker: Option<DockerSettings>,
    /// The routes.
    pub routes: RouteSettings,
    /// How the host answers neighbour solicitations for its containers, where nobody routes their prefix to it.
    pub ndp: Option<NdpSettings>,
    /// The BGP speaker.
    pub bgp: Option<BgpSettings>,
}

impl Settings {
    /// Whether the host is not set up without the bridge. Networks of the IPAM driver have their own.
    pub fn needs_bridge(&self) -> bool {
        self.bridge.create || self.docker.as_ref().is_none_or(|docker| docker.mode != DockerMode::Ipam)
    }
}

/// Invalid settings.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// The config file is invalid.
    #[error(transparent)]
    File(#[from] SettingsError),
    /// No controller is configured.
    #[error("no controller is configured; set --controller, e.g. --controller http://[2001:db8::c:1]:7300")]
    NoController,
    /// The files for TLS.
    #[error(transparent)]
    Tls(#[from] sextant_identity::Incomplete),
    /// A controller's URL does not fit the other settings.
    #[error(transparent)]
    Url(#[from] sextant_identity::UrlError),
    /// A key has an invalid value.
    #[error("{key} {value}: {fix}")]
    Value {
        /// The flag.
        key: &'static str,
        /// Its value.
        value: String,
        /// The valid values, or the fix.
        fix: String,
    },
}

impl CommandLine {
    /// The directory of the agent's persistent state.
    ///
    /// # Errors
    /// If the config file is invalid.
    pub fn state_dir(&self) -> Result<PathBuf, SettingsError> {
        let keys: Keys = layered(self.config.as_deref(), Path::new(DEFAULT_CONFIG), &self.keys)?;
        Ok(keys.state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into()))
    }

    /// The checked settings of file, environment and flags.
    ///
    /// # Errors
    /// If a setting is invalid or missing.
    pub fn settings(&self) -> Result<Settings, Invalid> {
        let keys: Keys = layered(self.config.as_deref(), Path::new(DEFAULT_CONFIG), &self.keys)?;
        let node = keys.node.clone().unwrap_or_else(host_name);
        let role = keys.role.unwrap_or_default();
        let routes = route_settings(&keys)?;
        if role == Role::Router && routes.direct == Direct::Never {
            let fix = "requires another router, and this is one; remove it, or --role router";
            return Err(value("--routes-direct", &"never", &fix));
        }
        if role == Role::Router && routes.topology == Topology::Routed {
            let fix = "is for hosts: the router itself refuses packets to unassigned prefixes; remove it";
            return Err(value("--topology", &"routed", &fix));
        }
        if role == Role::Router && keys.uplink.next_hop == Some(NextHopKind::LinkLocal) {
            let fix = "is for hosts: a router's agent announces no next hops; remove it";
            return Err(value("--uplink-next-hop", &"link-local", &fix));
        }
        let (bridge, docker) = docker::bridge_and_docker(&keys)?;
        let ndp = ndp::ndp(&keys.ndp, routes.topology)?;
        if role == Role::Router && ndp.is_some() {
            let fix = "is for hosts: a router has no containers to answer for; remove it";
            return Err(value("--topology", &"ndp-proxy", &fix));
        }
        let bgp = keys.bgp.map(|bgp| bgp.check(&routes)).transpose()?;
        if role == Role::Router && bgp.is_some() {
            let fix = "is not supported: a router announces prefixes by its routing daemon; see deploy/bird and deploy/frr";
            return Err(value("--role", &"router with [bgp]", &fix));
        }
        let (urls, insecure) = (keys.controller.unwrap_or_default(), keys.insecure.unwrap_or(false));
        let state_dir = keys.state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into());
        let join = JoinFiles { token: keys.join_token_file, ca: keys.join_ca_file };
        let tls = tls::tls(keys.tls, join, &urls, &state_dir)?;
        Ok(Settings {
            controllers: controllers(&urls, tls.is_some(), insecure)?,
            insecure,
            tls,
            node: node.parse().map_err(|error| value("--node", &node, &error))?,
            role,
            pools: pools(&keys.pool.unwrap_or_default())?,
            accept_pools: accept_pools(&keys.accept_pools.unwrap_or_default())?,
            host_len: host_len(keys.host_len)?,
            state_dir,
            http: keys.http.unwrap_or_else(|| SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 7302))),
            log: keys.log.unwrap_or_else(|| "info".into()),
            log_format: keys.log_format.unwrap_or_default(),
            uplinks: uplinks(&keys.uplink.interface.unwrap_or_default())?,
            next_hop: keys.uplink.next_hop.unwrap_or_default(),
            bridge,
            docker,
            routes,
            ndp,
            bgp,
        })
    }
}

fn uplinks(names: &[String]) -> Result<Vec<String>, Invalid> {
    names.iter().map(|name| interface_name("--uplink", name)).collect()
}

/// A name that the kernel accepts for an interface, as it is shown.
fn interface_name(key: &'static str, name: &str) -> Result<String, Invalid> {
    if !is_link_name(name) {
        let shown = link_name_text(name.as_bytes());
        return Err(value(key, &shown, &"is not an interface name; see `ip link`"));
    }
    Ok(link_name_text(&link_name_octets(name)))
}

fn pools(names: &[String]) -> Result<Vec<PoolName>, Invalid> {
    if names.len() > MOST_POOLS {
        let fix = format!("are {} pools; name at most {MOST_POOLS}", names.len());
        return Err(value("--pool", &names.join(","), &fix));
    }
    let mut pools = Vec::with_capacity(names.len());
    for name in names {
        if name.contains(',') {
            let names: Vec<_> = name.split(',').map(|name| format!("\"{}\"", name.trim())).collect();
            let fix = format!("is one name; several pools are a list: pool = [{}]", names.join(", "));
            return Err(value("--pool", &name, &fix));
        }
        let pool: PoolName = name.parse().map_err(|error| value("--pool", &name, &error))?;
        if pools.contains(&pool) {
            return Err(value("--pool", &name, &"is named twice; name each pool once"));
        }
        pools.push(pool);
    }
    Ok(pools)
}

fn accept_pools(prefixes: &[String]) -> Result<Vec<Prefix>, Invalid> {
    let prefix = |it: &String| it.trim().parse().map_err(|error| value("--accept-pools", it, &error));
    prefixes.iter().map(prefix).collect()
}

fn host_len(asked: Option<u32>) -> Result<Option<u32>, Invalid> {
    match asked {
        Some(len) if !(1..=126).contains(&len) => Err(value("--host-len", &len, &"give it 1 to 126")),
        asked => Ok(asked),
    }
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().to_lowercase()
}

fn controllers(urls: &[String], tls: bool, insecure: bool) -> Result<Vec<ControllerUrl>, Invalid> {
    if urls.is_empty() {
        return Err(Invalid::NoController);
    }
    let checked = |url: &String| -> Result<ControllerUrl, Invalid> {
        let parsed: ControllerUrl = url.parse().map_err(|error| value("--controller", url, &error))?;
        parsed.check(tls, insecure)?;
        Ok(parsed)
    };
    urls.iter().map(checked).collect()
}

fn value(key: &'static str, value: &dyn ToString, fix: &dyn ToString) -> Invalid {
    Invalid::Value { key, value: value.to_string(), fix: fix.to_string() }
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser;

    use super::*;

    pub(crate) fn settings(args: &[&str]) -> Result<Settings, Invalid> {
        let fixed = ["sextant-agent", "--node", "host1", "--controller", "http://[::1]:7300"];
        CommandLine::try_parse_from(fixed.iter().chain(args)).unwrap().settings()
    }

    #[test]
    fn https_without_files_uses_the_certificate_of_a_join_token() {
        let over_tls = |more: &[&str]| {
            let args = ["sextant-agent", "--node", "h1", "--controller", "https://[2001:db8::1]:7300"];
            let args = [&args[..], &["--state-dir", "/s"], more].concat();
            CommandLine::try_parse_from(args).unwrap().settings()
        };
        let joined = |token, ca| Some(Tls::Joined { state_dir: "/s".into(), files: JoinFiles { token, ca } });
        assert_eq!(over_tls(&[]).unwrap().tls, joined(None, None));
        let token = ["--join-token-file", "/t"];
        assert_eq!(over_tls(&token).unwrap().tls, joined(Some("/t".into()), None));
        let account = [&token[..], &["--join-ca-file", "/c"]].concat();
        assert_eq!(over_tls(&account).unwrap().tls, joined(Some("/t".into()), Some("/c".into())));
        let files = ["--tls-ca", "/ca", "--tls-cert", "/cert", "--tls-key", "/key"];
        assert!(matches!(over_tls(&files).unwrap().tls, Some(Tls::Files(_))));
        let both = over_tls(&[&files[..], &["--join-token-file", "/t"]].concat()).unwrap_err().to_string();
        assert!(both.contains("--join-token-file /t: is for a host without a certificate"), "{both}");
        assert_eq!(settings(&[]).unwrap().tls, None);
        let plain = settings(&["--join-token-file", "/t"]).unwrap_err().to_string();
        assert!(plain.contains("needs TLS: write --controller as https://HOST:PORT"), "{plain}");
    }

    #[test]
    fn defaults() {
        let settings = settings(&[]).unwrap();
        assert_eq!((settings.routes.metric, settings.routes.table), (512, 254));
        assert_eq!(
            settings.bridge,
            BridgeSettings { name: "docker0".into(), create: false, advertise: false }
        );
    }

    #[test]
    fn pools_are_named_one_by_one_and_are_not_too_many() {
        let names: Vec<_> = (0..=MOST_POOLS).map(|n| format!("p{n}")).collect();
        assert_eq!(settings(&["--pool", &names[1..].join(",")]).unwrap().pools.len(), MOST_POOLS);
        let error = settings(&["--pool", &names.join(",")]).unwrap_err().to_string();
        assert!(error.ends_with("are 17 pools; name at most 16"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, "pool = \"main,ula\"\n").unwrap();
        let error = settings(&["--config", path.to_str().unwrap()]).unwrap_err().to_string();
        assert!(error.ends_with("several pools are a list: pool = [\"main\", \"ula\"]"), "{error}");
    }

    #[test]
    fn sections_are_read_and_unknown_keys_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, "node = \"host9\"\n[uplink]\ninterface = [\"eth1\"]\n[routes]\nmetric = 700\n")
            .unwrap();
        let file = ["--config", path.to_str().unwrap()];
        let read = settings(&file).unwrap();
        assert_eq!(
            (read.node.as_str(), read.uplinks, read.routes.metric),
            ("host1", vec!["eth1".to_owned()], 700)
        );
        std::fs::write(&path, "[routes]\nmetrik = 700\n").unwrap();
        let error = settings(&file).unwrap_err().to_string();
        assert!(error.contains("metrik") && error.contains("agent.toml"), "{error}");
    }

    #[test]
    fn a_router_cannot_have_settings_of_hosts() {
        let router = settings(&["--role", "router"]).unwrap();
        assert_eq!((router.role, router.routes.direct), (Role::Router, Direct::OnLink));
        let wrong =
            [["--routes-direct", "never"], ["--topology", "routed"], ["--uplink-next-hop", "link-local"]];
        for wrong in wrong {
            let error = settings(&[&["--role", "router"][..], &wrong].concat()).unwrap_err().to_string();
            assert!(error.starts_with(&wrong.join(" ")), "{error}");
        }
    }

    #[test]
    fn an_error_of_a_controllers_url_names_flag_and_url_once() {
        let plain = "http://c1.example:7300";
        for (url, named) in [("nonsense", "nonsense"), (plain, "c1.example")] {
            let error = settings(&["--controller", url]).unwrap_err().to_string();
            assert_eq!(error.matches(named).count(), 1, "{error}");
            assert_eq!(error.matches("--controller").count(), 1, "{error}");
        }
        let files = ["--tls-ca", "/ca", "--tls-cert", "/cert", "--tls-key", "/key"];
        let error = settings(&files).unwrap_err().to_string();
        assert!(error.starts_with("--controller http://[::1]:7300 would carry plain text"), "{error}");
        assert_eq!(error.matches("[::1]").count(), 1, "{error}");
    }

    #[test]
    fn errors_have_flag_value_and_fix() {
        let error = settings(&["--routes-unreachable-metric", "100"]).unwrap_err().to_string();
        assert!(
            error.starts_with("--routes-unreachable-metric 100: must be higher than the metric of peers 512"),
            "{error}"
        );
        assert!(settings(&["--routes-table", "255"]).is_err());
        for wrong in ["0", "127"] {
            let error = settings(&["--host-len", wrong]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--host-len {wrong}: give it 1 to 126")), "{error}");
        }
        assert_eq!(settings(&["--host-len", "72"]).unwrap().host_len, Some(72));
        let wrong = ["sextant-agent", "--uplink-next-hop", "nearest"];
        let error = CommandLine::try_parse_from(wrong).unwrap_err().to_string();
        assert!(error.contains("nearest") && error.contains("global, link-local"), "{error}");
        assert!(
            settings(&["--controller", "http://[2001:db8::1]:7300"]).is_err(),
            "plain text beyond loopback"
        );
    }
}
