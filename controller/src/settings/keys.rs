//! The keys of the config file, which are the flags too.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
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
    /// Directory of automatic backups; default: beside an embedded store, e.g. /var/lib/sextant/controller.redb.backups
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
    /// Level of the log: error, warn, info, debug, trace
    #[arg(long, env = "SEXTANT_LOG", value_name = "LEVEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log: Option<String>,
    /// Format of the log
    #[arg(long, env = "SEXTANT_LOG_FORMAT", value_enum, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) log_format: Option<LogFormat>,
    /// Directory of the cluster's own authority, as `pki init` makes it, in the place of --tls-…
    #[arg(long, env = "SEXTANT_PKI", value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pki: Option<PathBuf>,
    /// Seconds for which certificates of nodes and of the controller itself are valid, with --pki (1 to 86400)
    #[arg(long, env = "SEXTANT_CERTIFICATE_LIFETIME", value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate_lifetime: Option<f64>,
    #[command(flatten)]
    pub(super) tls: TlsKeys,
    #[command(flatten)]
    pub(super) etcd: EtcdKeys,
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
