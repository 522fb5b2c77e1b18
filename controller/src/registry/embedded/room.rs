//! Room on the disk for the file: growing it, what it lacks, and the reserve of what frees.
//!
//! redb writes changed pages to free ones, and frees the old ones two transactions later. So on a full disk even a delete
//! needs room at first. A file beside the store's keeps some: where a transaction that frees (`Txn::frees`) finds the disk
//! full, the store's file grows without blocks behind all of it, and gives its pages the reserve's blocks one by one. From then on it
//! has holes, and takes nothing but what frees until the disk has room for all of it. Then the reserve is filled again.
//!
//! What is lacking is known from a growth that failed, whatever fits into the file meanwhile, until that growth is possible.

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

use super::open::mend;
use sextant_proto::unix_ms;

use crate::registry::Refusal;

/// How much the reserve holds, in octets: some two hundred pages, of which a transaction takes a dozen or two.
const RESERVE: u64 = 1 << 20;
/// How much of it is given at once.
const GIVEN: u64 = 64 << 10;

/// The room of one store; cheap to clone.
#[derive(Debug, Clone)]
pub struct Room(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: PathBuf,
    /// What is done now may have the reserve.
    spends: AtomicBool,
    lack: Mutex<Option<Lack>>,
}

/// A growth that was refused.
#[derive(Debug, Clone)]
struct Lack {
    /// Up to which length of the file there is no room.
    len: u64,
    /// There are parts of the file without blocks behind them.
    holes: bool,
    why: String,
    since_unix_ms: u64,
}

impl Room {
    /// Of the store at `path`.
    pub fn new(path: &Path) -> Self {
        let shared =
            Shared { store: path.to_owned(), spends: AtomicBool::new(false), lack: Mutex::new(None) };
        Self(Arc::new(shared))
    }

    /// Does something that may have the reserve.
    pub fn spending<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.spends.store(true, Relaxed);
        let done = work();
        self.0.spends.store(false, Relaxed);
        done
    }

    /// What the store cannot take, and why.
    pub fn refusal(&self) -> Option<Refusal> {
        let lack = self.lack().clone()?;
        let reason = format!(
            "store {:?} cannot grow: {}; deletes are taken, additions may be refused; {}",
            self.0.store,
            lack.why,
            mend(&ErrorKind::StorageFull.into())
        );
        Some(Refusal { reason, since_unix_ms: lack.since_unix_ms })
    }

    /// Whether nothing is taken but what frees.
    pub fn has_holes(&self) -> bool {
        self.lack().as_ref().is_some_and(|lack| lack.holes)
    }

    /// Makes `file` longer with blocks behind every octet of it, or leaves it as it was. What may have the reserve makes it longer
    /// in any case.
    pub fn grow(&self, file: &fs::File, old: u64, new: u64) -> io::Result<()> {
        let error = match allocate(file, FallocateFlags::empty(), old, new) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // Some file systems keep what they had allocated until then.
        file.set_len(old)?;
        if !is_full(&error) {
            return Err(error);
        }
        let needed = (new - old).div_ceil(1 << 20);
        let why = format!("it needs {needed} MiB more: {error}");
        let spends = self.0.spends.load(Relaxed);
        self.note(new, spends, &why);
        if spends { file.set_len(new) } else { Err(io::Error::new(error.kind(), why)) }
    }

    /// Writes, with the reserve's blocks if need be.
    pub fn write(&self, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        loop {
            match write() {
                Err(error) if is_full(&error) && self.0.spends.load(Relaxed) && self.give() => {}
                written => return written,
            }
        }
    }

    /// Notes whether a file that is opened has holes.
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

    /// Takes the room that is lacking if it is there by now, and fills the reserve.
    pub fn refill(&self, file: &fs::File) {
        let Some(Lack { len, .. }) = self.lack().clone() else { return self.fill_reserve() };
        if self.is_there(file, len).unwrap_or(false) {
            *self.lack() = None;
            tracing::info!(store = ?self.0.store, "store has room again");
            self.fill_reserve();
        }
    }

    /// Whether all of the file up to `len` has blocks behind it now; they are its own from then on.
    fn is_there(&self, file: &fs::File, len: u64) -> io::Result<bool> {
        let metadata = file.metadata()?;
        let (now, here) = (metadata.len(), metadata.blocks() * 512);
        let disk = fstatvfs(file)?;
        if disk.blocks_available().saturating_mul(disk.fragment_size()) < len.saturating_sub(here) {
            return Ok(false);
        }
        let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let allocated = allocate(file, keep, 0, len.max(now));
        if allocated.is_err() {
            // What was allocated past the end is given back.
            file.set_len(now)?;
        }
        Ok(allocated.is_ok())
    }

    fn note(&self, len: u64, holes: bool, why: &str) {
        let mut lack = self.lack();
        let before = lack.take();
        if before.is_none() {
            tracing::warn!(store = ?self.0.store, why, "store cannot grow: the disk is full");
        }
        *lack = Some(Lack {
            len: before.as_ref().map_or(len, |before| before.len.max(len)),
            holes: holes || before.as_ref().is_some_and(|before| before.holes),
            why: why.to_owned(),
            since_unix_ms: before.map_or_else(unix_ms, |before| before.since_unix_ms),
        });
    }

    /// Gives some of the reserve's blocks back to the disk; `false` if it has none.
    fn give(&self) -> bool {
        let Ok(reserve) = OpenOptions::new().write(true).open(self.reserve()) else { return false };
        let held = reserve.metadata().map_or(0, |metadata| metadata.len());
        held > 0 && reserve.set_len(held.saturating_sub(GIVEN)).is_ok() && reserve.sync_all().is_ok()
    }

    /// The reserve is a convenience: the store works without it.
    fn fill_reserve(&self) {
        if let Err(error) = self.try_fill_reserve() {
            tracing::debug!(%error, reserve = ?self.reserve(), "reserve of the store cannot be filled; trying again");
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

    fn lack(&self) -> MutexGuard<'_, Option<Lack>> {
        self.0.lack.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts blocks behind all octets from `from` to `to`.
fn allocate(file: &fs::File, flags: FallocateFlags, from: u64, to: u64) -> io::Result<()> {
    loop {
        match fallocate(file, flags, signed(from)?, signed(to - from)?) {
            Ok(()) => return Ok(()),
            Err(Errno::EINTR) => {}
            // A file system without this: then writes report a full disk.
            Err(Errno::EOPNOTSUPP) if file.metadata()?.len() < to && flags.is_empty() => {
                return file.set_len(to);
            }
            Err(Errno::EOPNOTSUPP) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Whether `error` says that there is no room on the disk.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

fn signed(length: u64) -> io::Result<i64> {
    i64::try_from(length).map_err(io::Error::other)
}
