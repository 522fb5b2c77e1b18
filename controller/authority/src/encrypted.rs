//! Keys that are encrypted with a passphrase: PKCS #8 with PBES2 (RFC 8018), scrypt and AES-256-CBC, in PEM. openssl reads them.

use std::fmt;

use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef, SecretDocument, der::pem::PemLabel};
use rcgen::KeyPair;

/// The label of an encrypted key in PEM.
const LABEL: &str = EncryptedPrivateKeyInfoRef::PEM_LABEL;
/// The fewest characters of a new passphrase.
const LEAST: usize = 12;

/// A passphrase. It is shown by nothing.
#[derive(Clone)]
pub struct Passphrase(String);

/// Why a text is no passphrase for a new backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the passphrase has {0} characters; give it {LEAST} or more")]
pub struct PassphraseError(usize);

impl Passphrase {
    /// The first line of this text, as openssl reads one from a file.
    pub fn first_line(text: &str) -> Self {
        Self(text.lines().next().unwrap_or_default().to_owned())
    }

    /// Whether it may encrypt a new backup.
    ///
    /// # Errors
    /// If it is too short.
    pub fn for_new(self) -> Result<Self, PassphraseError> {
        let characters = self.0.chars().count();
        if characters < LEAST { Err(PassphraseError(characters)) } else { Ok(self) }
    }
}

/// Takes no part of it for a hint: both were typed by the same person.
impl PartialEq for Passphrase {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase")
    }
}

/// Whether the text of a key's file is of an encrypted one.
pub(crate) fn is_encrypted(text: &str) -> bool {
    text.contains(&format!("-----BEGIN {LABEL}-----"))
}

/// The key, encrypted, in PEM.
pub(crate) fn encrypt(key: &KeyPair, passphrase: &Passphrase) -> Result<String, pkcs8::Error> {
    let der = key.serialize_der();
    let encrypted = PrivateKeyInfoRef::try_from(der.as_slice())?.encrypt(&passphrase.0)?;
    Ok(encrypted.to_pem(LABEL, LineEnding::LF)?.to_string())
}

/// The key in an encrypted PEM text; `None` if it is damaged, or of another passphrase.
pub(crate) fn decrypt(text: &str, passphrase: &Passphrase) -> Option<KeyPair> {
    let (label, document) = SecretDocument::from_pem(text).ok()?;
    if label != LABEL {
        return None;
    }
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).ok()?;
    KeyPair::try_from(encrypted.decrypt(&passphrase.0).ok()?.as_bytes()).ok()
}
