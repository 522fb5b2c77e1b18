//! Whether the store's file is still where it was opened, and the lock that keeps others from its path.

use std::{
    fs::{self, Metadata, OpenOptions},
    io::ErrorKind,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::open::{self, NamedBackup, OpenError};

/// Which file it is, whatever its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

/// What is wrong if the file at `path` is not `open`.
pub fn misplaced(path: &Path, open: Identity) -> Option<String> {
    let what = match fs::metadata(path) {
        Ok(metadata) if Identity::from(&metadata) == open => return None,
        Ok(_) => "another file is at the path of the open store".to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            "the file of the open store was removed or moved".to_owned()
        }
        Err(error) => format!("the path of the open store cannot be looked up ({error})"),
    };
    Some(what)
}

/// What is said of that, and how to go on.
pub fn refusal(path: &Path, what: &str, backup: Option<&NamedBackup>) -> String {
    let named = backup.map(|NamedBackup { file, taken }| {
        format!(
            ". If that has ended: the newest automatic backup was taken at {taken}: sextant restore {file:?}"
        )
    });
    format!(
        "store {path:?}: {what}; no change is taken, because a restart would lose it. Move the file back if it still \
         exists. Otherwise the running controller still has all data: run `sextant backup FILE`, stop the controller, move \
         away what is at the path, start the controller, and run `sextant restore FILE`{}",
        named.unwrap_or_default()
    )
}

/// Held for as long as the store is open, also while its file is not at the path. Never removed: who waits for a removed
/// lock file and who makes a new one would both have it.
#[derive(Debug)]
pub struct PathLock {
    _file: Flock<fs::File>,
}

impl PathLock {
    /// Takes the lock of `path`.
    pub fn take(path: &Path) -> Result<Self, OpenError> {
        let io = |error| OpenError::io(path, error);
        open::make_directory(path).map_err(io)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(lock_path(path)).map_err(io)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Self { _file: file }),
            Err((_, Errno::EWOULDBLOCK)) => Err(OpenError::AlreadyOpen(path.to_owned())),
            Err((_, errno)) => Err(io(errno.into())),
        }
    }
}

/// Whether a controller has had a store at `path`, and its lock.
pub fn was_locked(path: &Path) -> bool {
    lock_path(path).exists()
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
