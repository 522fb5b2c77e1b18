//! A copy of the revocations in a file, outside of the store: neither the loss of the store nor an older backup permits anybody again.
//!
//! As long as the store is the one that the copy is of, the copy follows it. A store that has replaced that one gets the records that it
//! lacks first.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    fs::{self, File},
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use sextant_daemon::{Failing, Outage};
use sextant_proto::{Incarnation, convert, store::v1 as stored};
use tokio::time::Instant;

use crate::{
    audit::{Actor, Event, What},
    index::{Index, State},
    keys::{Key, Keys},
    records::Record,
    registry::{Guard, Op, RegistryError, SharedRegistry, Txn},
};

/// How often the two are compared at least: a store may be replaced by one with the same revocations.
const EVERY: Duration = Duration::from_secs(10);
/// When what has failed is tried again.
const RETRY: Duration = Duration::from_secs(3);

/// Why the copy is not that of the store.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The file cannot be written.
    #[error(
        "denials-file {path:?}: {source}; make its directory writable for the controller, with room in it"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The store did not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// The revocations of a store: each record by its key.
type Records = BTreeMap<String, Bytes>;

/// What the file has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Copied {
    /// The store that they are of.
    incarnation: Incarnation,
    records: Records,
}

/// The copy of a store's revocations.
pub struct Mirror {
    path: PathBuf,
    /// `None`: there is no file.
    copied: Option<Copied>,
    registry: SharedRegistry,
    keys: Keys,
    index: Index,
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror")
            .field("path", &self.path)
            .field("copied", &self.copied)
            .finish_non_exhaustive()
    }
}

impl Mirror {
    /// The copy in the file at `path`, of the store that `index` follows. A damaged file is put aside.
    ///
    /// # Errors
    /// If the file cannot be read, or put aside.
    pub fn open(
        path: PathBuf,
        registry: SharedRegistry,
        keys: Keys,
        index: Index,
    ) -> Result<Self, MirrorError> {
        let copied = match fs::read(&path) {
            Ok(octets) => decoded(&octets, &keys),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(MirrorError::File { path, source }),
        };
        if copied.is_none() && path.exists() {
            let aside = path.with_added_extension("damaged");
            tracing::error!(?path, ?aside, "the copy of the revocations is damaged; put aside");
            fs::rename(&path, aside).map_err(|source| MirrorError::File { path: path.clone(), source })?;
        }
        Ok(Self { path, copied, registry, keys, index })
    }

    /// Gives the store what it lacks if it has replaced the one of the copy, and then makes the copy that of the store.
    ///
    /// # Errors
    /// A [`MirrorError`]; the copy stays as it was.
    pub async fn follow(&mut self) -> Result<(), MirrorError> {
        let (incarnation, is_restoring, mut records) = self
            .index
            .read(|state| (state.meta().incarnation, state.meta().restoring, records(state, &self.keys)));
        // The end of a restore makes another incarnation.
        if is_restoring {
            return Ok(());
        }
        for (key, value) in lacking(self.copied.as_ref(), incarnation, &records) {
            let kept = self.keep(&key, value.clone()).await?;
            tracing::warn!(key, kept, "the store has replaced another one, and lacked this revocation");
            records.insert(key, value);
        }
        let now = Copied { incarnation, records };
        if self.copied.as_ref() != Some(&now) && (self.copied.is_some() || !now.records.is_empty()) {
            self.write(&now).map_err(|source| MirrorError::File { path: self.path.clone(), source })?;
            self.copied = Some(now);
        }
        Ok(())
    }

