//! What an operator sets: flags, `SEXTANT_…` variables, and `/etc/sextant/agent.toml`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use clap::{Args, Parser};
use serde::{Deserialize, Serialize};
use sextant_proto::{
    NodeName, PoolName,
    daemon::{LogFormat, SettingsError, layered},
};

use crate::session::Endpoint;

/// Where settings are looked for unless told otherwise.
const DEFAULT_CONFIG: &str = "/etc/sextant/agent.toml";
/// After the kernel's connected routes (256), before hand-made ones (1024).
const PEER_METRIC: u32 = 512;
/// Far after every other route.
const UNREACHABLE_METRIC: u32 = 4_000_000_000;
/// The kernel's main table.
const MAIN_TABLE: u32 = 254;

/// Gives this host its prefix, and keeps its routes to the other hosts.
#[derive(Debug, Parser)]
#[command(
    name = "sextant-agent",
    version,
    args_override_self = true,
    after_help = "Example:\n  sextant-agent --controller http://[2001:db8::c]:7300 --uplink eth0 --bridge docker0 --insecure"
)]
pub struct CommandLine {
    /// Config file (TOML)
    #[arg(long, env = "SEXTANT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    keys: Keys,
}

/// The keys of the config file, which are the flags too.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Keys {
    /// The controllers' addresses, tried in turn
    #[arg(long, env = "SEXTANT_CONTROLLER", value_name = "URL,URL…", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    controller: Option<Vec<String>>,
    /// This node's name [default: the host's name]
    #[arg(long, env = "SEXTANT_NODE", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// The pool to claim from [default: the only one, or "default"]
    #[arg(long, env = "SEXTANT_POOL", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pool: Option<String>,
    /// How many bits long this host's prefix is to be [default: as the pool says]
    #[arg(long, env = "SEXTANT_HOST_LEN", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    host_len: Option<u32>,
    /// Where the node id, the claim, and what was changed on this host are kept
    #[arg(long, env = "SEXTANT_STATE_DIR", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    state_dir: Option<PathBuf>,
    /// Where /metrics, /healthz and /readyz are served
    #[arg(long, env = "SEXTANT_HTTP", value_name = "ADDR:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<SocketAddr>,
    /// Speak plain text past loopback
    #[arg(long, env = "SEXTANT_INSECURE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    insecure: Option<bool>,
    /// What is logged: error, warn, info, debug, trace
    #[arg(long, env = "SEXTANT_LOG", value_name = "LEVEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<String>,
    /// How a log line looks
    #[arg(long, env = "SEXTANT_LOG_FORMAT", value_enum, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    log_format: Option<LogFormat>,
    #[command(flatten)]
    uplink: UplinkKeys,
    #[command(flatten)]
    bridge: BridgeKeys,
    #[command(flatten)]
    routes: RouteKeys,
}

/// `[uplink]`
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct UplinkKeys {
    /// The interfaces towards the other hosts [default: those of the IPv6 default routes]
    #[arg(long = "uplink", env = "SEXTANT_UPLINK", value_name = "IF,IF…", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<Vec<String>>,
}

/// `[bridge]`
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct BridgeKeys {
    /// The containers' bridge [default: docker0]
    #[arg(id = "bridge", long = "bridge", env = "SEXTANT_BRIDGE", value_name = "IF")]
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<String>,
    /// Make the bridge if it is not there, instead of waiting for it
    #[arg(id = "bridge-create", long = "bridge-create", env = "SEXTANT_BRIDGE_CREATE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    create: Option<bool>,
}

