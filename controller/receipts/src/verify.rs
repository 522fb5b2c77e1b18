//! What a receipt proves.

use prost::Message;
use sextant_identity::{SignerError, certificate, signer};
use sextant_proto::{PoolName, convert::MessageError, v1};

use crate::{
    content::{Content, Mismatch},
    issue::signed_text,
};

/// The most octets of a receipt.
const MOST_OCTETS: usize = 16 << 10;

/// Whose receipts count.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Those of signers that these roots certify, in DER.
    Roots(Vec<Vec<u8>>),
    /// Those of the signer of this public key (SubjectPublicKeyInfo).
    Key(Vec<u8>),
}

/// Why a receipt proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// There is none.
    #[error("there is none")]
    Missing,
    /// It is too long.
    #[error("it has more than {MOST_OCTETS} octets")]
    Length,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Malformed(String),
    /// Its signature does not count.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// Its signer is of another cluster.
    #[error("its signer is of cluster {0}")]
    SignerCluster(PoolName),
    /// It is of another claim.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

impl From<MessageError> for Invalid {
    fn from(error: MessageError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// What `receipt` proves.
///
/// # Errors
/// An [`Invalid`] if it proves nothing.
pub fn verify(receipt: &v1::Receipt, trust: &Trust) -> Result<Content, Invalid> {
    let content = read(receipt)?;
    let v1::Receipt { content: octets, signature, chain } = receipt;
    let text = signed_text(octets);
    match trust {
        Trust::Roots(roots) => {
            let name = signer::verify(roots, chain, content.signed, &text, signature)?;
            if name.cluster != content.cluster {
                return Err(Invalid::SignerCluster(name.cluster));
            }
        }
        Trust::Key(key) => signer::verify_by_key(key, chain, &text, signature)?,
    }
    Ok(content)
}

/// Whether `receipt` says the same as `content`, and names the present root or key as its signer's. Its signature is not checked: who
/// keeps a forged receipt of a claim that the store has, harms itself alone.
pub fn looks_like(receipt: &v1::Receipt, content: &Content, present: &Trust) -> bool {
    let names_signer = match present {
        Trust::Roots(roots) => receipt
            .chain
            .last()
            .is_some_and(|last| roots.iter().any(|root| certificate::issued(root, last.as_ref()))),
        Trust::Key(key) => receipt
            .chain
            .first()
            .is_some_and(|own| certificate::public_key(own.as_ref()).is_ok_and(|found| found == *key)),
    };
    names_signer && read(receipt).is_ok_and(|found| found.is_same(content))
}

fn read(receipt: &v1::Receipt) -> Result<Content, Invalid> {
    if receipt.encoded_len() > MOST_OCTETS {
        return Err(Invalid::Length);
    }
    let decoded = v1::ReceiptContent::decode(&receipt.content[..]);
    Ok(decoded.map_err(|error| Invalid::Malformed(error.to_string()))?.try_into()?)
}
