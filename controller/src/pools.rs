//! Pools: added, closed, grown, removed.

use std::net::Ipv6Addr;

use sextant_proto::{NodeName, Pool, PoolName, Prefix, Revision};

use crate::{
    audit::{Actor, Event, What},
    index::{Index, User},
    keys::{Keys, Space},
    records::Record,
    registry::{Entry, Guard, KeyRange, Op, RegistryError, SharedRegistry, Txn},
};

/// How often a change is tried against other changes of the pools.
const ATTEMPTS: u32 = 8;

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
    /// Nodes hold prefixes of it, or some are reserved.
    #[error(
        "pool {0} is in use: {1}; close it with `sextant pool drain {0}`, then end the claims of the nodes that hold its \
         prefixes (`sextant node list`): `sextant node forget NAME --pool {0}`; and end its reservations (`sextant reservations`)"
    )]
    InUse(PoolName, String),
    /// The new prefix does not contain the old one.
    #[error(
        "pool {} {} cannot grow to {to}: give it a shorter prefix that contains its own, e.g. {}",
        .pool.name, .pool.prefix, shorter(.pool)
    )]
    NotGrown {
        /// The pool.
        pool: Pool,
        /// What was asked for.
        to: Prefix,
    },
    /// The grown pool is invalid.
    #[error(transparent)]
    Pool(#[from] sextant_proto::PoolError),
    /// Claims or reservations are in the grown part.
    #[error("pool {0} cannot grow to {1}: claims or reservations of no pool are in it")]
    Stray(PoolName, Prefix),
    /// The cluster stands on an address in it.
    #[error(transparent)]
    Infrastructure(Box<InfrastructureError>),
    /// Others changed the pools each time.
    #[error("{ATTEMPTS} attempts to change the pools collided with concurrent changes; try again")]
    Contended,
    /// The store did not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// A pool would contain what the cluster stands on.
#[derive(Debug, thiserror::Error)]
#[error(
    "pool {pool} {prefix} contains {address}, which {user} has: hosts, links and controllers are not handed out{}",
    instead(*.free)
)]
pub struct InfrastructureError {
    pool: PoolName,
    prefix: Prefix,
    address: Ipv6Addr,
    user: User,
    /// The largest part without such an address.
    free: Option<Prefix>,
}

/// The pools of the cluster.
#[derive(Clone)]
pub struct Pools {
    registry: SharedRegistry,
    keys: Keys,
    index: Index,
    by: Actor,
}

/// All pools by a read of the store, and the guard that none was added or removed since.
pub(crate) struct Listed {
    pub(crate) pools: Vec<(Pool, Revision)>,
    unchanged: Guard,
}

