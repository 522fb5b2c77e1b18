//! The directory of an authority: `root.pem`, `issuing.pem` and `issuing.key` of a controller; and `root.key`, where others are made.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rcgen::{Issuer, KeyPair, PublicKeyData};
use sextant_identity::{
    FileError, Identity, Role, Subject,
    certificate::{self, holder},
    files,
};
use sextant_proto::NodeName;

use crate::{
    certify::{self, CertifyError, Validity},
    file::{Readers, make_directory, write_new},
    root_key::RootKey,
};

/// A directory of an authority's files.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
    /// The key of the root, if it is elsewhere.
    root_key: Option<RootKey>,
}

/// A file, and whether it is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Which.
    pub path: PathBuf,
    /// It was made now; otherwise it was there.
    pub is_new: bool,
}

/// Why files were not made.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A file cannot be made.
    #[error("{path:?}: {source}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key is missing, or no key.
    #[error("{path:?}: {why}; put the file back that belongs to {}", beside.display())]
    Key {
        /// The key's file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// The certificate's file.
        beside: PathBuf,
    },
    /// The files are of another cluster or controller.
    #[error("{path:?} is of {found}, and not of {wanted}; use another directory, or the name that it has")]
    Other {
        /// The certificate's file.
        path: PathBuf,
        /// Its holder.
        found: String,
        /// The name that was given.
        wanted: String,
    },
    /// A certificate.
    #[error(transparent)]
    Certify(#[from] CertifyError),
    /// A certificate that is there already.
    #[error("{0:?} exists; give another name, or remove the file")]
    Exists(PathBuf),
    /// The key of the root is encrypted.
    #[error("{0:?} is encrypted; give the file of its passphrase with --passphrase-file")]
    Encrypted(PathBuf),
    /// Another passphrase.
    #[error(
        "{0:?}: the passphrase is wrong, or the file is damaged; give the passphrase that the backup was made with"
    )]
    Passphrase(PathBuf),
    /// The key of the root cannot be encrypted.
    #[error("the key of the root cannot be encrypted: {0}")]
    Encrypt(String),
    /// A request of a controller of another cluster.
    #[error(
        "the request is of {found}, and not of a controller of cluster {wanted}; set --cluster to the cluster of the root"
    )]
    Cluster {
        /// The name in the request.
        found: String,
        /// The cluster.
        wanted: String,
    },
    /// The answer to a request is none.
    #[error(
        "the file has no issuing certificate of a controller with the root after it; give the file that `sextant-controller pki sign` has made"
    )]
    Answer,
    /// The answer is certified by another root.
    #[error(
        "the issuing certificate is not certified by the root: {0}; give the file that `sextant-controller pki sign` has made for this cluster"
    )]
    Uncertified(String),
    /// A person whose files would be the authority's own.
    #[error("{0}.pem and {0}.key are the authority's own files; give the person another name")]
    Reserved(NodeName),
}

