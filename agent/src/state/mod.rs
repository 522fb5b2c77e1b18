//! What the agent must not forget: who it is, what it holds, what it changed on this host.
//!
//! One directory, one owner (a lock), one file each, written whole or not at all.

mod boot;
mod brake;
mod held;
mod ledger;

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::fcntl::{Flock, FlockArg};
use serde::{Serialize, de::DeserializeOwned};
use sextant_proto::{Claim, NodeId};

pub use boot::{Uptime, boot_id};
pub use brake::{KeptBrake, KeptDeparture};
pub use held::Checked;
pub use ledger::{BridgeAddress, Exported, Ledger, MadeBridge};

use self::{held::Held, ledger::StoredClaim};

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
    /// While this agent ran, the directory was replaced by that of another node.
    #[error(
        "state directory {} is now that of node id {found}, and this agent runs as {own}; nothing is written there. Put the \
         directory of {own} back, or stop the agent: its next start takes the id that it finds", path.display()
    )]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// The id that is there.
        found: String,
        /// The id of this process.
        own: NodeId,
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
    held: Mutex<Held>,
}

const LOCK: &str = "lock";

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
        let held = Mutex::new(Held::new(take_lock(path, path)?, path));
        Ok(Self { path: path.to_owned(), held })
    }

    /// This node's id; a new one at the first start.
    ///
    /// # Errors
    /// If it cannot be read, or a new one cannot be kept.
    pub fn node_id(&self) -> Result<NodeId, StateError> {
        let path = self.path.join(NODE_ID);
        let mut held = self.held();
        let id = match (held.node_id, fs::read_to_string(&path)) {
            (Some(id), _) => return Ok(id),
            (None, Ok(text)) => text.trim().parse().map_err(|error| malformed(&path, &error))?,
            (None, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                let id = NodeId::random();
                self.write(NODE_ID, &id_line(id))?;
                id
            }
            (None, Err(source)) => return Err(StateError::Io { path, source }),
        };
        held.node_id = Some(id);
        Ok(id)
    }

    /// The claim this node holds, as last said by a controller.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn claim(&self) -> Result<Option<Claim>, StateError> {
        Self::peek_claim(&self.path)
    }

    /// The claim that whoever has the directory now keeps there.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn peek_claim(path: &Path) -> Result<Option<Claim>, StateError> {
        let path = path.join(CLAIM);
        let stored: Option<StoredClaim> = read(&path)?;
        stored.map(Claim::try_from).transpose().map_err(|error| malformed(&path, &error))
    }

    /// Keeps the claim, or that there is none. Writes nothing if it is kept already.
    ///
    /// # Errors
    /// If it cannot be kept.
    pub fn keep_claim(&self, claim: Option<&Claim>) -> Result<(), StateError> {
        let kept = self.claim().ok().as_ref().map(Option::as_ref) == Some(claim);
        let content = claim.map(|claim| self.json(CLAIM, &StoredClaim::from(claim))).transpose()?;
        self.keep(CLAIM, content, kept)
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
        self.keep(LEDGER, Some(self.json(LEDGER, ledger)?), false)
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
        let kept = self.exported().ok().flatten().as_ref() == Some(exported);
        self.keep(EXPORTED, Some(self.json(EXPORTED, exported)?), kept)
    }

    /// Looks whether the directory is still the one that this process holds, with what it keeps there, and puts that right
    /// where it can: a directory that is gone or empty is written anew, whole; one put in its place for the same node gets
    /// what this process knows, which is later.
    ///
    /// # Errors
    /// If it is another node's or another agent's now, or cannot be written.
    pub fn check(&self) -> Result<Checked, StateError> {
        self.check_held(&mut self.held())
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
        self.keep(BRAKE, Some(self.json(BRAKE, brake)?), false)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        read(&self.path.join(name))
    }

    /// Has a file of this content, or none, and remembers that.
    fn keep(&self, name: &'static str, content: Option<Vec<u8>>, kept: bool) -> Result<(), StateError> {
        let mut held = self.held();
        if kept && held.files.get(name) == Some(&content) {
            return Ok(());
        }
        self.check_held(&mut held)?;
        match &content {
            Some(content) if !is_content(&self.path.join(name), content) => self.write(name, content)?,
            None if self.path.join(name).exists() => self.remove(name)?,
            _ => {}
        }
        held.files.insert(name, content);
        Ok(())
    }

    fn json(&self, name: &str, value: &impl Serialize) -> Result<Vec<u8>, StateError> {
        let mut text =
            serde_json::to_vec_pretty(value).map_err(|error| malformed(&self.path.join(name), &error))?;
        text.push(b'\n');
        Ok(text)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // No panic leaves it half-changed.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), StateError> {
        write_in(&self.path, name, content)
    }

    fn remove(&self, name: &str) -> Result<(), StateError> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(StateError::Io { path, source: error })
            }
            _ => sync(&self.path),
        }
    }
}

/// Takes the lock of the directory that is at `path`, and is, or is to be, known as `known_as`.
fn take_lock(path: &Path, known_as: &Path) -> Result<Flock<File>, StateError> {
    let file = File::create(path.join(LOCK))
        .map_err(|source| StateError::Io { path: known_as.to_owned(), source })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| StateError::InUse(known_as.to_owned()))
}

/// Writes beside, syncs, and renames: a reader sees the old or the new content, whatever happens between.
fn write_in(directory: &Path, name: &str, content: &[u8]) -> Result<(), StateError> {
    let path = directory.join(name);
    let io = |source| StateError::Io { path: path.clone(), source };
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(io)?;
    file.write_all(content).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(&path).map_err(|error| io(error.error))?;
    sync(directory)
}

fn sync(directory: &Path) -> Result<(), StateError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|source| StateError::Io { path: directory.to_owned(), source })
}

fn id_line(id: NodeId) -> Vec<u8> {
    format!("{id}\n").into_bytes()
}

fn is_content(path: &Path, content: &[u8]) -> bool {
    fs::read(path).is_ok_and(|there| there == content)
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
