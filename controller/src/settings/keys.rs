//! The keys of the config file, which are the flags too.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use sextant_daemon::LogFormat;
use sextant_identity::TlsKeys;

/// The keys of the config file, which are the flags too.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Keys {
    /// The store: embedded:PATH, or etcd:URL,URL… with all members
    #[arg(long, env = "SEXTANT_STORE", value_name = "STORE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) store: Option<String>,
    /// Address for agents, operators and other controllers
    #[arg(long, env = "SEXTANT_LISTEN", value_name = "ADDR:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) listen: Option<SocketAddr>,
    /// Address of /metrics, /healthz and /readyz
    #[arg(long, env = "SEXTANT_HTTP", value_name = "ADDR:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) http: Option<SocketAddr>,
    /// Permit plain text on an address that is not on loopback
    #[arg(long, env = "SEXTANT_INSECURE", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) insecure: Option<bool>,
    /// The cluster's name in the store
    #[arg(long, env = "SEXTANT_CLUSTER", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cluster: Option<String>,
    /// Seconds of silence after which an agent counts as gone (1 to 86400)
    #[arg(long, env = "SEXTANT_DOWN_AFTER", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) down_after: Option<f64>,
    /// Seconds for which a new store waits for the agents of a lost one
    #[arg(long, env = "SEXTANT_RECOVERY_WINDOW", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) recovery_window: Option<f64>,
    /// Audit entries that are kept (100 to 1000000)
    #[arg(long, env = "SEXTANT_AUDIT_ENTRIES", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) audit_entries: Option<usize>,
    /// Days for which audit entries are kept (1 to 3650)
    #[arg(long, env = "SEXTANT_AUDIT_DAYS", value_name = "DAYS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) audit_days: Option<u64>,
    /// Seconds after which a node that is down loses its claim, unless a peer sees its host forwarding; or "never"
    #[arg(long, env = "SEXTANT_HOLD_DOWN", value_name = "SECONDS|never")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hold_down: Option<String>,
    /// Seconds for which a freed prefix is not assigned again while others are free
    #[arg(long, env = "SEXTANT_QUARANTINE", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quarantine: Option<f64>,
    /// Interval between automatic backups, e.g. 30m or 24h (1s to 8760h); default: no automatic backups
    #[arg(long, env = "SEXTANT_BACKUP_EVERY", value_name = "DURATION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backup_every: Option<String>,
    /// Number of automatic backups that are kept (1 to 10000); default: 7
    #[arg(long, env = "SEXTANT_BACKUP_KEEP", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backup_keep: Option<usize>,
    /// Directory of automatic backups; default: beside an embedded store, e.g. /var/lib/sextant/controller/controller.redb.backups
    #[arg(long, env = "SEXTANT_BACKUP_DIR", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backup_dir: Option<PathBuf>,
    /// Maximum number of connections of agents and operators (8 to 1000000); default: as the limit of open files allows
    #[arg(long, env = "SEXTANT_MAX_CONNECTIONS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_connections: Option<usize>,
    /// Seconds without a call in progress after which a connection is closed (1 to 86400)
    #[arg(long, env = "SEXTANT_IDLE_TIMEOUT", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idle_timeout: Option<f64>,
    /// Serve gRPC reflection, which describes the calls to tools such as grpcurl
    #[arg(long, env = "SEXTANT_REFLECTION", num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reflection: Option<bool>,
    /// Level of the log: error, warn, info, debug, trace
    #[arg(long, env = "SEXTANT_LOG", value_name = "LEVEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log: Option<String>,
    /// Format of the log
    #[arg(long, env = "SEXTANT_LOG_FORMAT", value_enum, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_format: Option<LogFormat>,
    /// Whether plain text is taken beside TLS: strict or warn; needs --pki, or --tls-ca, --tls-cert and --tls-key
    #[arg(long, env = "SEXTANT_TLS_MODE", value_enum, value_name = "MODE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_mode: Option<Mode>,
    /// Directory of the cluster's own authority, as `pki init` makes it, in the place of --tls-…
    #[arg(long, env = "SEXTANT_PKI", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pki: Option<PathBuf>,
    /// Seconds for which certificates of nodes and of the controller itself are valid, with --pki (1 to 86400)
    #[arg(long, env = "SEXTANT_CERTIFICATE_LIFETIME", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate_lifetime: Option<f64>,
    /// Key that signs receipts of claims, without --pki; made if it is missing. Controllers with copies of it trust each other's receipts. Default: beside an embedded store, e.g. /var/lib/sextant/controller/controller.redb.receipts.key
    #[arg(long, env = "SEXTANT_RECEIPT_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) receipt_key: Option<PathBuf>,
    /// File with a copy of the revocations, which a store that replaces a lost one gets. Default: beside an embedded store, e.g. /var/lib/sextant/controller/controller.redb.denials
    #[arg(long, env = "SEXTANT_DENIALS_FILE", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) denials_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) tls: TlsKeys,
    #[command(flatten)]
    pub(super) limits: LimitKeys,
    #[command(flatten)]
    pub(super) etcd: EtcdKeys,
    #[command(flatten)]
    pub(super) kubernetes: KubernetesKeys,
}

