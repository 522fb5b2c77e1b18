//! The store's file and its transactions.
//!
//! With [`super::table`] (where things lie) and [`super::backend`] (octets) this is the edge to redb; nothing of redb's is
//! seen outside these three.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use redb::{Builder, Database, ReadableDatabase, WriteTransaction};

use super::{
    backend::Backend,
    open::{self, FindBackup, NamedBackup, OpenError, mend},
    overlay::Overlay,
    panics::caught,
    placed::{self, Identity, PathLock, misplaced},
    room::{Room, is_full},
    table::{self, Kind, Loaded, Tables},
};
use crate::registry::{KeyRange, Reading, RegistryError};

/// redb's cache, in octets. Its own default of 1 GiB is more than a controller may take.
const CACHE: usize = 64 << 20;

/// An open store file, or one that failed and waits to be opened again.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    /// The file that was opened first; no other one is ever used.
    identity: Identity,
    _lock: PathLock,
    room: Room,
    /// Named where the file is damaged or away.
    backups: Option<Arc<dyn FindBackup>>,
    /// Readers and the writer's transactions share it; only opening anew takes it alone.
    state: RwLock<State>,
    #[cfg(test)]
    faults: super::faults::Faults,
}

#[derive(Debug)]
enum State {
    Open(Database),
    /// Failed; why.
    Closed(Failure),
}

/// Why the file could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// The disk or the file system failed; it may work later.
    #[error("{0}")]
    Io(String),
    /// The disk is full.
    #[error("{0}")]
    Full(String),
    /// What is in it makes no sense.
    #[error("{0}")]
    Damaged(String),
}

/// What a transaction may take of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spend {
    /// What is free; nothing is done while the file has holes.
    Nothing,
    /// The reserve too.
    Reserve,
}

/// A transaction that was not done for certain.
#[derive(Debug)]
pub enum WriteError<T> {
    /// It was not begun: there is no room, and the file stays open.
    NoRoom(Failure),
    /// It was not done.
    NotDone(Failure),
    /// It was done if the file's sequence is now the next one.
    Unknown {
        /// What the transaction gave.
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
    /// Opens the store at `path`, or makes a new one there.
    pub fn open(
        path: &Path,
        backups: Option<Arc<dyn FindBackup>>,
        #[cfg(test)] faults: super::faults::Faults,
    ) -> Result<(Self, Loaded), OpenError> {
        let room = Room::new(path);
        let new = |file| {
            let backend = Backend::new(file, room.clone()).map_err(|error| refused(path, error))?;
            database(path, backend).map(drop)
        };
        // Before the lock: nothing is made beside what is no store.
        let found = open::existing(path)?;
        let held_a_store = placed::was_locked(path);
        let lock = PathLock::take(path)?;
        if held_a_store && found.is_some_and(|file| is_empty(&file)) {
            let (path, reason) = (path.to_owned(), "it is empty, and a store was there before".to_owned());
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
            room: room.clone(),
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
        // Closed first: its lock would keep us out.
        *state = State::Closed(Failure::Io(format!("store {:?} is being opened", self.path)));
        // What redb repairs, or has to put away, needs pages.
        let opened = self.room.spending(|| caught(|| self.open_again()));
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

    /// Takes the room that was lacking if it is there by now, and fills the reserve.
    pub fn refill(&self) {
        // Opened anew: redb has the other one. Where it cannot be, it is found out otherwise.
        if let Ok(Some(file)) = open::existing(&self.path)
            && file.metadata().is_ok_and(|metadata| Identity::from(&metadata) == self.identity)
        {
            self.room.refill(&file);
        }
    }

    /// Why nothing may be added: the file has holes, and there is still no room to fill them.
    fn no_room(&self) -> Option<Failure> {
        if !self.room.has_holes() {
            return None;
        }
        self.refill();
        self.room.refusal().filter(|_| self.room.has_holes()).map(|refusal| Failure::Full(refusal.reason))
    }

    /// The room that it has to grow.
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// What is wrong if the open file is not at its path: nothing may be written then.
    pub fn misplaced(&self) -> Option<String> {
        misplaced(&self.path, self.identity)
    }

    /// What is said while the open file is not at its path, and how to go on.
    pub fn refusal(&self, what: &str) -> String {
        placed::refusal(&self.path, what, self.backup().as_ref())
    }

    /// The newest backup, where one is known. Blocks while it is read.
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

    /// Runs `work` in one transaction. It gives its result, and whether it changed anything: only then is anything
    /// written, and on the disk when this returns.
    pub fn write<T>(
        &self,
        spend: Spend,
        work: impl FnOnce(&mut Tables<'_>) -> Result<(T, bool), redb::Error>,
    ) -> Result<T, WriteError<T>> {
        let write = || caught(|| self.write_unguarded(work));
        let written = match spend {
            Spend::Reserve => self.room.spending(write),
            Spend::Nothing => {
                if let Some(failure) = self.no_room() {
                    return Err(WriteError::NoRoom(failure));
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
        let worked = (|| {
            let mut tables = Tables::open(&transaction)?;
            let (result, changed) = work(&mut tables)?;
            if changed {
                tables.conclude()?;
            }
            Ok((result, changed))
        })();
        let (result, changed) = worked.map_err(not_done)?;
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
            let reason = "another file was put in the place of the open store".to_owned();
            return Err(OpenError::NotAStore { path: self.path.clone(), reason });
        }
        let found = file.try_clone().map_err(|error| OpenError::io(&self.path, error))?;
        #[cfg_attr(not(test), expect(unused_mut))]
        let mut backend = Backend::new(file, self.room.clone()).map_err(refused)?;
        #[cfg(test)]
        {
            backend.faults = self.faults.clone();
        }
        self.room.examine(&found).map_err(|error| OpenError::io(&self.path, error))?;
        // Before redb opens it, as it then marks and perhaps repairs what it finds.
        self.verify(found)?;
        let database = database(&self.path, backend)?;
        let load = || table::load(&database.begin_read()?);
        let loaded = load().map_err(refused)?;
        Ok((database, loaded))
    }

    /// Compares all pages with their checksums, and reads all that is in them; writes nothing. What is no store is left to
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
                let reason = format!("store {path:?}: {error}; {}", mend(&error));
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

/// Opens what is in the file, which is a store then: a new one if it was empty.
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

/// Begins a transaction that is committed in two phases. A commit in one phase whose pages are damaged looks like one that a
/// crash cut off, and redb then opens the file with the commit before it: acknowledged changes would be lost silently. After
/// two phases redb refuses such a file.
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
        // What redb says where its magic number or header is not there.
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
