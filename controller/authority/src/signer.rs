//! The key of a signer of receipts: certified by the authority, or of a file.

use std::{
    io,
    path::Path,
    time::{Duration, SystemTime},
};

use rcgen::{KeyPair, SigningKey};
use sextant_identity::{SignerName, Subject, certificate};
use sextant_receipts::Sign;

use crate::{
    certify::{self, CertifyError, Lifetime, Validity},
    directory::{DirectoryError, Issuing, read_key},
    file::{Readers, write_new},
};

/// A signer of receipts.
pub struct Signer {
    key: KeyPair,
    chain: Vec<Vec<u8>>,
    validity: Validity,
    /// When another one is to be made.
    due: SystemTime,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("validity", &self.validity).finish_non_exhaustive()
    }
}

impl Signer {
    /// One with a key of its own, for as long as a controller's certificate.
    pub(crate) fn certified(
        issuing: &Issuing,
        lifetime: Lifetime,
        now: SystemTime,
    ) -> Result<Self, CertifyError> {
        let (Subject::Node(name) | Subject::Controller(name) | Subject::Admin(name)) =
            &issuing.identity.subject;
        let name = SignerName { cluster: issuing.identity.cluster.clone(), controller: name.clone() };
        let validity = issuing.validity(lifetime, now)?;
        let key = KeyPair::generate()?;
        let certificate = certify::signer(&name, &key, &issuing.issuer, validity)?;
        let chain = vec![certificate.der().to_vec(), issuing.certificate.clone()];
        let lasts = validity.ends.duration_since(now).unwrap_or_default();
        Ok(Self { key, chain, validity, due: now + lasts * 2 / 3 })
    }

    /// The one whose key is in this file, which is made if it is not there. Controllers with copies of the file trust each other's
    /// receipts.
    ///
    /// # Errors
    /// If the file cannot be made or used.
    pub fn of_key(path: &Path, name: &SignerName, now: SystemTime) -> Result<Self, DirectoryError> {
        let written = |source| DirectoryError::Write { path: path.to_owned(), source };
        if !path.try_exists().map_err(written)? {
            let key = KeyPair::generate().map_err(CertifyError::from)?;
            match write_new(path, Readers::Owner, &key.serialize_pem()) {
                // Another controller on this host was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(written)?,
            }
        }
        let key = read_key(path, path)?;
        let validity = Validity::of_key(now);
        let certificate = certify::own_signer(name, &key, validity)?;
        Ok(Self { key, chain: vec![certificate.der().to_vec()], validity, due: validity.ends })
    }

    /// Whether it is to be used still.
    pub(crate) fn lasts(&self, now: SystemTime) -> bool {
        now < self.due && now >= self.validity.begins
    }

    /// Its public key (SubjectPublicKeyInfo).
    pub fn public_key(&self) -> Vec<u8> {
        certificate::public_key(&self.chain[0]).unwrap_or_default()
    }

    /// The time for a receipt: now, or the nearest time at which its certificate is valid, which is in whole seconds.
    pub fn signs_at(&self, now: SystemTime) -> SystemTime {
        let second = Duration::from_secs(1);
        now.clamp(
            self.validity.begins + second,
            (self.validity.ends - second).max(self.validity.begins + second),
        )
    }
}

impl Sign for Signer {
    type Error = CertifyError;

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CertifyError> {
        Ok(self.key.sign(message)?)
    }

    fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }
}