impl Directory {
    /// At this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), root_key: None }
    }

    /// The same, with the key of the root in another file.
    pub fn with_root_key(self, key: RootKey) -> Self {
        Self { root_key: Some(key), ..self }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The certificates of the roots; several while one is replaced.
    pub fn root(&self) -> PathBuf {
        self.path.join("root.pem")
    }

    /// The key of the root.
    pub fn root_key(&self) -> PathBuf {
        self.path.join("root.key")
    }

    /// The controller's issuing certificate.
    pub fn issuing(&self) -> PathBuf {
        self.path.join("issuing.pem")
    }

    /// Its key.
    pub fn issuing_key(&self) -> PathBuf {
        self.path.join("issuing.key")
    }

    /// The request of an issuing certificate, of a further controller.
    pub fn request_path(&self) -> PathBuf {
        self.path.join("issuing.csr")
    }

    /// The certificate of a person; the key is beside it.
    pub fn person_certificate(&self, name: &NodeName) -> PathBuf {
        self.path.join(format!("{name}.pem"))
    }

    /// Makes the root and the issuing certificate of the first controller. Files that are there stay.
    ///
    /// # Errors
    /// If a file cannot be made or used.
    pub fn init(&self, controller: &Identity, now: SystemTime) -> Result<Vec<Written>, DirectoryError> {
        make_directory(&self.path).map_err(|source| write(&self.path, source))?;
        let mut written = Vec::new();
        if !exists(&self.root())? {
            let key = self.key(&self.root_key(), &self.root(), &mut written)?;
            let certificate = certify::root(&controller.cluster, &key, now)?;
            written.push(new(self.root(), Readers::All, &certificate)?);
        } else {
            written.push(Written { path: self.root(), is_new: false });
        }
        self.issue(self, controller, now, &mut written)?;
        Ok(written)
    }

    /// Makes the files of a further controller in a directory of its own, which is to be copied to its machine. Files that are there stay.
    ///
    /// # Errors
    /// If a file cannot be made or used.
    pub fn controller(
        &self,
        controller: &Identity,
        now: SystemTime,
    ) -> Result<(Self, Vec<Written>), DirectoryError> {
        let (Subject::Node(name) | Subject::Controller(name) | Subject::Admin(name)) = &controller.subject;
        let of = Self::new(self.path.join(name.as_str()));
        let roots = fs::read_to_string(self.root()).map_err(|source| write(&self.root(), source))?;
        if exists(&self.issuing())? {
            self.is_of_cluster(controller)?;
        }
        make_directory(of.path()).map_err(|source| write(of.path(), source))?;
        let mut written = Vec::new();
        if exists(&of.root())? {
            written.push(Written { path: of.root(), is_new: false });
        } else {
            written.push(new(of.root(), Readers::All, &roots)?);
        }
        self.issue(&of, controller, now, &mut written)?;
        Ok((of, written))
    }

    /// Makes the certificate and key of a person, by the issuing certificate of the controller here.
    ///
    /// # Errors
    /// If a file cannot be made or used, or there is one of this name.
    pub fn person(
        &self,
        name: &NodeName,
        role: Role,
        days: u32,
        now: SystemTime,
    ) -> Result<Vec<Written>, DirectoryError> {
        if ["root", "issuing"].contains(&name.as_str()) {
            return Err(DirectoryError::Reserved(name.clone()));
        }
        let (path, key_path) = (self.person_certificate(name), self.path.join(format!("{name}.key")));
        if let Some(path) = [&path, &key_path].into_iter().find(|path| path.exists()) {
            return Err(DirectoryError::Exists(path.clone()));
        }
        let issuing = self.opened()?;
        let identity =
            Identity { cluster: issuing.identity.cluster.clone(), subject: Subject::Admin(name.clone()) };
        let key = KeyPair::generate().map_err(CertifyError::from)?;
        let validity = Validity::of_person(days, now, issuing.ends);
        let certificate = certify::person(&identity, role, &key, &issuing.issuer, validity)?;
        let chain = certificate.pem() + &issuing.pem;
        Ok(vec![new(key_path, Readers::Owner, &key.serialize_pem())?, new(path, Readers::All, &chain)?])
    }

    /// The issuing certificate of `of`, certified by the root here.
    fn issue(
        &self,
        of: &Self,
        controller: &Identity,
        now: SystemTime,
        written: &mut Vec<Written>,
    ) -> Result<(), DirectoryError> {
        if exists(&of.issuing())? {
            let opened = of.opened()?;
            if opened.identity != *controller {
                let (found, wanted) = (opened.identity.to_string(), controller.to_string());
                return Err(DirectoryError::Other { path: of.issuing(), found, wanted });
            }
            written.extend([of.issuing_key(), of.issuing()].map(|path| Written { path, is_new: false }));
            return Ok(());
        }
        let root = self.root_issuer()?;
        let key = self.key(&of.issuing_key(), &of.issuing(), written)?;
        let certificate = certify::issuing(controller, &key, &root, now)?;
        written.push(new(of.issuing(), Readers::All, &certificate)?);
        Ok(())
    }

    /// Refuses a controller of another cluster than that of the controller here.
    pub(crate) fn is_of_cluster(&self, controller: &Identity) -> Result<(), DirectoryError> {
        let here = self.opened()?.identity;
        if here.cluster == controller.cluster {
            return Ok(());
        }
        let (found, wanted) = (here.to_string(), controller.to_string());
        Err(DirectoryError::Other { path: self.issuing(), found, wanted })
    }

    /// The root, which certifies.
    pub(crate) fn root_issuer(&self) -> Result<Issuer<'static, KeyPair>, DirectoryError> {
        let (key, own) = self.key_of_root()?;
        Ok(Issuer::from_ca_cert_der(&own.into(), key).map_err(CertifyError::from)?)
    }

    /// The key of the root, with its certificate in DER.
    pub(crate) fn key_of_root(&self) -> Result<(KeyPair, Vec<u8>), DirectoryError> {
        let here = || RootKey { path: self.root_key(), passphrase: None };
        let from = self.root_key.clone().unwrap_or_else(here);
        let key = from.read(&self.root())?;
        let roots = files::read_certificates(&self.root())?;
        let own = roots.into_iter().find(|root| is_of(root, &key));
        let own = own.ok_or_else(|| DirectoryError::Key {
            path: from.path,
            why: "it is of no certificate in root.pem".to_owned(),
            beside: self.root(),
        })?;
        Ok((key, own))
    }

    /// The key in this file, which is made if it is not there.
    pub(crate) fn key(
        &self,
        path: &Path,
        certificate: &Path,
        written: &mut Vec<Written>,
    ) -> Result<KeyPair, DirectoryError> {
        if exists(path)? {
            written.push(Written { path: path.to_owned(), is_new: false });
            return read_key(path, certificate);
        }
        let key = KeyPair::generate().map_err(CertifyError::from)?;
        written.push(new(path.to_owned(), Readers::Owner, &key.serialize_pem())?);
        Ok(key)
    }

    /// The issuing certificate of the controller here.
    pub(crate) fn opened(&self) -> Result<Issuing, DirectoryError> {
        let (roots, issuing) = (self.read_text(&self.root())?, self.read_text(&self.issuing())?);
        let key = read_key(&self.issuing_key(), &self.issuing())?;
        Issuing::new(&issuing, &roots, key, self)
    }

    pub(crate) fn read_text(&self, path: &Path) -> Result<String, DirectoryError> {
        fs::read_to_string(path).map_err(|source| write(path, source))
    }
}

