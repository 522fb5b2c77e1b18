//! What an operator sets: flags, `SEXTANT_…` variables, and `/etc/sextant/controller.toml`.

mod command;
mod keys;
mod kubernetes;
mod limits;
mod receipts;
mod tls;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use clap::Parser;
use sextant_daemon::{LogFormat, SettingsError, layered};
use sextant_proto::{PoolName, parse_duration, plain_text_allowed};

use crate::{
    backup::Schedule,
    kubernetes::Access,
    limits::Limits,
    records::TlsMode,
    registry::etcd::{self, Login},
    sweeper::Keep,
};

pub use command::{Command, PERSON_DAYS, PkiCommand, PkiPlace, RootKeyArgs};
use keys::{EtcdKeys, Keys, Mode};
pub use receipts::ReceiptKey;
pub use tls::Tls;

/// The default path of the settings.
const DEFAULT_CONFIG: &str = "/etc/sextant/controller.toml";
/// The default path of the store.
const DEFAULT_STORE: &str = "embedded:/var/lib/sextant/controller/controller.redb";

/// Assigns IPv6 prefixes to hosts, and informs their agents.
#[derive(Debug, Parser)]
#[command(
    name = "sextant-controller",
    version = sextant_version::VERSION,
    args_override_self = true,
    after_help = "Example:\n  sextant-controller --store embedded:/var/lib/sextant/controller/controller.redb --listen '[::1]:7300'"
)]
pub struct CommandLine {
    /// Config file (TOML); its keys are the long flags' names
    #[arg(long, env = "SEXTANT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    keys: Keys,
    /// The command; without one, the controller runs
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// In one file of this host.
    Embedded(PathBuf),
    /// In an etcd cluster, at these URLs.
    Etcd(Vec<String>),
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(path) => write!(f, "embedded:{}", path.display()),
            Self::Etcd(urls) => write!(f, "etcd:{}", urls.join(",")),
        }
    }
}

/// A store that this build does not know.
#[derive(Debug, thiserror::Error)]
#[error(
    "--store \"{0}\" is none that this version has; use embedded:PATH, e.g. {DEFAULT_STORE}, \
     or etcd:URL,URL…, e.g. etcd:http://[2001:db8::e]:2379"
)]
pub struct UnknownStore(String);

impl FromStr for Store {
    type Err = UnknownStore;

    fn from_str(text: &str) -> Result<Self, UnknownStore> {
        match text.split_once(':') {
            Some(("embedded", path)) if !path.is_empty() => Ok(Self::Embedded(path.into())),
            Some(("etcd", urls)) if !urls.is_empty() => {
                Ok(Self::Etcd(urls.split(',').map(str::to_owned).collect()))
            }
            _ => Err(UnknownStore(text.to_owned())),
        }
    }
}

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The store.
    pub store: Store,
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// Where probes are served.
    pub http: SocketAddr,
    /// Plain text may leave this host.
    pub insecure: bool,
    /// The cluster's name in the store.
    pub cluster: PoolName,
    /// After how much silence an agent counts as gone.
    pub down_after: Duration,
    /// How long a new store waits for agents of a lost one.
    pub recovery_window: Duration,
    /// Which audit entries are kept.
    pub audit: Keep,
    /// After how long a host that is down loses its prefix; `None`: never.
    pub hold_down: Option<Duration>,
    /// How long a freed prefix stays in quarantine.
    pub quarantine: Duration,
    /// Where automatic backups are, of an earlier start too; `None`: nowhere.
    pub backup_dir: Option<PathBuf>,
    /// Which automatic backups are taken.
    pub backups: Option<Schedule>,
    /// The most connections; as the limit of open files allows if `None`.
    pub max_connections: Option<usize>,
    /// After how long without a call in progress a connection is closed.
    pub idle_timeout: Duration,
    /// gRPC reflection is served.
    pub reflection: bool,
    /// How much one member, and one address, may do.
    pub limits: Limits,
    /// What is logged.
    pub log: String,
    /// How a log line looks.
    pub log_format: LogFormat,
    /// How TLS is spoken; plain text without.
    pub tls: Option<Tls>,
    /// What is taken at `listen`.
    pub tls_mode: TlsMode,
    /// The key of receipts, where the cluster has no authority of its own.
    pub receipt_key: Option<ReceiptKey>,
    /// The file of the copy of the revocations.
    pub denials_file: Option<PathBuf>,
    /// How to be let in by etcd.
    pub etcd: EtcdAccess,
    /// Who reviews service-account tokens.
    pub kubernetes: Option<Access>,
}

