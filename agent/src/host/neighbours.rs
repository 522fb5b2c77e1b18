//! Limits of the neighbour entries that packets to unused addresses of a container prefix cause.
//!
//! The kernel has one neighbour table for all network namespaces of a machine (`net.ipv6.neigh.default.gc_thresh3`). An entry
//! whose address does not answer is INCOMPLETE for `mcast_solicit` times `retrans_time_ms`, 3 s by default, and cannot be
//! dropped before. So 350 packets a second to unused addresses fill the default table of 1,024 entries.

use std::io;

use super::{HostSetup, SetupError, containers::ContainerLinks, drift, sysctls};
use crate::{kernel::Link, problems::Finding};

/// The limits on a bridge that containers are on; a lower value stays.
///
/// A container answers within a millisecond: three solicitations in 300 ms are enough for it, and let 2,000 packets a second
/// occupy 600 entries. Of the packets that wait for an answer, 64 KiB for each entry were the kernel's default until 4.14
/// (208 KiB since).
const LIMITS: [(&str, u32); 2] = [("retrans_time_ms", 100), ("unres_qlen_bytes", 65_536)];

/// A sysctl of an interface's neighbours.
fn of_interface(interface: &str, sysctl: &str) -> String {
    format!("net/ipv6/neigh/{interface}/{sysctl}")
}

/// The interface and the limit of `net/ipv6/neigh/INTERFACE/SYSCTL`, if it is one of the limits.
pub(super) fn limit(path: &str) -> Option<(&str, u32)> {
    let (interface, sysctl) = path.strip_prefix("net/ipv6/neigh/")?.rsplit_once('/')?;
    let (_, limit) = LIMITS.iter().find(|(name, _)| *name == sysctl)?;
    Some((interface, *limit))
}

impl HostSetup {
    /// Limits the neighbours of each bridge that containers are on, whoever made it: all use the same table. A limit that cannot
    /// be set, e.g. because `/proc/sys` is read-only, is a finding: the host works without it.
    pub(super) fn limit_neighbours(
        &mut self,
        links: &[Link],
        inside: &ContainerLinks,
    ) -> Result<(), SetupError> {
        self.found.neighbours.clear();
        for bridge in links.iter().filter(|link| inside.is_bridge(link.index)) {
            for (sysctl, limit) in LIMITS {
                let path = of_interface(&bridge.name, sysctl);
                let above = |found: &str| found.parse().is_ok_and(|found: u32| found > limit);
                if let Some(error) = self.ensure_optional(&path, above, &limit.to_string())? {
                    self.found.neighbours.push(not_limited(&path, limit, &error));
                }
            }
        }
        Ok(())
    }
}

fn not_limited(path: &str, limit: u32, error: &io::Error) -> Finding {
    Finding::new(
        "neighbours-not-limited",
        format!(
            "{} cannot be set to {limit}, so packets to unused addresses occupy more neighbour entries: {error}",
            drift::name(path)
        ),
        sysctls::set_elsewhere(path, &limit.to_string()),
    )
}
