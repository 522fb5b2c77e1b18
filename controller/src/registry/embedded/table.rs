//! The tables of the file, within one redb transaction.

use std::time::Duration;

use bytes::Bytes;
use redb::{ReadableTable, Table, TableDefinition, TableError, WriteTransaction};
use sextant_proto::Revision;

use super::apply::{Content, KeyMeta};
use crate::registry::{Entry, KeyRange, LeaseId, Reading};

/// The format that this code writes, and the newest that it reads.
pub const FORMAT: u64 = 1;

/// Numbers of the store as a whole, by the names below. Only a Sextant store has this table.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("sextant");
const META_FORMAT: &str = "format";
const META_REVISION: &str = "revision";
/// Counts the transactions of the file: shows after a failure whether the last one was committed.
const META_SEQUENCE: &str = "sequence";
const META_LAST_LEASE: &str = "last_lease";

/// An entry without its key: created, modified, lease, value.
type Record = (u64, u64, Option<u64>, &'static [u8]);
const ENTRIES: TableDefinition<'_, &str, Record> = TableDefinition::new("entries");
/// TTLs in milliseconds.
const LEASES: TableDefinition<'_, u64, u64> = TableDefinition::new("leases");
/// The keys of each lease.
const LEASE_KEYS: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("lease_keys");

/// The state of a file when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub revision: Revision,
    pub sequence: u64,
    pub leases: Vec<(LeaseId, Duration)>,
}

/// The kind of a file that redb could read.
pub enum Kind {
    Store,
    /// Without any table.
    Empty,
    Foreign(&'static str),
    Format(u64),
}

/// All tables in a transaction that changes them.
pub struct Tables<'t> {
    meta: Table<'t, &'static str, u64>,
    entries: Table<'t, &'static str, Record>,
    leases: Table<'t, u64, u64>,
    lease_keys: Table<'t, (u64, &'static str), ()>,
    revision: Revision,
}

impl<'t> Tables<'t> {
    pub fn open(transaction: &'t WriteTransaction) -> Result<Self, redb::Error> {
        let meta = transaction.open_table(META)?;
        let revision = Revision(number(&meta, META_REVISION)?);
        Ok(Self {
            meta,
            entries: transaction.open_table(ENTRIES)?,
            leases: transaction.open_table(LEASES)?,
            lease_keys: transaction.open_table(LEASE_KEYS)?,
            revision,
        })
    }

    /// Initialises an empty file as an empty store.
    pub fn initialise(&mut self) -> Result<(), redb::Error> {
        self.meta.insert(META_FORMAT, FORMAT)?;
        Ok(())
    }

    /// Writes the sequence and the revision.
    pub fn conclude(&mut self) -> Result<(), redb::Error> {
        let sequence = number(&self.meta, META_SEQUENCE)? + 1;
        self.meta.insert(META_SEQUENCE, sequence)?;
        self.meta.insert(META_REVISION, self.revision.0)?;
        Ok(())
    }
}

/// Distinguishes a store from other databases of redb.
pub fn kind(transaction: &redb::ReadTransaction) -> Result<Kind, redb::Error> {
    let meta = match transaction.open_table(META) {
        Ok(meta) => meta,
        Err(TableError::Storage(error)) => return Err(error.into()),
        Err(TableError::TableDoesNotExist(_)) if transaction.list_tables()?.next().is_none() => {
            return Ok(Kind::Empty);
        }
        Err(_) => return Ok(Kind::Foreign("it is the database of another program")),
    };
    Ok(match number(&meta, META_FORMAT)? {
        0 => Kind::Foreign("it has no format number"),
        FORMAT => Kind::Store,
        format => Kind::Format(format),
    })
}

/// Reads the writer's initial state.
pub fn load(transaction: &redb::ReadTransaction) -> Result<Loaded, redb::Error> {
    let meta = transaction.open_table(META)?;
    let mut leases = Vec::new();
    for row in transaction.open_table(LEASES)?.iter()? {
        let (lease, millis) = row?;
        leases.push((LeaseId(lease.value()), Duration::from_millis(millis.value())));
    }
    Ok(Loaded {
        revision: Revision(number(&meta, META_REVISION)?),
        sequence: number(&meta, META_SEQUENCE)?,
        leases,
    })
}

/// Reads all tables and checks them against each other; returns the first contradiction.
pub fn verify(transaction: &redb::ReadTransaction) -> Result<Result<(), String>, redb::Error> {
    let newest = number(&transaction.open_table(META)?, META_REVISION)?;
    let leases = match transaction.open_table(LEASES) {
        Ok(leases) => leases,
        // The first transaction creates each table.
        Err(TableError::TableDoesNotExist(_)) => return Ok(Err("a table is missing".to_owned())),
        Err(error) => return Err(error.into()),
    };
    let lease_keys = transaction.open_table(LEASE_KEYS)?;
    let mut held = 0_u64;
    for row in transaction.open_table(ENTRIES)?.iter()? {
        let (key, record) = row?;
        let (key, (created, modified, lease, _)) = (key.value(), record.value());
        if created == 0 || created > modified || modified > newest {
            return Ok(Err(format!(
                "{key:?} has create revision {created} and modify revision {modified}, the store has revision {newest}"
            )));
        }
        let Some(lease) = lease else { continue };
        held += 1;
        if leases.get(lease)?.is_none() || lease_keys.get((lease, key))?.is_none() {
            return Ok(Err(format!("{key:?} refers to lease {lease}, which does not list it")));
        }
    }
    let mut known = 0_u64;
    for row in lease_keys.iter()? {
        row?;
        known += 1;
    }
    Ok((held == known).then_some(()).ok_or_else(|| format!("leases list {known} keys, {held} of them exist")))
}

