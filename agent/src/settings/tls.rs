//! How the agent speaks TLS.

use std::path::{Path, PathBuf};

use sextant_identity::{Paths, TlsKeys};
use sextant_join::Directory;

use super::{ControllerUrl, Invalid, value};

/// How the agent speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// With files of a site's authority.
    Files(Paths),
    /// With a certificate for a join token, which the agent renews itself.
    Joined {
        /// The agent's state directory.
        state_dir: PathBuf,
        /// For a host that has no certificate yet.
        files: JoinFiles,
    },
}

/// The files of a host that joins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinFiles {
    /// The token.
    pub token: Option<PathBuf>,
    /// The roots of the cluster, where the token is of a service account in Kubernetes.
    pub ca: Option<PathBuf>,
}

impl Tls {
    /// The file of this node's certificate.
    pub fn certificate(&self) -> PathBuf {
        match self {
            Self::Files(paths) => paths.certificate.clone(),
            Self::Joined { state_dir, .. } => Directory::of(state_dir).paths().certificate,
        }
    }
}

/// TLS is spoken with the files that are set, or else, with `https` controllers, with those in the state directory.
pub(super) fn tls(
    keys: TlsKeys,
    join: JoinFiles,
    urls: &[String],
    state_dir: &Path,
) -> Result<Option<Tls>, Invalid> {
    let is_secure = |url: &String| url.parse::<ControllerUrl>().is_ok_and(|url| url.is_secure());
    let secure = urls.iter().any(is_secure);
    match (keys.paths()?, join.token.clone()) {
        (Some(files), Some(token)) => {
            let fix = format!(
                "is for a host without a certificate; remove it, or --tls-cert {:?}",
                files.certificate
            );
            Err(value("--join-token-file", &token.display(), &fix))
        }
        (Some(files), None) => Ok(Some(Tls::Files(files))),
        (None, Some(token)) if !secure => Err(value(
            "--join-token-file",
            &token.display(),
            &"needs TLS: write --controller as https://HOST:PORT",
        )),
        (None, _) => Ok(secure.then(|| Tls::Joined { state_dir: state_dir.to_owned(), files: join })),
    }
}
