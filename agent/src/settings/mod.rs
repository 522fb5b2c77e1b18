//! What an operator sets: flags, `SEXTANT_…` variables, and `/etc/sextant/agent.toml`.

mod bgp;
mod endpoint;
mod export;
mod host;
mod keys;
mod topology;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{Parser, Subcommand};
use sextant_daemon::{LogFormat, SettingsError, layered};
use sextant_proto::{NodeName, PoolName};

use bgp::BgpKeys;
pub use bgp::{Accept, Announce, BgpSettings, Import, NeighbourSettings, Password, Timing};
pub use endpoint::{Endpoint, EndpointError};
pub use export::Mark;
use export::{ExportKeys, mark};
pub use host::HostSettings;
use keys::Keys;
pub use topology::{Direct, NextHopKind, Role, Topology};

/// Where settings are looked for unless told otherwise.
const DEFAULT_CONFIG: &str = "/etc/sextant/agent.toml";
/// Docker's own.
const DEFAULT_BRIDGE: &str = "docker0";
/// Where the agent keeps what it must not forget, unless told otherwise.
const DEFAULT_STATE_DIR: &str = "/var/lib/sextant/agent";
/// After the kernel's connected routes (256), before hand-made ones (1024).
const PEER_METRIC: u32 = 512;
/// Far after every other route.
const UNREACHABLE_METRIC: u32 = 4_000_000_000;
/// The kernel's main table.
const MAIN_TABLE: u32 = 254;

/// Claims an IPv6 prefix for this host, and keeps its routes to the other hosts.
#[derive(Debug, Parser)]
#[command(
    name = "sextant-agent",
    version,
    args_override_self = true,
    after_help = "Example:\n  sextant-agent --controller 'http://[2001:db8::c:1]:7300' --uplink eth0 --bridge docker0 --insecure"
)]
pub struct CommandLine {
    /// Config file (TOML)
    #[arg(long, env = "SEXTANT_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    keys: Keys,
    /// The command; without one, the agent runs
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What else the agent can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Remove everything that the agent put into this host: routes, addresses, the bridge, sysctls
    #[command(
        after_help = "Example:\n  systemctl stop sextant-agent && sextant-agent cleanup --dry-run && sextant-agent cleanup"
    )]
    Cleanup {
        /// Only show what would be removed
        #[arg(long)]
        dry_run: bool,
    },
    /// Check this host, and name each problem with its fix; exit code 1 if there is one
    #[command(after_help = "Example:\n  sextant-agent --uplink eth0 doctor")]
    Doctor {
        /// Apply safe fixes: raise limits of the kernel
        #[arg(long)]
        fix: bool,
    },
}

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The controllers, in the order they are tried.
    pub controllers: Vec<Endpoint>,
    /// This node's name.
    pub node: NodeName,
    /// What this machine is.
    pub role: Role,
    /// The pool to claim from.
    pub pool: Option<PoolName>,
    /// How long its host prefix is to be, if not as the pool says.
    pub host_len: Option<u32>,
    /// Where the agent keeps what it must not forget.
    pub state_dir: PathBuf,
    /// Where probes are served.
    pub http: SocketAddr,
    /// What is logged.
    pub log: String,
    /// How a log line looks.
    pub log_format: LogFormat,
    /// The uplinks' names; empty: those of the default routes.
    pub uplinks: Vec<String>,
    /// Which address of an uplink peers are to route through.
    pub next_hop: NextHopKind,
    /// The containers' bridge.
    pub bridge: BridgeSettings,
    /// How routes look.
    pub routes: RouteSettings,
    /// The BGP speaker.
    pub bgp: Option<BgpSettings>,
}

/// The containers' bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeSettings {
    /// Its name.
    pub name: String,
    /// Whether to make it.
    pub create: bool,
}

/// How routes look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteSettings {
    /// Of routes to peers.
    pub metric: u32,
    /// Of unreachable routes.
    pub unreachable_metric: u32,
    /// Where they all are.
    pub table: u32,
    /// Every how many seconds they are compared with the kernel's.
    pub resync_secs: u32,
    /// Over all uplinks that lead to a peer, not over the first one that works.
    pub balance: bool,
    /// Whether on-link peers get a direct route.
    pub direct: Direct,
    /// Whether what nobody has of a pool is refused here, or left to the router.
    pub topology: Topology,
    /// The route that marks the own prefix for a routing daemon.
    pub mark: Option<Mark>,
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// The config file.
    #[error(transparent)]
    File(#[from] SettingsError),
    /// No controller is named.
    #[error("no controller: name one with --controller, e.g. --controller http://[2001:db8::c:1]:7300")]
    NoController,
    /// A key's value.
    #[error("{key} {value}: {mend}")]
    Value {
        /// The flag.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong, and what would do.
        mend: String,
    },
}

