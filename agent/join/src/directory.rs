//! The files of a node: `node.key`, `node.pem` with its certificate and the intermediates, and `root.pem` with the trusted roots.
//!
//! Each is written whole or not at all. The key stays the same: a renewal replaces one file, and the pair fits at any time.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sextant_identity::{
    FileError, Fingerprint, Paths, Subject,
    certificate::{holder, public_key},
    files,
};
use sextant_proto::NodeName;

use crate::key::NodeKey;

/// The directory of a node's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory(PathBuf);

/// What the join token said that the node claims.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wish {
    /// The pool; empty: the default.
    pub pool: String,
    /// The length of its prefix; 0: the pool's.
    pub host_len: u32,
}

/// Why files are not used, or not written.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A file cannot be written.
    #[error("{}: {source}; it must be writable for the agent (--state-dir)", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key.
    #[error("{}: {why}; remove it, and join again with another token", path.display())]
    Key {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The controller gave something else than was asked for.
    #[error("the controller's answer is unusable: {0}")]
    Answer(String),
}

impl Directory {
    /// That of an agent with this state directory.
    pub fn of(state_dir: &Path) -> Self {
        Self(state_dir.join("tls"))
    }

    /// The files of the credentials.
    pub fn paths(&self) -> Paths {
        Paths { authorities: self.file("root.pem"), certificate: self.file("node.pem"), key: self.key_path() }
    }

    /// Whether the node has joined.
    pub fn has_joined(&self) -> bool {
        let Paths { authorities, certificate, key } = self.paths();
        [authorities, certificate, key].iter().all(|path| path.exists())
    }

