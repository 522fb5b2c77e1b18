//! The store's file and its transactions.
//!
//! With [`super::table`] (the tables) and [`super::backend`] (octets) this is the edge to redb; no other module uses redb's
//! types.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use redb::{Builder, Database, ReadableDatabase, WriteTransaction};

use super::{
    backend::Backend,
    disk_space::{DiskSpace, is_full},
    location::{self, Identity, PathLock, misplaced},
    open::{self, FindBackup, NamedBackup, OpenError, fix},
    overlay::Overlay,
    panics::caught,
    table::{self, Kind, Loaded, Tables},
};
use crate::registry::{KeyRange, Reading, RegistryError};

/// redb's cache, in octets. redb's default of 1 GiB is too much for a controller.
const CACHE: usize = 64 << 20;

/// A store file: open, or closed after a failure until it is opened again.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    /// The file that was opened first; no other file is used.
    identity: Identity,
    _lock: PathLock,
    disk_space: DiskSpace,
    /// Named in errors about a damaged or missing file.
    backups: Option<Arc<dyn FindBackup>>,
    /// Shared by readers and the writer's transactions; locked exclusively only to reopen.
    state: RwLock<State>,
    #[cfg(test)]
    faults: super::faults::Faults,
}

#[derive(Debug)]
enum State {
    Open(Database),
    /// Closed after this failure.
    Closed(Failure),
}

/// Why the file could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The disk or the file system failed; a later attempt may succeed.
    #[error("{0}")]
    Io(String),
    /// The disk is full.
    #[error("{0}")]
    Full(String),
    /// The content is invalid.
    #[error("{0}")]
    Damaged(String),
}

/// The disk space that a transaction may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spend {
    /// Free space only; the transaction is refused while the file has holes.
    Nothing,
    /// The reserve as well.
    Reserve,
}

/// A transaction that failed.
#[derive(Debug)]
pub enum WriteError<T> {
    /// It was not begun: the disk is full. The file stays open.
    NoSpace(Failure),
    /// It was not committed.
    NotDone(Failure),
    /// It was committed if the file's sequence is now the next one.
    Unknown {
        /// The result of the transaction.
        result: T,
        failure: Failure,
    },
}

impl From<&OpenError> for Failure {
    fn from(error: &OpenError) -> Self {
        match error {
            OpenError::Damaged { .. } | OpenError::NotAStore { .. } => Self::Damaged(error.to_string()),
            _ => Self::Io(error.to_string()),
        }
    }
}

impl From<Failure> for RegistryError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Io(reason) | Failure::Full(reason) => Self::Unavailable(reason),
            Failure::Damaged(reason) => Self::Corrupt(reason),
        }
    }
}

impl File {
    /// Opens the store at `path`, or creates one.
    pub fn open(
        path: &Path,
        backups: Option<Arc<dyn FindBackup>>,
        #[cfg(test)] faults: super::faults::Faults,
    ) -> Result<(Self, Loaded), OpenError> {
        let disk_space = DiskSpace::new(path);
        let new = |file| {
            let backend = Backend::new(file, disk_space.clone()).map_err(|error| refused(path, error))?;
            database(path, backend).map(drop)
        };
        // Before the lock: no lock file is created beside a file that is not a store.
        let found = open::existing(path)?;
        let held_a_store = location::was_locked(path);
        let lock = PathLock::take(path)?;
        if held_a_store && found.is_some_and(|file| is_empty(&file)) {
            let (path, reason) = (path.to_owned(), "the file is empty, but held a store before".to_owned());
            let refusal = OpenError::Damaged { path, reason, backup: None };
            return Err(refusal.with_backup(backups.as_deref()));
        }
        if open::existing(path)?.is_none() {
            open::create(path, new)?;
        }
        let metadata = fs::metadata(path).map_err(|error| OpenError::io(path, error))?;
        let file = Self {
            path: path.to_owned(),
            identity: Identity::from(&metadata),
            _lock: lock,
            disk_space: disk_space.clone(),
            backups,
            state: RwLock::new(State::Closed(Failure::Io("not open yet".to_owned()))),
            #[cfg(test)]
            faults,
        };
        let loaded = file.reopen()?;
        file.refill();
        Ok((file, loaded))
    }

