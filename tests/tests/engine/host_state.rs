//! The state of a host, without values that change by themselves: routes, addresses, links, proxy entries, IPv6 sysctls.

use std::{fs, path::Path};

use sextant_tests::{Host, SECONDS, poll};

/// The state as lines, so that a difference can be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostState(Vec<String>);

impl HostState {
    /// The state once the kernel has set up the links.
    pub fn of(host: &Host) -> Self {
        poll("the link-local route of eth0", 5 * SECONDS, || {
            let routes = host.routes()?.join("\n");
            anyhow::ensure!(routes.contains("fe80::/64 dev eth0"), "{routes}");
            anyhow::Ok(())
        });
        Self::now(host)
    }

    fn now(host: &Host) -> Self {
        let mut lines = host.routes().unwrap();
        let addresses = host.ip("-6 -o address show").unwrap();
        lines.extend(addresses.lines().map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            format!("address {} {}", words[1], words[3])
        }));
        let links = host.ip("-o link show").unwrap();
        lines.extend(links.lines().map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            // Without the index of the veth peer.
            let name = words[1].split('@').next().unwrap_or_default();
            format!("link {name} {}", words[2])
        }));
        lines.extend(host.ip("-6 neighbour show proxy").unwrap().lines().map(|line| format!("proxy {line}")));
        lines.extend(host.enter(sysctls).unwrap());
        lines.sort();
        Self(lines)
    }

    /// Waits until the host has this state again.
    pub fn is_restored(&self, host: &Host) {
        poll("the host is as before the agent", 5 * SECONDS, || {
            let difference = sextant_tests::difference(&self.0, &Self::now(host).0);
            if difference.is_empty() { Ok(()) } else { Err(difference) }
        });
    }
}

/// The sysctls of the namespace's interfaces, without keys and counters.
fn sysctls() -> Vec<String> {
    let mut directories: Vec<_> =
        ["conf", "neigh"].iter().map(|name| Path::new("/proc/sys/net/ipv6").join(name)).collect();
    let mut lines = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if let Ok(value) = fs::read_to_string(&path) {
                lines.push(format!("{} = {}", path.display(), value.trim()));
            }
        }
    }
    lines
}
