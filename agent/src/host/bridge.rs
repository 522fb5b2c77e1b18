//! The containers' bridge, and this host's address on it.

use std::{net::Ipv6Addr, time::Duration};

use sextant_proto::{Claim, Prefix};
use tokio::time::Instant;

use super::{
    Awaited, HostSetup, SetupError, drift::address_of, elsewhere, interfaces, sysctls::of_interface,
};
use crate::{
    damping::Change,
    kernel::{Address, KernelError, Link, Route, RouteTarget, Scope},
    state::BridgeAddress,
};

/// A container engine that deletes its bridge may create it again at once, and fails if it exists.
const ENGINE_FIRST: Duration = Duration::from_secs(2);
/// After a start, a container engine that is still starting may create the bridge.
const ENGINE_STARTS: Duration = Duration::from_secs(20);

/// Since when there is no bridge.
#[derive(Debug, Default)]
pub(super) struct Absence {
    /// The bridge has stood since the agent's start.
    stood: bool,
    since: Option<Instant>,
}

/// What a missing bridge means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// It is to be created now.
    Create,
    /// The container engine has deleted it with its last container, and creates it with the next one.
    Idle,
    /// It never stood, or not since the agent's start.
    Wait,
}

impl Absence {
    /// With `create` the agent may create it; `known` means that it stood before the agent's start.
    fn meaning(&mut self, create: bool, known: bool, now: Instant) -> Missing {
        let gone_for = now.duration_since(*self.since.get_or_insert(now));
        match (create, self.stood) {
            (true, true) if gone_for < ENGINE_FIRST => Missing::Idle,
            (true, _) => {
                self.stood = false;
                Missing::Create
            }
            (false, true) => Missing::Idle,
            (false, false) if known && gone_for >= ENGINE_STARTS => Missing::Idle,
            (false, false) => Missing::Wait,
        }
    }

    /// Whether a missing bridge is to be created now, after it has been left to the engine.
    pub(super) fn is_over(&self, create: bool, now: Instant) -> bool {
        create && self.stood && self.since.is_some_and(|since| now >= since + ENGINE_FIRST)
    }
}

impl HostSetup {
    /// The bridge, set up; created if the settings permit it. None if the container engine has no need of one, while damping holds it
    /// back, or while another bridge has its prefix.
    pub(super) async fn ensure_bridge(
        &mut self,
        links: &[Link],
        addresses: &[Address],
        claims: &[Claim],
    ) -> Result<Option<Link>, SetupError> {
        let find = |links: &[Link]| links.iter().find(|link| link.name == self.settings.bridge).cloned();
        let bridge = match find(links) {
            Some(bridge) => bridge,
            None if !self.needed => return Ok(None),
            // A second one would take the packets of its containers. It is a finding.
            None if self.is_elsewhere(claims, links, addresses) => {
                return Ok(None);
            }
            None => {
                let known = self.ledger.stood.as_ref() == Some(&self.settings.bridge);
                match self.absence.meaning(self.create, known, Instant::now()) {
                    Missing::Create => self.create_bridge(claims).await?,
                    Missing::Idle => return Ok(None),
                    Missing::Wait => return Err(self.no_bridge(claims)),
                }
            }
        };
        self.absence = Absence { stood: true, since: None };
        self.record(|ledger| ledger.stood = Some(bridge.name.clone()))?;
        if !self.ensure_up(&bridge).await? {
            return Ok(None);
        }
        self.ensure_ipv6(&bridge)?;
        Ok(Some(bridge))
    }

    fn is_elsewhere(&self, claims: &[Claim], links: &[Link], addresses: &[Address]) -> bool {
        let (bridge, added) = (&self.settings.bridge, &self.ledger.addresses);
        elsewhere::bridge(claims, bridge, added, links, addresses).is_some()
    }

    fn no_bridge(&self, claims: &[Claim]) -> SetupError {
        let wanted = claims.iter().map(Claim::container_prefix).collect();
        SetupError::NoBridge(Awaited { bridge: self.settings.bridge.clone(), wanted })
    }

