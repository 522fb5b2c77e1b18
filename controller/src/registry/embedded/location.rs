//! Detects a store file that was moved or replaced, and locks its path against other controllers.

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

/// Identifies a file independently of its path.
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

/// Describes the problem if the file at `path` is not the `open` one.
pub fn misplaced(path: &Path, open: Identity) -> Option<String> {
    let problem = match fs::metadata(path) {
        Ok(metadata) if Identity::from(&metadata) == open => return None,
        Ok(_) => "another file is at the path of the open store".to_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            "the file of the open store was removed or moved".to_owned()
        }
        Err(error) => format!("the path of the open store cannot be looked up ({error})"),
    };
    Some(problem)
}

/// The error for `problem`, with the fix.
pub fn refusal(path: &Path, problem: &str, backup: Option<&NamedBackup>) -> String {
    let named = backup.map(|NamedBackup { file, taken }| {
        format!(
            ". If that controller has ended: the newest automatic backup was taken at {taken}: sextant restore {file:?}"
        )
    });
    format!(
        "store {path:?}: {problem}; changes are refused, because a restart would lose them. Move the file back if it still \
         exists. Otherwise the running controller still has all data: run `sextant backup FILE`, stop the controller, move \
         away any file at the path, start the controller, and run `sextant restore FILE`{}",
        named.unwrap_or_default()
    )
}

/// Held for as long as the store is open, also while its file is not at the path. The lock file is never removed: a process
/// that waits for a removed lock file and a process that creates a new one would both hold the lock.
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

/// Whether a controller had a store open at `path` before.
pub fn was_locked(path: &Path) -> bool {
    lock_path(path).exists()
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}
