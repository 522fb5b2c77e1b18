//! The controller's other commands.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use sextant_daemon::layered;
use sextant_proto::PoolName;

use super::{CommandLine, DEFAULT_CONFIG, Invalid, keys::Keys, value};

/// The default directory of the cluster's authority.
const DEFAULT_PKI: &str = "/etc/sextant/pki";
/// The days until the certificate of a person ends, by default.
pub const PERSON_DAYS: u32 = 90;

/// The controller's other commands.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Write the manual pages and the completions below a share directory
    #[command(after_help = "Example:\n  sextant-controller manual /usr/local/share")]
    Manual {
        /// The directory, with man, bash-completion, zsh and fish in it
        share: PathBuf,
    },
    /// Make the certificates of the cluster's own authority
    Pki {
        /// The command
        #[command(subcommand)]
        command: PkiCommand,
    },
}

/// The commands of the cluster's own authority.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum PkiCommand {
    /// Make the root of the cluster and the issuing certificate of its first controller; files that exist stay
    #[command(after_help = "Example:\n  sextant-controller pki init --admin ann")]
    Init {
        /// Directory of the files [default: --pki, else /etc/sextant/pki]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
        /// Name of this controller [default: the host's name]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Write root.key into this new file as well, encrypted with a passphrase: a backup, which openssl reads too
        #[arg(long, value_name = "FILE")]
        backup: Option<PathBuf>,
        /// File whose first line is the passphrase of the backup [default: the terminal]
        #[arg(long, value_name = "FILE", requires = "backup")]
        passphrase_file: Option<PathBuf>,
        /// Make the certificate and the key of this admin too, as `pki admin` does
        #[arg(long, value_name = "PERSON")]
        admin: Option<String>,
    },
    /// Make the key of a further controller on its own machine, and print the request of its issuing certificate, for `pki sign`
    #[command(after_help = "Example:\n  sextant-controller pki request c2 >c2.csr")]
    Request {
        /// Name of the controller
        name: String,
        /// Directory of the controller's files [default: --pki, else /etc/sextant/pki]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Certify the controller of a request, where the root's key is, and print the answer, for `pki install`
    #[command(after_help = "Example:\n  sextant-controller pki sign c2.csr >c2.pem")]
    Sign {
        /// File of the request; `-` is standard input
        file: PathBuf,
        /// Fingerprint of the request's key, as `pki request` shows it on the controller's machine [default: ask at the terminal]
        #[arg(long, value_name = "HEX")]
        fingerprint: Option<String>,
        /// The key of the root
        #[command(flatten)]
        root_key: RootKeyArgs,
        /// Directory of the root's files [default: --pki, else /etc/sextant/pki]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Install the answer of `pki sign` on the controller's machine, if it is of the key there
    #[command(after_help = "Example:\n  sextant-controller pki install c2.pem")]
    Install {
        /// File of the answer; `-` is standard input
        file: PathBuf,
        /// Directory of the controller's files [default: --pki, else /etc/sextant/pki]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Make key and issuing certificate of a further controller here, in a directory to copy to its machine; needs root.key
    #[command(after_help = "Example:\n  sextant-controller pki controller c2")]
    Controller {
        /// Name of the controller
        name: String,
        /// The key of the root
        #[command(flatten)]
        root_key: RootKeyArgs,
        /// Directory of the root's files [default: --pki, else /etc/sextant/pki]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Make the certificate and the key of a person, for `sextant`
    #[command(after_help = "Example:\n  sextant-controller pki admin ann --days 90")]
    Admin {
        /// Name of the person
        name: String,
        /// What the person may do: viewer, operator or admin
        #[arg(long, value_name = "ROLE", default_value = "admin")]
        role: String,
        /// Days until the certificate ends (1 to 825)
        #[arg(long, value_name = "DAYS", default_value_t = PERSON_DAYS)]
        days: u32,
        /// Directory of the controller's files [default: --pki, else /etc/sextant/pki]
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// The key of the root.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RootKeyArgs {
    /// File of the root's key; it may be the encrypted backup [default: root.key in the directory]
    #[arg(long, value_name = "FILE")]
    pub root_key: Option<PathBuf>,
    /// File whose first line is the passphrase of the root's key [default: the terminal]
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

/// Where the authority's files are, and the cluster that they are of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PkiPlace {
    /// The directory.
    pub directory: PathBuf,
    /// The cluster's name.
    pub cluster: PoolName,
}

impl CommandLine {
    /// Where the authority's files are: in `dir` if it is given.
    ///
    /// # Errors
    /// If the config file or the cluster's name is invalid.
    pub fn pki(&self, dir: Option<PathBuf>) -> Result<PkiPlace, Invalid> {
        let keys: Keys = layered(self.config.as_deref(), Path::new(DEFAULT_CONFIG), &self.keys)?;
        let cluster = keys.cluster.unwrap_or_else(|| "default".into());
        Ok(PkiPlace {
            directory: dir.or(keys.pki).unwrap_or_else(|| DEFAULT_PKI.into()),
            cluster: cluster.parse().map_err(|error| value("--cluster", &cluster, &error))?,
        })
    }
}
