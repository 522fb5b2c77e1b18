//! The keys of the config file, which are also the flags.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use serde::{Deserialize, Deserializer, Serialize};
use sextant_daemon::LogFormat;
use sextant_identity::TlsKeys;

use super::{
    BgpKeys, Direct, DockerMode, ExportKeys, NdpAnswer, NdpMode, NdpSource, NextHopKind, OffLink,
    OutsideReach, Reach, Role, Topology, docker_networks::NetworkKey,
};

/// The keys of the config file, which are also the flags.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Keys {
    /// The controllers' URLs, tried in turn
    #[arg(long, env = "SEXTANT_CONTROLLER", value_name = "URL,URL…", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "one_or_several")]
    pub(super) controller: Option<Vec<String>>,
    /// This node's name [default: the host's name]
    #[arg(long, env = "SEXTANT_NODE", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
    /// Role of this machine [default: host]
    #[arg(long, env = "SEXTANT_ROLE", value_enum, value_name = "ROLE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<Role>,
    /// How the hosts are connected [default: switched]
    #[arg(long, env = "SEXTANT_TOPOLOGY", value_enum, value_name = "TOPOLOGY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) topology: Option<Topology>,
    /// The pools to claim a prefix from, each; the first one is the primary pool [default: the only one, or "default"]
    #[arg(long, env = "SEXTANT_POOL", value_name = "NAME,NAME…", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "one_or_several")]
    pub(super) pool: Option<Vec<String>>,
    /// The only prefixes that this node claims from and routes to, whatever a controller sends [default: all]
    #[arg(long, env = "SEXTANT_ACCEPT_POOLS", value_name = "PREFIX,PREFIX…", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "one_or_several")]
    pub(super) accept_pools: Option<Vec<String>>,
    /// Length of this host's prefix in its primary pool, 1 to 126 [default: as the pool defines]
    #[arg(long, env = "SEXTANT_HOST_LEN", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host_len: Option<u32>,
    /// Directory of the node id, the claim, and the record of changes to this host
    #[arg(long, env = "SEXTANT_STATE_DIR", value_name = "DIR", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state_dir: Option<PathBuf>,
    /// Address of /metrics, /healthz and /readyz
    #[arg(long, env = "SEXTANT_HTTP", value_name = "ADDR:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) http: Option<SocketAddr>,
    /// Permit plain text to controllers that are not on loopback
    #[arg(long, env = "SEXTANT_INSECURE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) insecure: Option<bool>,
    /// Level of the log: error, warn, info, debug, trace
    #[arg(long, env = "SEXTANT_LOG", value_name = "LEVEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log: Option<String>,
    /// Format of the log
    #[arg(long, env = "SEXTANT_LOG_FORMAT", value_enum, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_format: Option<LogFormat>,
    /// File with a join token, for the first start: the agent then gets the certificate of this node by itself
    #[arg(long, env = "SEXTANT_JOIN_TOKEN_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) join_token_file: Option<PathBuf>,
    /// Certificates of the cluster's roots (PEM), where --join-token-file is the projected token of a service account in Kubernetes
    #[arg(long, env = "SEXTANT_JOIN_CA_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) join_ca_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) tls: TlsKeys,
    #[command(flatten)]
    pub(super) uplink: UplinkKeys,
    #[command(flatten)]
    pub(super) bridge: BridgeKeys,
    #[command(flatten)]
    pub(super) docker: DockerKeys,
    #[command(flatten)]
    pub(super) routes: RouteKeys,
    #[command(flatten)]
    pub(super) export: ExportKeys,
    #[command(flatten)]
    pub(super) ndp: NdpKeys,
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bgp: Option<BgpKeys>,
}

