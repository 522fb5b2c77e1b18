//! The directory that this process has locked, and its content: detects removal of either, and restores it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
};

use nix::{
    fcntl::Flock,
    unistd::{AccessFlags, access},
};
use sextant_proto::NodeId;

use super::{
    BRAKE, CLAIM, EXPORTED, LEDGER, LOCK, MORE_CLAIMS, NODE_ID, RECEIPTS, StateDir, StateError, id_line,
    is_content, malformed, sync, take_lock, write_in,
};

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// The directory is complete.
    Intact,
    /// The directory or one of its files was missing or replaced, and was restored.
    Restored,
}

/// The lock, and the content that was read or written last.
#[derive(Debug)]
pub(super) struct Held {
    lock: Flock<File>,
    pub(super) node_id: Option<NodeId>,
    /// The files by name, as read at the start or written last; `None` for a file that must not exist.
    pub(super) files: BTreeMap<&'static str, Option<Vec<u8>>>,
}

impl Held {
    /// With the present content of the directory.
    pub(super) fn new(lock: Flock<File>, directory: &Path) -> Self {
        let content = |name| Some((name, Some(fs::read(directory.join(name)).ok()?)));
        let files =
            [LEDGER, CLAIM, MORE_CLAIMS, RECEIPTS, EXPORTED, BRAKE].into_iter().filter_map(content).collect();
        Self { lock, node_id: None, files }
    }

    /// Whether the held lock belongs to this directory.
    pub(super) fn is_of(&self, path: &Path) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let own = self.lock.metadata().map(identity).ok();
        own.is_some() && own == fs::metadata(path.join(LOCK)).map(identity).ok()
    }

    /// The expected files, the node id first: it is enough to recover the claim.
    fn contents(&self) -> impl Iterator<Item = (&'static str, Option<Vec<u8>>)> {
        let id = self.node_id.map(|id| (NODE_ID, Some(id_line(id))));
        id.into_iter().chain(self.files.iter().map(|(name, content)| (*name, content.clone())))
    }

    fn write_to(&self, directory: &Path) -> Result<bool, StateError> {
        let mut written = false;
        for (name, content) in self.contents() {
            let Some(content) = content else { continue };
            if !is_content(&directory.join(name), &content) {
                write_in(directory, name, &content)?;
                written = true;
            }
        }
        Ok(written)
    }
}

impl StateDir {
    /// Compares the directory with the held content, and restores it.
    pub(super) fn check_held(&self, held: &mut Held) -> Result<Checked, StateError> {
        if !self.path.exists() {
            self.create_again(held)?;
            return Ok(self.restored("missing"));
        }
        self.expect_own_id(held)?;
        if !held.is_of(&self.path) {
            held.lock = take_lock(&self.path, &self.path)?;
            held.write_to(&self.path)?;
            return Ok(self.restored("replaced"));
        }
        if held.write_to(&self.path)? {
            return Ok(self.restored("incomplete"));
        }
        let writable = access(&self.path, AccessFlags::W_OK | AccessFlags::X_OK);
        writable.map_err(|errno| StateError::Io { path: self.path.clone(), source: errno.into() })?;
        Ok(Checked::Intact)
    }

    /// Creates a complete directory next to the path, then renames it: a crash leaves no incomplete directory.
    fn create_again(&self, held: &mut Held) -> Result<(), StateError> {
        let io = |source| StateError::Io { path: self.path.clone(), source };
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(io)?;
        let beside = tempfile::Builder::new().prefix(".state-").tempdir_in(parent).map_err(io)?;
        let lock = take_lock(beside.path(), &self.path)?;
        held.write_to(beside.path())?;
        fs::rename(beside.path(), &self.path).map_err(io)?;
        held.lock = lock;
        sync(parent)
    }