    async fn create_bridge(&mut self, claims: &[Claim]) -> Result<Link, SetupError> {
        let name = self.settings.bridge.clone();
        self.record(|ledger| ledger.making(&name))?;
        self.kernel.create_bridge(&name).await?;
        tracing::info!(bridge = name, "bridge created");
        let links = self.kernel.links().await?;
        let bridge =
            links.into_iter().find(|link| link.name == name).ok_or_else(|| self.no_bridge(claims))?;
        self.record(|ledger| ledger.bridge_mac = Some(bridge.mac_text()))?;
        Ok(bridge)
    }

    /// Returns whether the bridge is up; damping may hold that back.
    async fn ensure_up(&mut self, bridge: &Link) -> Result<bool, SetupError> {
        let what = format!("interface {}", bridge.name);
        if bridge.up {
            self.drift.is_right(&what, "up");
            return Ok(true);
        }
        let drifted = self.drift.was_right(&what);
        if drifted && self.drift.holds(&what, Instant::now()) {
            return Ok(false);
        }
        if !drifted {
            self.record(|ledger| {
                if !ledger.made(&bridge.name) && !ledger.set_up.contains(&bridge.name) {
                    ledger.set_up.push(bridge.name.clone());
                }
            })?;
        }
        self.kernel.set_up(bridge.index).await?;
        self.drift.is_right(&what, "up");
        // The kernel has removed its addresses with it.
        self.drift.forget_addresses();
        if drifted {
            self.restored(&what, "down", "up", Change::Forwarding);
        }
        Ok(true)
    }

    /// Checks that the kernel has IPv6 on the bridge.
    fn ensure_ipv6(&mut self, bridge: &Link) -> Result<(), SetupError> {
        let off =
            self.read_sysctl(&of_interface(&bridge.name, "disable_ipv6"))?.is_some_and(|value| value != "0");
        match interfaces::without_ipv6("bridge", bridge, off) {
            Some(finding) => {
                self.drift.forget_addresses();
                Err(SetupError::NoIpv6(finding))
            }
            None => Ok(()),
        }
    }

    /// Adds an address in `prefix` to the bridge, unless it has one, e.g. from the container engine.
    pub(super) async fn ensure_address(
        &mut self,
        bridge: &Link,
        addresses: &[Address],
        prefix: Prefix,
    ) -> Result<(), SetupError> {
        let what = address_of(prefix, &bridge.name);
        let has_one = addresses
            .iter()
            .any(|it| it.link == bridge.index && it.len == prefix.len() && prefix.contains(it.addr));
        if has_one {
            self.drift.is_right(&what, "present");
            return Ok(());
        }
        if self.drift.was_right(&what) && self.drift.holds(&what, Instant::now()) {
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
        if self.drift.was_right(&what) {
            self.restored(&what, "removed", &format!("{addr}/{len}"), Change::Forwarding);
            return Ok(());
        }
        self.drift.is_right(&what, "present");
        tracing::info!(bridge = bridge.name, address = %format_args!("{addr}/{len}"), "bridge address added");
        if len > 80 {
            tracing::warn!(%prefix, "container prefix longer than /80: addresses cannot contain a MAC address; \
                the container engine needs its own address management");
        }
        Ok(())
    }
}

impl HostSetup {
    /// Restores the connected route of the bridge's address in `prefix`: without it, the containers' addresses are refused by the
    /// unreachable route of the host prefix. A route of another program that leads there serves too (`noprefixroute`).
    pub(super) async fn ensure_connected(
        &mut self,
        bridge: &Link,
        addresses: &[Address],
        prefix: Prefix,
    ) -> Result<(), SetupError> {
        let Some(address) = of_connected_route(bridge, addresses, prefix) else {
            return Ok(());
        };
        if self.leads_inside(bridge, prefix).await? {
            return Ok(());
        }
        let what = format!("connected route {prefix} of {}", bridge.name);
        if self.drift.holds(&what, Instant::now()) {
            return Ok(());
        }
        // The kernel would add an address that is gone by now, past its own damping: its removal is an event, which restores it.
        let now = self.kernel.addresses().await?;
        if of_connected_route(bridge, &now, prefix).is_none() {
            return Ok(());
        }
        self.kernel.renew_address(bridge.index, address.addr, address.len).await?;
        self.restored(&what, "removed", "present", Change::Forwarding);
        Ok(())
    }

