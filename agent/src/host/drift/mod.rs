//! State of the host that another process changes, and the agent restores. Pure.

use std::{collections::BTreeMap, time::Duration};

use sextant_proto::Prefix;
use tokio::time::Instant;

use super::{
    sysctls::{self, FORWARDING},
    undo::Step,
};
use crate::{
    damping::{Change, Flap},
    problems::Finding,
};

/// A change is reported for so long after the last time.
const REPORTED: Duration = Duration::from_secs(300);
/// The end of the report, for its reader.
const ENDS: &str = "this is reported until 5 minutes after the last change";
/// A lasting change is logged, and its count in the report renewed, no more often than this.
const RENEWED: Duration = Duration::from_secs(60);

/// The state that was right, and the state that another process has changed since.
#[derive(Debug, Default)]
pub(super) struct Drift {
    /// By what it is: the path of a sysctl, or the text of another state.
    right: BTreeMap<String, String>,
    changes: BTreeMap<String, Changes>,
    /// When the first of those changes that damping holds back is due.
    due: Option<Instant>,
}

#[derive(Debug)]
struct Changes {
    flap: Flap,
    times: u32,
    first: Instant,
    last: Instant,
    /// As the report has it.
    shown: u32,
    shown_at: Instant,
    found: String,
    restored: String,
}

impl Drift {
    /// `what` is as it should be: `value`.
    pub(super) fn is_right(&mut self, what: &str, value: &str) {
        if self.right.get(what).is_none_or(|before| before != value) {
            self.right.insert(what.to_owned(), value.to_owned());
        }
    }

    /// There is no such state any more, e.g. its link is gone: a new one starts with the kernel's default.
    pub(super) fn is_gone(&mut self, what: &str) {
        self.right.remove(what);
    }

    /// Only the links `exists` accepts, by name, are the same as before.
    pub(super) fn retain_interfaces(&mut self, exists: impl Fn(&str) -> bool) {
        self.right.retain(|what, _| interface(what).is_none_or(&exists));
    }

    /// Only these addresses, by their text, are wanted: a change of another one is no concern.
    pub(super) fn retain_addresses(&mut self, wanted: &[String]) {
        self.right.retain(|what, _| !what.starts_with(ADDRESS) || wanted.contains(what));
    }

    /// The agent itself has undone its change of the host.
    pub(super) fn undone(&mut self, step: &Step) {
        match step {
            // With that of all, the kernel sets forwarding of each interface.
            Step::Sysctl { path, .. } if path == FORWARDING => {
                self.right.retain(|what, _| !what.ends_with("/forwarding"));
            }
            Step::Sysctl { path, .. } => self.is_gone(path),
            Step::Address { interface, addr, len, .. } => {
                if addr.is_unicast_link_local() {
                    self.is_gone(&link_local_of(interface));
                } else if let Some(prefix) = Prefix::containing(*addr, *len) {
                    self.is_gone(&address_of(prefix, interface));
                }
            }
            Step::Down { interface, .. } => self.is_gone(&format!("interface {interface}")),
            _ => {}
        }
    }

    /// The kernel has removed all addresses of the bridge.
    pub(super) fn forget_addresses(&mut self) {
        self.right.retain(|what, _| !what.starts_with(ADDRESS) && !what.starts_with(LINK_LOCAL));
    }

    /// The value of `what` when it was right.
    pub(super) fn right(&self, what: &str) -> Option<&str> {
        self.right.get(what).map(String::as_str)
    }

    /// Whether `what` was right, so that a difference is another process's change.
    pub(super) fn was_right(&self, what: &str) -> bool {
        self.right.contains_key(what)
    }

    /// A new check begins: it finds anew what is held back.
    pub(super) fn check(&mut self) {
        self.due = None;
    }

    /// Whether damping holds `what` back, which another process has changed.
    pub(super) fn holds(&mut self, what: &str, now: Instant) -> bool {
        let until = self.changes.get(what).and_then(|changes| changes.flap.until(now));
        self.due = self.due.into_iter().chain(until).min();
        until.is_some()
    }

