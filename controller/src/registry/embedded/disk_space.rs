//! Disk space for the file: its growth, a full disk, and the reserve for deletes.
//!
//! redb writes changed pages to free ones, and frees the old ones two transactions later. So on a full disk even a delete
//! needs space at first. A reserve file beside the store's keeps some. If a transaction that frees space (`Txn::frees`)
//! finds the disk full, the store's file grows as a sparse file, and its pages get the reserve's blocks one by one. From then
//! on it has holes, and only transactions that free space are accepted until the disk has space for the whole file. Then the
//! reserve is filled again.
//!
//! A shortage begins with a growth that failed and lasts until that growth is possible.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    sys::statvfs::fstatvfs,
};

use super::open::fix;
use sextant_proto::unix_ms;

use crate::registry::Refusal;

/// The size of the reserve, in octets: some two hundred pages, of which a transaction needs a dozen or two.
const RESERVE: u64 = 1 << 20;
/// The octets that are released at once.
const RELEASED: u64 = 64 << 10;

/// The disk space of one store; cheap to clone.
#[derive(Debug, Clone)]
pub struct DiskSpace(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: PathBuf,
    /// The current operation may use the reserve.
    may_use_reserve: AtomicBool,
    shortage: Mutex<Option<Shortage>>,
}

/// A growth that was refused.
#[derive(Debug, Clone)]
struct Shortage {
    /// The length that the file could not grow to.
    len: u64,
    /// Parts of the file have no blocks allocated.
    holes: bool,
    why: String,
    since_unix_ms: u64,
}

impl DiskSpace {
    /// The disk space of the store at `path`.
    pub fn new(path: &Path) -> Self {
        let shared = Shared {
            store: path.to_owned(),
            may_use_reserve: AtomicBool::new(false),
            shortage: Mutex::new(None),
        };
        Self(Arc::new(shared))
    }

