//! What the agent must not forget: who it is, what it holds, what it changed on this host.
//!
//! One directory, one owner (a lock), one file each, written whole or not at all.

mod ledger;

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use serde::{Serialize, de::DeserializeOwned};
use sextant_proto::{Claim, NodeId};

pub use ledger::{BridgeAddress, Exported, Ledger};

use self::ledger::StoredClaim;
use crate::routes::KeptBrake;

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another agent has it.
    #[error("state directory {}: another agent uses it; stop that one, or give this one another --state-dir", .0.display())]
    InUse(PathBuf),
    /// It cannot be read or written.
    #[error("state directory {}: {source}; it must be writable for the agent (--state-dir)", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file's content is wrong.
    #[error(
        "{}: {problem}; mend it from a copy, or move it away: the agent then asks the controller what it holds",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// The state directory, held by this process.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: Flock<File>,
}

const NODE_ID: &str = "node-id";
const CLAIM: &str = "claim.json";
const LEDGER: &str = "host.json";
const EXPORTED: &str = "exported.json";
const BRAKE: &str = "brake.json";

impl StateDir {
    /// Takes the directory, making it if it is not there.
    ///
    /// # Errors
    /// If it cannot be made or locked.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let io = |source| StateError::Io { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(io)?;
        let file = File::create(path.join("lock")).map_err(io)?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| StateError::InUse(path.to_owned()))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// This node's id; a new one at the first start.
    ///
    /// # Errors
    /// If it cannot be read, or a new one cannot be kept.
    pub fn node_id(&self) -> Result<NodeId, StateError> {
        let path = self.path.join(NODE_ID);
        match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|error| malformed(&path, &error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let id = NodeId::random();
                self.write(NODE_ID, format!("{id}\n").as_bytes())?;
                Ok(id)
            }
            Err(source) => Err(StateError::Io { path, source }),
        }
    }

    /// The claim this node holds, as last said by a controller.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn claim(&self) -> Result<Option<Claim>, StateError> {
        let stored: Option<StoredClaim> = self.read(CLAIM)?;
        let claim = stored.map(Claim::try_from).transpose();
        claim.map_err(|error| malformed(&self.path.join(CLAIM), &error))
    }

    /// Keeps the claim, or that there is none. Writes nothing if it is kept already.
    ///
    /// # Errors
    /// If it cannot be kept.
    pub fn keep_claim(&self, claim: Option<&Claim>) -> Result<(), StateError> {
        if self.claim().ok().as_ref().map(Option::as_ref) == Some(claim) {
            return Ok(());
        }
        match claim {
            Some(claim) => self.write_json(CLAIM, &StoredClaim::from(claim)),
            None => self.remove(CLAIM),
        }
    }

    /// What was changed on this host.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn ledger(&self) -> Result<Ledger, StateError> {
        Ok(self.read(LEDGER)?.unwrap_or_default())
    }

    /// What was changed on this host, by whoever has the directory now; nothing where there is none.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn peek_ledger(path: &Path) -> Result<Ledger, StateError> {
        Ok(read(&path.join(LEDGER))?.unwrap_or_default())
    }

    /// Keeps what was, or is about to be, changed on this host.
    ///
    /// # Errors
    /// If it cannot be kept: then it must not be changed.
    pub fn keep_ledger(&self, ledger: &Ledger) -> Result<(), StateError> {
        self.write_json(LEDGER, ledger)
    }

    /// What was announced to routers last.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn exported(&self) -> Result<Option<Exported>, StateError> {
        self.read(EXPORTED)
    }

    /// Keeps what is announced to routers. Writes nothing if it is kept already.
    ///
    /// # Errors
    /// If it cannot be kept.
    pub fn keep_exported(&self, exported: &Exported) -> Result<(), StateError> {
        if self.exported().ok().flatten().as_ref() == Some(exported) {
            return Ok(());
        }
        self.write_json(EXPORTED, exported)
    }

    /// Which peers went lately, and which of them are held.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn brake(&self) -> Result<Option<KeptBrake>, StateError> {
        self.read(BRAKE)
    }

    /// Keeps which peers went lately, and which of them are held.
    ///
    /// # Errors
    /// If it cannot be kept.
    pub fn keep_brake(&self, brake: &KeptBrake) -> Result<(), StateError> {
        self.write_json(BRAKE, brake)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        read(&self.path.join(name))
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), StateError> {
        let mut text =
            serde_json::to_vec_pretty(value).map_err(|error| malformed(&self.path.join(name), &error))?;
        text.push(b'\n');
        self.write(name, &text)
    }

    /// Writes beside, syncs, and renames: a reader sees the old or the new content, whatever happens between.
    fn write(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        let path = self.path.join(name);
        let io = |source| StateError::Io { path: path.clone(), source };
        let mut file = tempfile::NamedTempFile::new_in(&self.path).map_err(io)?;
        file.write_all(content).map_err(io)?;
        file.as_file().sync_all().map_err(io)?;
        file.persist(&path).map_err(|error| io(error.error))?;
        self.sync()
    }

    fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StateError::Io { path, source: error })
            }
            _ => self.sync(),
        }
    }

    fn sync(&self) -> Result<(), StateError> {
        let synced = File::open(&self.path).and_then(|directory| directory.sync_all());
        synced.map_err(|source| StateError::Io { path: self.path.clone(), source })
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| malformed(path, &error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(StateError::Io { path: path.to_owned(), source }),
    }
}

fn malformed(path: &Path, problem: &dyn ToString) -> StateError {
    StateError::Malformed { path: path.to_owned(), problem: problem.to_string() }
}

#[cfg(test)]
mod tests {
    use sextant_proto::{Epoch, Incarnation, Pool, Revision};

    use super::*;

    fn claim() -> Claim {
        Claim {
            prefix: "2001:db8:1::/64".parse().unwrap(),
            epoch: Epoch { incarnation: Incarnation::random(), revision: Revision(7) },
            pool: Pool::new("main".parse().unwrap(), "2001:db8::/32".parse().unwrap(), 64, 80).unwrap(),
        }
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (claim, ledger) = (claim(), Ledger { bridge: Some("docker0".into()), ..Ledger::default() });
        let id = {
            let state = StateDir::open(dir.path()).unwrap();
            state.keep_claim(Some(&claim)).unwrap();
            state.keep_ledger(&ledger).unwrap();
            state.node_id().unwrap()
        };
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(state.node_id().unwrap(), id);
        assert_eq!(state.claim().unwrap(), Some(claim));
        assert_eq!(state.ledger().unwrap(), ledger);
        state.keep_claim(None).unwrap();
        assert_eq!(state.claim().unwrap(), None);
    }

    #[test]
    fn two_agents_cannot_share_it() {
        let dir = tempfile::tempdir().unwrap();
        let _first = StateDir::open(dir.path()).unwrap();
        let error = StateDir::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("another agent uses it") && error.contains("--state-dir"), "{error}");
    }

    #[test]
    fn a_wrong_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        fs::write(dir.path().join(CLAIM), "{\"prefix\": \"2001:db8::1/64\"}").unwrap();
        let error = state.claim().unwrap_err().to_string();
        assert!(error.contains("claim.json"), "{error}");
    }
}
