//! The edge to files that others own: each is replaced whole or not at all, and stays where a symbolic link leads.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use nix::errno::Errno;

use crate::json::MAX_BYTES;

/// Links are followed so many times.
const LINKS: usize = 40;
/// The permissions of a new file.
pub const PUBLIC: u32 = 0o644;
/// The permissions of a new file that may hold what only root may read.
pub const PRIVATE: u32 = 0o600;

/// Why a file could not be read or replaced. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is a directory, a device or the like.
    #[error("{}: is not a regular file; move it away", .0.display())]
    NotRegular(PathBuf),
    /// It cannot be replaced.
    #[error("{}: cannot be written: {source}; nothing was changed{}", path.display(), fix(source))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else has changed it in the meantime.
    #[error("{}: was changed by another process at the same time; nothing was changed; try again", .0.display())]
    Changed(PathBuf),
}

fn fix(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EROFS) => ". Mount its file system writable, and try again",
        Some(Errno::EPERM) => ". Where `lsattr` shows the flag i, remove it (`chattr -i`), and try again",
        Some(Errno::EACCES) => ". Run it as root",
        Some(Errno::ENOSPC | Errno::EDQUOT) => ". Make space on its file system, and try again",
        _ => "",
    }
}

/// The content of a file; none if it does not exist. No more is read than the largest usable file, and a byte.
///
/// # Errors
/// If it cannot be read.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
        Ok(found) if !found.is_file() => return Err(FileError::NotRegular(path.to_owned())),
        Ok(_) => {}
    }
    let mut content = Vec::new();
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path).and_then(|file| file.take(most).read_to_end(&mut content)).map_err(failed)?;
    Ok(Some(content))
}

/// Gives a file this content, or removes it, if it still has the content that was `seen`. Its permissions and owner stay; a new one
/// gets `mode`.
///
/// # Errors
/// If it has another content by now, or cannot be written. Then nothing was changed.
pub fn replace(path: &Path, mode: u32, seen: Option<&[u8]>, content: Option<&[u8]>) -> Result<(), FileError> {
    let target = target(path);
    let failed = |source| FileError::Write { path: target.clone(), source };
    let directory = target.parent().unwrap_or(Path::new("/"));
    let prepared =
        content.map(|content| prepare(directory, &target, mode, content)).transpose().map_err(failed)?;
    if read(&target)?.as_deref() != seen {
        return Err(FileError::Changed(target));
    }
    match (prepared, seen) {
        (Some(file), Some(_)) => file.persist(&target).map(drop).map_err(|error| failed(error.error))?,
        (Some(file), None) => match file.persist_noclobber(&target) {
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(FileError::Changed(target));
            }
            persisted => persisted.map(drop).map_err(|error| failed(error.error))?,
        },
        (None, Some(_)) => fs::remove_file(&target).map_err(failed)?,
        (None, None) => return Ok(()),
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
}

/// A temporary file beside the target, complete on the disk.
fn prepare(
    directory: &Path,
    target: &Path,
    mode: u32,
    content: &[u8],
) -> io::Result<tempfile::NamedTempFile> {
    fs::create_dir_all(directory)?;
    let mut file = tempfile::Builder::new().prefix(".sextant-").tempfile_in(directory)?;
    file.write_all(content)?;
    match fs::metadata(target) {
        Ok(former) => {
            fchown(file.as_file(), Some(former.uid()), Some(former.gid()))?;
            file.as_file().set_permissions(Permissions::from_mode(former.mode() & 0o7777))?;
        }
        Err(_) => file.as_file().set_permissions(Permissions::from_mode(mode))?,
    }
    file.as_file().sync_all()?;
    Ok(file)
}

/// Where symbolic links lead, whether or not there is a file.
pub fn target(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        let Ok(link) = fs::read_link(&path) else { break };
        path = path.parent().unwrap_or(Path::new("/")).join(link);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_with_its_permissions_behind_its_link() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("real.json"), dir.path().join("daemon.json"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real.json", &link).unwrap();
        replace(&link, PUBLIC, Some(b"old"), Some(b"new")).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("real.json"));
        assert_eq!(names(dir.path()), ["daemon.json", "real.json"]);
        replace(&link, PUBLIC, Some(b"new"), None).unwrap();
        assert_eq!(read(&link).unwrap(), None);
        replace(&link, PUBLIC, None, Some(b"again")).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"again", "a link to a file that does not exist");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, PUBLIC);
    }

    #[test]
    fn a_content_that_was_not_seen_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("daemon.json");
        fs::write(&file, "theirs").unwrap();
        for seen in [Some(&b"old"[..]), None] {
            for new in [Some(&b"new"[..]), None] {
                assert!(matches!(replace(&file, PUBLIC, seen, new), Err(FileError::Changed(_))), "{seen:?}");
            }
        }
        assert_eq!(fs::read(&file).unwrap(), b"theirs");
        assert_eq!(names(dir.path()), ["daemon.json"]);
    }

    #[test]
    fn what_is_no_file_is_refused_and_a_large_one_is_not_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(dir.path()), Err(FileError::NotRegular(_))));
        assert!(matches!(read(Path::new("/dev/zero")), Err(FileError::NotRegular(_))));
        let file = dir.path().join("large");
        File::create(&file).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read(&file).unwrap().unwrap().len(), MAX_BYTES + 1);
        assert!(crate::json::Document::parse(read(&file).unwrap().as_deref()).is_err());
    }
}
