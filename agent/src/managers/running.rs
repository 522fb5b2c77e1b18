//! Which programs run in this network namespace.
//!
//! `/proc/net/netlink` has the netlink sockets of this network namespace only. The port of a process's first socket of a family
//! is its process id. Whose it is, say `/proc/PID/comm` and the units' cgroups; an agent without privileges sees only the latter.

use std::collections::BTreeSet;

use super::Root;

/// Where the hierarchy of systemd's units may be: unified, hybrid, legacy.
const CGROUPS: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];

/// The ports of all netlink sockets in this network namespace.
pub(super) fn ports(root: Root<'_>) -> BTreeSet<u32> {
    let table = root.read("/proc/net/netlink").unwrap_or_default();
    let port = |line: &str| line.split_whitespace().nth(2).and_then(|port| port.parse().ok());
    table.lines().skip(1).filter_map(port).filter(|port| *port != 0).collect()
}

pub(super) fn networkd(root: Root<'_>, ports: &BTreeSet<u32>) -> bool {
    // The kernel cuts a name off after 15 octets.
    is_running(root, ports, "systemd-network", "systemd-networkd.service")
}

pub(super) fn network_manager(root: Root<'_>, ports: &BTreeSet<u32>) -> bool {
    is_running(root, ports, "NetworkManager", "NetworkManager.service")
}

/// Whether the process of this pid file runs here.
pub(super) fn of_pid_file(root: Root<'_>, ports: &BTreeSet<u32>, path: &str) -> bool {
    root.read(path).and_then(|pid| pid.trim().parse().ok()).is_some_and(|pid: u32| ports.contains(&pid))
}

fn is_running(root: Root<'_>, ports: &BTreeSet<u32>, name: &str, unit: &str) -> bool {
    let named = |pid: &u32| root.read(&format!("/proc/{pid}/comm")).is_some_and(|comm| comm.trim() == name);
    let of_unit = |cgroup: &&str| root.read(&format!("{cgroup}/system.slice/{unit}/cgroup.procs"));
    ports.iter().any(named)
        || CGROUPS
            .iter()
            .filter_map(of_unit)
            .any(|pids| pids.lines().filter_map(|pid| pid.parse().ok()).any(|pid: u32| ports.contains(&pid)))
}
