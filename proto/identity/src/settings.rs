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

/// Some of the files are set, and others are neither set nor where they are by default.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// There is no certificate.
    #[error("{set} {path:?} needs --tls-cert too")]
    Certificate {
        /// The setting that is there.
        set: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// There is a certificate, and not all else.
    #[error("--tls-cert {certificate:?} needs {missing} too: there is no {beside:?}")]
    Beside {
        /// The certificate's file.
        certificate: PathBuf,
        /// The setting that is not there.
        missing: &'static str,
        /// The file that it is by default.
        beside: PathBuf,
    },
}

impl TlsKeys {
    /// The files; `None` if none is set. The certificate is enough where the other files are beside it, as `pki` makes them.
    ///
    /// # Errors
    /// If only some are set.
    pub fn paths(self) -> Result<Option<Paths>, Incomplete> {
        let Some(certificate) = self.cert else {
            let others = [("--tls-ca", self.ca), ("--tls-key", self.key)];
            let set = others.into_iter().find_map(|(set, path)| path.map(|path| (set, path)));
            return set.map_or(Ok(None), |(set, path)| Err(Incomplete::Certificate { set, path }));
        };
        let or_beside = |path: Option<PathBuf>, missing, beside: PathBuf| match path {
            Some(path) => Ok(path),
            // A file that cannot be looked at is named when it is read.
            None if beside.try_exists().unwrap_or(true) => Ok(beside),
            None => Err(Incomplete::Beside { certificate: certificate.clone(), missing, beside }),
        };
        let authorities = or_beside(self.ca, "--tls-ca", certificate.with_file_name("root.pem"))?;
        let key = or_beside(self.key, "--tls-key", certificate.with_extension("key"))?;
        Ok(Some(Paths { authorities, certificate, key }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn all_files_are_set_or_none() {
        assert_eq!(TlsKeys::default().paths(), Ok(None));
        let all = TlsKeys { ca: Some("/ca".into()), cert: Some("/cert".into()), key: Some("/key".into()) };
        assert_eq!(all.clone().paths().unwrap().unwrap().key, PathBuf::from("/key"));
        let error = |keys: TlsKeys| keys.paths().unwrap_err().to_string();
        let key = error(TlsKeys { key: None, ..all.clone() });
        assert_eq!(key, "--tls-cert \"/cert\" needs --tls-key too: there is no \"/cert.key\"");
        let ca = error(TlsKeys { ca: None, ..all.clone() });
        assert_eq!(ca, "--tls-cert \"/cert\" needs --tls-ca too: there is no \"/root.pem\"");
        let cert = error(TlsKeys { cert: None, ..all });
        assert_eq!(cert, "--tls-ca \"/ca\" needs --tls-cert too");
    }

    #[test]
    fn a_certificate_is_enough_where_the_other_files_are_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let alone = || TlsKeys { cert: Some(at("ann.pem")), ..TlsKeys::default() };
        fs::write(at("ann.key"), "").unwrap();
        assert!(alone().paths().unwrap_err().to_string().contains("needs --tls-ca too"));
        fs::write(at("root.pem"), "").unwrap();
        let paths = alone().paths().unwrap().unwrap();
        let wanted = Paths { authorities: at("root.pem"), certificate: at("ann.pem"), key: at("ann.key") };
        assert_eq!(paths, wanted);
        let set = TlsKeys { ca: Some("/ca".into()), ..alone() };
        assert_eq!(set.paths().unwrap().unwrap().authorities, PathBuf::from("/ca"));
    }
}
