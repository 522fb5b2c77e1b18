//! Forwarding, without loss of the default route that router advertisements have set.

use super::{HostSetup, SetupError};
use crate::kernel::Link;

/// A change of this sysctl also changes each interface's own one.
pub(crate) const FORWARDING: &str = "net/ipv6/conf/all/forwarding";

impl HostSetup {
    /// Enables forwarding. Before that, `accept_ra` is set from 1 to 2: otherwise the kernel ignores router advertisements
    /// once the host forwards, and drops the default route from them.
    ///
    /// `accept_ra` of the containers' bridge and its ports is not changed: a container could give the host a default route
    /// (CVE-2020-13401). Once the host forwards, it is changed on new uplinks only: most other new interfaces are the ends
    /// of containers' links, which become ports of the bridge.
    pub(super) async fn ensure_forwarding(&mut self, bridge: Option<&Link>) -> Result<(), SetupError> {
        let links = self.kernel.links().await?;
        let bridge = bridge.map(|bridge| bridge.index);
        let of_bridge = |link: &Link| {
            bridge.is_some_and(|bridge| link.index == bridge || link.controller == Some(bridge))
        };
        let inside = |link: &&Link| link.name == "lo" || of_bridge(link);
        let forwards = self.kernel.sysctl(FORWARDING)?.as_deref() == Some("1");
        let uplinks = self.settings.uplinks.clone();
        let affected = |link: &&Link| !inside(link) && (!forwards || uplinks.contains(&link.name));
        for link in links.iter().filter(affected) {
            self.ensure_sysctl(&format!("net/ipv6/conf/{}/accept_ra", link.name), "1", "2")?;
        }
        if !forwards {
            self.record_own_forwarding(&links)?;
        }
        self.ensure_sysctl(FORWARDING, "0", "1")
    }

    /// Records interfaces with forwarding of their own, which is lost when forwarding of all is enabled and disabled.
    fn record_own_forwarding(&mut self, links: &[Link]) -> Result<(), SetupError> {
        let interfaces = links.iter().map(|link| link.name.as_str()).chain(["default"]);
        let paths: Vec<_> = interfaces.map(|name| format!("net/ipv6/conf/{name}/forwarding")).collect();
        for path in paths {
            if self.kernel.sysctl(&path)?.as_deref() == Some("1") {
                self.record(|ledger| drop(ledger.sysctls.insert(path, "1".to_owned())))?;
            }
        }
        Ok(())
    }

    /// Sets a sysctl from `from` to `to`, and records the old value.
    fn ensure_sysctl(&mut self, path: &str, from: &str, to: &str) -> Result<(), SetupError> {
        if self.kernel.sysctl(path)?.as_deref() != Some(from) {
            return Ok(());
        }
        self.record(|ledger| {
            ledger.sysctls.entry(path.to_owned()).or_insert_with(|| from.to_owned());
        })?;
        self.kernel.set_sysctl(path, to)?;
        tracing::info!(sysctl = path, from, to, "sysctl set");
        Ok(())
    }
}