/// `[uplink]`
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct UplinkKeys {
    /// The interfaces towards the other hosts [default: those that most peers are on, else those that lead to controllers,
    /// else those of the IPv6 default routes]
    #[arg(long = "uplink", env = "SEXTANT_UPLINK", value_name = "IF,IF…", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "one_or_several")]
    pub(super) interface: Option<Vec<String>>,
    /// Spread traffic over all uplinks to a peer (ECMP), instead of using the first that works
    #[arg(id = "uplink-balance", long = "uplink-balance", env = "SEXTANT_UPLINK_BALANCE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) balance: Option<bool>,
    /// Kind of address that peers on the link use as next hop [default: global]
    #[arg(
        id = "uplink-next-hop",
        long = "uplink-next-hop",
        env = "SEXTANT_UPLINK_NEXT_HOP",
        value_name = "KIND"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_hop: Option<NextHopKind>,
}

/// `[bridge]`
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct BridgeKeys {
    /// The containers' bridge [default: docker0]
    #[arg(id = "bridge", long = "bridge", env = "SEXTANT_BRIDGE", value_name = "IF")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) interface: Option<String>,
    /// Create the bridge if it does not exist, instead of waiting for it
    #[arg(id = "bridge-create", long = "bridge-create", env = "SEXTANT_BRIDGE_CREATE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) create: Option<bool>,
    /// Send router advertisements on the bridge that the agent makes: containers and VMs get addresses by SLAAC
    #[arg(id = "bridge-advertise", long = "bridge-advertise", env = "SEXTANT_BRIDGE_ADVERTISE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advertise: Option<bool>,
}

/// `[docker]`
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct DockerKeys {
    /// How Docker's containers get addresses: `network`: the agent keeps a network with the container prefix; `daemon`: Docker's
    /// own bridge has it; `pools`: other networks get prefixes too; `ipam`: networks of the IPAM driver sextant get prefixes;
    /// `none`: the agent changes nothing, and watches Docker; `off` [default: off]
    #[arg(
        id = "docker-mode",
        long = "docker-mode",
        env = "SEXTANT_DOCKER_MODE",
        value_enum,
        value_name = "MODE"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<DockerMode>,
    /// The name of that network [default: sextant]
    #[arg(
        id = "docker-network",
        long = "docker-network",
        env = "SEXTANT_DOCKER_NETWORK",
        value_name = "NAME"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) main_network: Option<String>,
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) network: Option<NetworkKey>,
    /// Docker's socket [default: /run/docker.sock]
    #[arg(id = "docker-socket", long = "docker-socket", env = "SEXTANT_DOCKER_SOCKET", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) socket: Option<PathBuf>,
    /// Ports of containers that containers of other hosts reach: `open`: all; `published`: those that are published [default: open]
    #[arg(
        id = "docker-from-cluster",
        long = "docker-from-cluster",
        env = "SEXTANT_DOCKER_FROM_CLUSTER",
        value_enum,
        value_name = "PORTS"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from_cluster: Option<Reach>,
    /// Ports of containers that packets from outside the cluster reach: `published`: those that are published; `open`: all;
    /// `closed`: none, but answers to what containers send [default: published]
    #[arg(
        id = "docker-from-outside",
        long = "docker-from-outside",
        env = "SEXTANT_DOCKER_FROM_OUTSIDE",
        value_enum,
        value_name = "PORTS"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) from_outside: Option<OutsideReach>,
    /// The range of IPv4 subnets that the IPAM driver gives to networks [default: 172.30.0.0/16]
    #[arg(
        id = "docker-ipv4-range",
        long = "docker-ipv4-range",
        env = "SEXTANT_DOCKER_IPV4_RANGE",
        value_name = "SUBNET"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ipv4_range: Option<String>,
    /// The socket of the IPAM driver, unless systemd listens on it [default: /run/sextant/docker-ipam.sock]
    #[arg(
        id = "docker-ipam-socket",
        long = "docker-ipam-socket",
        env = "SEXTANT_DOCKER_IPAM_SOCKET",
        value_name = "FILE"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ipam_socket: Option<PathBuf>,
    /// Make the network again when the prefix has changed, although containers are on it: they get new addresses
    #[arg(id = "docker-replace-used", long = "docker-replace-used", env = "SEXTANT_DOCKER_REPLACE_USED", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replace_used: Option<bool>,
    /// Docker's configuration file, which `docker setup` edits [default: /etc/docker/daemon.json]
    #[arg(
        id = "docker-daemon-json",
        long = "docker-daemon-json",
        env = "SEXTANT_DOCKER_DAEMON_JSON",
        value_name = "FILE"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) daemon_json: Option<PathBuf>,
    /// Permit `docker setup` to restart Docker without being asked each time
    #[arg(id = "docker-restart", long = "docker-restart", env = "SEXTANT_DOCKER_RESTART", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) restart: Option<bool>,
}

