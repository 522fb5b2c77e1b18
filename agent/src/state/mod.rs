//! The agent's persistent state: its node id, its claim, and its changes to this host.
//!
//! One directory with one owner (a lock). Each file is written atomically.

mod advertised;
mod boot;
mod brake;
mod claims;
mod controllers;
mod error;
mod held;
mod ledger;
mod networks;
mod receipts;

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::fcntl::{Flock, FlockArg};
use serde::{Serialize, de::DeserializeOwned};
use sextant_proto::NodeId;

pub use boot::{Uptime, boot_id};
pub use brake::{KeptBrake, KeptDeparture};
pub use controllers::AnnouncedControllers;
pub use error::StateError;
pub use held::Checked;
pub use ledger::{BridgeAddress, Exported, Ledger, LinkIndices, MadeBridge};
pub use receipts::KeptReceipt;

use self::held::Held;

/// The state directory, locked by this process.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    held: Mutex<Held>,
}

const LOCK: &str = "lock";

const NODE_ID: &str = "node-id";
const CLAIM: &str = "claim.json";
const LEDGER: &str = "host.json";
/// The claims beside the primary one.
const MORE_CLAIMS: &str = "more-claims.json";
const EXPORTED: &str = "exported.json";
const RECEIPTS: &str = "receipts.json";
const BRAKE: &str = "brake.json";
const DOCKER_LEASES: &str = "docker-leases.json";

impl StateDir {
    /// Opens and locks the directory, and creates it if it is missing.
    ///
    /// # Errors
    /// If it cannot be created or locked.
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let io = |source| StateError::Io { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(io)?;
        let held = Mutex::new(Held::new(take_lock(path, path)?, path));
        Ok(Self { path: path.to_owned(), held })
    }

    /// This node's id; a new one at the first start.
    ///
    /// # Errors
    /// If it cannot be read, or a new one cannot be written.
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

    /// The recorded changes to this host.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn ledger(&self) -> Result<Ledger, StateError> {
        Self::peek_ledger(&self.path)
    }

    /// The recorded changes in a directory, without its lock; none if it does not exist.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn peek_ledger(path: &Path) -> Result<Ledger, StateError> {
        let ledger: Option<Ledger> = read(&path.join(LEDGER))?;
        Ok(ledger.map(|ledger| ledger.in_boot(&boot_id())).unwrap_or_default())
    }

    /// Stores the changes that were made, or are about to be made, to this host.
    ///
    /// # Errors
    /// If they cannot be written: then they must not be made.
    pub fn keep_ledger(&self, ledger: &Ledger) -> Result<(), StateError> {
        self.keep(LEDGER, Some(self.json(LEDGER, ledger)?), false)
    }

    /// The last announcement to routers.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn exported(&self) -> Result<Option<Exported>, StateError> {
        self.read(EXPORTED)
    }

    /// Stores the announcement to routers. Writes nothing if it is stored already.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep_exported(&self, exported: &Exported) -> Result<(), StateError> {
        let kept = self.exported().ok().flatten().as_ref() == Some(exported);
        self.keep(EXPORTED, Some(self.json(EXPORTED, exported)?), kept)
    }

    /// Checks that the directory is still the locked one, with its content, and restores it: a missing or empty directory is
    /// written again, and a replacement for the same node gets this process's content, which is newer.
    ///
    /// # Errors
    /// If it belongs to another node or another agent now, or cannot be written.
    pub fn check(&self) -> Result<Checked, StateError> {
        self.check_held(&mut self.held())
    }

    /// The stored state of the brake.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn brake(&self) -> Result<Option<KeptBrake>, StateError> {
        self.read(BRAKE)
    }

    /// Stores the state of the brake. It outlives this process, but is not waited for on the disk: each departure of a peer writes it,
    /// and a host that has lost its power has no routes for a brake to hold.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep_brake(&self, brake: &KeptBrake) -> Result<(), StateError> {
        let content = self.json(BRAKE, brake)?;
        let mut held = self.held();
        if !held.is_of(&self.path) {
            self.check_held(&mut held)?;
        }
        replace(&self.path, BRAKE, &content, |_| Ok(()))?;
        held.files.insert(BRAKE, Some(content));
        Ok(())
    }

    /// The stored leases of Docker's networks.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn docker_leases<T: DeserializeOwned>(&self) -> Result<Option<T>, StateError> {
        Self::peek_docker_leases(&self.path)
    }

    /// Those in a directory, without its lock.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn peek_docker_leases<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
        read(&path.join(DOCKER_LEASES))
    }

    /// Stores the leases of Docker's networks.
    ///
    /// # Errors
    /// If they cannot be written: then they must not be given.
    pub fn keep_docker_leases(&self, leases: &impl Serialize) -> Result<(), StateError> {
        self.keep(DOCKER_LEASES, Some(self.json(DOCKER_LEASES, leases)?), false)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StateError> {
        read(&self.path.join(name))
    }

    /// Writes a file with this content, or deletes it, and remembers that.
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
        // No panic leaves it inconsistent.
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

/// Locks the directory at `path`. Errors name it `known_as`, its final path.
fn take_lock(path: &Path, known_as: &Path) -> Result<Flock<File>, StateError> {
    let file = File::create(path.join(LOCK))
        .map_err(|source| StateError::Io { path: known_as.to_owned(), source })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| StateError::InUse(known_as.to_owned()))
}