    /// Whether packets to the prefix go to the bridge. A lookup costs little. Where it finds a longer route of another link, all
    /// connected routes are read, for which the kernel walks through its whole table.
    async fn leads_inside(&self, bridge: &Link, prefix: Prefix) -> Result<bool, KernelError> {
        let found = self.kernel.lookup(Ipv6Addr::UNSPECIFIED, prefix.last_addr(), None).await?;
        if found.is_ok_and(|found| leads_to(bridge, &found)) {
            return Ok(true);
        }
        let connected = self.kernel.routes(Scope::Connected).await?;
        Ok(connected.iter().any(|route| route.key.destination == prefix && leads_to(bridge, route)))
    }
}

/// The address whose connected route `prefix` is. The kernel has none while the bridge is down; an address that expires is
/// another program's.
fn of_connected_route<'a>(bridge: &Link, addresses: &'a [Address], prefix: Prefix) -> Option<&'a Address> {
    let mut here = addresses.iter().filter(|it| {
        it.link == bridge.index && it.len == prefix.len() && prefix.contains(it.addr) && it.permanent
    });
    here.next().filter(|_| bridge.up)
}

fn leads_to(link: &Link, route: &Route) -> bool {
    match &route.target {
        RouteTarget::Via(hops) => hops.iter().any(|hop| hop.link == link.index),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::permanent;

    #[test]
    fn an_engine_may_delete_its_bridge_and_create_it_again() {
        let (start, mut gone) = (Instant::now(), Absence { stood: true, since: None });
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(gone.meaning(false, true, start), Missing::Idle);
        assert_eq!(gone.meaning(false, true, after(3600)), Missing::Idle);
        let mut gone = Absence { stood: true, since: None };
        assert_eq!(gone.meaning(true, true, start), Missing::Idle, "the engine may be about to create it");
        assert!(!gone.is_over(true, start) && gone.is_over(true, after(2)) && !gone.is_over(false, after(2)));
        assert_eq!(gone.meaning(true, true, after(2)), Missing::Create);
        assert_eq!(gone.meaning(true, true, after(3)), Missing::Create, "the first try failed");
    }

    #[test]
    fn a_bridge_that_never_stood_is_missing() {
        let (start, mut never) = (Instant::now(), Absence::default());
        assert_eq!(never.meaning(false, false, start), Missing::Wait);
        assert_eq!(never.meaning(false, false, start + Duration::from_secs(3600)), Missing::Wait);
        assert_eq!(Absence::default().meaning(true, false, start), Missing::Create);
        let mut restarted = Absence::default();
        assert_eq!(restarted.meaning(false, true, start), Missing::Wait, "its engine may be starting");
        assert_eq!(restarted.meaning(false, true, start + ENGINE_STARTS), Missing::Idle);
    }

    #[test]
    fn the_kernel_has_a_connected_route_of_a_permanent_address_while_the_bridge_is_up() {
        let prefix: Prefix = "2001:db8:1::/80".parse().unwrap();
        let bridge = Link { index: 3, name: "br0".into(), bridge: true, up: true, ..Link::default() };
        let address = permanent(3, prefix.first_host(), 80);
        let has = |bridge: &Link, address: &Address| {
            of_connected_route(bridge, std::slice::from_ref(address), prefix).is_some()
        };
        assert!(has(&bridge, &address));
        assert!(!has(&Link { up: false, ..bridge.clone() }, &address));
        let others = [Address { permanent: false, ..address.clone() }, Address { link: 2, ..address }];
        assert!(others.iter().all(|address| !has(&bridge, address)));
    }
}