/// An issuing certificate with its key.
pub(crate) struct Issuing {
    pub(crate) identity: Identity,
    pub(crate) ends: SystemTime,
    pub(crate) issuer: Issuer<'static, KeyPair>,
    /// Itself, in DER and in PEM.
    pub(crate) certificate: Vec<u8>,
    pub(crate) pem: String,
    /// The trusted roots, in DER and in PEM.
    pub(crate) roots: Vec<Vec<u8>>,
    pub(crate) roots_pem: String,
}

impl Issuing {
    /// From PEM texts, for the controller of this directory.
    pub(crate) fn new(
        pem: &str,
        roots_pem: &str,
        key: KeyPair,
        of: &Directory,
    ) -> Result<Self, DirectoryError> {
        let parsed = |text: &str, path: PathBuf| {
            let why = "no certificate in PEM".to_owned();
            files::parse_certificates(text.as_bytes()).ok_or(FileError::Malformed { path, why })
        };
        let roots = parsed(roots_pem, of.root())?;
        let certificate = parsed(pem, of.issuing())?.swap_remove(0);
        let holder =
            holder(&certificate).map_err(|source| FileError::Certificate { path: of.issuing(), source })?;
        if !is_of(&certificate, &key) {
            let why = "it is of another certificate".to_owned();
            return Err(DirectoryError::Key { path: of.issuing_key(), why, beside: of.issuing() });
        }
        let issuer =
            Issuer::from_ca_cert_der(&certificate.as_slice().into(), key).map_err(CertifyError::from)?;
        let (pem, roots_pem) = (pem.to_owned(), roots_pem.to_owned());
        Ok(Self { identity: holder.identity, ends: holder.ends, issuer, certificate, pem, roots, roots_pem })
    }
}

pub(crate) fn read_key(path: &Path, certificate: &Path) -> Result<KeyPair, DirectoryError> {
    let wrong =
        |why: String| DirectoryError::Key { path: path.to_owned(), why, beside: certificate.to_owned() };
    if !exists(path)? {
        return Err(wrong("no such file".to_owned()));
    }
    let text = String::from_utf8(files::read_secret(path)?);
    let key = text.ok().and_then(|text| KeyPair::from_pem(&text).ok());
    key.ok_or_else(|| wrong("no private key in PEM".to_owned()))
}

/// Whether the certificate, in DER, is of this key.
fn is_of(certificate: &[u8], key: &KeyPair) -> bool {
    certificate::public_key(certificate).is_ok_and(|found| found == key.subject_public_key_info())
}

pub(crate) fn exists(path: &Path) -> Result<bool, DirectoryError> {
    path.try_exists().map_err(|source| write(path, source))
}

pub(crate) fn new(path: PathBuf, readers: Readers, text: &str) -> Result<Written, DirectoryError> {
    write_new(&path, readers, text).map_err(|source| write(&path, source))?;
    Ok(Written { path, is_new: true })
}

pub(crate) fn write(path: &Path, source: io::Error) -> DirectoryError {
    DirectoryError::Write { path: path.to_owned(), source }
}
