//! Automatic backups.
//!
//! One task, [`Automatic::run`]: it waits for the next backup's time, reads the store at one revision, and writes a file. It
//! never ends: failures are retried.

use std::{
    convert::Infallible,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sextant_backup_file::Backup;
use sextant_proto::Incarnation;

use super::{
    directory::{Directory, DirectoryError},
    names::first_wait,
};
use crate::{
    keys::Keys,
    records::{Meta, Record, unix_ms},
    registry::{KeyRange, RegistryError, SharedRegistry},
};

/// The longest pause before a retry.
const RETRY: Duration = Duration::from_secs(60);

/// The schedule and the directory of automatic backups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// The interval.
    pub every: Duration,
    /// The number of kept backups.
    pub keep: usize,
    /// The directory.
    pub directory: PathBuf,
}

/// The state of automatic backups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// The time of the last one, also of an earlier start.
    pub last_unix_ms: Option<u64>,
    /// The error of the last attempt, if it failed.
    pub failing: Option<String>,
    /// The newest backup of another store than the current one, as of the start.
    pub earlier: Option<PathBuf>,
}

/// Automatic backups of a controller. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Automatic {
    schedule: Option<Schedule>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, thiserror::Error)]
enum Failed {
    /// Other modules report this error.
    #[error("the store cannot be read: {0}")]
    Store(#[from] RegistryError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("the writing task ended: {0}")]
    Ended(#[from] tokio::task::JoinError),
}

impl Automatic {
    /// Without a schedule no backups are taken.
    pub fn new(schedule: Option<Schedule>) -> Self {
        Self { schedule, taken: Arc::default() }
    }

    /// The schedule, if there is one.
    pub fn schedule(&self) -> Option<&Schedule> {
        self.schedule.as_ref()
    }

    /// Their state.
    pub fn taken(&self) -> Taken {
        self.lock().clone()
    }

    /// Takes backups, for ever.
    ///
    /// # Errors
    /// None: failures are retried.
    pub async fn run(self, registry: SharedRegistry, keys: Keys, cluster: String) -> Result<(), Infallible> {
        let Some(schedule) = self.schedule.clone() else {
            return std::future::pending().await;
        };
        let incarnation = incarnation(&registry, &keys).await;
        let mut wait = self.begin(&schedule, incarnation).await;
        loop {
            tokio::time::sleep(wait).await;
            let taken = take(&schedule, &registry, &keys, &cluster).await;
            wait = if taken.is_ok() { schedule.every } else { schedule.every.min(RETRY) };
            self.tell(taken);
        }
    }

    /// The time until the first one.
    async fn begin(&self, schedule: &Schedule, incarnation: Option<Incarnation>) -> Duration {
        let directory = Directory::new(schedule.directory.clone());
        let begun = tokio::task::spawn_blocking(move || {
            directory.prepare()?;
            let earlier = incarnation.and_then(|it| directory.newest_not_of(it));
            Ok::<_, DirectoryError>((directory.last_unix_ms()?, earlier))
        });
        match begun.await.map_err(Failed::from).and_then(|begun| Ok(begun?)) {
            Ok((last, earlier)) => {
                let mut taken = self.lock();
                (taken.last_unix_ms, taken.earlier) = (last, earlier);
                first_wait(last, unix_ms(), schedule.every)
            }
            // The first backup fails at once, and says it again.
            Err(error) => {
                self.tell(Err(error));
                Duration::ZERO
            }
        }
    }

    /// Records the result of one, and logs when it changes.
    fn tell(&self, taken: Result<(Backup, PathBuf), Failed>) {
        let mut state = self.lock();
        match taken {
            Ok((backup, file)) => {
                if state.failing.take().is_some() {
                    tracing::info!("automatic backups work again");
                }
                state.last_unix_ms = Some(backup.unix_ms);
                tracing::debug!(?file, revision = %backup.revision, claims = backup.claims(), "automatic backup taken");
            }
            Err(error @ Failed::Store(_)) => tracing::debug!(%error, "automatic backup impossible; retrying"),
            Err(error) => {
                if state.failing.is_none() {
                    tracing::warn!(%error, "automatic backup failed; retrying");
                }
                state.failing = Some(error.to_string());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The incarnation of the store; none if it does not answer.
async fn incarnation(registry: &SharedRegistry, keys: &Keys) -> Option<Incarnation> {
    let entry = registry.list(&KeyRange::key(&keys.meta())).await.ok()?.entries.pop()?;
    Some(Meta::decode(&entry.value).ok()?.incarnation)
}

async fn take(
    schedule: &Schedule,
    registry: &SharedRegistry,
    keys: &Keys,
    cluster: &str,
) -> Result<(Backup, PathBuf), Failed> {
    let backup = super::take(registry, keys, cluster).await?;
    let (directory, keep) = (Directory::new(schedule.directory.clone()), schedule.keep);
    let written = tokio::task::spawn_blocking(move || {
        let file = directory.add(&backup, keep)?;
        Ok((backup, file))
    });
    written.await?
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, time::Instant};

    use super::*;
    use crate::{
        records::{Meta, Record},
        registry::{Op, Txn, embedded::EmbeddedStore},
        store,
    };

    /// A store, and backups of it every few milliseconds.
    struct Bed {
        place: tempfile::TempDir,
        registry: SharedRegistry,
        keys: Keys,
        automatic: Automatic,
    }

    impl Bed {
        async fn new() -> Self {
            let place = tempfile::tempdir().unwrap();
            let registry: SharedRegistry = Arc::new(EmbeddedStore::open(&place.path().join("s")).unwrap());
            let keys = Keys::new(&"default".parse().unwrap());
            store::open(&registry, &keys).await.unwrap();
            let directory = place.path().join("backups");
            let schedule = Schedule { every: Duration::from_millis(20), keep: 2, directory };
            Self { place, registry, keys, automatic: Automatic::new(Some(schedule)) }
        }

        fn run(&self) -> tokio::task::JoinHandle<Result<(), Infallible>> {
            let (registry, keys) = (self.registry.clone(), self.keys.clone());
            tokio::spawn(self.automatic.clone().run(registry, keys, "default".into()))
        }

        fn directory(&self) -> std::path::PathBuf {
            self.place.path().join("backups")
        }

        async fn until(&self, what: &str, mut is: impl FnMut(Taken) -> bool) {
            let begun = Instant::now();
            while !is(self.automatic.taken()) {
                assert!(begun.elapsed() < Duration::from_secs(10), "{what}: {:?}", self.automatic.taken());
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }

        async fn put(&self, op: Op) {
            self.registry.commit(Txn { guards: vec![], ops: vec![op] }).await.unwrap();
        }
    }

    fn files(directory: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).into_iter().flatten();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
    }

    #[tokio::test]
    async fn they_are_taken_again_and_again_and_are_what_the_command_writes() {
        let bed = Bed::new().await;
        bed.put(Op::put(bed.keys.control(), "y")).await;
        let running = bed.run();
        let mut seen = std::collections::BTreeSet::new();
        bed.until("four backups", |_| {
            seen.extend(
                files(&bed.directory())
                    .into_iter()
                    .filter(|it| it.extension().is_some_and(|it| it == "backup")),
            );
            seen.len() >= 4
        })
        .await;
        running.abort();
        let _ = running.await;
        let left = files(&bed.directory());
        assert!(left.len() <= 3, "two, and one whose deletion the end cut off: {left:?}");
        let last = Backup::decode(&fs::read(left.last().unwrap()).unwrap()).unwrap();
        let by_command = super::super::take(&bed.registry, &bed.keys, "default").await.unwrap();
        assert_eq!(last, Backup { unix_ms: last.unix_ms, ..by_command });
    }

    #[tokio::test]
    async fn a_directory_that_is_gone_is_reported_until_it_is_back() {
        let bed = Bed::new().await;
        let running = bed.run();
        bed.until("the first", |taken| taken.last_unix_ms.is_some()).await;
        let away = bed.place.path().join("away");
        fs::rename(bed.directory(), &away).unwrap();
        bed.until("it fails", |taken| taken.failing.is_some_and(|why| why.contains("backups\""))).await;
        assert!(!bed.directory().exists(), "another disk may be meant to be there");
        fs::rename(&away, bed.directory()).unwrap();
        bed.until("it works", |taken| taken.failing.is_none()).await;
        running.abort();
    }

    #[tokio::test]
    async fn a_store_that_is_half_restored_is_not_backed_up() {
        let bed = Bed::new().await;
        let half = Meta { restoring: true, ..Meta::new() };
        bed.put(Op::put(bed.keys.meta(), half.encode())).await;
        let running = bed.run();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(files(&bed.directory()), Vec::<PathBuf>::new());
        bed.put(Op::put(bed.keys.meta(), Meta::new().encode())).await;
        bed.until("the first", |taken| taken.last_unix_ms.is_some()).await;
        running.abort();
    }
}
