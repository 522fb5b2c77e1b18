//! Signers of receipts: `spiffe://CLUSTER/receipts/NAME`. Pure.
//!
//! A signer is no member of a cluster: its certificate opens no connection. Neither can the certificate of a node, a controller or a
//! person sign: a signer's has the extended key usage of document signing (RFC 9336) and a URI of its own.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use sextant_proto::{NodeName, PoolName, quoted};
use webpki::{
    ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert, ring::ECDSA_P256_SHA256,
};

use crate::{
    certificate::{self, CertificateError},
    identity::IdentityError,
};

/// The extended key usage of signers' certificates, id-kp-documentSigning (RFC 9336 §3.1).
pub const DOCUMENT_SIGNING: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 3, 36];
/// The same in DER.
const DOCUMENT_SIGNING_DER: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 36];
/// The algorithm of signatures.
const ALGORITHM: &dyn SignatureVerificationAlgorithm = ECDSA_P256_SHA256;
/// The most certificates of a chain.
const MOST_CERTIFICATES: usize = 4;

/// The name of a signer: that of its controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerName {
    /// The cluster.
    pub cluster: PoolName,
    /// The controller.
    pub controller: NodeName,
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// There is no certificate, or too many.
    #[error("it has {0} certificates of its signer; it needs 1 to {MOST_CERTIFICATES}")]
    Length(usize),
    /// The certificate is of no signer.
    #[error("its signer: {0}")]
    Certificate(#[from] CertificateError),
    /// The certificate is of another authority, was not valid then, or is for another use.
    #[error("the certificate of its signer is not accepted: {0}")]
    Chain(String),
    /// The signature is of another key, or of another text.
    #[error("its signature is not that of its signer over this content")]
    Signature,
}

impl FromStr for SignerName {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let form = || IdentityError::Signer(quoted(text));
        let (cluster, controller) =
            text.strip_prefix("spiffe://").and_then(|rest| rest.split_once("/receipts/")).ok_or_else(form)?;
        let wrong = |error: sextant_proto::NameError| IdentityError::Name {
            uri: quoted(text),
            why: error.to_string(),
        };
        Ok(Self { cluster: cluster.parse().map_err(wrong)?, controller: controller.parse().map_err(wrong)? })
    }
}

impl fmt::Display for SignerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/receipts/{}", self.cluster, self.controller)
    }
}

/// Checks `signature` over `message` by a signer whose `chain` ends in one of `roots`, all in DER, and returns its name. The chain
/// counts as it was at `signed`: a signer's certificate ends long before the claims that it signed.
///
/// # Errors
/// A [`SignerError`].
pub fn verify(
    roots: &[Vec<u8>],
    chain: &[impl AsRef<[u8]>],
    signed: SystemTime,
    message: &[u8],
    signature: &[u8],
) -> Result<SignerName, SignerError> {
    let (own, intermediates) = split(chain)?;
    let name = certificate::signer(own.as_ref(), &DOCUMENT_SIGNING)?;
    let refused = |error: webpki::Error| SignerError::Chain(error.to_string());
    let own = CertificateDer::from(own.as_ref());
    let own = EndEntityCert::try_from(&own).map_err(refused)?;
    let roots: Vec<CertificateDer<'_>> = roots.iter().map(|it| CertificateDer::from(it.as_slice())).collect();
    let anchors: Vec<TrustAnchor<'_>> =
        roots.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
    let intermediates: Vec<_> = intermediates.iter().map(|it| CertificateDer::from(it.as_ref())).collect();
    let signed = signed.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    // Issuing certificates have no extended key usage. The signer's own was checked.
    let (at, usage) =
        (UnixTime::since_unix_epoch(signed), KeyUsage::required_if_present(DOCUMENT_SIGNING_DER));
    own.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &intermediates, at, usage, None, None)
        .map_err(refused)?;
    own.verify_signature(ALGORITHM, message, signature).map_err(|_| SignerError::Signature)?;
    Ok(name)
}

/// Checks `signature` over `message` by the signer of this public key (SubjectPublicKeyInfo), which is trusted for itself.
///
/// # Errors
/// A [`SignerError`].
pub fn verify_by_key(
    public_key: &[u8],
    chain: &[impl AsRef<[u8]>],
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignerError> {
    let (own, _) = split(chain)?;
    if certificate::public_key(own.as_ref())? != public_key {
        return Err(SignerError::Chain("it is of another key".to_owned()));
    }
    let own = CertificateDer::from(own.as_ref());
    let own = EndEntityCert::try_from(&own).map_err(|error| SignerError::Chain(error.to_string()))?;
    own.verify_signature(ALGORITHM, message, signature).map_err(|_| SignerError::Signature)
}

fn split<T: AsRef<[u8]>>(chain: &[T]) -> Result<(&T, &[T]), SignerError> {
    let split = chain.split_first().filter(|_| chain.len() <= MOST_CERTIFICATES);
    split.ok_or(SignerError::Length(chain.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    #[test]
    fn a_signer_is_no_member_and_no_member_is_a_signer() {
        let name: SignerName = "spiffe://c1/receipts/a".parse().unwrap();
        assert_eq!(name.to_string(), "spiffe://c1/receipts/a");
        assert!("spiffe://c1/receipts/a".parse::<Identity>().is_err());
        for text in [
            "",
            "spiffe://c1/node/a",
            "spiffe://c1/controller/a",
            "spiffe://c1/admin/a",
            "spiffe://c1/receipts/",
            "spiffe://c1/receipts/a/b",
            "spiffe:///receipts/a",
            "https://c1/receipts/a",
            "spiffe://c1/node/receipts/a",
        ] {
            assert!(text.parse::<SignerName>().is_err(), "{text:?}");
        }
    }
}
