//! A backup that is being received: one at a time, on disk.

use std::{
    fs::File,
    io::{self, Read, Seek, Write},
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use sextant_backup_file::{Backup, FileError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The largest accepted backup: some millions of nodes.
const LARGEST: u64 = 1 << 30;

/// Why a backup cannot be received.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// Another one is.
    #[error("another backup is being restored at this controller; try again when that is done")]
    Busy,
    /// It is too large.
    #[error("the backup is larger than the limit of {LARGEST} octets")]
    Large,
    /// The directory cannot take it.
    #[error(
        "{directory:?} cannot take the backup: {source}; free space there, or give another directory as TMPDIR"
    )]
    Io {
        /// Where it would be.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no backup.
    #[error("the backup {0}")]
    File(#[from] FileError),
}

/// Where backups are received.
#[derive(Debug, Clone)]
pub struct Uploads {
    directory: PathBuf,
    turn: Arc<Semaphore>,
}

/// A backup that is being received. Its file has no name, and is gone with it.
#[derive(Debug)]
pub struct Upload {
    directory: PathBuf,
    file: File,
    octets: u64,
    turn: OwnedSemaphorePermit,
}

/// The turn to restore: the next backup is received once it is dropped.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit);

impl Uploads {
    /// Into files in this directory.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, turn: Arc::new(Semaphore::new(1)) }
    }

    /// Begins to receive one.
    ///
    /// # Errors
    /// If another one is being received or restored, or there can be no file.
    pub fn begin(&self) -> Result<Upload, UploadError> {
        let turn = self.turn.clone().try_acquire_owned().map_err(|_| UploadError::Busy)?;
        let directory = self.directory.clone();
        match tempfile::tempfile_in(&directory) {
            Ok(file) => Ok(Upload { directory, file, octets: 0, turn }),
            Err(source) => Err(UploadError::Io { directory, source }),
        }
    }
}

impl Upload {
    /// Appends octets.
    ///
    /// # Errors
    /// If it gets too large, or the disk does not take them.
    pub fn append(&mut self, octets: &[u8]) -> Result<(), UploadError> {
        if self.octets == 0 {
            Backup::begins(octets)?;
        }
        self.octets += octets.len() as u64;
        if self.octets > LARGEST {
            return Err(UploadError::Large);
        }
        self.file.write_all(octets).map_err(|source| self.failed(source))
    }

    /// The whole backup.
    ///
    /// # Errors
    /// If it is none.
    pub fn finish(mut self) -> Result<(Backup, Turn), UploadError> {
        let mut octets = Vec::with_capacity(usize::try_from(self.octets).unwrap_or(0));
        let read = self.file.rewind().and_then(|()| self.file.read_to_end(&mut octets));
        read.map_err(|source| self.failed(source))?;
        // The entries share these octets.
        let backup = Backup::decode_shared(Bytes::from(octets))?;
        Ok((backup, Turn(self.turn)))
    }

    fn failed(&self, source: io::Error) -> UploadError {
        UploadError::Io { directory: self.directory.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use sextant_proto::{Incarnation, Revision};

    use super::*;

    fn backup() -> Backup {
        let kept = |n: u64| sextant_backup_file::Kept {
            key: format!("pools/p{n}"),
            value: Bytes::from(vec![7; 1000]),
            created: Revision(n),
        };
        Backup {
            version: "0.1.0".into(),
            cluster: "default".into(),
            store: "here".into(),
            incarnation: Incarnation::random(),
            revision: Revision(7),
            unix_ms: 1,
            entries: (1..50).map(kept).collect(),
        }
    }

    #[test]
    fn one_backup_is_received_at_a_time_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let uploads = Uploads::new(dir.path().to_owned());
        let mut upload = uploads.begin().unwrap();
        assert!(matches!(uploads.begin(), Err(UploadError::Busy)));
        let backup = backup();
        backup.encode().chunks(100).for_each(|piece| upload.append(piece).unwrap());
        let (decoded, turn) = upload.finish().unwrap();
        assert_eq!(decoded, backup);
        assert!(matches!(uploads.begin(), Err(UploadError::Busy)), "it is being restored");
        drop(turn);
        let mut nothing = uploads.begin().unwrap();
        assert!(matches!(nothing.append(b"no backup at all"), Err(UploadError::File(FileError::NotABackup))));
        drop(nothing);
        assert!(uploads.begin().is_ok());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
