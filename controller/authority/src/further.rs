//! A further controller makes its own key: it writes a request, the root signs it, and the answer is installed. No key leaves a machine.

use std::time::SystemTime;

use rcgen::{KeyPair, PublicKeyData};
use sextant_identity::{Identity, Subject, files, signer};
use sextant_proto::PoolName;
use sextant_receipts::Sign;

use crate::{
    certify::{self, Lifetime},
    directory::{Directory, DirectoryError, Issuing, Written, exists, new, read_key, write},
    file::{Readers, make_directory},
    request::{self, Request},
    signer::Signer,
};

impl Directory {
    /// Makes the key of `controller` and the request of its issuing certificate. Files that are there stay. Returns the request in PEM.
    ///
    /// # Errors
    /// If a file cannot be made or used, or is of another controller.
    pub fn request(&self, controller: &Identity) -> Result<(String, Vec<Written>), DirectoryError> {
        if exists(&self.issuing())? {
            return Err(DirectoryError::Exists(self.issuing()));
        }
        make_directory(self.path()).map_err(|source| write(self.path(), source))?;
        let (path, mut written) = (self.request_path(), Vec::new());
        let key = self.key(&self.issuing_key(), &path, &mut written)?;
        if exists(&path)? {
            let text = self.own_request(&key, controller)?;
            written.push(Written { path, is_new: false });
            return Ok((text, written));
        }
        let text = request::of_controller(controller, &key)?;
        written.push(new(path, Readers::All, &text)?);
        Ok((text, written))
    }

    /// The request that is there, of this key and controller.
    fn own_request(&self, key: &KeyPair, controller: &Identity) -> Result<String, DirectoryError> {
        let path = self.request_path();
        let text = self.read_text(&path)?;
        let request = Request::from_pem(&text)?;
        let found = request.controller()?;
        if found != *controller {
            let (found, wanted) = (found.to_string(), controller.to_string());
            return Err(DirectoryError::Other { path, found, wanted });
        }
        if request.public_key() != key.subject_public_key_info() {
            let why = "it is of another request".to_owned();
            return Err(DirectoryError::Key { path: self.issuing_key(), why, beside: path });
        }
        Ok(text)
    }

    /// Certifies the controller of a request by the root here. Returns the answer in PEM: the issuing certificate, then the roots.
    ///
    /// # Errors
    /// If the request is of no controller of this cluster, or a file cannot be made or used.
    pub fn sign(
        &self,
        request: &Request,
        cluster: &PoolName,
        now: SystemTime,
    ) -> Result<(String, Written), DirectoryError> {
        let controller = request.controller()?;
        if controller.cluster != *cluster {
            return Err(DirectoryError::Cluster {
                found: controller.to_string(),
                wanted: cluster.to_string(),
            });
        }
        if exists(&self.issuing())? {
            self.is_of_cluster(&controller)?;
        }
        let (Subject::Node(name) | Subject::Controller(name) | Subject::Admin(name)) = &controller.subject;
        let path = self.path().join(format!("controller-{name}.pem"));
        if exists(&path)? {
            return Err(DirectoryError::Exists(path));
        }
        let issuing = certify::issuing(&controller, request.key(), &self.root_issuer()?, now)?;
        let answer = issuing + &self.read_text(&self.root())?;
        Ok((answer.clone(), new(path, Readers::All, &answer)?))
    }

    /// Installs the answer to the request here, if it is of the key here and a root has certified it. Files that are there stay.
    ///
    /// # Errors
    /// If it is not, or there is another certificate here.
    pub fn install(&self, answer: &str, now: SystemTime) -> Result<(Identity, Vec<Written>), DirectoryError> {
        let (certificate, roots) = split(answer).ok_or(DirectoryError::Answer)?;
        let (kept, path) = (exists(&self.root())?, self.issuing());
        let trusted = if kept { self.read_text(&self.root())? } else { roots.to_owned() };
        let key = read_key(&self.issuing_key(), &self.request_path())?;
        let issuing = Issuing::new(certificate, &trusted, key, self)?;
        issuing.is_certified(now)?;
        let mut written = vec![if kept {
            Written { path: self.root(), is_new: false }
        } else {
            new(self.root(), Readers::All, roots)?
        }];
        if !exists(&path)? {
            written.push(new(path, Readers::All, certificate)?);
        } else if files::read_certificates(&path)?[0] == issuing.certificate {
            written.push(Written { path, is_new: false });
        } else {
            return Err(DirectoryError::Exists(path));
        }
        Ok((issuing.identity, written))
    }
}

impl Issuing {
    /// Checks that it is of a controller, and that a trusted root has certified it: by a receipt's signer, whose chain is that long.
    fn is_certified(&self, now: SystemTime) -> Result<(), DirectoryError> {
        if !matches!(self.identity.subject, Subject::Controller(_)) {
            return Err(DirectoryError::Answer);
        }
        let (signer, message) =
            (Signer::certified(self, Lifetime::default(), now)?, b"the answer to a request");
        let signature = signer.sign(message)?;
        let at = signer.signs_at(now);
        let verified = signer::verify(&self.roots, signer.chain(), at, message, &signature);
        verified.map(drop).map_err(|error| DirectoryError::Uncertified(error.to_string()))
    }
}

/// The first certificate of a PEM text, and the others, of which there are some.
fn split(text: &str) -> Option<(&str, &str)> {
    const END: &str = "-----END CERTIFICATE-----\n";
    let begin = text.find("-----BEGIN CERTIFICATE-----")?;
    let (first, others) = text[begin..].split_at(text[begin..].find(END)? + END.len());
    files::parse_certificates(others.as_bytes())?;
    Some((first, others))
}
