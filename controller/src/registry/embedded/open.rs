//! Opening the store's file: what is refused, and making a new one.

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::table::FORMAT;

/// Why the store's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("store {path:?} is already open in another controller; stop that one, or give this one another file with --store embedded:PATH", path = .0)]
    AlreadyOpen(PathBuf),
    /// We may not read and write it, or not make it.
    #[error(
        "no permission to read and write store {path:?}; run the controller as the owner of the file and its directory, or change the owner: chown USER {path:?}"
    )]
    Permission {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Others than its owner may read or write it.
    #[error(
        "store {path:?} can be read or written by other users (mode {mode:04o}); run: chmod 600 {path:?}"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is a directory.
    #[error("store {path:?} is a directory; name a file in it, e.g. --store embedded:{}", .path.join("store").display())]
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// It is something else.
    #[error(
        "{path:?} is not a Sextant store: {reason}; name another file with --store embedded:PATH, or move this one away"
    )]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer Sextant made it.
    #[error(
        "store {path:?} has format {found}, this controller knows {FORMAT} and older; use the newer controller that made it, or restore a backup into another file"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// Its content cannot be read.
    #[error("store {path:?} is damaged: {reason}; {}", restore(.path, .backup.as_ref()))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
        /// The newest backup, if one is known.
        backup: Option<NamedBackup>,
    },
    /// The file system or the disk failed.
    #[error("cannot open store {path:?}: {source}; {mend}", mend = mend(.source))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A backup that a message names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedBackup {
    /// Its file.
    pub file: PathBuf,
    /// When it was taken, as RFC 3339.
    pub taken: String,
}

/// Where backups of the store are looked for.
pub trait FindBackup: fmt::Debug + Send + Sync {
    /// The newest one that is not damaged. Blocks while it is read.
    fn newest(&self) -> Option<NamedBackup>;
}

impl OpenError {
    /// Names the backup in the message on a damaged file. A file that does not look like a store, and of which there is a backup,
    /// is a damaged store too.
    pub(super) fn with_backup(self, find: Option<&dyn FindBackup>) -> Self {
        let newest = || find.and_then(FindBackup::newest);
        match self {
            Self::Damaged { path, reason, .. } => Self::Damaged { path, reason, backup: newest() },
            Self::NotAStore { path, reason } => match newest() {
                Some(backup) => Self::Damaged { path, reason, backup: Some(backup) },
                None => Self::NotAStore { path, reason },
            },
            other => other,
        }
    }

    /// Cuts what the kernel said by what a person can do about it.
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::Permission { path, source },
            ErrorKind::IsADirectory => Self::Directory { path },
            _ => Self::Io { path, source },
        }
    }
}

/// How a damaged store is replaced by a backup.
pub(super) fn restore(path: &Path, backup: Option<&NamedBackup>) -> String {
    let aside = aside(path);
    match backup {
        Some(NamedBackup { file, taken }) => format!(
            "the newest backup was taken at {taken}; to go back to it: mv {path:?} {aside:?}, start the controller, then: \
             sextant restore {file:?}"
        ),
        None => format!(
            "no automatic backup was found; move it away and restore a backup: mv {path:?} {aside:?}, start the controller, \
             then: sextant restore FILE (`sextant backup FILE` and --backup-every write backups)"
        ),
    }
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".damaged");
    PathBuf::from(name)
}

/// What a person does about an error of the file system.
pub fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "make room on its file system (df -h), or raise the quota"
        }
        ErrorKind::NotADirectory => {
            "a part of the path is a file; name another path with --store embedded:PATH"
        }
        _ => "look at the disk and the kernel's log (dmesg)",
    }
}

/// Opens a file that there is, and refuses what could not be a store that is ours alone.
///
/// None if there is no such file.
pub fn existing(path: &Path) -> Result<Option<File>, OpenError> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io(path, error)),
    };
    let metadata = file.metadata().map_err(|error| OpenError::io(path, error))?;
    let path = path.to_owned();
    if !metadata.is_file() {
        let reason = "it is not a regular file".to_owned();
        return Err(OpenError::NotAStore { path, reason });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(OpenError::Exposed { path, mode });
    }
    Ok(Some(file))
}

/// Makes a new store: `fill` makes one of an empty file, which then appears at `path` as a whole.
///
/// If there is a file at `path` in the meantime, it stays.
pub fn create(path: &Path, fill: impl FnOnce(File) -> Result<(), OpenError>) -> Result<(), OpenError> {
    let io = |error| OpenError::io(path, error);
    make_directory(path).map_err(io)?;
    let unfinished = unfinished(path);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&unfinished);
    let made = fill(file.map_err(io)?).and_then(|()| place(&unfinished, path).map_err(io));
    // After a rename it is no longer there; if making it failed, that is what counts.
    let _ = fs::remove_file(&unfinished);
    made?;
    File::open(parent(path)).and_then(|directory| directory.sync_all()).map_err(io)
}

/// Makes the directory of `path`, for its owner alone.
pub fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(parent(path))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{:08x}", rand::random::<u32>()));
    PathBuf::from(name)
}

fn place(unfinished: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(unfinished, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        // Not every file system has hard links.
        Err(_) => fs::rename(unfinished, path),
        Ok(()) => Ok(()),
    }
}
