//! The controller's other commands.

use std::path::{Path, PathBuf};

use clap::Subcommand;
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
        /// Make the certificate and the key of this admin too, as `pki admin` does
        #[arg(long, value_name = "PERSON")]
        admin: Option<String>,
    },
    /// Make the issuing certificate of a further controller, in a directory to copy to its machine; needs root.key
    #[command(after_help = "Example:\n  sextant-controller pki controller c2")]
    Controller {
        /// Name of the controller
        name: String,
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
