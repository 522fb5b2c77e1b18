//! The files: the certificates of the trusted authorities, the own certificate with its intermediates, and its key. All are PEM.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::certificate::{CertificateError, Holder, holder};

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The authorities whose certificates are trusted; several during a roll-over.
    pub authorities: PathBuf,
    /// The own certificate, followed by its intermediates.
    pub certificate: PathBuf,
    /// Its private key: PKCS #8, SEC 1 or PKCS #1.
    pub key: PathBuf,
}

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file cannot be read.
    #[error("{path:?}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the settings is not there.
    #[error("{path:?}: there is no such file; install it, or set {setting}")]
    Missing {
        /// Which.
        path: PathBuf,
        /// The setting that names another one.
        setting: &'static str,
    },
    /// A file has something else in it.
    #[error("{path:?}: {why}")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Everybody may read the key.
    #[error("{path:?} is readable for all users of this host (mode {mode:o}); set it to 600, or to 640 for a group: chmod 600 {}", path.display())]
    Exposed {
        /// The key's file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The certificate is of nobody.
    #[error("{path:?}: {source}")]
    Certificate {
        /// Which.
        path: PathBuf,
        /// Why.
        source: CertificateError,
    },
}

/// What is needed for handshakes.
#[derive(Debug)]
pub struct Material {
    pub(crate) roots: RootCertStore,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) holder: Holder,
}

impl Material {
    /// The roots and the own certificate with its intermediates, both in DER, and its key, in PKCS #8. `path` names the authorities
    /// in errors.
    ///
    /// # Errors
    /// If the certificates cannot be used.
    pub fn new(path: &Path, roots: &[Vec<u8>], chain: Vec<Vec<u8>>, key: Vec<u8>) -> Result<Self, FileError> {
        let malformed = |why: String| FileError::Malformed { path: path.to_owned(), why };
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.clone().into()).map_err(|error| malformed(error.to_string()))?;
        }
        let own = chain.first().ok_or_else(|| malformed("no certificate".to_owned()))?;
        let holder =
            holder(own).map_err(|source| FileError::Certificate { path: path.to_owned(), source })?;
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        Ok(Self { roots: store, chain, key: PrivateKeyDer::Pkcs8(key.into()), holder })
    }
}

/// By what changed files are noticed: inode, time of the change, and length, of each; and a number that counts what else changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    files: Vec<Option<(u64, SystemTime, u64)>>,
    count: u64,
}

impl Stamp {
    /// The present state of these files.
    pub fn of(paths: &[&Path]) -> Self {
        let stamp = |path: &&Path| {
            let found = fs::metadata(path).ok()?;
            Some((found.ino(), found.modified().ok()?, found.len()))
        };
        Self { files: paths.iter().map(stamp).collect(), count: 0 }
    }

    /// The same at this count.
    pub fn at(self, count: u64) -> Self {
        Self { count, ..self }
    }
}

/// Where credentials come from.
pub trait Source: std::fmt::Debug + Send + Sync + 'static {
    /// The present state: credentials are read again when it has changed.
    fn stamp(&self) -> Stamp;

    /// Reads them.
    ///
    /// # Errors
    /// If they cannot be used.
    fn read(&self) -> Result<Material, FileError>;

    /// The file of the own certificate, for messages.
    fn certificate(&self) -> &Path;
}

impl Source for Paths {
    fn stamp(&self) -> Stamp {
        Stamp::of(&[&self.authorities, &self.certificate, &self.key])
    }

    fn read(&self) -> Result<Material, FileError> {
        let malformed =
            |path: &Path, why: &str| FileError::Malformed { path: path.to_owned(), why: why.to_owned() };
        let mut roots = RootCertStore::empty();
        let named = |setting: &'static str| move |error| missing(error, setting);
        for certificate in read_certificates(&self.authorities).map_err(named("--tls-ca"))? {
            roots
                .add(certificate.into())
                .map_err(|error| malformed(&self.authorities, &error.to_string()))?;
        }
        let chain = read_certificates(&self.certificate).map_err(named("--tls-cert"))?;
        let holder = holder(&chain[0]);
        let holder =
            holder.map_err(|source| FileError::Certificate { path: self.certificate.clone(), source })?;
        let chain = chain.into_iter().map(CertificateDer::from).collect();
        let text = read_secret(&self.key).map_err(named("--tls-key"))?;
        let key = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| malformed(&self.key, "no private key in PEM"))?;
        Ok(Material { roots, chain, key, holder })
    }

    fn certificate(&self) -> &Path {
        &self.certificate
    }
}

/// The content of a file that not all users of the host may read.
///
/// # Errors
/// If it cannot be read, or all users may read it.
pub fn read_secret(path: &Path) -> Result<Vec<u8>, FileError> {
    let unreadable = |source| FileError::Unreadable { path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(unreadable)?.mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), mode });
    }
    fs::read(path).map_err(unreadable)
}

/// The same error, which names the setting if the file is not there.
fn missing(error: FileError, setting: &'static str) -> FileError {
    match error {
        FileError::Unreadable { path, source } if source.kind() == io::ErrorKind::NotFound => {
            FileError::Missing { path, setting }
        }
        other => other,
    }
}

/// The certificates of a PEM file, in DER: at least one.
///
/// # Errors
/// If it cannot be read, or has none.
pub fn read_certificates(path: &Path) -> Result<Vec<Vec<u8>>, FileError> {
    let text = fs::read(path).map_err(|source| FileError::Unreadable { path: path.to_owned(), source })?;
    parse_certificates(&text).ok_or_else(|| FileError::Malformed {
        path: path.to_owned(),
        why: "no certificate in PEM".to_owned(),
    })
}

/// The certificates of a PEM text, in DER; `None` if there is none, or an unreadable one.
pub fn parse_certificates(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found: Vec<_> = found.ok()?.into_iter().map(|it| it.to_vec()).collect();
    (!found.is_empty()).then_some(found)
}