    /// When the first of the changes that are held back is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Another process changed `what` to `found`, and the agent has restored it. Returns the number of changes if it is to be
    /// logged: the first one is, by the report.
    pub(super) fn restored(
        &mut self,
        what: &str,
        found: &str,
        restored: &str,
        risk: Change,
        now: Instant,
    ) -> Option<u32> {
        let new = || Changes {
            flap: Flap::new(now),
            times: 0,
            first: now,
            last: now,
            shown: 1,
            shown_at: now,
            found: found.to_owned(),
            restored: restored.to_owned(),
        };
        self.forget_old(now);
        let changes = self.changes.entry(what.to_owned()).or_insert_with(new);
        changes.times += 1;
        if changes.flap.is_over(now) {
            changes.flap = Flap::new(now);
        }
        changes.flap.note(risk, now);
        (changes.last, changes.found, changes.restored) = (now, found.to_owned(), restored.to_owned());
        if now.duration_since(changes.shown_at) < RENEWED {
            return None;
        }
        (changes.shown, changes.shown_at) = (changes.times, now);
        Some(changes.times)
    }

    /// Whether a change of `what` is in the report.
    pub(super) fn reports(&self, what: &str) -> bool {
        self.changes.contains_key(what)
    }

    /// The report.
    pub(super) fn findings(&mut self, now: Instant) -> Vec<Finding> {
        self.forget_old(now);
        self.changes.iter().map(|(what, changes)| finding(what, changes)).collect()
    }

    /// Whether the report of a change ends, or one that was held back is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let held = self.due.is_some_and(|due| now >= due);
        held || self.changes.values().any(|changes| now >= changes.last + REPORTED)
    }

    fn forget_old(&mut self, now: Instant) {
        self.changes.retain(|_, changes| now.duration_since(changes.last) < REPORTED);
    }
}

fn finding(what: &str, changes: &Changes) -> Finding {
    let Changes { flap, shown, first, shown_at, found, restored, .. } = changes;
    let often = match shown {
        1 => String::new(),
        times => format!(", {times} times in {} s", shown_at.duration_since(*first).as_secs()),
    };
    let rarely = if flap.is_damped() { " less and less often" } else { "" };
    let saw = format!(
        "another process changed {}: {found}{often}; the agent restored it{rarely}: {restored}",
        name(what)
    );
    let fix = match what.strip_prefix("net/").and_then(|path| path.rsplit('/').next()) {
        Some(sysctl) => format!(
            "find the process, and have it set the value that the agent restores (files of sysctl: grep -rs {sysctl} \
             /etc/sysctl.conf /etc/sysctl.d /run/sysctl.d /usr/lib/sysctl.d); {ENDS}"
        ),
        None => format!("find the process, and make it leave this to sextant-agent; {ENDS}"),
    };
    Finding::new("host-state-changed", saw, fix).about(what)
}

/// How the text of an address begins.
const ADDRESS: &str = "address of prefix ";

/// The text of the address in a prefix.
pub(super) fn address_of(prefix: Prefix, interface: &str) -> String {
    format!("{ADDRESS}{prefix} on {interface}")
}

/// How the text of a link-local address begins.
const LINK_LOCAL: &str = "link-local address of ";

/// The text of the link-local address of an interface.
pub(super) fn link_local_of(interface: &str) -> String {
    format!("{LINK_LOCAL}{interface}")
}

/// The interface that it belongs to.
pub(super) fn interface(what: &str) -> Option<&str> {
    let of_interface = ["net/ipv6/conf/", "net/ipv6/neigh/"];
    match of_interface.iter().find_map(|directory| what.strip_prefix(directory)) {
        Some(path) => {
            path.rsplit_once('/').map(|(interface, _)| interface).filter(|interface| *interface != "all")
        }
        None => what.rsplit_once(' ').map(|(_, interface)| interface),
    }
}

/// The name of a sysctl as sysctl(8) has it; other state has its own text.
pub(crate) fn name(what: &str) -> String {
    match what.strip_prefix("net/") {
        Some(_) => format!("sysctl {}", sysctls::argument(what)),
        None => what.to_owned(),
    }
}

#[cfg(test)]
mod tests;