    /// Closes the file if it is open, and opens it again. It stays closed if that fails.
    pub fn reopen(&self) -> Result<Loaded, OpenError> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // Closed first: redb's lock would block the second open.
        *state = State::Closed(Failure::Io(format!("store {:?} is being opened", self.path)));
        // redb needs pages for a repair.
        let opened = self.disk_space.with_reserve(|| caught(|| self.open_again()));
        match opened.unwrap_or_else(|reason| Err(self.damaged(reason))) {
            Ok((database, loaded)) => {
                *state = State::Open(database);
                Ok(loaded)
            }
            Err(error) => {
                let error = error.with_backup(self.backups.as_deref());
                *state = State::Closed(Failure::from(&error));
                Err(error)
            }
        }
    }

    fn damaged(&self, reason: String) -> OpenError {
        OpenError::Damaged { path: self.path.clone(), reason, backup: None }
    }

    pub fn is_open(&self) -> bool {
        matches!(*self.state(), State::Open(_))
    }

    /// Allocates the missing blocks if the disk has space again, and fills the reserve.
    pub fn refill(&self) {
        // A handle of its own: redb owns the other one. A failure here is detected elsewhere.
        if let Ok(Some(file)) = open::existing(&self.path)
            && file.metadata().is_ok_and(|metadata| Identity::from(&metadata) == self.identity)
        {
            self.disk_space.refill(&file);
        }
    }

    /// The refusal of additions, if the file has holes that cannot be filled yet.
    fn no_space(&self) -> Option<Failure> {
        if !self.disk_space.has_holes() {
            return None;
        }
        self.refill();
        self.disk_space
            .refusal()
            .filter(|_| self.disk_space.has_holes())
            .map(|refusal| Failure::Full(refusal.reason))
    }

    /// The disk space of the file.
    pub fn disk_space(&self) -> &DiskSpace {
        &self.disk_space
    }

    /// Describes why the open file is not at its path, if so. Nothing may be written then.
    pub fn misplaced(&self) -> Option<String> {
        misplaced(&self.path, self.identity)
    }

    /// The error while the open file is not at its path, with the fix.
    pub fn refusal(&self, problem: &str) -> String {
        location::refusal(&self.path, problem, self.backup().as_ref())
    }

    /// The newest known backup. Blocks while it is read.
    fn backup(&self) -> Option<NamedBackup> {
        self.backups.as_ref().and_then(|backups| backups.newest())
    }

    /// All keys of each range, at one revision.
    pub fn read(&self, ranges: &[KeyRange]) -> Result<Reading, Failure> {
        let state = self.state();
        let read = || table::read(&state.database()?.begin_read()?, ranges);
        let read = caught(read).unwrap_or_else(|reason| Err(redb::Error::Corrupted(reason)));
        read.map_err(|error| self.failure(&state, error))
    }

    /// Runs `work` in one transaction. It returns its result, and whether it changed anything: only then is anything
    /// written, and on the disk when this returns.
    pub fn write<T>(
        &self,
        spend: Spend,
        work: impl FnOnce(&mut Tables<'_>) -> Result<(T, bool), redb::Error>,
    ) -> Result<T, WriteError<T>> {
        let write = || caught(|| self.write_unguarded(work));
        let written = match spend {
            Spend::Reserve => self.disk_space.with_reserve(write),
            Spend::Nothing => {
                if let Some(failure) = self.no_space() {
                    return Err(WriteError::NoSpace(failure));
                }
                write()
            }
        };
        written.unwrap_or_else(|reason| {
            let failure = self.failure(&self.state(), redb::Error::Corrupted(reason));
            Err(WriteError::NotDone(failure))
        })
    }

    fn write_unguarded<T>(
        &self,
        work: impl FnOnce(&mut Tables<'_>) -> Result<(T, bool), redb::Error>,
    ) -> Result<T, WriteError<T>> {
        let state = self.state();
        let not_done = |error| WriteError::NotDone(self.failure(&state, error));
        let begin = || begin(state.database()?);
        let transaction = begin().map_err(not_done)?;
        let result = (|| {
            let mut tables = Tables::open(&transaction)?;
            let (result, changed) = work(&mut tables)?;
            if changed {
                tables.conclude()?;
            }
            Ok((result, changed))
        })();
        let (result, changed) = result.map_err(not_done)?;
        if !changed {
            transaction.abort().map_err(|error| not_done(error.into()))?;
            return Ok(result);
        }
        let committed = caught(|| transaction.commit().map_err(redb::Error::from));
        match committed.unwrap_or_else(|reason| Err(redb::Error::Corrupted(reason))) {
            Ok(()) => Ok(result),
            Err(error) => Err(WriteError::Unknown { result, failure: self.failure(&state, error) }),
        }
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_again(&self) -> Result<(Database, Loaded), OpenError> {
        let refused = |error| refused(&self.path, error);
        let Some(file) = open::existing(&self.path)? else {
            return Err(OpenError::io(&self.path, io::ErrorKind::NotFound.into()));
        };
        let metadata = file.metadata().map_err(|error| OpenError::io(&self.path, error))?;
        if Identity::from(&metadata) != self.identity {
            let reason = "the file of the open store was replaced by another file".to_owned();
            return Err(OpenError::NotAStore { path: self.path.clone(), reason });
        }
        let found = file.try_clone().map_err(|error| OpenError::io(&self.path, error))?;
        #[cfg_attr(not(test), expect(unused_mut))]
        let mut backend = Backend::new(file, self.disk_space.clone()).map_err(refused)?;
        #[cfg(test)]
        {
            backend.faults = self.faults.clone();
        }
        self.disk_space.examine(&found).map_err(|error| OpenError::io(&self.path, error))?;
        // Before redb opens it: redb marks the file and may repair it.
        self.verify(found)?;
        let database = database(&self.path, backend)?;
        let load = || table::load(&database.begin_read()?);
        let loaded = load().map_err(refused)?;
        Ok((database, loaded))
    }

    /// Compares all pages with their checksums, and reads all records; writes nothing. A file that is not a store is left to
    /// [`database`].
    fn verify(&self, found: fs::File) -> Result<(), OpenError> {
        let refused = |error| refused(&self.path, error);
        let damaged = |reason| Err(self.damaged(reason));
        let overlay = Overlay::new(found).map_err(|error| OpenError::io(&self.path, error))?;
        let opened = Builder::new().set_cache_size(CACHE).create_with_backend(overlay);
        let mut database = opened.map_err(|error| refused(error.into()))?;
        let kind = || table::kind(&database.begin_read()?);
        if !matches!(kind().map_err(refused)?, Kind::Store) {
            return Ok(());
        }
        match database.check_integrity() {
            Ok(true) => {}
            Ok(false) => return damaged("pages do not match their checksums".to_owned()),
            Err(error) => return Err(refused(error.into())),
        }
        let verify = || table::verify(&database.begin_read()?);
        match verify().map_err(refused)? {
            Ok(()) => Ok(()),
            Err(reason) => damaged(reason),
        }
    }

    fn failure(&self, state: &State, error: redb::Error) -> Failure {
        let path = &self.path;
        if let State::Closed(failure) = state {
            return failure.clone();
        }
        match error {
            redb::Error::Io(error) => {
                let reason = format!("store {path:?}: {error}; {}", fix(&error));
                if is_full(&error) { Failure::Full(reason) } else { Failure::Io(reason) }
            }
            redb::Error::Corrupted(reason) => Failure::Damaged(format!(
                "store {path:?} is damaged: {reason}; stop the controller; {}",
                open::restore(path, self.backup().as_ref())
            )),
            error => Failure::Io(format!("store {path:?}: {error}")),
        }
    }
}

impl State {
    fn database(&self) -> Result<&Database, redb::Error> {
        match self {
            Self::Open(database) => Ok(database),
            Self::Closed(_) => Err(redb::Error::DatabaseClosed),
        }
    }
}

fn is_empty(file: &fs::File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.len() == 0)
}

/// Opens the database in the file; initialises a new store if the file is empty.
fn database(path: &Path, backend: Backend) -> Result<Database, OpenError> {
    let opened = Builder::new().set_cache_size(CACHE).create_with_backend(backend);
    let database = opened.map_err(|error| refused(path, error.into()))?;
    let kind = || table::kind(&database.begin_read()?);
    let path_buf = || path.to_owned();
    match kind().map_err(|error| refused(path, error))? {
        Kind::Store => {}
        Kind::Empty => initialise(&database).map_err(|error| refused(path, error))?,
        Kind::Foreign(reason) => {
            let reason = reason.to_owned();
            return Err(OpenError::NotAStore { path: path_buf(), reason });
        }
        Kind::Format(found) => {
            return Err(OpenError::Newer { path: path_buf(), found });
        }
    }
    Ok(database)
}

/// Begins a transaction with a two-phase commit. redb cannot tell a one-phase commit with damaged pages from one that a
/// crash interrupted, and opens the file at the commit before it: acknowledged changes would be lost silently. With two
/// phases redb refuses such a file.
fn begin(database: &Database) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_two_phase_commit(true);
    Ok(transaction)
}

fn initialise(database: &Database) -> Result<(), redb::Error> {
    let transaction = begin(database)?;
    Tables::open(&transaction)?.initialise()?;
    Ok(transaction.commit()?)
}

fn refused(path: &Path, error: redb::Error) -> OpenError {
    let path = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen => OpenError::AlreadyOpen(path),
        redb::Error::UpgradeRequired(_) => {
            let reason = "it is a redb database of an old format".to_owned();
            OpenError::NotAStore { path, reason }
        }
        // redb's error for a missing magic number or header.
        redb::Error::Io(error)
            if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            let reason = error.to_string();
            OpenError::NotAStore { path, reason }
        }
        redb::Error::Io(error) => OpenError::io(&path, error),
        error => {
            let reason = error.to_string();
            OpenError::Damaged { path, reason, backup: None }
        }
    }
}