    /// What the join token said that the node claims.
    pub fn wish(&self) -> Wish {
        let text = fs::read_to_string(self.file("wish.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// The node's certificate with its intermediates, in DER.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn chain(&self) -> Result<Vec<Vec<u8>>, DirectoryError> {
        Ok(files::read_certificates(&self.paths().certificate)?)
    }

    /// The node's key; a new one if there is none.
    pub(crate) fn key(&self) -> Result<NodeKey, DirectoryError> {
        let path = self.key_path();
        let wrong = |why: String| DirectoryError::Key { path: path.clone(), why };
        if path.exists() {
            let text = String::from_utf8(files::read_secret(&path)?);
            return NodeKey::from_pem(&text.map_err(|_| wrong("no private key in PEM".to_owned()))?)
                .map_err(wrong);
        }
        self.make().map_err(|source| self.io(&self.0, source))?;
        let key = NodeKey::generate().map_err(wrong)?;
        // Kept before it is used: the controller knows a host that asks again by its key.
        self.write("node.key", &key.pem())?;
        Ok(key)
    }

    /// Keeps a certificate of `node` for this key, in PEM with its intermediates, and the roots. The certificate was asked for over a
    /// connection to a controller that is trusted; if roots are known, by one of them.
    pub(crate) fn keep(
        &self,
        node: &NodeName,
        key: &NodeKey,
        chain: &str,
        roots: &str,
        known: &[Fingerprint],
    ) -> Result<(), DirectoryError> {
        let unusable = |why: &str| DirectoryError::Answer(why.to_owned());
        let own = parsed(chain)?.swap_remove(0);
        let named = holder(&own).map_err(|error| DirectoryError::Answer(error.to_string()))?;
        if named.identity.subject != Subject::Node(node.clone()) {
            return Err(DirectoryError::Answer(format!("the certificate is of {}", named.identity)));
        }
        if public_key(&own).ok() != Some(key.public_key()) {
            return Err(unusable("the certificate is of another key"));
        }
        let trusted = parsed(roots)?;
        if !known.is_empty() && !trusted.iter().any(|it| known.contains(&Fingerprint::of(it))) {
            return Err(unusable("the root of the join token is not among the roots"));
        }
        // The roots first: certificates of a new one are trusted from then on.
        self.write("root.pem", roots)?;
        self.write("node.pem", chain)
    }

    /// Keeps what the join token said that the node claims.
    pub(crate) fn keep_wish(&self, wish: &Wish) -> Result<(), DirectoryError> {
        let text = serde_json::to_string(wish).map_err(|error| DirectoryError::Answer(error.to_string()))?;
        self.write("wish.json", &text)
    }

    /// Makes the directory, for the owner of the state directory: `join` may run as another user than the agent.
    fn make(&self) -> io::Result<()> {
        // Directories above it are for others too: the controller's state directory may be beside the agent's.
        fs::create_dir_all(self.0.parent().unwrap_or(Path::new("/")))?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        self.0.parent().map_or(Ok(()), |state_dir| give_to_owner_of(state_dir, &self.0))
    }

    fn key_path(&self) -> PathBuf {
        self.file("node.key")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// For its owner alone. A file that is so already is not written again.
    fn write(&self, name: &str, text: &str) -> Result<(), DirectoryError> {
        let path = self.file(name);
        if fs::read_to_string(&path).is_ok_and(|there| there == text) {
            return Ok(());
        }
        let written = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.0)?;
            file.write_all(text.as_bytes())?;
            give_to_owner_of(&self.0, file.path())?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            File::open(&self.0)?.sync_all()
        };
        written().map_err(|source| self.io(&path, source))
    }

    fn io(&self, path: &Path, source: io::Error) -> DirectoryError {
        DirectoryError::Write { path: path.to_owned(), source }
    }
}

/// Gives `path` to the owner of `directory`, unless it is its own already.
fn give_to_owner_of(directory: &Path, path: &Path) -> io::Result<()> {
    let (wanted, found) = (fs::metadata(directory)?, fs::metadata(path)?);
    if (wanted.uid(), wanted.gid()) == (found.uid(), found.gid()) {
        return Ok(());
    }
    chown(path, Some(wanted.uid()), Some(wanted.gid()))
}

fn parsed(pem: &str) -> Result<Vec<Vec<u8>>, DirectoryError> {
    files::parse_certificates(pem.as_bytes())
        .ok_or_else(|| DirectoryError::Answer("it has no certificate in PEM".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_for_the_owner_of_the_state_directory() {
        let state = tempfile::tempdir().unwrap();
        // Where the test may give files away, as root; otherwise the owner is its own.
        let _as_root = chown(state.path(), Some(4711), Some(4711));
        let owner = fs::metadata(state.path()).unwrap().uid();
        let directory = Directory::of(state.path());
        let first = directory.key().unwrap();
        assert_eq!(directory.key().unwrap().public_key(), first.public_key());
        for path in [directory.0.clone(), directory.key_path()] {
            let found = fs::metadata(&path).unwrap();
            assert_eq!((found.uid(), found.mode() & 0o077), (owner, 0), "{path:?}");
        }
        assert!(!directory.has_joined());
    }

    #[test]
    fn an_answer_that_was_not_asked_for_is_not_kept() {
        let state = tempfile::tempdir().unwrap();
        let directory = Directory::of(state.path());
        let key = directory.key().unwrap();
        let node = "h1".parse().unwrap();
        let own = key.self_signed("spiffe://default/node/h1");
        let keep = |chain: &str, root: &[Fingerprint]| directory.keep(&node, &key, chain, &own, root);
        let other = NodeKey::generate().unwrap();
        for (chain, why) in [
            ("", "it has no certificate in PEM"),
            (
                key.self_signed("spiffe://default/node/h2").as_str(),
                "the certificate is of spiffe://default/node/h2",
            ),
            (other.self_signed("spiffe://default/node/h1").as_str(), "the certificate is of another key"),
        ] {
            let error = keep(chain, &[]).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let error = keep(&own, &[Fingerprint::of(b"root")]).unwrap_err().to_string();
        assert!(error.contains("the root of the join token is not among the roots"), "{error}");
        assert!(!directory.has_joined());
        keep(&own, &[]).unwrap();
        assert!(directory.has_joined());
    }
}
