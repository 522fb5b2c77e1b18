//! The settings, which the three programs share: `[tls]` in a config file, and flags.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::files::Paths;

/// `[tls]`
#[derive(Debug, Clone, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct TlsKeys {
    /// Certificates of the trusted authorities (PEM) [default: root.pem beside --tls-cert]
    #[arg(id = "tls-ca", long = "tls-ca", env = "SEXTANT_TLS_CA", value_name = "FILE", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Own certificate with its intermediates (PEM)
    #[arg(id = "tls-cert", long = "tls-cert", env = "SEXTANT_TLS_CERT", value_name = "FILE", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Key of that certificate (PEM), not readable for all users of the host [default: as --tls-cert, with .key]
    #[arg(id = "tls-key", long = "tls-key", env = "SEXTANT_TLS_KEY", value_name = "FILE", global = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// A file is set, and no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{set} {path:?} needs --tls-cert too")]
pub struct Incomplete {
    set: &'static str,
    path: PathBuf,
}

impl TlsKeys {
    /// The files; `None` if none is set. Files that are not set are beside the certificate, as `pki` makes them.
    ///
    /// # Errors
    /// If there is no certificate, but another file.
    pub fn paths(self) -> Result<Option<Paths>, Incomplete> {
        let Some(certificate) = self.cert else {
            let others = [("--tls-ca", self.ca), ("--tls-key", self.key)];
            let set = others.into_iter().find_map(|(set, path)| path.map(|path| (set, path)));
            return set.map_or(Ok(None), |(set, path)| Err(Incomplete { set, path }));
        };
        let authorities = self.ca.unwrap_or_else(|| certificate.with_file_name("root.pem"));
        let key = self.key.unwrap_or_else(|| certificate.with_extension("key"));
        Ok(Some(Paths { authorities, certificate, key }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Credentials;

    #[test]
    fn the_certificate_names_the_other_files_unless_they_are_set() {
        assert_eq!(TlsKeys::default().paths(), Ok(None));
        let all = TlsKeys { ca: Some("/ca".into()), cert: Some("/cert".into()), key: Some("/key".into()) };
        assert_eq!(all.clone().paths().unwrap().unwrap().key, PathBuf::from("/key"));
        let without = TlsKeys { cert: None, ..all }.paths().unwrap_err().to_string();
        assert_eq!(without, "--tls-ca \"/ca\" needs --tls-cert too");
        let alone = TlsKeys { cert: Some("/etc/sextant/pki/ann.pem".into()), ..TlsKeys::default() };
        let [authorities, certificate, key] =
            ["root.pem", "ann.pem", "ann.key"].map(|name| PathBuf::from("/etc/sextant/pki").join(name));
        assert_eq!(alone.paths().unwrap().unwrap(), Paths { authorities, certificate, key });
    }

    #[test]
    fn a_file_that_is_not_there_is_named_with_its_setting() {
        let dir = tempfile::tempdir().unwrap();
        let cert = Some(dir.path().join("ann.pem"));
        let paths = TlsKeys { cert, ..TlsKeys::default() }.paths().unwrap().unwrap();
        let error = Credentials::open(paths, None).unwrap_err().to_string();
        assert!(error.contains("root.pem\": there is no such file; install it, or set --tls-ca"), "{error}");
    }
}
