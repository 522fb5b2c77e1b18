//! The order in which the host is set up.

use std::collections::BTreeMap;

use sextant_proto::{Claim, Prefix};
use tokio::time::Instant;

use super::{HostSetup, Setup, SetupError, containers::ContainerLinks, drift, interfaces, no_claim};
use crate::{
    kernel::{Address, KernelError, Link},
    problems::Finding,
    settings::Role,
};

impl HostSetup {
    /// Sets the host up for `claims` and the settings, in the order of DESIGN I7: bridge, addresses, forwarding; then undoes
    /// changes for earlier settings. `links` is the present state, if it may have changed since the last call. Addresses of
    /// claims that ended are removed. A router has no claim, and needs only forwarding.
    ///
    /// # Errors
    /// If the exchange with the kernel fails. Other errors are [`Setup::Waiting`].
    pub async fn ensure(
        &mut self,
        claims: &[Claim],
        links: Option<&(Vec<Link>, Vec<Address>)>,
    ) -> Result<Setup, KernelError> {
        let check_due = std::mem::take(&mut self.check_due);
        let changed = std::mem::take(&mut self.changed)
            || check_due
            || self.drift.due().is_some_and(|due| due <= Instant::now())
            || links.is_some()
            || self.set_up_for.as_deref() != Some(claims);
        let mut setup = self.state_of(claims);
        if changed {
            self.set_up_for = None;
            match self.try_ensure(claims, links).await {
                Ok(without) if without.is_empty() => self.set_up_for = Some(claims.to_vec()),
                Ok(without) => setup = Setup::Without(without),
                Err(SetupError::Kernel(error @ KernelError::Broken(_))) => return Err(error),
                Err(error) => setup = Setup::Waiting(error.finding()),
            }
            self.found.drift = self.drift.findings(Instant::now());
        }
        if check_due {
            self.check_state();
        }
        if changed {
            self.check_settings(claims).await?;
        }
        Ok(setup)
    }

    /// The sysctls are kept even while the bridge is missing: some container engines need forwarding to start.
    async fn try_ensure(
        &mut self,
        claims: &[Claim],
        links: Option<&(Vec<Link>, Vec<Address>)>,
    ) -> Result<Vec<(Prefix, Finding)>, SetupError> {
        let (mut links, addresses) = match links {
            Some(known) => {
                self.advertised.follow(&known.0);
                known.clone()
            }
            None => (self.kernel.links().await?, self.kernel.addresses().await?),
        };
        self.drift.check();
        self.restore_bridge_name(&mut links).await?;
        self.follow_renamed(&links)?;
        self.forget_other_links(&links);
        // Their indices, for the next process.
        self.record(|_| {})?;
        self.read_path_mtu(&links)?;
        self.check_link_locals(claims, &links, &addresses);
        let address = |claim: &Claim| drift::address_of(claim.container_prefix(), &self.settings.bridge);
        self.drift.retain_addresses(&claims.iter().map(address).collect::<Vec<_>>());
        self.undo_before_setup(claims).await?;
        let bridge = match claims {
            [] => Ok(Vec::new()),
            claims => self.ensure_bridge_of(claims, &links, &addresses).await,
        };
        if bridge.as_ref().is_err_and(SetupError::is_broken) {
            return bridge;
        }
        if !claims.is_empty() || self.settings.role == Role::Router {
            let links = self.kernel.links().await?;
            let advertised = self.advertised.read(&*self.kernel).await?.to_vec();
            self.ensure_sysctls(&links, &addresses, &advertised)?;
            let inside = ContainerLinks::among(&links, self.own_bridge(), &self.settings.uplinks);
            self.found.learned =
                interfaces::learned_from_containers(&links, &addresses, &advertised, &inside);
        }
        let without = bridge?;
        self.undo_earlier(claims).await?;
        Ok(without)
    }

    /// The bridge with its addresses. Returns the claims that it has none of, with the reasons: one claim's trouble is no other's
    /// (DESIGN I10). An error if it has none at all.
    async fn ensure_bridge_of(
        &mut self,
        claims: &[Claim],
        links: &[Link],
        addresses: &[Address],
    ) -> Result<Vec<(Prefix, Finding)>, SetupError> {
        let Some(bridge) = self.ensure_bridge(links, addresses, claims).await? else { return Ok(Vec::new()) };
        self.ensure_mtu(&bridge, links).await?;
        self.ensure_link_local(&bridge, addresses).await?;
        let mut without = Vec::new();
        for claim in claims {
            match self.ensure_claim(&bridge, addresses, claim.container_prefix()).await {
                Ok(()) => {}
                Err(error) if error.is_broken() || without.len() + 1 == claims.len() => return Err(error),
                Err(error) => without.push((claim.prefix, error.finding_of(claim))),
            }
        }
        Ok(without)
    }

    async fn ensure_claim(
        &mut self,
        bridge: &Link,
        addresses: &[Address],
        prefix: Prefix,
    ) -> Result<(), SetupError> {
        self.ensure_address(bridge, addresses, prefix).await?;
        self.ensure_connected(bridge, addresses, prefix).await
    }

    /// A link of the same name with another index has the kernel's defaults. What was watched is looked at anew.
    fn forget_other_links(&mut self, links: &[Link]) {
        self.watched.clear();
        let now: BTreeMap<_, _> = links.iter().map(|link| (link.name.clone(), link.index)).collect();
        let before = &self.links;
        self.drift
            .retain_interfaces(|name| before.get(name).is_some_and(|index| now.get(name) == Some(index)));
        self.links = now;
    }

    fn state_of(&self, claims: &[Claim]) -> Setup {
        match self.settings.role {
            Role::Host if claims.is_empty() => Setup::Waiting(no_claim()),
            Role::Host | Role::Router => Setup::Ready,
        }
    }
}
