//! A password in a file, which may change while the agent runs.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{Invalid, value};

/// The longest TCP MD5 key that the kernel takes (TCP_MD5SIG_MAXKEYLEN).
const MAX_PASSWORD: usize = 80;

/// A TCP MD5 key, which is never shown, and its file. Copies share it.
#[derive(Clone)]
pub struct Password {
    file: PathBuf,
    key: Arc<Mutex<String>>,
}

impl Password {
    /// The one in a file.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn read(file: PathBuf) -> Result<Self, Invalid> {
        let key = Arc::new(Mutex::new(key(&file)?));
        Ok(Self { file, key })
    }

    /// Reads the file again. Returns whether the key is another one now; without one in the file, it stays.
    ///
    /// # Errors
    /// If there is none in the file.
    pub fn read_again(&self) -> Result<bool, Invalid> {
        let now = key(&self.file)?;
        let mut known = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *known != now;
        *known = now;
        Ok(changed)
    }

    /// The key itself, for the kernel.
    pub fn octets(&self) -> Vec<u8> {
        self.key.lock().unwrap_or_else(PoisonError::into_inner).as_bytes().to_vec()
    }
}

impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file && self.octets() == other.octets()
    }
}

impl Eq for Password {}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

fn key(path: &Path) -> Result<String, Invalid> {
    let invalid = |fix: &dyn ToString| value("[[bgp.neighbour]] password-file", &path.display(), fix);
    let text = std::fs::read_to_string(path).map_err(|error| invalid(&error))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.len() > MAX_PASSWORD {
        return Err(invalid(&"has no key of 1 to 80 octets"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_read_from_a_file_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "geheim\n").unwrap();
        let read = Password::read(path.clone()).unwrap();
        assert_eq!(read.octets(), b"geheim");
        assert!(!format!("{read:?}").contains("geheim"));
        std::fs::write(&path, "\n").unwrap();
        assert!(Password::read(path).is_err());
    }

    #[test]
    fn a_file_without_a_password_keeps_the_one_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "old\n").unwrap();
        let read = Password::read(path.clone()).unwrap();
        let copy = read.clone();
        std::fs::write(&path, "old").unwrap();
        assert!(!read.read_again().unwrap(), "only its end of line is another one");
        std::fs::remove_file(&path).unwrap();
        let error = read.read_again().unwrap_err().to_string();
        assert!(error.contains("password-file") && copy.octets() == b"old", "{error}");
        std::fs::write(&path, "").unwrap();
        assert!(read.read_again().is_err() && copy.octets() == b"old");
        std::fs::write(&path, "new").unwrap();
        assert!(read.read_again().unwrap() && copy.octets() == b"new");
    }
}