/// `[kubernetes]`
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct KubernetesKeys {
    /// The API server, https://HOST:PORT: it reviews service-account tokens, which agents show in the place of join tokens; needs --pki
    #[arg(
        id = "kubernetes-api-server",
        long = "kubernetes-api-server",
        env = "SEXTANT_KUBERNETES_API_SERVER",
        value_name = "URL"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) api_server: Option<String>,
    /// Certificates of the API server's authority (PEM)
    #[arg(
        id = "kubernetes-ca-file",
        long = "kubernetes-ca-file",
        env = "SEXTANT_KUBERNETES_CA_FILE",
        value_name = "FILE"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca_file: Option<PathBuf>,
    /// Token of this controller's own service account
    #[arg(
        id = "kubernetes-token-file",
        long = "kubernetes-token-file",
        env = "SEXTANT_KUBERNETES_TOKEN_FILE",
        value_name = "FILE"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_file: Option<PathBuf>,
    /// Audience that the agents' tokens are projected for
    #[arg(
        id = "kubernetes-audience",
        long = "kubernetes-audience",
        env = "SEXTANT_KUBERNETES_AUDIENCE",
        value_name = "NAME"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) audience: Option<String>,
    /// Service account of the agents, NAMESPACE/NAME; default: sextant/sextant-agent
    #[arg(
        id = "kubernetes-service-account",
        long = "kubernetes-service-account",
        env = "SEXTANT_KUBERNETES_SERVICE_ACCOUNT",
        value_name = "NAMESPACE/NAME"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service_account: Option<String>,
}

/// `[limits]`
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct LimitKeys {
    /// Calls in progress of each certificate, streams among them
    #[arg(id = "limits-calls", long = "limits-calls", env = "SEXTANT_LIMITS_CALLS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) calls: Option<u32>,
    /// Calls of each certificate a second, on average over ten seconds
    #[arg(
        id = "limits-requests",
        long = "limits-requests",
        env = "SEXTANT_LIMITS_REQUESTS",
        value_name = "N"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests: Option<u32>,
    /// Connections of each certificate
    #[arg(
        id = "limits-connections",
        long = "limits-connections",
        env = "SEXTANT_LIMITS_CONNECTIONS",
        value_name = "N"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connections: Option<u32>,
    /// Claims of each node a minute
    #[arg(id = "limits-claims", long = "limits-claims", env = "SEXTANT_LIMITS_CLAIMS", value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claims: Option<u32>,
    /// Calls in progress of each address
    #[arg(
        id = "limits-address-calls",
        long = "limits-address-calls",
        env = "SEXTANT_LIMITS_ADDRESS_CALLS",
        value_name = "N"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address_calls: Option<u32>,
    /// Calls of each address a second, on average over ten seconds
    #[arg(
        id = "limits-address-requests",
        long = "limits-address-requests",
        env = "SEXTANT_LIMITS_ADDRESS_REQUESTS",
        value_name = "N"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address_requests: Option<u32>,
    /// Connections of each address; default: seven eighths of --max-connections
    #[arg(
        id = "limits-address-connections",
        long = "limits-address-connections",
        env = "SEXTANT_LIMITS_ADDRESS_CONNECTIONS",
        value_name = "N"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address_connections: Option<u32>,
    /// Bits by which the host prefix that an agent requests may be shorter than its pool's (0 to 126)
    #[arg(
        id = "limits-shorter-host-len",
        long = "limits-shorter-host-len",
        env = "SEXTANT_LIMITS_SHORTER_HOST_LEN",
        value_name = "BITS"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shorter_host_len: Option<u32>,
}

/// `tls-mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    /// TLS alone
    Strict,
    /// Plain text beside TLS; `sextant status` lists who uses it
    Warn,
}

/// `[etcd]`
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct EtcdKeys {
    /// User name, where etcd has authentication enabled
    #[arg(id = "etcd-user", long = "etcd-user", env = "SEXTANT_ETCD_USER", value_name = "NAME")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    /// File with that user's password
    #[arg(
        id = "etcd-password-file",
        long = "etcd-password-file",
        env = "SEXTANT_ETCD_PASSWORD_FILE",
        value_name = "FILE"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) password_file: Option<PathBuf>,
    /// CA certificates of etcd (PEM); required with https
    #[arg(id = "etcd-ca", long = "etcd-ca", env = "SEXTANT_ETCD_CA", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<PathBuf>,
    /// Client certificate (PEM), where etcd asks for one
    #[arg(id = "etcd-cert", long = "etcd-cert", env = "SEXTANT_ETCD_CERT", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cert: Option<PathBuf>,
    /// Key of that certificate (PEM)
    #[arg(id = "etcd-key", long = "etcd-key", env = "SEXTANT_ETCD_KEY", value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<PathBuf>,
}
