//! Writes a file atomically.

use std::{fs, io, io::Write, path::Path};

/// The treatment of an existing file at the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is kept, and the write fails with `AlreadyExists`.
    Keep,
    /// It is replaced.
    Replace,
}

/// The prefix and the suffix of the names of unfinished files.
pub const UNFINISHED: (&str, &str) = (".sextant-", ".unfinished");

/// Writes a temporary file, syncs it, and renames it: the file exists completely or not at all. It is accessible to its owner
/// only (0600).
///
/// # Errors
/// The error of the file system.
pub fn write(file: &Path, octets: &[u8], existing: Existing) -> io::Result<()> {
    let directory = file.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (prefix, suffix) = UNFINISHED;
    let mut beside = tempfile::Builder::new().prefix(prefix).suffix(suffix).tempfile_in(directory)?;
    beside.write_all(octets)?;
    beside.as_file().sync_all()?;
    match existing {
        Existing::Keep => beside.persist_noclobber(file),
        Existing::Replace => beside.persist(file),
    }
    .map_err(|error| error.error)?;
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_written_whole_for_its_owner_and_never_replaced_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("b");
        write(&file, b"one", Existing::Keep).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
        let error = write(&file, b"two", Existing::Keep).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&file).unwrap(), b"one");
        write(&file, b"two", Existing::Replace).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        assert!(write(&dir.path().join("no/b"), b"x", Existing::Keep).is_err());
    }
}
