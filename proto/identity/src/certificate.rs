//! What a certificate says of its holder. Pure: the chain was verified before.

use std::time::{Duration, SystemTime};

use sextant_proto::{NodeName, quoted};
use x509_parser::{
    extensions::GeneralName,
    oid_registry::Oid,
    prelude::{FromDer, X509Certificate},
};

use crate::{
    identity::{Identity, IdentityError, Role, Subject},
    signer::SignerName,
    token::sha256,
};

/// The holder of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its name.
    pub identity: Identity,
    /// What a person may do: the organisational unit (OU) of the subject; without one, a person reads. Members that are no persons
    /// have none.
    pub role: Option<Role>,
    /// The serial number, in hexadecimal digits.
    pub serial: String,
    /// When it begins.
    pub begins: SystemTime,
    /// When it ends.
    pub ends: SystemTime,
    /// The SHA-256 of its public key (SubjectPublicKeyInfo).
    pub key_hash: [u8; 32],
    /// The issuing certificates that were shown with it: one of them has certified it, or none if a site's authority has.
    pub issuers: Vec<Issuer>,
}

/// The issuing certificate of a controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// The controller.
    pub controller: NodeName,
    /// The serial number, in hexadecimal digits.
    pub serial: String,
}

/// Why a certificate is of nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It is no certificate.
    #[error("the certificate cannot be parsed: {0}")]
    Malformed(String),
    /// Its names.
    #[error(
        "the certificate has {0} URI names; it needs one, spiffe://CLUSTER/{{node,controller,admin}}/NAME"
    )]
    Uris(usize),
    /// It is of a signer, and for another use.
    #[error("the certificate is not for document signing (extended key usage 1.3.6.1.5.5.7.3.36)")]
    Usage,
    /// Its name or role.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// The holder of the certificate with this DER encoding.
///
/// # Errors
/// If it is no certificate, or has no single SPIFFE ID of a member.
pub fn holder(der: &[u8]) -> Result<Holder, CertificateError> {
    let certificate = parsed(der)?;
    let identity: Identity = uri(&certificate)?.parse()?;
    let role = match &identity.subject {
        Subject::Admin(_) => Some(role(&certificate)?),
        Subject::Node(_) | Subject::Controller(_) => None,
    };
    let validity = certificate.validity();
    Ok(Holder {
        identity,
        role,
        serial: certificate.serial.to_str_radix(16),
        begins: system_time(validity.not_before.timestamp()),
        ends: system_time(validity.not_after.timestamp()),
        key_hash: sha256(certificate.public_key().raw),
        issuers: Vec::new(),
    })
}

/// The holder of the first certificate of a chain that was verified; all in DER.
///
/// # Errors
/// As [`holder`].
pub fn chain_holder(chain: &[impl AsRef<[u8]>]) -> Result<Holder, CertificateError> {
    let (own, intermediates) =
        chain.split_first().ok_or_else(|| CertificateError::Malformed("there is none".to_owned()))?;
    Ok(Holder { issuers: issuers(intermediates), ..holder(own.as_ref())? })
}

/// The issuing certificates of controllers among these certificates, in DER.
pub fn issuers(intermediates: &[impl AsRef<[u8]>]) -> Vec<Issuer> {
    let named = |der: &[u8]| -> Option<Issuer> {
        let certificate = parsed(der).ok()?;
        let identity: Identity = uri(&certificate).ok()?.parse().ok()?;
        let Subject::Controller(controller) = identity.subject else { return None };
        Some(Issuer { controller, serial: certificate.serial.to_str_radix(16) })
    };
    intermediates.iter().filter_map(|it| named(it.as_ref())).collect()
}

/// The name of the signer of receipts whose certificate has this DER encoding. Its URI names no member of a cluster, and its extended
/// key usage is `usage`.
///
/// # Errors
/// If it is no certificate, or is of no signer.
pub fn signer(der: &[u8], usage: &[u64]) -> Result<SignerName, CertificateError> {
    let certificate = parsed(der)?;
    let name = uri(&certificate)?.parse()?;
    let usages = certificate.extended_key_usage();
    let usages = usages.map_err(|error| CertificateError::Malformed(quoted(&error.to_string())))?;
    let is_its = |oid: &Oid<'_>| oid.iter().is_some_and(|arcs| arcs.eq(usage.iter().copied()));
    if usages.is_some_and(|usages| usages.value.other.iter().any(is_its)) {
        Ok(name)
    } else {
        Err(CertificateError::Usage)
    }
}

fn parsed(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    let parsed = X509Certificate::from_der(der);
    Ok(parsed.map_err(|error| CertificateError::Malformed(quoted(&error.to_string())))?.1)
}

/// The only URI among its names.
fn uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, CertificateError> {
    let names = certificate.subject_alternative_name();
    let names = names.map_err(|error| CertificateError::Malformed(quoted(&error.to_string())))?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    if let [uri] = uris[..] { Ok(uri) } else { Err(CertificateError::Uris(uris.len())) }
}

/// The public key (SubjectPublicKeyInfo, RFC 5280 §4.1) of the certificate with this DER encoding.
///
/// # Errors
/// If it is no certificate.
pub fn public_key(der: &[u8]) -> Result<Vec<u8>, CertificateError> {
    Ok(parsed(der)?.public_key().raw.to_vec())
}

/// Whether `certificate` names `issuer` as its issuer; both in DER.
pub fn issued(issuer: &[u8], certificate: &[u8]) -> bool {
    let (Ok((_, issuer)), Ok((_, certificate))) =
        (X509Certificate::from_der(issuer), X509Certificate::from_der(certificate))
    else {
        return false;
    };
    certificate.issuer() == issuer.subject()
}

fn system_time(unix_secs: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(unix_secs).unwrap_or(0))
}

fn role(certificate: &X509Certificate<'_>) -> Result<Role, CertificateError> {
    let mut units = certificate.subject().iter_organizational_unit();
    match (units.next(), units.next()) {
        (None, _) => Ok(Role::Viewer),
        (Some(unit), None) => {
            let text = unit.as_str().map_err(|error| CertificateError::Malformed(error.to_string()))?;
            Ok(text.parse()?)
        }
        (Some(_), Some(_)) => Err(IdentityError::Role("several".to_owned()).into()),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn made(uris: &[&str], units: &[&str]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        units.iter().for_each(|unit| params.distinguished_name.push(DnType::OrganizationalUnitName, *unit));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_names_its_holder_and_the_role_of_a_person() {
        let node = holder(&made(&["spiffe://c1/node/h1"], &["admin"])).unwrap();
        assert_eq!((node.identity.to_string().as_str(), node.role), ("spiffe://c1/node/h1", None));
        assert!(node.ends > SystemTime::now() && !node.serial.is_empty());
        for (units, role) in
            [(&[][..], Role::Viewer), (&["operator"], Role::Operator), (&["admin"], Role::Admin)]
        {
            assert_eq!(holder(&made(&["spiffe://c1/admin/ann"], units)).unwrap().role, Some(role));
        }
    }

    #[test]
    fn no_name_several_names_and_unknown_roles_are_refused() {
        assert_eq!(holder(&made(&[], &[])), Err(CertificateError::Uris(0)));
        let two = ["spiffe://c1/node/h1", "spiffe://c1/admin/ann"];
        assert_eq!(holder(&made(&two, &[])), Err(CertificateError::Uris(2)));
        let refused = holder(&made(&["spiffe://c1/admin/ann"], &["root"])).unwrap_err();
        assert!(refused.to_string().contains("\"root\" is no role"), "{refused}");
        assert!(holder(b"nothing").is_err());
    }
}