/// Writes a file and waits until it is on the disk: a reader sees the old or the new content, also after a crash of the host.
fn write_in(directory: &Path, name: &str, content: &[u8]) -> Result<(), StateError> {
    replace(directory, name, content, File::sync_all)?;
    sync(directory)
}

/// Writes a temporary file, syncs it by `synced`, and renames it: a reader sees the old or the new content.
fn replace(
    directory: &Path,
    name: &str,
    content: &[u8],
    synced: fn(&File) -> io::Result<()>,
) -> Result<(), StateError> {
    let path = directory.join(name);
    let io = |source| StateError::Io { path: path.clone(), source };
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(io)?;
    file.write_all(content).map_err(io)?;
    synced(file.as_file()).map_err(io)?;
    file.persist(&path).map_err(|error| io(error.error))?;
    Ok(())
}

fn sync(directory: &Path) -> Result<(), StateError> {
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|source| StateError::Io { path: directory.to_owned(), source })
}

fn id_line(id: NodeId) -> Vec<u8> {
    format!("{id}\n").into_bytes()
}

fn is_content(path: &Path, content: &[u8]) -> bool {
    fs::read(path).is_ok_and(|found| found == content)
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
pub(super) mod tests {
    use sextant_proto::{Claim, Epoch, Incarnation, Pool, Revision};

    use super::*;

    pub(in crate::state) fn claim() -> Claim {
        Claim {
            prefix: "2001:db8:1::/64".parse().unwrap(),
            epoch: Epoch { incarnation: Incarnation::random(), revision: Revision(7) },
            pool: Pool::new("main".parse().unwrap(), "2001:db8::/32".parse().unwrap(), 64, 80).unwrap(),
        }
    }

    #[test]
    fn stored_state_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let pool = Pool { name: "ula".parse().unwrap(), ..claim().pool };
        let second = Claim { pool, ..claim() };
        let (claim, ledger) = (claim(), Ledger { bridge: Some("docker0".into()), ..Ledger::default() });
        let id = {
            let state = StateDir::open(dir.path()).unwrap();
            state.keep_claims(&[claim.clone(), second.clone()]).unwrap();
            state.keep_ledger(&ledger).unwrap();
            state.node_id().unwrap()
        };
        let state = StateDir::open(dir.path()).unwrap();
        assert_eq!(state.node_id().unwrap(), id);
        assert_eq!(state.claims().unwrap(), [claim, second.clone()]);
        assert_eq!(state.ledger().unwrap(), ledger);
        state.keep_claims(std::slice::from_ref(&second)).unwrap();
        assert_eq!(state.claims().unwrap(), [second]);
        state.keep_claims(&[]).unwrap();
        assert_eq!(state.claims().unwrap(), []);
    }

    #[test]
    fn two_agents_cannot_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let _first = StateDir::open(dir.path()).unwrap();
        let error = StateDir::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("another agent uses it") && error.contains("--state-dir"), "{error}");
    }

    #[test]
    fn an_error_names_the_malformed_file() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        fs::write(dir.path().join(CLAIM), "{\"prefix\": \"2001:db8::1/64\"}").unwrap();
        let error = state.claims().unwrap_err().to_string();
        assert!(error.contains("claim.json"), "{error}");
    }
}
