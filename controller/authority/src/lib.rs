//! The cluster's own certificate authority.
//!
//! A **root** certifies an **issuing certificate** of each controller, which certifies the controller itself, nodes and people. The key
//! of the root is needed only for another controller: it is kept offline. Pure, but for keys and serial numbers: [`certify`], and what a [`Request`]
//! says. The edges: the [`Directory`] of a root and of one controller, the [`Authority`] of a running controller, and the key of a [`Signer`] of
//! receipts where there is no authority.

mod authority;
mod certify;
mod directory;
mod encrypted;
mod file;
mod further;
mod request;
mod root_key;
mod signer;

pub use authority::{Authority, Granted};
pub use certify::{CertifyError, Lifetime};
pub use directory::{Directory, DirectoryError, Written};
pub use encrypted::{Passphrase, PassphraseError};
pub use request::Request;
pub use root_key::RootKey;
pub use signer::Signer;

#[cfg(test)]
mod tests;
