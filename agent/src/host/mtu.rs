//! The MTU of a bridge that the agent has made: packets that an uplink does not carry are refused at the bridge, not behind it.

use tokio::time::Instant;

use super::{HostSetup, SetupError, sysctls::of_interface};
use crate::{
    damping::Change,
    kernel::{Kernel, KernelError, Link},
};

/// The MTU of new links and of an engine's networks. A bridge is never raised above it: its containers' links would drop
/// larger packets without an answer.
const DEFAULT: u32 = 1500;
/// The kernel has no IPv6 on links with less (RFC 8200 §5).
const LEAST: u32 = 1280;

/// The MTUs that are known.
#[derive(Debug, Default)]
pub(super) struct Mtu {
    /// The smallest one of the default routes over the uplinks, if one has its own.
    pub of_routes: Option<u32>,
    /// The smallest one of the uplinks and these routes.
    pub of_path: Option<u32>,
    /// The one that the bridge has been given.
    set: Option<u32>,
}

impl HostSetup {
    /// Reads the MTUs of the uplinks.
    pub(super) fn read_path_mtu(&mut self, links: &[Link]) -> Result<(), KernelError> {
        let uplinks = self.settings.uplinks.clone();
        // They are watched from now on.
        for link in links.iter().filter(|link| uplinks.contains(&link.name)) {
            self.read_sysctl(&of_interface(&link.name, "mtu"))?;
        }
        let of_uplinks = mtu_of_uplinks(self.kernel.as_ref(), links, &uplinks)?;
        self.mtu.of_path = of_uplinks.map(|mtu| mtu.min(self.mtu.of_routes.unwrap_or(mtu)).max(LEAST));
        Ok(())
    }

    /// Gives a bridge that the agent has made the MTU of the path.
    pub(super) async fn ensure_mtu(&mut self, bridge: &Link, links: &[Link]) -> Result<(), SetupError> {
        let Some(path) = self.mtu.of_path.filter(|_| self.ledger.made(&bridge.name)) else { return Ok(()) };
        let ports = links.iter().filter(|link| link.controller == Some(bridge.index)).map(|link| link.mtu);
        let mtu = wanted(path, bridge.mtu, ports.min());
        let what = format!("MTU of {}", bridge.name);
        let before = self.mtu.set.replace(mtu);
        if bridge.mtu == mtu {
            return Ok(());
        }
        let drifted = before == Some(mtu);
        if drifted && self.drift.holds(&what, Instant::now()) {
            return Ok(());
        }
        self.kernel.set_mtu(bridge.index, mtu).await?;
        if drifted {
            self.restored(&what, &bridge.mtu.to_string(), &mtu.to_string(), Change::Forwarding);
        } else {
            tracing::info!(bridge = bridge.name, mtu, from = bridge.mtu, "MTU of the bridge set");
        }
        Ok(())
    }
}

/// The smallest MTU of the uplinks that exist. That of IPv6 may be smaller than the link's, by a router advertisement (RFC 4861
/// §4.6.4).
///
/// # Errors
/// If the kernel cannot be read.
pub(crate) fn mtu_of_uplinks(
    kernel: &dyn Kernel,
    links: &[Link],
    uplinks: &[String],
) -> Result<Option<u32>, KernelError> {
    let mut smallest = None;
    for link in links.iter().filter(|link| uplinks.contains(&link.name)) {
        let of_ipv6 = kernel.sysctl(&of_interface(&link.name, "mtu"))?.and_then(|mtu| mtu.parse().ok());
        smallest = smallest.into_iter().chain([link.mtu]).chain(of_ipv6).min();
    }
    Ok(smallest.map(|mtu: u32| mtu.max(LEAST)))
}

/// The MTU of a bridge: that of the path, but not more than its ports carry, which drop larger packets, nor than the default,
/// unless it has more already.
fn wanted(path: u32, now: u32, ports: Option<u32>) -> u32 {
    let most = ports.map_or(now.max(DEFAULT), |ports| ports.min(now.max(DEFAULT)));
    path.min(most.max(LEAST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bridge_follows_the_path_within_what_its_ports_carry() {
        let table = [
            ("lowered", (1400, 1500, None), 1400),
            ("lowered under its ports", (1300, 1400, Some(1400)), 1300),
            ("raised again", (1500, 1300, None), 1500),
            ("not above its ports", (1500, 1300, Some(1300)), 1300),
            ("not above the default", (9000, 1500, None), 1500),
            ("nor from below it", (9000, 1300, None), 1500),
            ("left where it has more", (9000, 9000, Some(9000)), 9000),
            ("lowered from more", (8000, 9000, Some(9000)), 8000),
            ("not below the least for IPv6", (1280, 1500, Some(576)), 1280),
        ];
        for (case, (path, now, ports), expected) in table {
            assert_eq!(wanted(path, now, ports), expected, "{case}");
        }
    }
}