impl CommandLine {
    /// Where the agent keeps what it must not forget.
    ///
    /// # Errors
    /// If the config file is wrong.
    pub fn state_dir(&self) -> Result<PathBuf, SettingsError> {
        let keys: Keys = layered(self.config.as_deref(), Path::new(DEFAULT_CONFIG), &self.keys)?;
        Ok(keys.state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into()))
    }

    /// The settings of file, environment and flags, checked.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn settings(&self) -> Result<Settings, Invalid> {
        let keys: Keys = layered(self.config.as_deref(), Path::new(DEFAULT_CONFIG), &self.keys)?;
        let node = keys.node.clone().unwrap_or_else(host_name);
        let role = keys.role.unwrap_or_default();
        let routes = route_settings(&keys)?;
        if role == Role::Router && routes.direct == Direct::Never {
            let mend = "a router has nobody to leave peers to; take that, or --role router, away";
            return Err(value("--routes-direct", &"never", &mend));
        }
        if role == Role::Router && routes.topology == Topology::Routed {
            let mend = "is for hosts; the router itself refuses what nobody has. Take that away";
            return Err(value("--topology", &"routed", &mend));
        }
        if role == Role::Router && keys.uplink.next_hop == Some(NextHopKind::LinkLocal) {
            let mend = "is for hosts; nobody routes to a router by what its agent says. Take that away";
            return Err(value("--uplink-next-hop", &"link-local", &mend));
        }
        let bgp = keys.bgp.map(|bgp| bgp.check(&routes)).transpose()?;
        if role == Role::Router && bgp.is_some() {
            let mend = "a router with an agent announces by its own daemon; see deploy/bird and deploy/frr";
            return Err(value("--role", &"router with [bgp]", &mend));
        }
        Ok(Settings {
            controllers: controllers(&keys.controller.unwrap_or_default(), keys.insecure.unwrap_or(false))?,
            node: node.parse().map_err(|error| value("--node", &node, &error))?,
            role,
            pool: keys
                .pool
                .map(|pool| pool.parse().map_err(|error| value("--pool", &pool, &error)))
                .transpose()?,
            host_len: host_len(keys.host_len)?,
            state_dir: keys.state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into()),
            http: keys.http.unwrap_or_else(|| SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 7302))),
            log: keys.log.unwrap_or_else(|| "info".into()),
            log_format: keys.log_format.unwrap_or_default(),
            uplinks: keys.uplink.interface.unwrap_or_default(),
            next_hop: keys.uplink.next_hop.unwrap_or_default(),
            bridge: BridgeSettings {
                name: keys.bridge.interface.unwrap_or_else(|| DEFAULT_BRIDGE.into()),
                create: keys.bridge.create.unwrap_or(false),
            },
            routes,
            bgp,
        })
    }
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

fn controllers(urls: &[String], insecure: bool) -> Result<Vec<Endpoint>, Invalid> {
    if urls.is_empty() {
        return Err(Invalid::NoController);
    }
    let parse =
        |url: &String| Endpoint::parse(url, insecure).map_err(|error| value("--controller", url, &error));
    urls.iter().map(parse).collect()
}

fn route_settings(all: &Keys) -> Result<RouteSettings, Invalid> {
    let keys = &all.routes;
    let settings = RouteSettings {
        metric: keys.metric.unwrap_or(PEER_METRIC),
        unreachable_metric: keys.unreachable_metric.unwrap_or(UNREACHABLE_METRIC),
        table: keys.table.unwrap_or(MAIN_TABLE),
        resync_secs: keys.resync.unwrap_or(60),
        balance: all.uplink.balance.unwrap_or(false),
        direct: keys.direct.unwrap_or_default(),
        topology: all.topology.unwrap_or_default(),
        mark: None,
    };
    if settings.metric == 0 || settings.metric == u32::MAX {
        return Err(value("--routes-metric", &settings.metric, &"give it 1 to 4294967294"));
    }
    if settings.unreachable_metric <= settings.metric || settings.unreachable_metric == u32::MAX {
        let mend = format!("must be above the peers' metric {}, and at most 4294967294", settings.metric);
        return Err(value("--routes-unreachable-metric", &settings.unreachable_metric, &mend));
    }
    check_table("--routes-table", settings.table)?;
    if !(1..=86_400).contains(&settings.resync_secs) {
        return Err(value("--routes-resync", &settings.resync_secs, &"give it 1 to 86400 seconds"));
    }
    Ok(RouteSettings { mark: mark(&all.export, &settings)?, ..settings })
}

fn check_table(key: &'static str, table: u32) -> Result<(), Invalid> {
    match table {
        0 | 255 => Err(value(key, &table, &"is the kernel's own; take 254 (main) or another number")),
        _ => Ok(()),
    }
}

fn value(key: &'static str, value: &dyn ToString, mend: &dyn ToString) -> Invalid {
    Invalid::Value { key, value: value.to_string(), mend: mend.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(args: &[&str]) -> Result<Settings, Invalid> {
        let fixed = ["sextant-agent", "--node", "host1", "--controller", "http://[::1]:7300"];
        CommandLine::try_parse_from(fixed.iter().chain(args)).unwrap().settings()
    }

    #[test]
    fn the_defaults_are_the_designs() {
        let settings = settings(&[]).unwrap();
        assert_eq!((settings.routes.metric, settings.routes.table), (512, 254));
        assert_eq!(settings.bridge, BridgeSettings { name: "docker0".into(), create: false });
    }

    #[test]
    fn sections_are_read_and_unknown_keys_refused() {
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
    fn a_router_routes_directly_and_refuses_the_rest() {
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
    fn wrong_values_name_flag_value_and_mend() {
        let error = settings(&["--routes-unreachable-metric", "100"]).unwrap_err().to_string();
        assert!(
            error.starts_with("--routes-unreachable-metric 100: must be above the peers' metric 512"),
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
            "plain text past loopback"
        );
    }
}
