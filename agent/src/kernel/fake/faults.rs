//! What goes wrong in a fake kernel.

use std::collections::{BTreeMap, BTreeSet};

use sextant_proto::Prefix;

use super::{
    super::{Change, Errno, KernelError, Route},
    fib::errno,
};

/// Faults to come.
#[derive(Debug, Default)]
pub struct Faults {
    /// By how many changes are done before it.
    pub nth_change: BTreeMap<usize, i32>,
    /// Until taken out.
    pub destinations: BTreeMap<Prefix, i32>,
    /// The next application breaks after so many changes.
    pub break_apply_after: Option<usize>,
    /// So many readings break.
    pub broken_reads: usize,
    /// The next reading of routes ends after so many, silently.
    pub truncated_dump: Option<usize>,
    /// Those that cannot be written.
    pub refused_sysctls: BTreeSet<String>,
    changes_seen: usize,
}

impl Faults {
    /// The errno that a change fails with, if it is to fail. Counts the change.
    pub fn of_change(&mut self, change: &Change) -> Option<Errno> {
        let nth = self.changes_seen;
        self.changes_seen += 1;
        let by_destination = self.destinations.get(&change.route().key.destination).copied();
        self.nth_change.remove(&nth).or(by_destination).map(errno)
    }

    /// Lets the `nth` change from now on fail, counted from 0.
    pub fn fail_nth(&mut self, nth: usize, code: i32) {
        self.nth_change.insert(self.changes_seen + nth, code);
    }

    /// Whether a reading breaks.
    pub fn of_read(&mut self) -> Result<(), KernelError> {
        match self.broken_reads.checked_sub(1) {
            None => Ok(()),
            Some(left) => {
                self.broken_reads = left;
                Err(KernelError::Broken("a dump was interrupted (injected)".to_owned()))
            }
        }
    }

    /// Cuts off a dump of routes if it is to be.
    pub fn of_dump(&mut self, routes: &mut Vec<Route>) {
        if let Some(left) = self.truncated_dump.take() {
            routes.truncate(left);
        }
    }
}
