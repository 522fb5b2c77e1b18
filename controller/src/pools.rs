//! Pools: added, listed, removed.

use std::time::Duration;

use sextant_proto::{NodeName, Pool, PoolName, Revision};

use crate::{
    audit::{Actor, Event, What},
    index::Index,
    keys::{Keys, Space},
    records::Record,
    registry::{Entry, Guard, KeyRange, Op, Outcome, RegistryError, SharedRegistry, Txn},
};

/// How often a change is tried against other changes of the pools.
const ATTEMPTS: u32 = 8;
/// How long the index may take to see what was done.
const CATCH_UP: Duration = Duration::from_secs(2);

/// Why the pools stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum PoolsError {
    /// The name is another pool's.
    #[error("pool \"{}\" exists already, with {}; give the new one another name", .0.name, .0.prefix)]
    NameTaken(Pool),
    /// Two pools would hand out the same addresses.
    #[error("pool {} {} overlaps pool {} {}; pools must be apart", new.name, new.prefix, other.name, other.prefix)]
    Overlaps {
        /// The pool to add.
        new: Box<Pool>,
        /// The pool that is.
        other: Box<Pool>,
    },
    /// No such pool.
    #[error("pool \"{0}\" does not exist; see `sextant pool list`")]
    Unknown(PoolName),
    /// Nodes hold prefixes of it.
    #[error(
        "pool {0} is in use: {1}; drain and forget the nodes that hold its prefixes first (`sextant node list`)"
    )]
    InUse(PoolName, String),
    /// Others changed the pools each time.
    #[error("{ATTEMPTS} attempts to change the pools collided with others; try again")]
    Contended,
    /// The store did not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// The pools of the cluster.
#[derive(Clone)]
pub struct Pools {
    registry: SharedRegistry,
    keys: Keys,
    index: Index,
    by: Actor,
}

/// All pools by the store itself, and the guard that says that none was added or removed since.
struct Listed {
    pools: Vec<(Pool, Revision)>,
    unchanged: Guard,
}

impl Pools {
    /// The pools in `registry`.
    pub fn new(registry: SharedRegistry, keys: Keys, index: Index) -> Self {
        Self { registry, keys, index, by: Actor::controller() }
    }

    /// Itself, with all that it does done by `by`.
    pub fn by(&self, by: &Actor) -> Self {
        Self { by: by.clone(), ..self.clone() }
    }

    /// Adds a pool that overlaps no other.
    ///
    /// # Errors
    /// A [`PoolsError`]; nothing was changed.
    pub async fn add(&self, pool: &Pool) -> Result<Revision, PoolsError> {
        self.put_new(pool, &of_pool(What::PoolAdded, pool)).await
    }

    /// As [`add`](Self::add), for a pool of a lost store that `node` holds a prefix of.
    ///
    /// # Errors
    /// A [`PoolsError`]; nothing was changed.
    pub async fn restore(&self, pool: &Pool, node: &NodeName) -> Result<Revision, PoolsError> {
        self.put_new(pool, &of_pool(What::PoolRestored, pool).node(node)).await
    }

    async fn put_new(&self, pool: &Pool, event: &Event) -> Result<Revision, PoolsError> {
        for _ in 0..ATTEMPTS {
            let listed = self.list().await?;
            if let Some((same, revision)) = listed.pools.iter().find(|(other, _)| other.name == pool.name) {
                // The same again is no mistake, and what a retry after an unknown outcome finds.
                return if same == pool { Ok(*revision) } else { Err(PoolsError::NameTaken(same.clone())) };
            }
            if let Some((other, _)) =
                listed.pools.iter().find(|(other, _)| other.prefix.overlaps(pool.prefix))
            {
                return Err(PoolsError::Overlaps {
                    new: Box::new(pool.clone()),
                    other: Box::new(other.clone()),
                });
            }
            let key = self.keys.pool(&pool.name);
            let guards = vec![Guard::Absent(key.clone()), listed.unchanged];
            let ops = vec![Op::put(key, pool.encode()), self.touch(), self.note(event.clone())];
            if let Some(revision) = self.try_commit(Txn { guards, ops }).await? {
                return Ok(revision);
            }
        }
        Err(PoolsError::Contended)
    }

    /// Removes a pool that nobody holds a prefix of.
    ///
    /// # Errors
    /// A [`PoolsError`]; nothing was changed.
    pub async fn remove(&self, name: &PoolName) -> Result<Revision, PoolsError> {
        for _ in 0..ATTEMPTS {
            let listed = self.list().await?;
            let found = listed.pools.into_iter().find(|(pool, _)| pool.name == *name);
            let (pool, modified) = found.ok_or_else(|| PoolsError::Unknown(name.clone()))?;
            let claims = self.keys.inside(Space::Claims, pool.prefix);
            let held = self.registry.list(&claims).await?.entries.len();
            if held > 0 {
                let nodes = if held == 1 {
                    "1 node holds a prefix".into()
                } else {
                    format!("{held} nodes hold prefixes")
                };
                return Err(PoolsError::InUse(name.clone(), nodes));
            }
            let key = self.keys.pool(name);
            let guards =
                vec![Guard::Unchanged(key.clone(), modified), Guard::RangeAbsent(claims), listed.unchanged];
            let ops = vec![Op::Delete(key), self.touch(), self.note(of_pool(What::PoolRemoved, &pool))];
            if let Some(revision) = self.try_commit(Txn { guards, ops }).await? {
                return Ok(revision);
            }
        }
        Err(PoolsError::Contended)
    }

    async fn list(&self) -> Result<Listed, PoolsError> {
        // The set's key first: a change after it is refused by the guard.
        let set = self.keys.pool_set();
        let touched = self.registry.list(&KeyRange::key(&set)).await?.entries.pop();
        let unchanged = match touched {
            Some(entry) => Guard::Unchanged(set, entry.modified),
            None => Guard::Absent(set),
        };
        let entries = self.registry.list(&self.keys.pools()).await?.entries;
        let pools = entries.iter().map(decode).collect::<Result<_, _>>()?;
        Ok(Listed { pools, unchanged })
    }

    fn touch(&self) -> Op {
        Op::put(self.keys.pool_set(), "")
    }

    fn note(&self, event: Event) -> Op {
        event.op(&self.keys, &self.by)
    }

    async fn try_commit(&self, txn: Txn) -> Result<Option<Revision>, PoolsError> {
        match self.registry.commit(txn).await {
            Ok(Outcome::Committed(revision)) => {
                self.index.reaches(revision, CATCH_UP).await;
                Ok(Some(revision))
            }
            Ok(Outcome::Refused(_)) | Err(RegistryError::Unknown(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

fn of_pool(what: What, pool: &Pool) -> Event {
    Event::new(what).pool(&pool.name).prefix(pool.prefix)
}

fn decode(entry: &Entry) -> Result<(Pool, Revision), RegistryError> {
    let corrupt = |error| RegistryError::Corrupt(format!("{}: {error}", entry.key));
    Ok((Pool::decode(&entry.value).map_err(corrupt)?, entry.modified))
}
