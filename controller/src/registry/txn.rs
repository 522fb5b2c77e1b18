//! Transactions: guards, and what is done if they hold.

use bytes::Bytes;
use sextant_proto::Revision;

use super::LeaseId;

/// The keys from `from` on, up to but without `to`, in octet order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key.
    pub from: String,
    /// The first key that is no longer in it.
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

/// What must hold for a transaction to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guard {
    /// There is no such key.
    Absent(String),
    /// The key was last put at just this revision.
    Unchanged(String, Revision),
    /// There is no key in the range.
    RangeAbsent(KeyRange),
    /// The key has just this value. Revisions of two stores can be equal, values that hold random octets are not.
    Holds(String, Bytes),
}

impl Guard {
    /// The key it is about; of a range, the first key.
    pub fn key(&self) -> &str {
        match self {
            Self::Absent(key) | Self::Unchanged(key, _) | Self::Holds(key, _) => key,
            Self::RangeAbsent(range) => &range.from,
        }
    }
}

/// What a transaction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Gives a key a value, and a lease or none.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Bytes,
        /// The lease that it ends with.
        lease: Option<LeaseId>,
    },
    /// Takes a key away; nothing happens if there is none.
    Delete(String),
}

impl Op {
    /// A put without a lease.
    pub fn put(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: None }
    }

    /// The key it is about.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete(key) => key,
        }
    }
}

/// Guards and operations, done as one or not at all.
///
/// One that takes something away for good, with little put beside it, begins with the delete: see [`Txn::frees`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    /// All of them must hold.
    pub guards: Vec<Guard>,
    /// All of them are done.
    pub ops: Vec<Op>,
}

impl Txn {
    /// Whether it is there to take something away: its first operation is a delete. A store without room takes it all the same
    /// if it can.
    pub fn frees(&self) -> bool {
        matches!(self.ops.first(), Some(Op::Delete(_)))
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done at this revision. A transaction that changed nothing reports the store's revision.
    Committed(Revision),
    /// A guard did not hold; nothing was done. The store's revision then.
    Refused(Revision),
}