/// How to be let in by etcd.
#[derive(Debug, Clone, Default)]
pub struct EtcdAccess {
    /// Who to be.
    pub login: Option<Login>,
    /// How its identity is proven.
    pub tls: Option<etcd::Tls>,
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// The config file.
    #[error(transparent)]
    File(#[from] SettingsError),
    /// The store.
    #[error(transparent)]
    Store(#[from] UnknownStore),
    /// Plain text.
    #[error(transparent)]
    Transport(#[from] sextant_proto::PlainTextError),
    /// The files for TLS.
    #[error(transparent)]
    Tls(#[from] sextant_identity::Incomplete),
    /// A key's value.
    #[error("{key} {value}: {fix}")]
    Value {
        /// The flag.
        key: &'static str,
        /// Its value.
        value: String,
        /// What would do.
        fix: String,
    },
}

impl CommandLine {
    /// The settings of file, environment and flags, checked.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn settings(&self) -> Result<Settings, Invalid> {
        let keys: Keys = layered(self.config.as_deref(), Path::new(DEFAULT_CONFIG), &self.keys)?;
        let loopback = |port| SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
        let listen = keys.listen.unwrap_or_else(|| loopback(7300));
        let insecure = keys.insecure.unwrap_or(false);
        let has_authority = keys.pki.is_some();
        let receipt_key = receipts::set(keys.receipt_key, keys.pki.as_deref())?;
        let tls = tls::tls(keys.pki, keys.certificate_lifetime, keys.tls)?;
        plain_text_allowed("--listen", &listen.ip().to_string(), insecure || tls.is_some())?;
        let cluster = keys.cluster.unwrap_or_else(|| "default".into());
        let store: Store = keys.store.as_deref().unwrap_or(DEFAULT_STORE).parse()?;
        let backup_dir = keys.backup_dir.or_else(|| beside(&store, ".backups"));
        let receipt_key = receipt_key.or_else(|| receipts::by_default(&store));
        let denials_file = keys.denials_file.or_else(|| beside(&store, ".denials"));
        Ok(Settings {
            backups: schedule(keys.backup_every.as_deref(), keys.backup_keep, backup_dir.as_deref())?,
            backup_dir,
            store,
            listen,
            http: keys.http.unwrap_or_else(|| loopback(7301)),
            insecure,
            cluster: cluster.parse().map_err(|error| value("--cluster", &cluster, &error))?,
            down_after: seconds("--down-after", keys.down_after, 15.0, 1.0)?,
            recovery_window: seconds("--recovery-window", keys.recovery_window, 600.0, 0.0)?,
            audit: kept(keys.audit_entries.unwrap_or(10_000), keys.audit_days.unwrap_or(90))?,
            hold_down: hold_down(keys.hold_down.as_deref())?,
            quarantine: seconds("--quarantine", keys.quarantine, 3600.0, 0.0)?,
            max_connections: max_connections(keys.max_connections)?,
            idle_timeout: seconds("--idle-timeout", keys.idle_timeout, 60.0, 1.0)?,
            reflection: keys.reflection.unwrap_or(false),
            limits: limits::limits(&keys.limits)?,
            log: keys.log.unwrap_or_else(|| "info".into()),
            log_format: keys.log_format.unwrap_or_default(),
            tls_mode: tls_mode(keys.tls_mode, tls.is_some())?,
            tls,
            receipt_key,
            denials_file,
            etcd: etcd_access(keys.etcd)?,
            kubernetes: kubernetes::access(keys.kubernetes, has_authority)?,
        })
    }
}

/// The path beside an embedded store with this end of its name.
fn beside(store: &Store, end: &str) -> Option<PathBuf> {
    let Store::Embedded(path) = store else {
        return None;
    };
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    Some(name.into())
}

fn schedule(
    every: Option<&str>,
    keep: Option<usize>,
    directory: Option<&Path>,
) -> Result<Option<Schedule>, Invalid> {
    let Some(text) = every else {
        return keep.map_or(Ok(None), |keep| Err(value("--backup-keep", &keep, &"needs --backup-every")));
    };
    let every = parse_duration(text).map_err(|error| value("--backup-every", &text, &error))?;
    if every < Duration::from_secs(1) {
        return Err(value("--backup-every", &text, &"give it 1s to 8760h"));
    }
    let keep = keep.unwrap_or(7);
    if !(1..=10_000).contains(&keep) {
        return Err(value("--backup-keep", &keep, &"give it 1 to 10000"));
    }
    let directory = directory.ok_or_else(|| {
        value(
            "--backup-every",
            &text,
            &"needs --backup-dir where the store is etcd, e.g. /var/lib/sextant/controller/backups",
        )
    })?;
    Ok(Some(Schedule { every, keep, directory: directory.to_owned() }))
}

fn tls_mode(mode: Option<Mode>, tls: bool) -> Result<TlsMode, Invalid> {
    match (mode, tls) {
        (None, false) => Ok(TlsMode::Off),
        (Some(Mode::Warn), true) => Ok(TlsMode::Warn),
        (None | Some(Mode::Strict), true) => Ok(TlsMode::Strict),
        (Some(mode), false) => {
            let mode = if mode == Mode::Warn { "warn" } else { "strict" };
            Err(value("--tls-mode", &mode, &"needs --pki, or --tls-ca, --tls-cert and --tls-key"))
        }
    }
}

fn max_connections(most: Option<usize>) -> Result<Option<usize>, Invalid> {
    match most {
        Some(most) if !(8..=1_000_000).contains(&most) => {
            Err(value("--max-connections", &most, &"give it 8 to 1000000"))
        }
        most => Ok(most),
    }
}

fn kept(entries: usize, days: u64) -> Result<Keep, Invalid> {
    if !(100..=1_000_000).contains(&entries) {
        return Err(value("--audit-entries", &entries, &"give it 100 to 1000000"));
    }
    if !(1..=3650).contains(&days) {
        return Err(value("--audit-days", &days, &"give it 1 to 3650 days"));
    }
    Ok(Keep { entries, age: Duration::from_secs(days * 24 * 3600) })
}

fn etcd_access(keys: EtcdKeys) -> Result<EtcdAccess, Invalid> {
    let login = match (keys.user, keys.password_file) {
        (None, None) => None,
        (Some(user), Some(file)) => {
            let read = Login::from_file(user, file.clone());
            Some(read.map_err(|error| value("--etcd-password-file", &file.display(), &error))?)
        }
        (Some(user), None) => return Err(value("--etcd-user", &user, &"needs --etcd-password-file")),
        (None, Some(file)) => {
            return Err(value("--etcd-password-file", &file.display(), &"needs --etcd-user"));
        }
    };
    let identity = match (keys.cert, keys.key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(cert), None) => return Err(value("--etcd-cert", &cert.display(), &"needs --etcd-key")),
        (None, Some(key)) => return Err(value("--etcd-key", &key.display(), &"needs --etcd-cert")),
    };
    let tls = match (keys.ca, identity) {
        (Some(ca), identity) => Some(etcd::Tls { ca, identity }),
        (None, Some((cert, _))) => return Err(value("--etcd-cert", &cert.display(), &"needs --etcd-ca")),
        (None, None) => None,
    };
    Ok(EtcdAccess { login, tls })
}

fn value(key: &'static str, value: &dyn ToString, fix: &dyn ToString) -> Invalid {
    Invalid::Value { key, value: value.to_string(), fix: fix.to_string() }
}

/// The longest that any time may be set to.
const MAX_SECONDS: f64 = 86_400.0;

fn hold_down(given: Option<&str>) -> Result<Option<Duration>, Invalid> {
    match given {
        None | Some("never") => Ok(None),
        Some(text) => {
            let given = text.parse();
            let given = given.map_err(|_| value("--hold-down", &text, &"give it seconds, or \"never\""))?;
            seconds("--hold-down", Some(given), 0.0, 1.0).map(Some)
        }
    }
}

fn seconds(key: &'static str, given: Option<f64>, default: f64, least: f64) -> Result<Duration, Invalid> {
    let seconds = given.unwrap_or(default);
    if (least..=MAX_SECONDS).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(value(key, &seconds, &format!("give it {least} to {MAX_SECONDS} seconds")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(args: &[&str]) -> Result<Settings, Invalid> {
        let program = std::iter::once(&"sextant-controller");
        CommandLine::try_parse_from(program.chain(args)).unwrap().settings()
    }

    #[test]
    fn plain_text_is_limited_to_loopback_by_default() {
        let error = settings(&["--listen", "[2001:db8::1]:7300"]).unwrap_err().to_string();
        assert!(error.contains("--listen 2001:db8::1") && error.contains("--insecure"), "{error}");
        assert!(settings(&["--listen", "[2001:db8::1]:7300", "--insecure"]).is_ok());
    }

    #[test]
    fn plain_text_beside_tls_needs_the_files_for_tls() {
        let error = settings(&["--tls-mode", "warn"]).unwrap_err().to_string();
        assert_eq!(error, "--tls-mode warn: needs --pki, or --tls-ca, --tls-cert and --tls-key");
        let files =
            ["--listen", "[2001:db8::1]:7300", "--tls-ca", "/a", "--tls-cert", "/b", "--tls-key", "/c"];
        let mode = |more: &[&str]| settings(&[&files[..], more].concat()).unwrap().tls_mode;
        assert_eq!((mode(&[]), mode(&["--tls-mode", "strict"])), (TlsMode::Strict, TlsMode::Strict));
        assert_eq!(
            (mode(&["--tls-mode", "warn"]), settings(&[]).unwrap().tls_mode),
            (TlsMode::Warn, TlsMode::Off)
        );
    }

    #[test]
    fn limits_have_defaults_and_are_not_zero() {
        assert_eq!(settings(&[]).unwrap().limits, Limits::default());
        assert_eq!(settings(&["--limits-calls", "7"]).unwrap().limits.calls, 7);
        for flag in ["calls", "requests", "connections", "claims", "address-calls", "address-connections"] {
            let flag = format!("--limits-{flag}");
            let error = settings(&[&flag, "0"]).unwrap_err().to_string();
            assert_eq!(error, format!("{flag} 0: give it 1 or more"));
        }
        assert!(settings(&["--limits-shorter-host-len", "127"]).is_err());
    }

    #[test]
    fn wrong_values_name_flag_value_and_fix() {
        let error = settings(&["--down-after", "0"]).unwrap_err().to_string();
        assert_eq!(error, "--down-after 0: give it 1 to 86400 seconds");
        let error = settings(&["--hold-down", "soon"]).unwrap_err().to_string();
        assert_eq!(error, "--hold-down soon: give it seconds, or \"never\"");
        assert_eq!(settings(&["--hold-down", "never"]).unwrap().hold_down, None);
        assert_eq!(settings(&["--hold-down", "60"]).unwrap().hold_down, Some(Duration::from_secs(60)));
        let error = settings(&["--store", "sqlite:/x"]).unwrap_err().to_string();
        assert!(error.contains("sqlite:/x") && error.contains("embedded:PATH"), "{error}");
        let error = settings(&["--etcd-user", "sextant"]).unwrap_err().to_string();
        assert_eq!(error, "--etcd-user sextant: needs --etcd-password-file");
    }

    #[test]
    fn automatic_backups_are_off_unless_asked_for_and_have_a_directory() {
        let none = settings(&[]).unwrap();
        assert_eq!(none.backups, None);
        let beside = PathBuf::from("/var/lib/sextant/controller/controller.redb.backups");
        assert_eq!(none.backup_dir.as_ref(), Some(&beside), "those of an earlier start are found");
        let hourly = settings(&["--backup-every", "1h"]).unwrap().backups;
        assert_eq!(hourly, Some(Schedule { every: Duration::from_secs(3600), keep: 7, directory: beside }));
        let etcd = ["--store", "etcd:http://[::1]:2379"];
        let given = ["--backup-every", "30m", "--backup-keep", "48", "--backup-dir", "/b"];
        let schedule = settings(&[&etcd[..], &given].concat()).unwrap().backups.unwrap();
        assert_eq!((schedule.keep, schedule.directory), (48, "/b".into()));
        for (args, error) in [
            (&["--backup-every", "soon"][..], "--backup-every soon: \"soon\" is not a time"),
            (&["--backup-every", "10ms"], "--backup-every 10ms: give it 1s to 8760h"),
            (&["--backup-every", "1h", "--backup-keep", "0"], "--backup-keep 0: give it 1 to 10000"),
            (&["--backup-keep", "3"], "--backup-keep 3: needs --backup-every"),
            (&["--store", "etcd:http://[::1]:2379", "--backup-every", "1h"], "1h: needs --backup-dir"),
        ] {
            let said = settings(args).unwrap_err().to_string();
            assert!(said.contains(error), "{args:?}: {said}");
        }
    }

    #[test]
    fn etcds_members_are_listed() {
        let urls = ["http://[::1]:2379", "http://[::1]:2381"];
        let store = settings(&["--store", "etcd:http://[::1]:2379,http://[::1]:2381"]).unwrap().store;
        assert_eq!(store, Store::Etcd(urls.map(str::to_owned).to_vec()));
    }
}
