//! What of the things that the agent makes on a host its settings and its claim want. Pure.

use std::net::Ipv6Addr;

use sextant_proto::Claim;

use super::sysctls::FORWARDING;
use crate::{
    kernel::Link,
    settings::{HostSettings, Role},
    state::{BridgeAddress, Ledger},
};

/// What is wanted; by default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The bridge; a router has none.
    pub bridge: Option<String>,
    /// Its address and the length of its on-link prefix, once a prefix is claimed.
    pub address: Option<(Ipv6Addr, u8)>,
    /// The uplinks' names.
    pub uplinks: Vec<String>,
    /// The host is to forward.
    pub forwarding: bool,
    /// What earlier settings wanted stays until all this is set up.
    earlier_stays: bool,
}

impl Wanted {
    /// By the settings of an agent, and by what it holds.
    pub fn by(settings: &HostSettings, claim: Option<&Claim>) -> Self {
        match settings.role {
            Role::Router => Self { uplinks: settings.uplinks.clone(), forwarding: true, ..Self::default() },
            Role::Host => Self::of_host(
                &settings.bridge,
                claim.map(|claim| (claim.container_prefix().first_host(), claim.container_prefix().len())),
                settings.uplinks.clone(),
            ),
        }
    }

    pub(super) fn of_host(bridge: &str, address: Option<(Ipv6Addr, u8)>, uplinks: Vec<String>) -> Self {
        Self { bridge: Some(bridge.to_owned()), address, uplinks, forwarding: true, earlier_stays: false }
    }

    /// The same before any of it is set up: only addresses of prefixes that are no longer held are not wanted (DESIGN I3,
    /// I7).
    #[must_use]
    pub fn before_setup(self) -> Self {
        Self { earlier_stays: true, ..self }
    }

    /// Whether nothing is: everything goes, routes too.
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Whether all that `ledger` records is wanted for sure: only of `accept_ra` that is not known without a look.
    pub(super) fn covers(&self, ledger: &Ledger) -> bool {
        let sysctl = |path: &String| self.earlier_stays || interface(path).is_none();
        ledger.addresses.iter().all(|noted| self.address(noted))
            && ledger.made_bridges().all(|made| self.link(&made.name))
            && ledger.set_up.iter().all(|name| self.link(name))
            && self.forwarding
            && ledger.sysctls.keys().all(sysctl)
    }

    pub(super) fn address(&self, noted: &BridgeAddress) -> bool {
        self.address == Some((noted.addr, noted.len)) && (self.earlier_stays || self.link(&noted.interface))
    }

    pub(super) fn link(&self, name: &str) -> bool {
        self.earlier_stays || self.bridge.as_deref() == Some(name)
    }

    /// An interface needs `accept_ra` = 2 as an uplink; and any does since the agent has the host forward, or it would no
    /// longer learn what it learnt before. A bridge that containers are on, and its ports, must not have it.
    pub(super) fn sysctl(&self, path: &str, ledger: &Ledger, links: &[Link]) -> bool {
        if self.earlier_stays || path.ends_with("/forwarding") {
            return self.earlier_stays || self.forwarding;
        }
        let Some(interface) = interface(path) else { return self.forwarding };
        let turned_on = self.forwarding && ledger.sysctls.contains_key(FORWARDING);
        let uplink = self.uplinks.iter().any(|uplink| uplink == interface);
        (turned_on || uplink) && !self.is_inside(interface, links)
    }

    fn is_inside(&self, interface: &str, links: &[Link]) -> bool {
        let index = |name: &str| links.iter().find(|link| link.name == name).map(|link| link.index);
        let bridge = self.bridge.as_deref();
        let port = links.iter().find(|link| link.name == interface).and_then(|link| link.controller);
        bridge == Some(interface) || (port.is_some() && port == bridge.and_then(index))
    }
}

/// The interface of `net/ipv6/conf/INTERFACE/accept_ra`.
fn interface(path: &str) -> Option<&str> {
    path.strip_prefix("net/ipv6/conf/")?.strip_suffix("/accept_ra")
}
