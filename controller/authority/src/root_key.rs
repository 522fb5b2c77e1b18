//! The key of the root: `root.key`, or a file elsewhere, which may be encrypted.

use std::path::{Path, PathBuf};

use rcgen::KeyPair;
use sextant_identity::files;

use crate::{
    directory::{Directory, DirectoryError, Written, new, read_key},
    encrypted::{self, Passphrase},
    file::Readers,
};

/// A file with the key of the root.
#[derive(Debug, Clone)]
pub struct RootKey {
    /// Where it is.
    pub path: PathBuf,
    /// With which it is encrypted, if it is.
    pub passphrase: Option<Passphrase>,
}

impl RootKey {
    /// Whether the file needs a passphrase.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn is_encrypted(path: &Path) -> Result<bool, DirectoryError> {
        Ok(encrypted::is_encrypted(&String::from_utf8_lossy(&files::read_secret(path)?)))
    }

    /// The key, which is of a certificate in the file `beside`.
    pub(crate) fn read(&self, beside: &Path) -> Result<KeyPair, DirectoryError> {
        let Self { path, passphrase } = self;
        if !path.exists() || !Self::is_encrypted(path)? {
            return read_key(path, beside);
        }
        let Some(passphrase) = passphrase else { return Err(DirectoryError::Encrypted(path.clone())) };
        let text = String::from_utf8(files::read_secret(path)?).ok();
        let key = text.and_then(|text| encrypted::decrypt(&text, passphrase));
        key.ok_or_else(|| DirectoryError::Passphrase(path.clone()))
    }
}

impl Directory {
    /// Writes the key of the root into a new file, encrypted.
    ///
    /// # Errors
    /// If the key is not here, or the file cannot be made.
    pub fn back_up(&self, file: &Path, passphrase: &Passphrase) -> Result<Written, DirectoryError> {
        let (key, _) = self.key_of_root()?;
        let text = encrypted::encrypt(&key, passphrase)
            .map_err(|error| DirectoryError::Encrypt(error.to_string()))?;
        new(file.to_owned(), Readers::Owner, &text)
    }
}