/// Reads ranges and the revision from one snapshot.
pub fn read(transaction: &redb::ReadTransaction, ranges: &[KeyRange]) -> Result<Reading, redb::Error> {
    let revision = Revision(number(&transaction.open_table(META)?, META_REVISION)?);
    let table = transaction.open_table(ENTRIES)?;
    let ranges = ranges.iter().map(|range| entries_of(&table, range)).collect::<Result<_, _>>()?;
    Ok(Reading { revision, ranges })
}

fn entries_of(
    table: &impl ReadableTable<&'static str, Record>,
    range: &KeyRange,
) -> Result<Vec<Entry>, redb::Error> {
    let mut entries = Vec::new();
    if range.from < range.to {
        for row in table.range(&*range.from..&*range.to)? {
            let (key, record) = row?;
            entries.push(entry(key.value(), record.value()));
        }
    }
    Ok(entries)
}

fn number(meta: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<u64, redb::Error> {
    Ok(meta.get(name)?.map_or(0, |number| number.value()))
}

fn entry(key: &str, (created, modified, lease, value): (u64, u64, Option<u64>, &[u8])) -> Entry {
    Entry {
        key: key.to_owned(),
        value: Bytes::copy_from_slice(value),
        created: Revision(created),
        modified: Revision(modified),
        lease: lease.map(LeaseId),
    }
}

/// Rounded up: a lease never ends before its TTL.
fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

impl Content for Tables<'_> {
    type Error = redb::Error;

    fn revision(&self) -> Revision {
        self.revision
    }

    fn set_revision(&mut self, revision: Revision) {
        self.revision = revision;
    }

    fn key_meta(&self, key: &str) -> Result<Option<KeyMeta>, redb::Error> {
        let record = self.entries.get(key)?;
        Ok(record.map(|record| {
            let (created, modified, lease, _) = record.value();
            KeyMeta { created: Revision(created), modified: Revision(modified), lease: lease.map(LeaseId) }
        }))
    }

    fn value(&self, key: &str) -> Result<Option<Bytes>, redb::Error> {
        Ok(self.entries.get(key)?.map(|record| Bytes::copy_from_slice(record.value().3)))
    }

    fn any_in(&self, range: &KeyRange) -> Result<bool, redb::Error> {
        if range.from >= range.to {
            return Ok(false);
        }
        let first = self.entries.range(&*range.from..&*range.to)?.next();
        Ok(first.transpose()?.is_some())
    }

    fn has_lease(&self, lease: LeaseId) -> Result<bool, redb::Error> {
        Ok(self.leases.get(lease.0)?.is_some())
    }

    fn keys_of(&self, lease: LeaseId) -> Result<Vec<String>, redb::Error> {
        let mut keys = Vec::new();
        for row in self.lease_keys.range((lease.0, "")..)? {
            let (row, _) = row?;
            let (of, key) = row.value();
            if of != lease.0 {
                break;
            }
            keys.push(key.to_owned());
        }
        Ok(keys)
    }

    fn put(&mut self, entry: &Entry, before: Option<LeaseId>) -> Result<(), redb::Error> {
        let key = &*entry.key;
        if before != entry.lease {
            if let Some(lease) = before {
                self.lease_keys.remove((lease.0, key))?;
            }
            if let Some(lease) = entry.lease {
                self.lease_keys.insert((lease.0, key), ())?;
            }
        }
        let lease = entry.lease.map(|lease| lease.0);
        self.entries.insert(key, (entry.created.0, entry.modified.0, lease, &*entry.value))?;
        Ok(())
    }

    fn delete(&mut self, key: &str, before: Option<LeaseId>) -> Result<(), redb::Error> {
        self.entries.remove(key)?;
        if let Some(lease) = before {
            self.lease_keys.remove((lease.0, key))?;
        }
        Ok(())
    }

    fn add_lease(&mut self, ttl: Duration) -> Result<LeaseId, redb::Error> {
        let lease = number(&self.meta, META_LAST_LEASE)? + 1;
        self.meta.insert(META_LAST_LEASE, lease)?;
        self.leases.insert(lease, millis(ttl))?;
        Ok(LeaseId(lease))
    }

    fn remove_lease(&mut self, lease: LeaseId) -> Result<(), redb::Error> {
        self.leases.remove(lease.0)?;
        Ok(())
    }
}
