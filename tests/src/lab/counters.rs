//! The kernel's counters of a namespace: packets dropped, refused, forwarded.

use std::{collections::BTreeMap, fs};

use anyhow::Context;

use super::namespace::Namespace;

/// `/proc/net/snmp6` of a namespace, e.g. `Ip6OutNoRoutes`, `Icmp6OutDestUnreachs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// The counter of this name; 0 if the kernel has no such counter.
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// The growth of each counter since `earlier`, without unchanged ones.
    pub fn since(&self, earlier: &Counters) -> BTreeMap<&str, u64> {
        let grown =
            self.0.iter().map(|(name, value)| (name.as_str(), value.saturating_sub(earlier.of(name))));
        grown.filter(|(_, growth)| *growth > 0).collect()
    }
}

impl Namespace {
    /// The present counters.
    ///
    /// # Errors
    /// If the namespace is gone.
    pub fn counters(&self) -> anyhow::Result<Counters> {
        // /proc/net would show the namespace of the process's first thread.
        let text = self.enter(|| fs::read_to_string("/proc/thread-self/net/snmp6"))?.context("snmp6")?;
        let entries = text.lines().filter_map(|line| {
            let (name, value) = line.split_once(char::is_whitespace)?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        });
        Ok(Counters(entries.collect()))
    }
}
