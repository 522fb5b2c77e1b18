//! Where the credentials for TLS come from.

use std::path::PathBuf;

use sextant_authority::Lifetime;
use sextant_identity::{Paths, TlsKeys};

use super::{Invalid, MAX_SECONDS, seconds, value};

/// Where the credentials for TLS come from.
#[derive(Debug, Clone)]
pub enum Tls {
    /// Files of a site's authority.
    Files(Paths),
    /// The cluster's own authority.
    Own {
        /// Its directory.
        directory: PathBuf,
        /// How long the certificates are valid that it makes.
        lifetime: Lifetime,
    },
}

/// TLS by the cluster's own authority in `directory`, or else by files.
pub(super) fn tls(
    directory: Option<PathBuf>,
    lifetime: Option<f64>,
    files: TlsKeys,
) -> Result<Option<Tls>, Invalid> {
    let seconds = seconds("--certificate-lifetime", lifetime, MAX_SECONDS, 1.0)?;
    match (directory, files.paths()?) {
        (Some(directory), Some(files)) => {
            let fix =
                format!("makes the certificates itself; remove it, or --tls-cert {:?}", files.certificate);
            Err(value("--pki", &directory.display(), &fix))
        }
        (Some(directory), None) => Ok(Some(Tls::Own { directory, lifetime: Lifetime::new(seconds) })),
        (None, _) if lifetime.is_some() => {
            Err(value("--certificate-lifetime", &seconds.as_secs_f64(), &"needs --pki"))
        }
        (None, files) => Ok(files.map(Tls::Files)),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{
        super::{CommandLine, Settings},
        *,
    };

    fn settings(args: &[&str]) -> Result<Settings, Invalid> {
        let program = std::iter::once(&"sextant-controller");
        CommandLine::try_parse_from(program.chain(args)).unwrap().settings()
    }

    #[test]
    fn certificates_come_from_the_own_authority_or_from_files() {
        let own = settings(&["--pki", "/p", "--listen", "[2001:db8::1]:7300"]).unwrap().tls;
        assert!(matches!(own, Some(Tls::Own { lifetime, .. }) if lifetime == Lifetime::default()));
        let files = ["--tls-ca", "/ca", "--tls-cert", "/cert", "--tls-key", "/key"];
        assert!(matches!(settings(&files).unwrap().tls, Some(Tls::Files(_))));
        let both = settings(&[&["--pki", "/p"][..], &files].concat()).unwrap_err().to_string();
        assert!(both.contains("--pki /p: makes the certificates itself") && both.contains("/cert"), "{both}");
        let long = ["--pki", "/p", "--certificate-lifetime", "86401"];
        assert!(settings(&long).unwrap_err().to_string().contains("86401: give it 1 to 86400 seconds"));
        let alone = settings(&["--certificate-lifetime", "60"]).unwrap_err().to_string();
        assert_eq!(alone, "--certificate-lifetime 60: needs --pki");
    }
}