/// `[routes]`
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct RouteKeys {
    /// The metric of the routes to peers (1 to 4294967294) [default: 512]
    #[arg(id = "routes-metric", long = "routes-metric", env = "SEXTANT_ROUTES_METRIC", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    metric: Option<u32>,
    /// The metric of the unreachable routes, above all others [default: 4000000000]
    #[arg(long = "routes-unreachable-metric", env = "SEXTANT_ROUTES_UNREACHABLE_METRIC", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    unreachable_metric: Option<u32>,
    /// The routing table [default: 254, the main one]
    #[arg(id = "routes-table", long = "routes-table", env = "SEXTANT_ROUTES_TABLE", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<u32>,
    /// Every how many seconds all routes are compared with the kernel's (1 to 86400) [default: 60]
    #[arg(
        id = "routes-resync",
        long = "routes-resync",
        env = "SEXTANT_ROUTES_RESYNC",
        value_name = "SECONDS"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    resync: Option<u32>,
}

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The controllers, in the order they are tried.
    pub controllers: Vec<Endpoint>,
    /// This node's name.
    pub node: NodeName,
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
    /// The containers' bridge.
    pub bridge: BridgeSettings,
    /// How routes look.
    pub routes: RouteSettings,
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
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// The config file.
    #[error(transparent)]
    File(#[from] SettingsError),
    /// No controller is named.
    #[error("no controller: name one with --controller, e.g. --controller http://[2001:db8::c]:7300")]
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
    /// The settings of file, environment and flags, checked.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn settings(&self) -> Result<Settings, Invalid> {
        let keys: Keys = layered(self.config.as_deref(), Path::new(DEFAULT_CONFIG), &self.keys)?;
        let node = keys.node.unwrap_or_else(host_name);
        let routes = route_settings(&keys.routes)?;
        Ok(Settings {
            controllers: controllers(&keys.controller.unwrap_or_default(), keys.insecure.unwrap_or(false))?,
            node: node.parse().map_err(|error| value("--node", &node, &error))?,
            pool: keys
                .pool
                .map(|pool| pool.parse().map_err(|error| value("--pool", &pool, &error)))
                .transpose()?,
            host_len: host_len(keys.host_len)?,
            state_dir: keys.state_dir.unwrap_or_else(|| "/var/lib/sextant/agent".into()),
            http: keys.http.unwrap_or_else(|| SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 7302))),
            log: keys.log.unwrap_or_else(|| "info".into()),
            log_format: keys.log_format.unwrap_or_default(),
            uplinks: keys.uplink.interface.unwrap_or_default(),
            bridge: BridgeSettings {
                name: keys.bridge.interface.unwrap_or_else(|| "docker0".into()),
                create: keys.bridge.create.unwrap_or(false),
            },
            routes,
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

fn route_settings(keys: &RouteKeys) -> Result<RouteSettings, Invalid> {
    let settings = RouteSettings {
        metric: keys.metric.unwrap_or(PEER_METRIC),
        unreachable_metric: keys.unreachable_metric.unwrap_or(UNREACHABLE_METRIC),
        table: keys.table.unwrap_or(MAIN_TABLE),
        resync_secs: keys.resync.unwrap_or(60),
    };
    if settings.metric == 0 || settings.metric == u32::MAX {
        return Err(value("--routes-metric", &settings.metric, &"give it 1 to 4294967294"));
    }
    if settings.unreachable_metric <= settings.metric || settings.unreachable_metric == u32::MAX {
        let mend = format!("must be above the peers' metric {}, and at most 4294967294", settings.metric);
        return Err(value("--routes-unreachable-metric", &settings.unreachable_metric, &mend));
    }
    if settings.table == 0 || settings.table == 255 {
        return Err(value(
            "--routes-table",
            &settings.table,
            &"is the kernel's own; take 254 (main) or another number",
        ));
    }
    if !(1..=86_400).contains(&settings.resync_secs) {
        return Err(value("--routes-resync", &settings.resync_secs, &"give it 1 to 86400 seconds"));
    }
    Ok(settings)
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
    fn wrong_values_name_flag_value_and_mend() {
        let error = settings(&["--routes-unreachable-metric", "100"]).unwrap_err().to_string();
        assert!(
            error.starts_with("--routes-unreachable-metric 100: must be above the peers' metric 512"),
            "{error}"
        );
        assert!(settings(&["--routes-table", "255"]).is_err());
        assert!(
            settings(&["--controller", "http://[2001:db8::1]:7300"]).is_err(),
            "plain text past loopback"
        );
    }
}
