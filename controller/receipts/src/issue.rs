//! Makes receipts.

use prost::Message;
use sextant_proto::v1;

use crate::content::Content;

/// What signed texts begin with: no signature of another use is one of a receipt.
const CONTEXT: &[u8] = b"sextant receipt\0";

/// The key of a signer.
pub trait Sign {
    /// Why nothing is signed.
    type Error;

    /// The signature of `message`: ECDSA P-256 with SHA-256, in ASN.1.
    ///
    /// # Errors
    /// If the key cannot be used.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Self::Error>;

    /// The signer's certificate, then its intermediates, in DER.
    fn chain(&self) -> &[Vec<u8>];
}

/// A receipt that says this.
///
/// # Errors
/// If the key cannot be used.
pub fn issue<S: Sign>(content: &Content, signer: &S) -> Result<v1::Receipt, S::Error> {
    let content = v1::ReceiptContent::from(content).encode_to_vec();
    let signature = signer.sign(&signed_text(&content))?;
    let chain = signer.chain().iter().map(|it| it.clone().into()).collect();
    Ok(v1::Receipt { content: content.into(), signature: signature.into(), chain })
}

pub(crate) fn signed_text(content: &[u8]) -> Vec<u8> {
    [CONTEXT, content].concat()
}
