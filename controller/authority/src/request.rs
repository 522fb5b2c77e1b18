//! Requests of certificates (PKCS #10), signed by their own keys. Pure.

use rcgen::{CertificateParams, CertificateSigningRequestParams, KeyPair, PublicKey, PublicKeyData, SanType};
use sextant_identity::{Fingerprint, Identity, Subject};
use sextant_proto::quoted;

use crate::certify::{CertifyError, named, uri};

/// A request of a certificate, signed by its own key. Who signs it decides which of the names in it count.
#[derive(Debug)]
pub struct Request(CertificateSigningRequestParams);

impl Request {
    /// The request with this DER encoding.
    ///
    /// # Errors
    /// If it is none, or is not signed by its key.
    pub fn from_der(der: &[u8]) -> Result<Self, CertifyError> {
        let parsed = CertificateSigningRequestParams::from_der(&der.into()).map_err(CertifyError::Request)?;
        Ok(Self(parsed))
    }

    /// The request with this PEM encoding.
    ///
    /// # Errors
    /// If it is none, or is not signed by its key.
    pub fn from_pem(text: &str) -> Result<Self, CertifyError> {
        let parsed = CertificateSigningRequestParams::from_pem(text).map_err(CertifyError::Request)?;
        Ok(Self(parsed))
    }

    /// Its public key (SubjectPublicKeyInfo).
    pub fn public_key(&self) -> Vec<u8> {
        self.0.public_key.subject_public_key_info()
    }

    /// The hash of its public key, by which people compare keys.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.public_key())
    }

    /// The controller that it names.
    ///
    /// # Errors
    /// If it names none, or more.
    pub fn controller(&self) -> Result<Identity, CertifyError> {
        let wrong = |why: String| CertifyError::Name(why);
        let [SanType::URI(uri)] = &self.0.params.subject_alt_names[..] else {
            return Err(wrong(format!(
                "it has {} names, and needs one URI",
                self.0.params.subject_alt_names.len()
            )));
        };
        let identity: Identity = uri.as_str().parse().map_err(|error| wrong(format!("{error}")))?;
        match &identity.subject {
            Subject::Controller(_) => Ok(identity),
            Subject::Node(_) | Subject::Admin(_) => Err(wrong(quoted(uri.as_str()))),
        }
    }

    pub(crate) fn key(&self) -> &PublicKey {
        &self.0.public_key
    }
}

/// The request of an issuing certificate for `controller`, in PEM.
pub(crate) fn of_controller(controller: &Identity, key: &KeyPair) -> Result<String, CertifyError> {
    let mut params: CertificateParams = named(&controller.subject.to_string())?;
    // A request has none.
    params.serial_number = None;
    params.subject_alt_names = vec![uri(controller)?];
    Ok(params.serialize_request(key)?.pem()?)
}
