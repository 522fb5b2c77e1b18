//! A directory of automatic backups: finds the newest one, writes new ones, deletes old ones.
//!
//! Only files with a valid [`Name`], and unfinished ones of this controller, are read or deleted. All functions block.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use sextant_backup_file::{Backup, Existing, UNFINISHED, write};
use sextant_proto::Incarnation;

use super::names::{Name, expired, rfc3339};
use crate::registry::embedded::{FindBackup, NamedBackup};

/// A directory of automatic backups.
#[derive(Debug, Clone)]
pub struct Directory(PathBuf);

/// A failed operation in the directory.
#[derive(Debug, thiserror::Error)]
#[error("backup directory {path:?}: {what}: {source}")]
pub struct DirectoryError {
    path: PathBuf,
    what: String,
    source: io::Error,
}

impl Directory {
    /// The directory at `path`, which need not exist.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Creates it, accessible to its owner only, if it does not exist; removes unfinished files of a killed controller.
    ///
    /// # Errors
    /// If it cannot be created or read.
    pub fn prepare(&self) -> Result<(), DirectoryError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        made.map_err(|error| self.failed("it cannot be made", error))?;
        let (prefix, suffix) = UNFINISHED;
        for name in self.file_names()? {
            if name.starts_with(prefix) && name.ends_with(suffix) {
                self.remove(&name)?;
            }
        }
        Ok(())
    }

    /// The time of the newest backup, from its name.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn last_unix_ms(&self) -> Result<Option<u64>, DirectoryError> {
        Ok(self.names()?.last().map(|name| name.unix_ms))
    }

    /// The newest undamaged backup of a store with another incarnation.
    pub fn newest_not_of(&self, incarnation: Incarnation) -> Option<PathBuf> {
        self.newest_that(|name| !name.is_of(incarnation)).map(|(file, _)| file)
    }

    fn newest_that(&self, wanted: impl Fn(&Name) -> bool) -> Option<(PathBuf, Backup)> {
        let names = self.names().ok()?;
        names.iter().rev().filter(|name| wanted(name)).find_map(|name| {
            let file = self.0.join(name.to_string());
            let backup = Backup::decode(&fs::read(&file).ok()?).ok()?;
            Some((file, backup))
        })
    }

    /// Writes a backup, and deletes surplus ones; returns its file.
    ///
    /// # Errors
    /// If it cannot be written, or old ones cannot be deleted.
    pub fn add(&self, backup: &Backup, keep: usize) -> Result<PathBuf, DirectoryError> {
        let after = self.names()?.last().map(|name| name.unix_ms + 1);
        // Past the last one though the clock may have been set back: names are in the order of writing.
        let name = Name::new(backup.unix_ms.max(after.unwrap_or_default()), backup.incarnation);
        let file = self.0.join(name.to_string());
        let written = write(&file, &backup.encode(), Existing::Keep);
        written.map_err(|error| self.failed(&format!("{name} cannot be written"), error))?;
        for old in expired(&self.names()?, backup.incarnation, keep) {
            self.remove(&old.to_string())?;
        }
        Ok(file)
    }

    fn remove(&self, name: &str) -> Result<(), DirectoryError> {
        match fs::remove_file(self.0.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.failed(&format!("{name} cannot be deleted"), error))
            }
            _ => Ok(()),
        }
    }

    /// The names of backups, the oldest first.
    fn names(&self) -> Result<Vec<Name>, DirectoryError> {
        let mut names: Vec<Name> = self.file_names()?.iter().filter_map(|name| name.parse().ok()).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn file_names(&self) -> Result<Vec<String>, DirectoryError> {
        let read =
            || fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
        let names = read().map_err(|error| self.failed("it cannot be read", error))?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    fn failed(&self, what: &str, source: io::Error) -> DirectoryError {
        DirectoryError { path: self.0.clone(), what: what.to_owned(), source }
    }
}

impl FindBackup for Directory {
    fn newest(&self) -> Option<NamedBackup> {
        let (file, backup) = self.newest_that(|_| true)?;
        Some(NamedBackup { file, taken: rfc3339(backup.unix_ms) })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use sextant_proto::Revision;

    use super::*;

    fn backup(unix_ms: u64) -> Backup {
        Backup {
            version: "0".into(),
            cluster: "default".into(),
            store: "embedded:x".into(),
            incarnation: "00".repeat(16).parse().unwrap(),
            revision: Revision(unix_ms),
            unix_ms,
            entries: Vec::new(),
        }
    }

    fn names(directory: &Directory) -> Vec<String> {
        let mut names = directory.file_names().unwrap();
        names.sort();
        names
    }

    #[test]
    fn the_newest_are_kept_whole_and_other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path().join("deep/backups"));
        directory.prepare().unwrap();
        assert_eq!(fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777, 0o700);
        let others = ["mine.backup", "sextant-1.backup", ".sextant-x"];
        others.iter().for_each(|name| fs::write(directory.path().join(name), "mine").unwrap());
        fs::write(directory.path().join(".sextant-abc.unfinished"), "half").unwrap();
        directory.prepare().unwrap();
        assert_eq!(directory.last_unix_ms().unwrap(), None);
        assert_eq!(directory.newest(), None);
        let files: Vec<_> = (1..=5).map(|ms| directory.add(&backup(ms * 1000), 3).unwrap()).collect();
        assert_eq!(names(&directory).len(), others.len() + 3, "{:?}", names(&directory));
        assert!(!files[1].exists() && files[2].exists());
        assert_eq!(Backup::decode(&fs::read(&files[4]).unwrap()).unwrap(), backup(5000));
        assert_eq!(fs::metadata(&files[4]).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(directory.last_unix_ms().unwrap(), Some(5000));
        let named = NamedBackup { file: files[4].clone(), taken: "1970-01-01T00:00:05.000Z".into() };
        assert_eq!(directory.newest(), Some(named));
        // A damaged one is not named.
        fs::write(&files[4], "half").unwrap();
        assert_eq!(directory.newest().unwrap().file, files[3]);
    }

    #[test]
    fn a_clock_that_was_set_back_deletes_no_new_backup() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path().to_owned());
        for ms in [9_000_000, 9_000_001, 1000, 2000, 2000] {
            directory.add(&backup(ms), 2).unwrap();
        }
        assert_eq!(directory.newest().unwrap().taken, "1970-01-01T00:00:02.000Z");
        assert_eq!(names(&directory).len(), 2);
    }

    #[test]
    fn a_directory_that_is_gone_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(dir.path().join("gone"));
        let error = directory.add(&backup(1), 3).unwrap_err().to_string();
        assert!(error.contains("gone\"") && error.contains("No such file"), "{error}");
        assert_eq!(directory.newest(), None);
    }
}