    /// Runs an operation that may use the reserve.
    pub fn with_reserve<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.may_use_reserve.store(true, Relaxed);
        let done = work();
        self.0.may_use_reserve.store(false, Relaxed);
        done
    }

    /// The refusal of additions, if the disk is full.
    pub fn refusal(&self) -> Option<Refusal> {
        let shortage = self.shortage().clone()?;
        let reason = format!(
            "store {:?} cannot grow: {}; deletes are accepted, additions may be refused; {}",
            self.0.store,
            shortage.why,
            fix(&ErrorKind::StorageFull.into())
        );
        Some(Refusal { reason, since_unix_ms: shortage.since_unix_ms })
    }

    /// Whether only transactions that free space are accepted.
    pub fn has_holes(&self) -> bool {
        self.shortage().as_ref().is_some_and(|shortage| shortage.holes)
    }

    /// Grows `file` with all blocks allocated, or leaves it unchanged. An operation that may use the reserve grows it in any
    /// case.
    pub fn grow(&self, file: &fs::File, old: u64, new: u64) -> io::Result<()> {
        let error = match allocate(file, FallocateFlags::empty(), old, new) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // Some file systems keep the blocks allocated so far.
        file.set_len(old)?;
        if !is_full(&error) {
            return Err(error);
        }
        let needed = (new - old).div_ceil(1 << 20);
        let why = format!("it needs {needed} MiB more: {error}");
        let may_use_reserve = self.0.may_use_reserve.load(Relaxed);
        self.note(new, may_use_reserve, &why);
        if may_use_reserve { file.set_len(new) } else { Err(io::Error::new(error.kind(), why)) }
    }

    /// Writes, with blocks of the reserve if necessary.
    pub fn write(&self, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        loop {
            match write() {
                Err(error)
                    if is_full(&error) && self.0.may_use_reserve.load(Relaxed) && self.release_reserve() => {}
                written => return written,
            }
        }
    }

    /// Records whether a newly opened file has holes.
    pub fn examine(&self, file: &fs::File) -> io::Result<()> {
        let metadata = file.metadata()?;
        let (len, here) = (metadata.len(), metadata.blocks() * 512);
        if here >= len {
            return Ok(());
        }
        match allocate(file, FallocateFlags::empty(), 0, len) {
            Err(error) if is_full(&error) => {
                let needed = (len - here).div_ceil(1 << 20);
                self.note(len, true, &format!("it needs {needed} MiB more: {error}"));
                Ok(())
            }
            other => other,
        }
    }

    /// Allocates the missing blocks if the disk has space again, and fills the reserve.
    pub fn refill(&self, file: &fs::File) {
        let Some(Shortage { len, .. }) = self.shortage().clone() else { return self.fill_reserve() };
        if self.fits(file, len).unwrap_or(false) {
            *self.shortage() = None;
            tracing::info!(store = ?self.0.store, "store can grow again");
            self.fill_reserve();
        }
    }

    /// Allocates all blocks of the file up to `len`; false if the disk is still too full.
    fn fits(&self, file: &fs::File, len: u64) -> io::Result<bool> {
        let metadata = file.metadata()?;
        let (now, here) = (metadata.len(), metadata.blocks() * 512);
        let disk = fstatvfs(file)?;
        if disk.blocks_available().saturating_mul(disk.fragment_size()) < len.saturating_sub(here) {
            return Ok(false);
        }
        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let allocated = allocate(file, keep, 0, len.max(now));
        if allocated.is_err() {
            // Releases blocks that were allocated past the end.
            file.set_len(now)?;
        }
        Ok(allocated.is_ok())
    }

    fn note(&self, len: u64, holes: bool, why: &str) {
        let mut shortage = self.shortage();
        let before = shortage.take();
        if before.is_none() {
            tracing::warn!(store = ?self.0.store, why, "store cannot grow: the disk is full");
        }
        *shortage = Some(Shortage {
            len: before.as_ref().map_or(len, |before| before.len.max(len)),
            holes: holes || before.as_ref().is_some_and(|before| before.holes),
            why: why.to_owned(),
            since_unix_ms: before.map_or_else(unix_ms, |before| before.since_unix_ms),
        });
    }

    /// Releases some of the reserve's blocks to the disk; `false` if it has none.
    fn release_reserve(&self) -> bool {
        let Ok(reserve) = OpenOptions::new().write(true).open(self.reserve()) else { return false };
        let held = reserve.metadata().map_or(0, |metadata| metadata.len());
        held > 0 && reserve.set_len(held.saturating_sub(RELEASED)).is_ok() && reserve.sync_all().is_ok()
    }

    /// A failure is not an error: the store works without the reserve.
    fn fill_reserve(&self) {
        if let Err(error) = self.try_fill_reserve() {
            tracing::debug!(%error, reserve = ?self.reserve(), "reserve of the store cannot be filled; retrying");
        }
    }

    fn try_fill_reserve(&self) -> io::Result<()> {
        let path = self.reserve();
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() >= RESERVE) {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        let mut file = options.append(true).create(true).mode(0o600).open(path)?;
        let held = file.metadata()?.len();
        let filled = match fallocate(&file, FallocateFlags::empty(), 0, signed(RESERVE)?) {
            Err(Errno::EOPNOTSUPP) => {
                let lacking = usize::try_from(RESERVE - held).map_err(io::Error::other)?;
                file.write_all(&vec![1; lacking]).and_then(|()| file.sync_all())
            }
            done => done.map_err(io::Error::from),
        };
        if filled.is_err() {
            file.set_len(held)?;
        }
        filled
    }

    fn reserve(&self) -> PathBuf {
        let mut name = self.0.store.as_os_str().to_owned();
        name.push(".reserve");
        PathBuf::from(name)
    }

    fn shortage(&self) -> MutexGuard<'_, Option<Shortage>> {
        self.0.shortage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Allocates blocks for the octets from `from` to `to`.
fn allocate(file: &fs::File, flags: FallocateFlags, from: u64, to: u64) -> io::Result<()> {
    loop {
        match fallocate(file, flags, signed(from)?, signed(to - from)?) {
            Ok(()) => return Ok(()),
            Err(Errno::EINTR) => {}
            // A file system without fallocate: writes report a full disk instead.
            Err(Errno::EOPNOTSUPP) if file.metadata()?.len() < to && flags.is_empty() => {
                return file.set_len(to);
            }
            Err(Errno::EOPNOTSUPP) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Whether `error` means a full disk.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn signed(length: u64) -> io::Result<i64> {
    i64::try_from(length).map_err(io::Error::other)
}
