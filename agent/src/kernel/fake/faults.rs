//! Faults of a fake kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use nix::libc::EACCES;
use sextant_proto::Prefix;

use super::{
    super::{Change, Errno, KernelError, Route},
    fib::errno,
};

/// The faults to inject.
#[derive(Debug, Default)]
pub struct Faults {
    /// By the number of changes before the one that fails.
    pub nth_change: BTreeMap<usize, i32>,
    /// Changes of these destinations fail, until removed.
    pub destinations: BTreeMap<Prefix, i32>,
    /// The next `apply` fails after so many changes.
    pub break_apply_after: Option<usize>,
    /// So many reads fail.
    pub broken_reads: usize,
    /// The next dump of routes ends silently after so many.
    pub truncated_dump: Option<usize>,
    /// Addresses inside of these prefixes can be neither added nor removed.
    pub refused_addresses: BTreeSet<Prefix>,
    /// Links that are up cannot be renamed, as before Linux 6.2.
    pub busy_names: bool,
    /// Sysctls that cannot be written.
    pub refused_sysctls: BTreeSet<String>,
    /// Sysctls of links that go just before they are written.
    pub vanishing_sysctls: BTreeSet<String>,
    changes_seen: usize,
}

impl Faults {
    /// The injected errno of a change, if any. Counts the change.
    pub fn of_change(&mut self, change: &Change) -> Option<Errno> {
        let nth = self.changes_seen;
        self.changes_seen += 1;
        let by_destination = self.destinations.get(&change.route().key.destination).copied();
        self.nth_change.remove(&nth).or(by_destination).map(errno)
    }

    /// Makes the `nth` change from now on fail, counted from 0.
    pub fn fail_nth(&mut self, nth: usize, code: i32) {
        self.nth_change.insert(self.changes_seen + nth, code);
    }

    /// Fails if the address can be neither added nor removed.
    pub fn of_address(&self, addr: Ipv6Addr) -> Result<(), KernelError> {
        match self.refused_addresses.iter().any(|prefix| prefix.contains(addr)) {
            false => Ok(()),
            true => {
                Err(KernelError::Refused { request: format!("change address {addr}"), errno: errno(EACCES) })
            }
        }
    }

    /// Fails if a read is to fail.
    pub fn of_read(&mut self) -> Result<(), KernelError> {
        match self.broken_reads.checked_sub(1) {
            None => Ok(()),
            Some(left) => {
                self.broken_reads = left;
                Err(KernelError::Broken("dump interrupted (injected)".to_owned()))
            }
        }
    }

    /// Truncates a dump of routes, if injected.
    pub fn of_dump(&mut self, routes: &mut Vec<Route>) {
        if let Some(left) = self.truncated_dump.take() {
            routes.truncate(left);
        }
    }
}
