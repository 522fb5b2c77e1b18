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

/// What the files have.
pub(crate) struct Material {
    pub(crate) roots: RootCertStore,
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) holder: Holder,
}

/// By what a changed file is noticed: inode, time of the change, and length, of each.
pub(crate) type Stamp = [Option<(u64, SystemTime, u64)>; 3];

impl Paths {
    /// The present state of the files.
    pub(crate) fn stamp(&self) -> Stamp {
        let stamp = |path: &Path| {
            let found = fs::metadata(path).ok()?;
            Some((found.ino(), found.modified().ok()?, found.len()))
        };
        [&self.authorities, &self.certificate, &self.key].map(|path| stamp(path))
    }

    /// Reads the files.
    pub(crate) fn read(&self) -> Result<Material, FileError> {
        let malformed =
            |path: &Path, why: &str| FileError::Malformed { path: path.to_owned(), why: why.to_owned() };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.authorities)? {
            roots.add(certificate).map_err(|error| malformed(&self.authorities, &error.to_string()))?;
        }
        let chain = certificates(&self.certificate)?;
        let holder = holder(&chain[0]);
        let holder =
            holder.map_err(|source| FileError::Certificate { path: self.certificate.clone(), source })?;
        Ok(Material { roots, chain, key: self.read_key()?, holder })
    }

    fn read_key(&self) -> Result<PrivateKeyDer<'static>, FileError> {
        let path = &self.key;
        let unreadable = |source| FileError::Unreadable { path: path.clone(), source };
        let mode = fs::metadata(path).map_err(unreadable)?.mode() & 0o777;
        if mode & 0o007 != 0 {
            return Err(FileError::Exposed { path: path.clone(), mode });
        }
        let text = fs::read(path).map_err(unreadable)?;
        PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| FileError::Malformed { path: path.clone(), why: "no private key in PEM".to_owned() })
    }
}

/// The certificates of a file: at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = fs::read(path).map_err(|source| FileError::Unreadable { path: path.to_owned(), source })?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(FileError::Malformed { path: path.to_owned(), why: "no certificate in PEM".to_owned() }),
    }
}
