//! Opening the store's file: refused files, and the creation of a new one.

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
    /// No permission to read, write or create it.
    #[error(
        "no permission to read and write store {path:?}; run the controller as the owner of the file and its directory, or change the owner: chown USER {path:?}"
    )]
    Permission {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// Other users may read or write it.
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
    /// It is not a store.
    #[error(
        "{path:?} is not a Sextant store: {reason}; name another file with --store embedded:PATH, or move this one away"
    )]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// A newer Sextant made it.
    #[error(
        "store {path:?} has format {found}, this controller reads formats up to {FORMAT}; use the newer controller that made it, or restore a backup into another file"
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
        /// The reason.
        reason: String,
        /// The newest backup, if one is known.
        backup: Option<NamedBackup>,
    },
    /// The file system or the disk failed.
    #[error("cannot open store {path:?}: {source}; {fix}", fix = fix(.source))]
    Io {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
}

/// A backup to be named in an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedBackup {
    /// Its file.
    pub file: PathBuf,
    /// When it was taken, as RFC 3339.
    pub taken: String,
}

/// Finds backups of the store.
pub trait FindBackup: fmt::Debug + Send + Sync {
    /// The newest one that is not damaged. Blocks while it is read.
    fn newest(&self) -> Option<NamedBackup>;
}

impl OpenError {
    /// Names the newest backup in the error about a damaged file. A file that is not recognised as a store, but has a backup,
    /// counts as damaged too.
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

    /// Maps the kernel's error to the variant with the matching fix.
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::Permission { path, source },
            ErrorKind::IsADirectory => Self::Directory { path },
            _ => Self::Io { path, source },
        }
    }
}

/// The instructions to replace a damaged store by a backup.
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

/// The fix for an error of the file system.
pub fn fix(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free space on its file system (df -h), or raise the quota"
        }
        ErrorKind::NotADirectory => {
            "a part of the path is a file; name another path with --store embedded:PATH"
        }
        _ => "check the disk and the kernel's log (dmesg)",
    }
}

/// Opens an existing file. Refuses one that is not a regular file or that other users may access.
///
/// None if the file does not exist.
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

/// Creates a new store: `fill` initialises an empty file, which then appears at `path` atomically.
///
/// A file that appeared at `path` in the meantime is kept.
pub fn create(path: &Path, fill: impl FnOnce(File) -> Result<(), OpenError>) -> Result<(), OpenError> {
    let io = |error| OpenError::io(path, error);
    make_directory(path).map_err(io)?;
    let unfinished = unfinished(path);
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&unfinished);
    let made = fill(file.map_err(io)?).and_then(|()| place(&unfinished, path).map_err(io));
    // It does not exist after a rename; an error of the creation takes precedence.
    let _ = fs::remove_file(&unfinished);
    made?;
    File::open(parent(path)).and_then(|directory| directory.sync_all()).map_err(io)
}

/// Creates the directory of `path`, accessible to its owner only. Directories above it may have others' in them, the agent's
/// for one, and are made as any others.
pub fn make_directory(path: &Path) -> io::Result<()> {
    let directory = parent(path);
    fs::create_dir_all(parent(directory))?;
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
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