/// `[ndp]`
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct NdpKeys {
    /// Who answers neighbour solicitations for containers: `prefix`: the agent, and the kernel for addresses that are known;
    /// `address`: the kernel alone [default: prefix]
    #[arg(id = "ndp-mode", long = "ndp-mode", env = "SEXTANT_NDP_MODE", value_enum, value_name = "MODE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<NdpMode>,
    /// The addresses that are answered for: `live`: those that a container has; `all`: the whole container prefixes [default: live]
    #[arg(
        id = "ndp-answer",
        long = "ndp-answer",
        env = "SEXTANT_NDP_ANSWER",
        value_enum,
        value_name = "WHICH"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) answer: Option<NdpAnswer>,
    /// Advertise with the override flag: neighbours replace what they knew, not only if a prefix has come from another host
    #[arg(id = "ndp-override", long = "ndp-override", env = "SEXTANT_NDP_OVERRIDE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    #[serde(rename = "override", skip_serializing_if = "Option::is_none")]
    pub(super) overrides: Option<bool>,
    /// The source address of advertisements [default: link-local]
    #[arg(
        id = "ndp-source",
        long = "ndp-source",
        env = "SEXTANT_NDP_SOURCE",
        value_enum,
        value_name = "ADDRESS"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<NdpSource>,
}

/// `[routes]`
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct RouteKeys {
    /// The metric of the routes to peers (1 to 4294967294) [default: 512]
    #[arg(id = "routes-metric", long = "routes-metric", env = "SEXTANT_ROUTES_METRIC", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metric: Option<u32>,
    /// The metric of the unreachable routes, higher than all others [default: 4000000000]
    #[arg(long = "routes-unreachable-metric", env = "SEXTANT_ROUTES_UNREACHABLE_METRIC", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unreachable_metric: Option<u32>,
    /// The routing table [default: 254, the main one]
    #[arg(id = "routes-table", long = "routes-table", env = "SEXTANT_ROUTES_TABLE", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) table: Option<u32>,
    /// Which peers get a direct route; others are left to the router, as on private VLANs [default: on-link]
    #[arg(
        id = "routes-direct",
        long = "routes-direct",
        env = "SEXTANT_ROUTES_DIRECT",
        value_enum,
        value_name = "WHEN"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) direct: Option<Direct>,
    /// What becomes of peers that are not on-link in the switched topology: `gateway` where routers know all prefixes [default:
    /// refuse]
    #[arg(
        id = "routes-off-link",
        long = "routes-off-link",
        env = "SEXTANT_ROUTES_OFF_LINK",
        value_enum,
        value_name = "WHAT"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) off_link: Option<OffLink>,
    /// Seconds between two comparisons of all routes with the kernel's (1 to 86400) [default: 60]
    #[arg(
        id = "routes-resync",
        long = "routes-resync",
        env = "SEXTANT_ROUTES_RESYNC",
        value_name = "SECONDS"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resync: Option<u32>,
}

/// A text, or a list of texts.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrSeveral {
        One(String),
        Several(Vec<String>),
    }
    Ok(Some(match OneOrSeveral::deserialize(deserializer)? {
        OneOrSeveral::One(name) => vec![name],
        OneOrSeveral::Several(names) => names,
    }))
}
