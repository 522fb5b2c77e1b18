//! The file as redb's storage backend.
//!
//! It differs from redb's own backend in three points. Growth (redb doubles the file) allocates blocks (through
//! [`DiskSpace`]), so that a full disk is reported when the file grows, before any page of a transaction is written. The file
//! never shrinks, as redb does after deletes and on a clean close: it would have to double again later, which fails if the
//! disk is full by then. (redb accepts a file that is longer than its header states when it opens one.) And the page cache is
//! dropped before a file is read again after a failure: after a failed write-back it holds octets that are not on the disk.

use std::{
    fs::File,
    io,
    ops::Bound,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::disk_space::DiskSpace;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use redb::{BackendError, StorageBackend, backends::FileBackend};

/// An open file, locked by redb.
#[derive(Debug)]
pub struct Backend {
    redb: FileBackend,
    /// The same open file as in `redb`.
    file: File,
    /// The length that redb has set, in octets; the file may be longer. redb takes a length below the one it is given for a
    /// truncation, and panics if it needs one in the middle of a transaction.
    len: AtomicU64,
    disk_space: DiskSpace,
    #[cfg(test)]
    pub faults: super::faults::Faults,
}

impl Backend {
    /// Wraps a file that is open for reading and writing, and that grows through `disk_space`.
    pub fn new(file: File, disk_space: DiskSpace) -> Result<Self, redb::Error> {
        drop_cache(&file);
        let same = file.try_clone()?;
        let redb = FileBackend::new(file)?;
        Ok(Self {
            len: AtomicU64::new(redb.len()?),
            redb,
            file: same,
            disk_space,
            #[cfg(test)]
            faults: super::faults::Faults::default(),
        })
    }
}

/// Only advice: where it fails, the cache stays.
fn drop_cache(file: &File) {
    let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.len.load(Relaxed))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.redb.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        #[cfg(test)]
        self.faults.resize()?;
        let old = self.redb.len()?;
        if len > old {
            self.disk_space.grow(&self.file, old, len)?;
        }
        self.len.store(len, Relaxed);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        #[cfg(test)]
        self.faults.sync()?;
        self.redb.sync_data()
    }

    fn write(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        self.faults.write()?;
        self.disk_space.write(|| self.redb.write(offset, octets))
    }

    fn close(&self) -> io::Result<()> {
        self.redb.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.redb.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.redb.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.redb.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.redb.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.redb.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.redb.query_lock_range(start, end)
    }
}
