//! The store's order of changes, and claims, which are dated by it.

use std::fmt;

use crate::{Incarnation, Pool, Prefix};

/// A point in the store's total order of changes; sparse. Zero is before the first change.
///
/// Comparable only within one [`Incarnation`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// Before the first change.
    pub const ZERO: Revision = Revision(0);
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Since when a claim is held: equal epochs are the same claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch {
    /// The store it was made in.
    pub incarnation: Incarnation,
    /// The claim's create revision.
    pub revision: Revision,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.revision, self.incarnation)
    }
}

/// A point in a store's history: a random number that a grant, or the end of a claim, put at a revision. A store that was
/// taken back to an earlier snapshot, and went on from there, does not have the later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The store that it was put into.
    pub incarnation: Incarnation,
    /// The revision that put it.
    pub revision: Revision,
    /// The random number.
    pub id: u64,
}

/// A host prefix as its holder knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The host prefix.
    pub prefix: Prefix,
    /// Since when it is held.
    pub epoch: Epoch,
    /// The pool it is cut out of, as defined when it was claimed.
    pub pool: Pool,
}

impl Claim {
    /// The part of the host prefix that is on the container bridge: the first one, [`Pool::container_len`] long.
    pub fn container_prefix(&self) -> Prefix {
        let len = self.pool.container_len.max(self.prefix.len());
        self.prefix.nth(len, 0).unwrap_or(self.prefix)
    }
}
