//! The key of a node, and its requests of certificates. The only file that names rcgen.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData};

/// A node's key.
pub(crate) struct NodeKey(KeyPair);

impl NodeKey {
    /// A new one: ECDSA with the curve P-256.
    pub(crate) fn generate() -> Result<Self, String> {
        KeyPair::generate().map(Self).map_err(|error| error.to_string())
    }

    /// That of a PEM text.
    pub(crate) fn from_pem(text: &str) -> Result<Self, String> {
        KeyPair::from_pem(text).map(Self).map_err(|error| error.to_string())
    }

    /// As a PEM text.
    pub(crate) fn pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// The public key (SubjectPublicKeyInfo).
    pub(crate) fn public_key(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// A request of a certificate for it, in DER. It has no names: the controller knows them.
    pub(crate) fn request(&self) -> Result<Vec<u8>, String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.0).map_err(|error| error.to_string())?;
        Ok(request.der().to_vec())
    }
}

#[cfg(test)]
impl NodeKey {
    /// A certificate of it for this name, by itself, in PEM.
    pub(crate) fn self_signed(&self, uri: &str) -> String {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
        params.self_signed(&self.0).unwrap().pem()
    }
}
