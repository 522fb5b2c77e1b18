//! The directory that this process holds, and what it keeps there: to notice when either is taken away, and to put it back.

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
    BRAKE, CLAIM, EXPORTED, LEDGER, LOCK, NODE_ID, StateDir, StateError, id_line, is_content, malformed,
    sync, take_lock, write_in,
};

/// What a check has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// All is there.
    Intact,
    /// The directory, or a file of it, was gone or replaced; it is as this process knows it again.
    WrittenBack,
}

/// The lock, and what was read or kept last.
#[derive(Debug)]
pub(super) struct Held {
    lock: Flock<File>,
    pub(super) node_id: Option<NodeId>,
    /// The files by name, as read at the start or written last; none where there is to be no such file.
    pub(super) files: BTreeMap<&'static str, Option<Vec<u8>>>,
}

impl Held {
    /// With what is in the directory now.
    pub(super) fn new(lock: Flock<File>, directory: &Path) -> Self {
        let there = |name| Some((name, Some(fs::read(directory.join(name)).ok()?)));
        let files = [LEDGER, CLAIM, EXPORTED, BRAKE].into_iter().filter_map(there).collect();
        Self { lock, node_id: None, files }
    }

    /// Whether the lock that is held is the one of this directory.
    fn is_of(&self, path: &Path) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let own = self.lock.metadata().map(identity).ok();
        own.is_some() && own == fs::metadata(path.join(LOCK)).map(identity).ok()
    }

    /// The files that should be there, the node id first: by it alone the claim is found again.
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
    /// Compares what is there with what is held, and puts it right.
    pub(super) fn check_held(&self, held: &mut Held) -> Result<Checked, StateError> {
        if !self.path.exists() {
            self.make_anew(held)?;
            return Ok(self.wrote_back("gone"));
        }
        self.expect_own_id(held)?;
        if !held.is_of(&self.path) {
            held.lock = take_lock(&self.path, &self.path)?;
            held.write_to(&self.path)?;
            return Ok(self.wrote_back("replaced"));
        }
        if held.write_to(&self.path)? {
            return Ok(self.wrote_back("incomplete"));
        }
        let writable = access(&self.path, AccessFlags::W_OK | AccessFlags::X_OK);
        writable.map_err(|errno| StateError::Io { path: self.path.clone(), source: errno.into() })?;
        Ok(Checked::Intact)
    }

    /// Makes it beside, whole, and then puts it in its place: a crash leaves no directory that lacks something.
    fn make_anew(&self, held: &mut Held) -> Result<(), StateError> {
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
                return Err(malformed(&path, &"it is not text"));
            }
            Err(source) => return Err(StateError::Io { path, source }),
        };
        let same = found.parse::<NodeId>().is_ok_and(|found| found == own);
        if same { Ok(()) } else { Err(StateError::OtherNode { path: self.path.clone(), found, own }) }
    }

    fn wrote_back(&self, was: &str) -> Checked {
        tracing::warn!(
            directory = %self.path.display(), was,
            "state directory changed by another process while the agent runs; node id, claim and ledger written back"
        );
        Checked::WrittenBack
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Ledger;

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
            assert_eq!(state.check().unwrap(), Checked::Intact, "nothing is kept yet");
            let (id, ledger) =
                (state.node_id().unwrap(), Ledger { bridge: Some("br1".into()), ..Ledger::default() });
            state.keep_ledger(&ledger).unwrap();
            state.keep_claim(None).unwrap();
            Self { parent, state, id, ledger }
        }

        fn path(&self) -> std::path::PathBuf {
            self.parent.path().join("agent")
        }

        fn is_whole(&self) {
            assert_eq!(fs::read(self.path().join(NODE_ID)).unwrap(), id_line(self.id));
            assert_eq!(self.state.ledger().unwrap(), self.ledger);
            assert!(!self.path().join(CLAIM).exists());
            assert!(matches!(StateDir::open(&self.path()), Err(StateError::InUse(_))), "the lock is held");
            assert_eq!(fs::read_dir(self.parent.path()).unwrap().count(), 1, "nothing is left beside it");
            assert_eq!(self.state.check().unwrap(), Checked::Intact);
        }
    }

    #[test]
    fn what_is_taken_away_is_written_back() {
        let it = Fixture::new();
        it.is_whole();
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
            damage(&it.path());
            assert_eq!(it.state.check().unwrap(), Checked::WrittenBack);
            it.is_whole();
        }
    }

    #[test]
    fn a_write_puts_back_the_rest() {
        let mut it = Fixture::new();
        fs::remove_dir_all(it.path()).unwrap();
        it.ledger.bridge = Some("br2".into());
        it.state.keep_ledger(&it.ledger).unwrap();
        it.is_whole();
    }

    #[test]
    fn nothing_is_written_into_another_nodes_directory() {
        let it = Fixture::new();
        fs::rename(it.path(), it.parent.path().join("away")).unwrap();
        let other = StateDir::open(&it.path()).unwrap();
        let id = other.node_id().unwrap();
        drop(other);
        let before = fs::read_dir(it.path()).unwrap().count();
        for error in [it.state.check().unwrap_err(), it.state.keep_ledger(&it.ledger).unwrap_err()] {
            assert!(matches!(error, StateError::OtherNode { .. }), "{error}");
            assert!(
                error.to_string().contains(&id.to_string()) && error.to_string().contains(&it.id.to_string())
            );
        }
        assert_eq!(fs::read_dir(it.path()).unwrap().count(), before);
        fs::remove_dir_all(it.path()).unwrap();
        fs::rename(it.parent.path().join("away"), it.path()).unwrap();
        it.is_whole();
    }
}
