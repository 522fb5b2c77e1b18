//! Other programs that manage this host's network: systemd-networkd, NetworkManager, dhcpcd. Each may take what the agent has set
//! up, or what it needs, by a setting of its own. This module finds such settings before they do harm, and names the fix.
//!
//! It only reads: which of them run in this network namespace (`running.rs`), their settings and state. `networkd.rs` and
//! `others.rs` decide. Nothing here talks to them.

mod ini;
mod networkd;
mod others;
mod running;

use std::{collections::BTreeSet, fs, path::Path};

use crate::{kernel::Link, problems::Finding};

/// What of this host the agent depends on.
#[derive(Debug, Clone, Default)]
pub struct Ground<'a> {
    /// All links.
    pub links: &'a [Link],
    /// The name of the containers' bridge; a router has none.
    pub bridge: Option<&'a str>,
    /// The names of the uplinks.
    pub uplinks: &'a [String],
    /// The uplinks whose only global addresses, or whose routes, come from router advertisements.
    pub advertised: BTreeSet<u32>,
    /// The agent's routing table is not the main one, so that the kernel uses it by rules.
    pub by_rules: bool,
}

impl Ground<'_> {
    fn bridge(&self) -> Option<&Link> {
        self.links.iter().find(|link| Some(link.name.as_str()) == self.bridge)
    }

    fn uplinks(&self) -> impl Iterator<Item = &Link> {
        self.links.iter().filter(|link| self.uplinks.contains(&link.name))
    }
}

/// A file system in which the programs' settings and state are: the host's own one.
#[derive(Debug, Clone, Copy)]
struct Root<'a>(&'a Path);

impl Root<'_> {
    /// The content of a file by its absolute path; none if it cannot be read.
    fn read(self, path: &str) -> Option<String> {
        fs::read_to_string(self.0.join(path.trim_start_matches('/'))).ok()
    }

    /// The names in a directory.
    fn list(self, path: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(self.0.join(path.trim_start_matches('/')));
        let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter_map(|name| name.into_string().ok()).collect()
    }
}

/// The settings of the programs that run here by which they take what the agent depends on.
pub fn findings(ground: &Ground<'_>) -> Vec<Finding> {
    of_root(Root(Path::new("/")), ground)
}

fn of_root(root: Root<'_>, ground: &Ground<'_>) -> Vec<Finding> {
    let ports = running::ports(root);
    let mut found = Vec::new();
    if running::networkd(root, &ports) {
        found.extend(networkd::findings(root, ground));
    }
    if running::network_manager(root, &ports) {
        found.extend(others::of_network_manager(root, ground));
    }
    found.extend(others::of_dhcpcd(root, ground, &ports));
    found
}

#[cfg(test)]
mod tests;
