//! Transactions: guards, and the operations if they hold.

use bytes::Bytes;
use sextant_proto::Revision;

use super::LeaseId;

/// The keys from `from` on, up to but without `to`, in octet order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key.
    pub from: String,
    /// The end of the range, exclusive.
    pub to: String,
}

impl KeyRange {
    /// All keys that begin with `prefix`, which must not be empty and ends in an ASCII character.
    pub fn prefix(prefix: &str) -> Self {
        let mut to = prefix.to_owned();
        let last = to.pop().expect("a key prefix is not empty");
        to.push(char::from_u32(u32::from(last) + 1).expect("a key prefix ends in ASCII"));
        Self { from: prefix.to_owned(), to }
    }

    /// Only `key`.
    pub fn key(key: &str) -> Self {
        Self { from: key.to_owned(), to: format!("{key}\0") }
    }

    /// Whether `key` is in it.
    pub fn contains(&self, key: &str) -> bool {
        *self.from <= *key && *key < *self.to
    }
}

/// A condition of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// The key does not exist.
    Absent(String),
    /// The key's modify revision is exactly this.
    Unchanged(String, Revision),
    /// There is no key in the range.
    RangeAbsent(KeyRange),
    /// The key has exactly this value. Revisions of two stores can be equal, values with random octets cannot.
    Holds(String, Bytes),
}

impl Guard {
    /// Its key; of a range, the first key.
    pub fn key(&self) -> &str {
        match self {
            Self::Absent(key) | Self::Unchanged(key, _) | Self::Holds(key, _) => key,
            Self::RangeAbsent(range) => &range.from,
        }
    }
}

/// An operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Gives a key a value, and a lease or none.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Bytes,
        /// The lease that the key ends with.
        lease: Option<LeaseId>,
    },
    /// Deletes a key; no effect if it does not exist.
    Delete(String),
}

impl Op {
    /// A put without a lease.
    pub fn put(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: None }
    }

    /// Its key.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete(key) => key,
        }
    }
}

/// Guards and operations, applied atomically.
///
/// A transaction that frees space, with only small puts besides, begins with the delete: see [`Txn::frees`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    /// All of them must hold.
    pub guards: Vec<Guard>,
    /// All of them are applied.
    pub ops: Vec<Op>,
}

impl Txn {
    /// Whether it frees space: its first operation is a delete. A store on a full disk accepts it
    /// if possible.
    pub fn frees(&self) -> bool {
        matches!(self.ops.first(), Some(Op::Delete(_)))
    }
}

/// The outcome of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Applied at this revision. A transaction that changed nothing reports the store's revision.
    Committed(Revision),
    /// A guard did not hold; nothing was applied. The store's revision at that time.
    Refused(Revision),
}
