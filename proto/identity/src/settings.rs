//! The settings, which the three programs share: `[tls]` in a config file, and flags.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::files::Paths;

/// `[tls]`
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct TlsKeys {
    /// Certificates of the trusted authorities (PEM); needs --tls-cert and --tls-key
    #[arg(id = "tls-ca", long = "tls-ca", env = "SEXTANT_TLS_CA", value_name = "FILE", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Own certificate with its intermediates (PEM)
    #[arg(id = "tls-cert", long = "tls-cert", env = "SEXTANT_TLS_CERT", value_name = "FILE", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Key of that certificate (PEM), not readable for all users of the host
    #[arg(id = "tls-key", long = "tls-key", env = "SEXTANT_TLS_KEY", value_name = "FILE", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// Some of the files are set, and some are not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{set} {path:?} needs {missing} too: TLS needs all three of --tls-ca, --tls-cert and --tls-key")]
pub struct Incomplete {
    set: &'static str,
    path: PathBuf,
    missing: &'static str,
}

impl TlsKeys {
    /// The files; `None` if none is set.
    ///
    /// # Errors
    /// If only some are set.
    pub fn paths(self) -> Result<Option<Paths>, Incomplete> {
        let named = [("--tls-ca", &self.ca), ("--tls-cert", &self.cert), ("--tls-key", &self.key)];
        let set = named.iter().find_map(|(name, path)| path.as_ref().map(|path| (*name, path.clone())));
        let missing = named.iter().find(|(_, path)| path.is_none()).map(|(name, _)| *name);
        if let (Some((set, path)), Some(missing)) = (set, missing) {
            return Err(Incomplete { set, path, missing });
        }
        Ok(match (self.ca, self.cert, self.key) {
            (Some(authorities), Some(certificate), Some(key)) => {
                Some(Paths { authorities, certificate, key })
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_are_set_or_none() {
        assert_eq!(TlsKeys::default().paths(), Ok(None));
        let all = TlsKeys { ca: Some("/ca".into()), cert: Some("/cert".into()), key: Some("/key".into()) };
        assert_eq!(all.clone().paths().unwrap().unwrap().key, PathBuf::from("/key"));
        let error = TlsKeys { key: None, ..all }.paths().unwrap_err().to_string();
        assert!(error.contains("--tls-ca \"/ca\" needs --tls-key too"), "{error}");
    }
}
