//! Certificates. Pure, but for random keys and serial numbers.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use sextant_identity::{Identity, Role, SignerName, Subject, signer::DOCUMENT_SIGNING};
use sextant_proto::{NodeName, PoolName};

use crate::request::Request;

/// How far clocks may differ: a certificate is valid from so long before it is made.
const CLOCK_SKEW: Duration = Duration::from_secs(300);
/// The longest lifetime of a node's or controller's certificate.
const MOST_HOURS: u64 = 24;
const DAY: Duration = Duration::from_secs(86_400);
/// The lifetime of a root.
pub(crate) const ROOT: Duration = Duration::from_secs(20 * 365 * 86_400);
/// The lifetime of a controller's issuing certificate.
pub(crate) const ISSUING: Duration = Duration::from_secs(5 * 365 * 86_400);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// The request of a certificate is none, or not signed by its key.
    #[error("the certificate signing request is unusable: {0}")]
    Request(rcgen::Error),
    /// The name in the request of a controller.
    #[error(
        "the certificate signing request names no controller of a cluster: {0}; make it with: sextant-controller pki request NAME"
    )]
    Name(String),
    /// The certificate cannot be made.
    #[error("the certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// There are no random numbers.
    #[error("the system has no random numbers")]
    Random,
    /// The issuer has ended.
    #[error("the issuing certificate of {0} has ended; make another: sextant-controller pki request {0}")]
    IssuerEnded(NodeName),
}

/// The lifetime of nodes' and controllers' certificates: at most 24 h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime(Duration);

impl Lifetime {
    /// This long, or 24 h if that is shorter; at least a second.
    pub fn new(wanted: Duration) -> Self {
        Self(wanted.clamp(Duration::from_secs(1), Duration::from_secs(MOST_HOURS * 3600)))
    }
}

impl Default for Lifetime {
    fn default() -> Self {
        Self::new(Duration::MAX)
    }
}

/// The certificate of a root, in PEM.
pub(crate) fn root(cluster: &PoolName, key: &KeyPair, now: SystemTime) -> Result<String, CertifyError> {
    let mut params = authority(&format!("Sextant root of {cluster}"), key, now, ROOT)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(params.self_signed(key)?.pem())
}

/// The issuing certificate of a controller, in PEM.
pub(crate) fn issuing(
    identity: &Identity,
    key: &impl PublicKeyData,
    root: &Issuer<'_, KeyPair>,
    now: SystemTime,
) -> Result<String, CertifyError> {
    let name = format!("Sextant {} of {}", identity.subject, identity.cluster);
    let mut params = authority(&name, key, now, ISSUING)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.subject_alt_names = vec![uri(identity)?];
    params.use_authority_key_identifier_extension = true;
    Ok(params.signed_by(key, root)?.pem())
}

/// The certificate of a node or a controller. It ends with the issuer at the latest.
pub(crate) fn member(
    identity: &Identity,
    key: &impl PublicKeyData,
    issuer: &Issuer<'_, KeyPair>,
    validity: Validity,
) -> Result<Certificate, CertifyError> {
    let mut params = of_member(identity, validity)?;
    if matches!(identity.subject, Subject::Controller(_)) {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    Ok(params.signed_by(key, issuer)?)
}

/// The certificate of a node by its request.
pub(crate) fn requested(
    identity: &Identity,
    request: &Request,
    issuer: &Issuer<'_, KeyPair>,
    validity: Validity,
) -> Result<Certificate, CertifyError> {
    member(identity, request.key(), issuer, validity)
}

/// The certificate of a person.
pub(crate) fn person(
    identity: &Identity,
    role: Role,
    key: &KeyPair,
    issuer: &Issuer<'_, KeyPair>,
    validity: Validity,
) -> Result<Certificate, CertifyError> {
    let mut params = of_member(identity, validity)?;
    params.distinguished_name.push(DnType::OrganizationalUnitName, role.to_string());
    Ok(params.signed_by(key, issuer)?)
}

/// The certificate of a signer of receipts.
pub(crate) fn signer(
    name: &SignerName,
    key: &KeyPair,
    issuer: &Issuer<'_, KeyPair>,
    validity: Validity,
) -> Result<Certificate, CertifyError> {
    Ok(of_signer(name, validity)?.signed_by(key, issuer)?)
}

/// The certificate of a signer of receipts that is trusted for its key.
pub(crate) fn own_signer(
    name: &SignerName,
    key: &KeyPair,
    validity: Validity,
) -> Result<Certificate, CertifyError> {
    let mut params = of_signer(name, validity)?;
    params.use_authority_key_identifier_extension = false;
    Ok(params.self_signed(key)?)
}

fn of_signer(name: &SignerName, validity: Validity) -> Result<CertificateParams, CertifyError> {
    let usage = ExtendedKeyUsagePurpose::Other(DOCUMENT_SIGNING.to_vec());
    leaf(&format!("receipts of {}", name.controller), &name.to_string(), usage, validity)
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) begins: SystemTime,
    pub(crate) ends: SystemTime,
}

