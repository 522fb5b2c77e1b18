//! What a host without a certificate shows.

use std::fmt;

use sextant_identity::{Fingerprint, JoinToken, TlsDial, TlsError};
use sextant_proto::v1::{self, enroll_request::Proof};

/// What a host shows that has no certificate yet.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A join token.
    Token(JoinToken),
    /// The token of a service account in Kubernetes, for a cluster with one of these roots.
    ServiceAccount {
        /// The token.
        token: Hidden,
        /// The hashes of the roots.
        roots: Vec<Fingerprint>,
    },
}

/// A secret text, which is shown by nothing.
#[derive(Clone)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

impl Credential {
    /// To the controllers that it is for, and to no others.
    pub(crate) fn dial(&self) -> Result<TlsDial, TlsError> {
        match self {
            Self::Token(token) => TlsDial::by_root(token.root),
            Self::ServiceAccount { roots, .. } => TlsDial::by_roots(roots),
        }
    }

    /// The roots of the cluster, of which a controller's answer has one.
    pub(crate) fn roots(&self) -> &[Fingerprint] {
        match self {
            Self::Token(token) => std::slice::from_ref(&token.root),
            Self::ServiceAccount { roots, .. } => roots,
        }
    }

    pub(crate) fn proof(&self) -> Proof {
        match self {
            Self::Token(token) => {
                let (id, secret) = (token.id.to_string(), token.secret.octets().to_vec().into());
                Proof::Token(v1::TokenProof { id, secret })
            }
            Self::ServiceAccount { token, .. } => {
                Proof::ServiceAccount(v1::ServiceAccountProof { token: token.0.clone() })
            }
        }
    }
}