/// Where a new pool comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// An operator adds it.
    Operator,
    /// Nodes hold prefixes of it.
    LostStore,
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
        self.put_new(pool, &of_pool(What::PoolAdded, pool), Origin::Operator).await
    }

    /// As [`add`](Self::add), for a pool of a lost store that `node` holds a prefix of.
    ///
    /// # Errors
    /// A [`PoolsError`]; nothing was changed.
    pub async fn restore(&self, pool: &Pool, node: &NodeName) -> Result<Revision, PoolsError> {
        self.put_new(pool, &of_pool(What::PoolRestored, pool).node(node), Origin::LostStore).await
    }

    async fn put_new(&self, pool: &Pool, event: &Event, origin: Origin) -> Result<Revision, PoolsError> {
        for _ in 0..ATTEMPTS {
            let listed = self.list().await?;
            if let Some((same, revision)) = listed.pools.iter().find(|(other, _)| other.name == pool.name) {
                // Repeating the same is not an error, and happens in a retry after an unknown outcome.
                let same_but_open = Pool { draining: pool.draining, ..same.clone() };
                return if same_but_open == *pool {
                    Ok(*revision)
                } else {
                    Err(PoolsError::NameTaken(same.clone()))
                };
            }
            if let Some((other, _)) =
                listed.pools.iter().find(|(other, _)| other.prefix.overlaps(pool.prefix))
            {
                return Err(PoolsError::Overlaps {
                    new: Box::new(pool.clone()),
                    other: Box::new(other.clone()),
                });
            }
            if origin == Origin::Operator {
                self.stands_on_none(&pool.name, pool.prefix, None)?;
            }
            let key = self.keys.pool(&pool.name);
            let guards = vec![Guard::Absent(key.clone()), listed.unchanged];
            let ops = vec![Op::put(key, pool.encode()), self.touch(), self.note(event.clone())];
            if let Some(revision) = self.index.commit(&self.registry, Txn { guards, ops }).await? {
                return Ok(revision);
            }
        }
        Err(PoolsError::Contended)
    }

    /// Removes a pool without claims.
    ///
    /// # Errors
    /// A [`PoolsError`]; nothing was changed.
    pub async fn remove(&self, name: &PoolName) -> Result<Revision, PoolsError> {
        for _ in 0..ATTEMPTS {
            let listed = self.list().await?;
            let (pool, modified) = find(listed.pools, name)?;
            let claims = self.keys.inside(Space::Claims, pool.prefix);
            let reservations = self.keys.inside(Space::Reservations, pool.prefix);
            let held = self.registry.list(&claims).await?.entries.len();
            let reserved = self.registry.list(&reservations).await?.entries.len();
            if held + reserved > 0 {
                return Err(PoolsError::InUse(name.clone(), in_use(held, reserved)));
            }
            let key = self.keys.pool(name);
            let empty = [claims, reservations].map(Guard::RangeAbsent);
            let mut guards = vec![Guard::Unchanged(key.clone(), modified), listed.unchanged];
            guards.extend(empty);
            let ops = vec![Op::Delete(key), self.touch(), self.note(of_pool(What::PoolRemoved, &pool))];
            if let Some(revision) = self.index.commit(&self.registry, Txn { guards, ops }).await? {
                return Ok(revision);
            }
        }
        Err(PoolsError::Contended)
    }

    /// Closes a pool to new claims, or opens it again. Says nothing to the store if it is so already.
    ///
    /// # Errors
    /// A [`PoolsError`]; nothing was changed.
    pub async fn drain(&self, name: &PoolName, draining: bool) -> Result<Revision, PoolsError> {
        for _ in 0..ATTEMPTS {
            let (pool, modified) = find(self.list().await?.pools, name)?;
            if pool.draining == draining {
                return Ok(modified);
            }
            let key = self.keys.pool(name);
            let what = if draining { What::PoolClosed } else { What::PoolOpened };
            let note = self.note(of_pool(what, &pool));
            let ops = vec![Op::put(&key, Pool { draining, ..pool }.encode()), note];
            let guards = vec![Guard::Unchanged(key, modified)];
            if let Some(revision) = self.index.commit(&self.registry, Txn { guards, ops }).await? {
                return Ok(revision);
            }
        }
        Err(PoolsError::Contended)
    }

    /// Gives a pool a shorter prefix that contains its own.
    ///
    /// # Errors
    /// A [`PoolsError`]; nothing was changed.
    pub async fn grow(&self, name: &PoolName, to: Prefix) -> Result<(Pool, Revision), PoolsError> {
        for _ in 0..ATTEMPTS {
            let listed = self.list().await?;
            let others: Vec<_> = listed.pools.iter().map(|(pool, _)| pool.clone()).collect();
            let (pool, modified) = find(listed.pools, name)?;
            if pool.prefix == to {
                return Ok((pool, modified));
            }
            if !to.covers(pool.prefix) {
                return Err(PoolsError::NotGrown { pool, to });
            }
            self.stands_on_none(name, to, Some(pool.prefix))?;
            let valid = Pool::new(pool.name.clone(), to, pool.host_len.into(), pool.container_len.into())?;
            let grown = Pool { draining: pool.draining, ..valid };
            if let Some(other) = others.iter().find(|it| it.name != *name && it.prefix.overlaps(to)) {
                return Err(PoolsError::Overlaps { new: Box::new(grown), other: Box::new(other.clone()) });
            }
            let around = [Space::Claims, Space::Reservations]
                .into_iter()
                .flat_map(|space| self.keys.around(space, to, pool.prefix));
            let mut guards = vec![Guard::Unchanged(self.keys.pool(name), modified), listed.unchanged];
            for range in around {
                if !self.registry.list(&range).await?.entries.is_empty() {
                    return Err(PoolsError::Stray(name.clone(), to));
                }
                guards.push(Guard::RangeAbsent(range));
            }
            let event = of_pool(What::PoolGrown, &grown).detail(format!("from {}", pool.prefix));
            let ops = vec![Op::put(self.keys.pool(name), grown.encode()), self.touch(), self.note(event)];
            if let Some(revision) = self.index.commit(&self.registry, Txn { guards, ops }).await? {
                return Ok((grown, revision));
            }
        }
        Err(PoolsError::Contended)
    }

    /// Refuses a prefix in which the cluster stands on an address, unless that is in the part which the pool `has`.
    fn stands_on_none(&self, pool: &PoolName, prefix: Prefix, has: Option<Prefix>) -> Result<(), PoolsError> {
        self.index.read(|state| {
            let infrastructure = state.holdings().infrastructure();
            let mut inside = infrastructure.all_inside(prefix);
            let Some((address, user)) =
                inside.find(|(address, _)| !has.is_some_and(|it| it.contains(*address)))
            else {
                return Ok(());
            };
            let free =
                infrastructure.largest_without(prefix).filter(|free| has.is_none_or(|it| free.covers(it)));
            let (pool, user) = (pool.clone(), user.clone());
            let error = InfrastructureError { pool, prefix, address, user, free };
            Err(PoolsError::Infrastructure(Box::new(error)))
        })
    }

    pub(crate) async fn list(&self) -> Result<Listed, PoolsError> {
        // The set's key first: a change after it is refused by the guard.
        let unchanged = unchanged(&self.registry, self.keys.pool_set()).await?;
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
}

