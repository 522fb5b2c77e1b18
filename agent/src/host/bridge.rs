//! The containers' bridge, and this host's address on it.

use sextant_proto::Prefix;

use super::{HostSetup, Obstacle};
use crate::{kernel::Link, state::BridgeAddress};

impl HostSetup {
    /// The bridge, set up; made if it may be.
    pub(super) async fn ensure_bridge(&mut self) -> Result<Link, Obstacle> {
        let bridge = match self.find_bridge().await? {
            Some(bridge) => bridge,
            None if self.create => self.create_bridge().await?,
            None => return Err(Obstacle::NoBridge(self.settings.bridge.clone())),
        };
        if !bridge.up {
            self.note(|ledger| {
                if !ledger.made(&bridge.name) && !ledger.set_up.contains(&bridge.name) {
                    ledger.set_up.push(bridge.name.clone());
                }
            })?;
            self.kernel.set_up(bridge.index).await?;
        }
        Ok(bridge)
    }

    async fn find_bridge(&self) -> Result<Option<Link>, Obstacle> {
        let links = self.kernel.links().await?;
        Ok(links.into_iter().find(|link| link.name == self.settings.bridge))
    }

    async fn create_bridge(&mut self) -> Result<Link, Obstacle> {
        let name = self.settings.bridge.clone();
        self.note(|ledger| ledger.making(&name))?;
        self.kernel.create_bridge(&name).await?;
        tracing::info!(bridge = name, "bridge made");
        let bridge = self.find_bridge().await?.ok_or(Obstacle::NoBridge(name))?;
        self.note(|ledger| ledger.bridge_mac = Some(bridge.mac_text()))?;
        Ok(bridge)
    }

    /// Gives the bridge an address in `prefix`, unless it has one: the container engine may have given it its own.
    pub(super) async fn ensure_address(&mut self, bridge: &Link, prefix: Prefix) -> Result<(), Obstacle> {
        let addresses = self.kernel.addresses().await?;
        let has_one = addresses
            .iter()
            .any(|it| it.link == bridge.index && it.len == prefix.len() && prefix.contains(it.addr));
        if has_one {
            return Ok(());
        }
        let address =
            BridgeAddress { interface: bridge.name.clone(), addr: prefix.first_host(), len: prefix.len() };
        let (addr, len) = (address.addr, address.len);
        self.note(|ledger| {
            if !ledger.addresses.contains(&address) {
                ledger.addresses.push(address);
            }
        })?;
        self.kernel.add_address(bridge.index, addr, len).await?;
        tracing::info!(bridge = bridge.name, address = %format_args!("{addr}/{len}"), "bridge address set");
        if len > 80 {
            tracing::warn!(%prefix, "a container prefix longer than /80 has no room for a MAC address; \
                engines that form addresses from it need their own address management");
        }
        Ok(())
    }
}
