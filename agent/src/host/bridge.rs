//! The containers' bridge, and this host's address on it.

use sextant_proto::Prefix;

use super::{HostSetup, SetupError};
use crate::{kernel::Link, state::BridgeAddress};

impl HostSetup {
    /// The bridge, set up; created if the settings permit it.
    pub(super) async fn ensure_bridge(&mut self) -> Result<Link, SetupError> {
        let bridge = match self.find_bridge().await? {
            Some(bridge) => bridge,
            None if self.create => self.create_bridge().await?,
            None => return Err(SetupError::NoBridge(self.settings.bridge.clone())),
        };
        if !bridge.up {
            self.record(|ledger| {
                if !ledger.made(&bridge.name) && !ledger.set_up.contains(&bridge.name) {
                    ledger.set_up.push(bridge.name.clone());
                }
            })?;
            self.kernel.set_up(bridge.index).await?;
        }
        Ok(bridge)
    }

    async fn find_bridge(&self) -> Result<Option<Link>, SetupError> {
        let links = self.kernel.links().await?;
        Ok(links.into_iter().find(|link| link.name == self.settings.bridge))
    }

    async fn create_bridge(&mut self) -> Result<Link, SetupError> {
        let name = self.settings.bridge.clone();
        self.record(|ledger| ledger.making(&name))?;
        self.kernel.create_bridge(&name).await?;
        tracing::info!(bridge = name, "bridge created");
        let bridge = self.find_bridge().await?.ok_or(SetupError::NoBridge(name))?;
        self.record(|ledger| ledger.bridge_mac = Some(bridge.mac_text()))?;
        Ok(bridge)
    }

    /// Adds an address in `prefix` to the bridge, unless it has one, e.g. from the container engine.
    pub(super) async fn ensure_address(&mut self, bridge: &Link, prefix: Prefix) -> Result<(), SetupError> {
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
        self.record(|ledger| {
            if !ledger.addresses.contains(&address) {
                ledger.addresses.push(address);
            }
        })?;
        self.kernel.add_address(bridge.index, addr, len).await?;
        tracing::info!(bridge = bridge.name, address = %format_args!("{addr}/{len}"), "bridge address added");
        if len > 80 {
            tracing::warn!(%prefix, "container prefix longer than /80: addresses cannot contain a MAC address; \
                the container engine needs its own address management");
        }
        Ok(())
    }
}
