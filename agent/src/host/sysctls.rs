//! Forwarding, without losing what router advertisements gave the host.

use super::{HostSetup, Obstacle};
use crate::kernel::Link;

/// Sets every interface's own one too, in either direction.
pub(crate) const FORWARDING: &str = "net/ipv6/conf/all/forwarding";

impl HostSetup {
    /// Has the host forward. Before that, `accept_ra` goes from 1 to 2, since the kernel stops listening to router
    /// advertisements on a forwarding host otherwise, and drops the default route that they gave.
    ///
    /// Not on the containers' bridge and its ports: there a container could give the host a default route
    /// (CVE-2020-13401). Once the host forwards, only on uplinks that come anew: what else appears then is mostly the ends
    /// of containers' links, on their way to the bridge.
    pub(super) async fn ensure_forwarding(&mut self, bridge: Option<&Link>) -> Result<(), Obstacle> {
        let links = self.kernel.links().await?;
        let bridge = bridge.map(|bridge| bridge.index);
        let of_bridge = |link: &Link| {
            bridge.is_some_and(|bridge| link.index == bridge || link.controller == Some(bridge))
        };
        let inside = |link: &&Link| link.name == "lo" || of_bridge(link);
        let forwards = self.kernel.sysctl(FORWARDING)?.as_deref() == Some("1");
        let uplinks = self.settings.uplinks.clone();
        let concerned = |link: &&Link| !inside(link) && (!forwards || uplinks.contains(&link.name));
        for link in links.iter().filter(concerned) {
            self.ensure_sysctl(&format!("net/ipv6/conf/{}/accept_ra", link.name), "1", "2")?;
        }
        if !forwards {
            self.note_own_forwarding(&links)?;
        }
        self.ensure_sysctl(FORWARDING, "0", "1")
    }

    /// Notes which interfaces forward by a setting of their own, which is lost when that of all is turned on and off.
    fn note_own_forwarding(&mut self, links: &[Link]) -> Result<(), Obstacle> {
        let interfaces = links.iter().map(|link| link.name.as_str()).chain(["default"]);
        let paths: Vec<_> = interfaces.map(|name| format!("net/ipv6/conf/{name}/forwarding")).collect();
        for path in paths {
            if self.kernel.sysctl(&path)?.as_deref() == Some("1") {
                self.note(|ledger| drop(ledger.sysctls.insert(path, "1".to_owned())))?;
            }
        }
        Ok(())
    }

    /// Sets a sysctl to `to` if it is `from`, noting that it was.
    fn ensure_sysctl(&mut self, path: &str, from: &str, to: &str) -> Result<(), Obstacle> {
        if self.kernel.sysctl(path)?.as_deref() != Some(from) {
            return Ok(());
        }
        self.note(|ledger| {
            ledger.sysctls.entry(path.to_owned()).or_insert_with(|| from.to_owned());
        })?;
        self.kernel.set_sysctl(path, to)?;
        tracing::info!(sysctl = path, from, to, "sysctl set");
        Ok(())
    }
}