    /// Follows the store.
    ///
    /// # Errors
    /// None: what fails is tried again.
    pub async fn run(mut self) -> Result<(), Infallible> {
        let (mut changes, mut outage) = (self.index.subscribe_to_denials(), Outage::default());
        loop {
            changes.mark_unchanged();
            match self.follow().await {
                Ok(()) => {
                    outage = Outage::default();
                    // It ends when the controller stops.
                    let _changed_or_not = tokio::time::timeout(EVERY, changes.changed()).await;
                }
                Err(error) => {
                    if let Some(Failing { failures, for_secs }) = outage.failed(Instant::now()) {
                        tracing::warn!(%error, failures, for_secs, "the copy of the revocations is not up to date; retrying");
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Puts a record that the store does not have. Returns whether it was needed still.
    async fn keep(&self, key: &str, value: Bytes) -> Result<bool, RegistryError> {
        let event = Event::new(What::Revoked).detail(format!("kept from the store before: {key}"));
        let event = match self.keys.parse(key) {
            Some(Key::Denial(node)) => event.node(&node),
            _ => event,
        };
        let ops = vec![Op::put(key.to_owned(), value), event.op(&self.keys, &Actor::controller())];
        let outcome = self.registry.commit(Txn { guards: vec![Guard::Absent(key.to_owned())], ops }).await?;
        Ok(matches!(outcome, crate::registry::Outcome::Committed(_)))
    }

    fn write(&self, copied: &Copied) -> io::Result<()> {
        let records = copied
            .records
            .iter()
            .map(|(key, value)| stored::CopiedRecord { key: key.clone(), value: value.clone() });
        let content =
            stored::CopiedDenials { incarnation: copied.incarnation.into(), records: records.collect() };
        let dir = self.path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(&content.encode_to_vec())?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        File::open(dir)?.sync_all()
    }
}

/// What a store of this incarnation lacks: nothing if the copy is its own.
fn lacking(copied: Option<&Copied>, incarnation: Incarnation, has: &Records) -> Records {
    let of_another = copied.filter(|copied| copied.incarnation != incarnation);
    let records = of_another.into_iter().flat_map(|copied| copied.records.clone());
    records.filter(|(key, _)| !has.contains_key(key)).collect()
}

fn records(state: &State, keys: &Keys) -> Records {
    let nodes = state.denials().iter().map(|(node, denial)| (keys.denial(node), denial.record.encode()));
    let members = state.member_denials().iter();
    nodes.chain(members.map(|(member, it)| (keys.member_denial(member), it.record.encode()))).collect()
}

/// The content of a file, if it is one of this cluster.
fn decoded(octets: &[u8], keys: &Keys) -> Option<Copied> {
    let content = stored::CopiedDenials::decode(octets).ok()?;
    let is_denial = |key: &str| matches!(keys.parse(key), Some(Key::Denial(_) | Key::MemberDenial(_)));
    let records: Records = content.records.into_iter().map(|it| (it.key, it.value)).collect();
    let incarnation = convert::id("incarnation", &content.incarnation).ok()?;
    records.keys().all(|key| is_denial(key)).then_some(Copied { incarnation, records })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sextant_proto::NodeName;

    use super::*;
    use crate::{
        denials::{Denials, check},
        index::IndexTask,
        keys::Member,
        registry::fake::FakeStore,
        store,
    };

    /// A store with its index, and the copy of its revocations.
    struct Bed {
        mirror: Mirror,
        denials: Denials,
        index: Index,
        _task: tokio::task::JoinHandle<()>,
    }

    impl Bed {
        async fn new(path: &Path) -> Self {
            let (registry, _) = FakeStore::new().client();
            let keys = Keys::new(&"test".parse().unwrap());
            let meta = store::open(&registry, &keys).await.unwrap();
            let (task, index) = IndexTask::start(registry.clone(), keys.clone(), meta).await.unwrap();
            let denials = Denials::new(registry.clone(), keys.clone(), index.clone());
            let mirror = Mirror::open(path.into(), registry, keys, index.clone()).unwrap();
            let task = tokio::spawn(async move { drop(task.run().await) });
            Self { mirror, denials, index, _task: task }
        }

        fn is_denied(&self, node: &NodeName) -> bool {
            self.index.read(|state| check(state, Some(node), None, None).is_err())
        }

        async fn becomes(&self, node: &NodeName, denied: bool) {
            for _ in 0..500 {
                if self.is_denied(node) == denied {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("{node} does not become denied: {denied}");
        }
    }

    #[tokio::test]
    async fn a_store_that_replaces_a_lost_one_gets_its_revocations_and_later_ends_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("denials");
        let (h1, h2): (NodeName, NodeName) = ("h1".parse().unwrap(), "h2".parse().unwrap());
        let (bob, by) = (Member::Admin("bob".parse().unwrap()), Actor::new("admin ann"));
        let mut lost = Bed::new(&path).await;
        lost.mirror.follow().await.unwrap();
        assert!(!path.exists(), "nothing is revoked");
        lost.denials.deny(&h1, &by).await.unwrap();
        lost.denials.deny(&h2, &by).await.unwrap();
        lost.denials.deny_member(&bob, None, &by).await.unwrap();
        lost.becomes(&h2, true).await;
        for _ in 0..500 {
            if lost.index.read(|state| state.member_denials().len() == 1) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        lost.mirror.follow().await.unwrap();
        // What ends in the store ends in the copy.
        lost.denials.permit(&h2, &by).await.unwrap();
        lost.becomes(&h2, false).await;
        lost.mirror.follow().await.unwrap();
        drop(lost);

        let mut next = Bed::new(&path).await;
        assert!(!next.is_denied(&h1));
        next.mirror.follow().await.unwrap();
        next.becomes(&h1, true).await;
        assert!(!next.is_denied(&h2));
        assert!(next.index.read(|state| state.member_denials().contains_key(&bob)));
        next.denials.permit(&h1, &by).await.unwrap();
        next.becomes(&h1, false).await;
        next.mirror.follow().await.unwrap();
        next.mirror.follow().await.unwrap();
        assert!(!next.is_denied(&h1), "an admin has permitted it in this store");
    }

    #[tokio::test]
    async fn a_damaged_file_is_put_aside_and_one_that_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("denials");
        fs::write(&path, "no copy of anything").unwrap();
        let mut bed = Bed::new(&path).await;
        assert!(!path.exists() && dir.path().join("denials.damaged").exists());
        let h1: NodeName = "h1".parse().unwrap();
        bed.denials.deny(&h1, &Actor::new("admin ann")).await.unwrap();
        bed.becomes(&h1, true).await;
        bed.mirror.path = dir.path().join("missing/denials");
        let error = bed.mirror.follow().await.unwrap_err().to_string();
        assert!(error.starts_with("denials-file \"") && error.contains("missing/denials"), "{error}");
        bed.mirror.path = path.clone();
        bed.mirror.follow().await.unwrap();
        assert!(path.exists());
    }
}
