//! The containers' bridge, and this host's address on it.

use sextant_proto::{Claim, Prefix};

use super::{HostSetup, Obstacle};
use crate::{kernel::Link, state::BridgeAddress};

impl HostSetup {
    /// The bridge, set up; made if it may be.
    pub(super) async fn ensure_bridge(&mut self) -> Result<Link, Obstacle> {
        let bridge = match self.find_bridge().await? {
            Some(bridge) => bridge,
            None if self.bridge.create => self.create_bridge().await?,
            None => return Err(Obstacle::NoBridge(self.bridge.name.clone())),
        };
        if !bridge.up {
            self.note(|ledger| {
                let made = ledger.bridge.as_ref() == Some(&bridge.name);
                if !made && !ledger.set_up.contains(&bridge.name) {
                    ledger.set_up.push(bridge.name.clone());
                }
            })?;
            self.kernel.set_up(bridge.index).await?;
        }
        Ok(bridge)
    }

    async fn find_bridge(&self) -> Result<Option<Link>, Obstacle> {
        let links = self.kernel.links().await?;
        Ok(links.into_iter().find(|link| link.name == self.bridge.name))
    }

    async fn create_bridge(&mut self) -> Result<Link, Obstacle> {
        let name = self.bridge.name.clone();
        self.note(|ledger| {
            ledger.bridge = Some(name.clone());
            ledger.bridge_mac = None;
        })?;
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

    /// Takes away the addresses that the agent set for another claim than `claim`.
    pub(super) async fn remove_old_addresses(&mut self, claim: Option<&Claim>) -> Result<(), Obstacle> {
        let wanted = claim.map(Claim::container_prefix);
        let is_wanted = |address: &BridgeAddress| {
            wanted.is_some_and(|prefix| (prefix.first_host(), prefix.len()) == (address.addr, address.len))
        };
        let old: Vec<_> =
            self.ledger.addresses.iter().filter(|address| !is_wanted(address)).cloned().collect();
        if old.is_empty() {
            return Ok(());
        }
        let links = self.kernel.links().await?;
        for address in old {
            if let Some(link) = links.iter().find(|link| link.name == address.interface) {
                self.kernel.remove_address(link.index, address.addr, address.len).await?;
                tracing::info!(bridge = address.interface, address = %address.addr, "bridge address removed");
            }
            self.note(|ledger| ledger.addresses.retain(|kept| *kept != address))?;
        }
        Ok(())
    }
}