fn of_pool(what: What, pool: &Pool) -> Event {
    Event::new(what).pool(&pool.name).prefix(pool.prefix)
}

/// The guard that a key is unchanged.
pub(crate) async fn unchanged(registry: &SharedRegistry, key: String) -> Result<Guard, RegistryError> {
    let entry = registry.list(&KeyRange::key(&key)).await?.entries.pop();
    Ok(match entry {
        Some(entry) => Guard::Unchanged(key, entry.modified),
        None => Guard::Absent(key),
    })
}

fn find(pools: Vec<(Pool, Revision)>, name: &PoolName) -> Result<(Pool, Revision), PoolsError> {
    let found = pools.into_iter().find(|(pool, _)| pool.name == *name);
    found.ok_or_else(|| PoolsError::Unknown(name.clone()))
}

fn in_use(held: usize, reserved: usize) -> String {
    let nodes = match held {
        0 => None,
        1 => Some("1 node holds a prefix".to_owned()),
        _ => Some(format!("{held} nodes hold prefixes")),
    };
    let reservations = match reserved {
        0 => None,
        1 => Some("1 prefix of it is reserved".to_owned()),
        _ => Some(format!("{reserved} prefixes of it are reserved")),
    };
    nodes.into_iter().chain(reservations).collect::<Vec<_>>().join(", ")
}

fn instead(free: Option<Prefix>) -> String {
    free.map(|free| format!("; give it a prefix without them, e.g. {free}")).unwrap_or_default()
}

/// One bit shorter than the pool.
fn shorter(pool: &Pool) -> Prefix {
    pool.prefix.ancestor(pool.prefix.len().saturating_sub(1)).unwrap_or(pool.prefix)
}

fn decode(entry: &Entry) -> Result<(Pool, Revision), RegistryError> {
    let corrupt = |error| RegistryError::Corrupt(format!("{}: {error}", entry.key));
    Ok((Pool::decode(&entry.value).map_err(corrupt)?, entry.modified))
}