impl Validity {
    /// That of a member's certificate: for `lifetime` from now, and before for clocks that are late; not longer than the issuer's.
    pub(crate) fn of_member(lifetime: Lifetime, now: SystemTime, issuer_ends: SystemTime) -> Self {
        let Lifetime(lifetime) = lifetime;
        Self { begins: now - CLOCK_SKEW.min(lifetime / 2), ends: (now + lifetime).min(issuer_ends) }
    }

    /// That of the certificate of a signer whose key is in a file. It is trusted for the key, whenever that signs.
    pub(crate) fn of_key(now: SystemTime) -> Self {
        Self { begins: now - CLOCK_SKEW, ends: now + ROOT }
    }

    /// That of a person's certificate.
    pub(crate) fn of_person(days: u32, now: SystemTime, issuer_ends: SystemTime) -> Self {
        Self { begins: now - CLOCK_SKEW, ends: (now + DAY * days).min(issuer_ends) }
    }
}

/// The certificate of a member of the cluster, which opens connections.
fn of_member(identity: &Identity, validity: Validity) -> Result<CertificateParams, CertifyError> {
    let (Subject::Node(name) | Subject::Controller(name) | Subject::Admin(name)) = &identity.subject;
    leaf(name.as_str(), &identity.to_string(), ExtendedKeyUsagePurpose::ClientAuth, validity)
}

fn leaf(
    name: &str,
    uri: &str,
    usage: ExtendedKeyUsagePurpose,
    validity: Validity,
) -> Result<CertificateParams, CertifyError> {
    let mut params = named(name)?;
    (params.not_before, params.not_after) = (validity.begins.into(), validity.ends.into());
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// An authority's certificate. Certificates are found by the name of their authority, so that each has another one.
fn authority(
    name: &str,
    key: &impl PublicKeyData,
    now: SystemTime,
    lifetime: Duration,
) -> Result<CertificateParams, CertifyError> {
    let digits: String =
        sextant_identity::token::sha256(key.der_bytes())[..4].iter().map(|it| format!("{it:02x}")).collect();
    let mut params = named(&format!("{name} {digits}"))?;
    (params.not_before, params.not_after) = ((now - CLOCK_SKEW).into(), (now + lifetime).into());
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// A certificate with this common name, and a random serial number.
pub(crate) fn named(name: &str) -> Result<CertificateParams, CertifyError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(serial()?);
    Ok(params)
}

/// 128 random bits, positive (RFC 5280 §4.1.2.2).
fn serial() -> Result<SerialNumber, CertifyError> {
    let mut octets = [0; 16];
    SystemRandom::new().fill(&mut octets).map_err(|_| CertifyError::Random)?;
    octets[0] = octets[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&octets))
}

pub(crate) fn uri(identity: &Identity) -> Result<SanType, CertifyError> {
    Ok(SanType::URI(identity.to_string().try_into()?))
}
