//! Reservations: prefixes that are kept out, or for one node.
//!
//! A reservation lies in a pool. Each change puts `meta/reservations`, which every claim guards, and is itself guarded by
//! the absence of claims: so neither overlooks the other.

use std::net::Ipv6Addr;

use sextant_proto::{NodeName, Pool, PoolName, Prefix, Revision};

use crate::{
    audit::{Actor, Event, What},
    index::{Index, User},
    keys::{Keys, Space},
    pools::{self, Pools, PoolsError},
    records::{ClaimRecord, Record, ReservationRecord},
    registry::{Entry, Guard, KeyRange, Op, RegistryError, SharedRegistry, Txn},
};

/// How often a change is tried against others.
const ATTEMPTS: u32 = 8;

/// Why the reservations stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum ReservationError {
    /// No pool contains it.
    #[error("{prefix} is in no pool; pools: {}. Only host prefixes of a pool can be reserved", pools.join(", "))]
    NoPool {
        /// The prefix.
        prefix: Prefix,
        /// Those that are.
        pools: Vec<String>,
    },
    /// No host prefix can be so long.
    #[error("{0} is too long for containers; reserve a prefix of at most 126 bits")]
    TooLong(Prefix),
    /// Another reservation overlaps it.
    #[error("{prefix} overlaps the reservation of {other}; end that one first: sextant unreserve {other}")]
    Reserved {
        /// The prefix.
        prefix: Prefix,
        /// The other one.
        other: Prefix,
    },
    /// A node holds some of it.
    #[error(
        "{prefix} overlaps {claim}, which node {node} holds; move that node first \
         (sextant node reassign {node}), or reserve another prefix"
    )]
    Claimed {
        /// The prefix.
        prefix: Prefix,
        /// What is held.
        claim: Prefix,
        /// Who holds it.
        node: NodeName,
    },
    /// The node has a reservation in the pool.
    #[error("{prefix} is reserved for node {node} already; end that first: sextant unreserve {prefix}")]
    HasOne {
        /// What is reserved.
        prefix: Prefix,
        /// Its node.
        node: NodeName,
    },
    /// The cluster stands on an address in it.
    #[error(
        "{prefix} contains {address}, which {user} has: whoever held it would take that address from all others; reserve \
         another prefix for the node, or keep this one out for all without --node"
    )]
    Infrastructure {
        /// The prefix.
        prefix: Prefix,
        /// The address.
        address: Ipv6Addr,
        /// Who has it.
        user: User,
    },
    /// There is none.
    #[error("{0} is not reserved; see `sextant reservations`")]
    Unknown(Prefix),
    /// The pools.
    #[error(transparent)]
    Pools(#[from] Box<PoolsError>),
    /// Others changed the reservations each time.
    #[error("{ATTEMPTS} attempts to change the reservations collided with concurrent changes; try again")]
    Contended,
    /// The store did not answer.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// The reservations of the cluster.
#[derive(Clone)]
pub struct Reservations {
    registry: SharedRegistry,
    keys: Keys,
    index: Index,
    pools: Pools,
    by: Actor,
}

/// All reservations by a read of the store, and the guard that none has changed since.
struct Listed {
    reservations: Vec<(Prefix, ReservationRecord, Revision)>,
    unchanged: Guard,
}

impl Reservations {
    /// The reservations in `registry`.
    pub fn new(registry: SharedRegistry, keys: Keys, index: Index) -> Self {
        let pools = Pools::new(registry.clone(), keys.clone(), index.clone());
        Self { registry, keys, index, pools, by: Actor::controller() }
    }

    /// Itself, with all that it does done by `by`.
    pub fn by(&self, by: &Actor) -> Self {
        Self { by: by.clone(), ..self.clone() }
    }

    /// Reserves `prefix`.
    ///
    /// # Errors
    /// A [`ReservationError`]; nothing was changed.
    pub async fn reserve(
        &self,
        prefix: Prefix,
        wanted: &ReservationRecord,
    ) -> Result<Revision, ReservationError> {
        if prefix.len() > 126 {
            return Err(ReservationError::TooLong(prefix));
        }
        for _ in 0..ATTEMPTS {
            let listed = self.list().await?;
            if let Some(revision) = same(&listed, prefix, wanted)? {
                return Ok(revision);
            }
            let pools = self.pools.list().await.map_err(Box::new)?;
            let pool = pools.pools.iter().find(|(pool, _)| pool.prefix.covers(prefix));
            let (pool, modified) = pool.ok_or_else(|| ReservationError::NoPool {
                prefix,
                pools: pools.pools.iter().map(|(pool, _)| format!("{} {}", pool.name, pool.prefix)).collect(),
            })?;
            has_none(&listed, wanted, pool)?;
            self.may_be_held(prefix, wanted)?;
            let mut guards = vec![Guard::Unchanged(self.keys.pool(&pool.name), *modified), listed.unchanged];
            guards.extend(self.no_claim_of_others(prefix, pool.prefix.len(), wanted).await?);
            let note = self.note(of_reservation(What::Reserved, prefix, wanted).pool(&pool.name));
            let ops = vec![Op::put(self.keys.reservation(prefix), wanted.encode()), self.touch(), note];
            if let Some(revision) = self.index.commit(&self.registry, Txn { guards, ops }).await? {
                return Ok(revision);
            }
        }
        Err(ReservationError::Contended)
    }

    /// Ends a reservation. A node that holds the prefix keeps it.
    ///
    /// # Errors
    /// A [`ReservationError`]; nothing was changed.
    pub async fn unreserve(&self, prefix: Prefix) -> Result<Revision, ReservationError> {
        for _ in 0..ATTEMPTS {
            let listed = self.list().await?;
            let found = listed.reservations.iter().find(|(reserved, ..)| *reserved == prefix);
            let (_, record, _) = found.ok_or(ReservationError::Unknown(prefix))?;
            let note = self.note(of_reservation(What::Unreserved, prefix, record));
            let ops = vec![Op::Delete(self.keys.reservation(prefix)), self.touch(), note];
            if let Some(revision) =
                self.index.commit(&self.registry, Txn { guards: vec![listed.unchanged], ops }).await?
            {
                return Ok(revision);
            }
        }
        Err(ReservationError::Contended)
    }

    /// Refuses to reserve for a node what the cluster stands on.
    fn may_be_held(&self, prefix: Prefix, wanted: &ReservationRecord) -> Result<(), ReservationError> {
        if wanted.node.is_none() {
            return Ok(());
        }
        self.index.read(|state| match state.holdings().infrastructure().inside(prefix) {
            Some((address, user)) => {
                Err(ReservationError::Infrastructure { prefix, address, user: user.clone() })
            }
            None => Ok(()),
        })
    }

    /// Guards that hold while no node holds a part of `prefix`, except its own node exactly that prefix.
    async fn no_claim_of_others(
        &self,
        prefix: Prefix,
        shortest: u8,
        wanted: &ReservationRecord,
    ) -> Result<Vec<Guard>, ReservationError> {
        let inside = self.keys.inside(Space::Claims, prefix);
        let mut entries = self.registry.list(&inside).await?.entries;
        for len in shortest..prefix.len() {
            let around = prefix.ancestor(len).map(|it| self.keys.claim(it));
            if let Some(around) = around.filter(|key| !inside.contains(key)) {
                entries.extend(self.registry.list(&KeyRange::key(&around)).await?.entries);
            }
        }
        let Some(entry) = entries.first() else {
            return Ok(self.keys.nothing_overlaps(Space::Claims, prefix, shortest));
        };
        let claim = ClaimRecord::decode(&entry.value)
            .map_err(|error| RegistryError::Corrupt(format!("{}: {error}", entry.key)))?;
        let key = self.keys.claim(prefix);
        if entry.key == key && wanted.node.as_ref() == Some(&claim.node) {
            return Ok(vec![Guard::Unchanged(key, entry.modified)]);
        }
        let held = match self.keys.parse(&entry.key) {
            Some(crate::keys::Key::Claim(held)) => held,
            _ => prefix,
        };
        Err(ReservationError::Claimed { prefix, claim: held, node: claim.node })
    }

    async fn list(&self) -> Result<Listed, ReservationError> {
        // The set's key first: a change after it is refused by the guard.
        let set = self.keys.reservation_set();
        let unchanged = pools::unchanged(&self.registry, set).await?;
        let entries = self.registry.list(&self.keys.reservations()).await?.entries;
        let reservations = entries.iter().filter_map(|entry| self.decode(entry)).collect::<Result<_, _>>()?;
        Ok(Listed { reservations, unchanged })
    }

    fn decode(&self, entry: &Entry) -> Option<Result<(Prefix, ReservationRecord, Revision), RegistryError>> {
        let Some(crate::keys::Key::Reservation(prefix)) = self.keys.parse(&entry.key) else {
            return None;
        };
        let record = ReservationRecord::decode(&entry.value);
        let record = record.map_err(|error| RegistryError::Corrupt(format!("{}: {error}", entry.key)));
        Some(record.map(|record| (prefix, record, entry.modified)))
    }

    fn note(&self, event: Event) -> Op {
        event.op(&self.keys, &self.by)
    }

    fn touch(&self) -> Op {
        Op::put(self.keys.reservation_set(), "")
    }
}

fn of_reservation(what: What, prefix: Prefix, record: &ReservationRecord) -> Event {
    let event = Event::new(what).prefix(prefix).detail(record.reason.clone());
    match &record.node {
        Some(node) => event.node(node),
        None => event,
    }
}

/// The revision of the very same reservation, if it stands: the same again is no mistake, and what a retry after an
/// unknown outcome finds.
fn same(
    listed: &Listed,
    prefix: Prefix,
    wanted: &ReservationRecord,
) -> Result<Option<Revision>, ReservationError> {
    for (other, record, revision) in &listed.reservations {
        if *other == prefix && record.node == wanted.node && record.reason == wanted.reason {
            return Ok(Some(*revision));
        }
        if other.overlaps(prefix) {
            return Err(ReservationError::Reserved { prefix, other: *other });
        }
    }
    Ok(None)
}

/// Checks that the node of a wanted reservation has no other one in the pool: it holds one claim there.
fn has_none(listed: &Listed, wanted: &ReservationRecord, pool: &Pool) -> Result<(), ReservationError> {
    let Some(node) = &wanted.node else { return Ok(()) };
    let is_its_own = |prefix: &Prefix, of: &ReservationRecord| {
        of.node.as_ref() == Some(node) && pool.prefix.covers(*prefix)
    };
    let other = listed.reservations.iter().find(|(prefix, record, _)| is_its_own(prefix, record));
    other.map_or(Ok(()), |(prefix, ..)| Err(ReservationError::HasOne { prefix: *prefix, node: node.clone() }))
}

/// The pool that a reservation lies in.
pub fn pool_of<'a>(pools: impl Iterator<Item = &'a Pool>, prefix: Prefix) -> Option<&'a PoolName> {
    let mut covering = pools.filter(|pool| pool.prefix.covers(prefix));
    covering.next().map(|pool| &pool.name)
}