    fn expect_own_id(&self, held: &Held) -> Result<(), StateError> {
        let Some(own) = held.node_id else { return Ok(()) };
        let path = self.path.join(NODE_ID);
        let found = match fs::read_to_string(&path) {
            Ok(text) => text.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(malformed(&path, &"not UTF-8 text"));
            }
            Err(source) => return Err(StateError::Io { path, source }),
        };
        let same = found.parse::<NodeId>().is_ok_and(|found| found == own);
        if same { Ok(()) } else { Err(StateError::OtherNode { path: self.path.clone(), found, own }) }
    }

    fn restored(&self, found: &str) -> Checked {
        tracing::warn!(
            directory = %self.path.display(), found,
            "state directory changed by another process; node id, claim and ledger restored"
        );
        Checked::Restored
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{KeptBrake, Ledger};

    struct Fixture {
        parent: tempfile::TempDir,
        state: StateDir,
        id: NodeId,
        ledger: Ledger,
    }

    impl Fixture {
        fn new() -> Self {
            let parent = tempfile::tempdir().unwrap();
            let state = StateDir::open(&parent.path().join("agent")).unwrap();
            assert_eq!(state.check().unwrap(), Checked::Intact, "nothing is stored yet");
            let (id, ledger) =
                (state.node_id().unwrap(), Ledger { bridge: Some("br1".into()), ..Ledger::default() });
            state.keep_ledger(&ledger).unwrap();
            state.keep_claims(&[]).unwrap();
            Self { parent, state, id, ledger }
        }

        fn path(&self) -> std::path::PathBuf {
            self.parent.path().join("agent")
        }

        fn expect_complete(&self) {
            assert_eq!(fs::read(self.path().join(NODE_ID)).unwrap(), id_line(self.id));
            assert_eq!(self.state.ledger().unwrap(), self.ledger);
            assert!(!self.path().join(CLAIM).exists());
            assert!(matches!(StateDir::open(&self.path()), Err(StateError::InUse(_))), "the lock is held");
            assert_eq!(
                fs::read_dir(self.parent.path()).unwrap().count(),
                1,
                "no temporary directory is left"
            );
            assert_eq!(self.state.check().unwrap(), Checked::Intact);
        }
    }

    #[test]
    fn removed_and_changed_files_are_restored() {
        let fixture = Fixture::new();
        fixture.expect_complete();
        let damages: [fn(&Path); 4] = [
            |path| fs::remove_dir_all(path).unwrap(),
            |path| fs::remove_file(path.join(NODE_ID)).unwrap(),
            |path| {
                fs::remove_dir_all(path).unwrap();
                fs::create_dir(path).unwrap();
            },
            |path| fs::write(path.join(LEDGER), "{}").unwrap(),
        ];
        for damage in damages {
            damage(&fixture.path());
            assert_eq!(fixture.state.check().unwrap(), Checked::Restored);
            fixture.expect_complete();
        }
    }

    #[test]
    fn a_write_restores_the_other_files() {
        let mut fixture = Fixture::new();
        fs::remove_dir_all(fixture.path()).unwrap();
        fixture.ledger.bridge = Some("br2".into());
        fixture.state.keep_ledger(&fixture.ledger).unwrap();
        fixture.expect_complete();
    }

    #[test]
    fn nothing_is_written_into_another_nodes_directory() {
        let fixture = Fixture::new();
        fs::rename(fixture.path(), fixture.parent.path().join("away")).unwrap();
        let other = StateDir::open(&fixture.path()).unwrap();
        let id = other.node_id().unwrap();
        drop(other);
        let before = fs::read_dir(fixture.path()).unwrap().count();
        for error in [
            fixture.state.check().unwrap_err(),
            fixture.state.keep_ledger(&fixture.ledger).unwrap_err(),
            fixture.state.keep_brake(&KeptBrake::default()).unwrap_err(),
        ] {
            assert!(matches!(error, StateError::OtherNode { .. }), "{error}");
            assert!(
                error.to_string().contains(&id.to_string())
                    && error.to_string().contains(&fixture.id.to_string())
            );
        }
        assert_eq!(fs::read_dir(fixture.path()).unwrap().count(), before);
        fs::remove_dir_all(fixture.path()).unwrap();
        fs::rename(fixture.parent.path().join("away"), fixture.path()).unwrap();
        fixture.expect_complete();
    }
}
