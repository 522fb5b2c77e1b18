//! The changes to a host that the agent's settings and claims need. Pure.

use std::net::Ipv6Addr;

use sextant_proto::{Claim, Prefix};

use super::{containers::ContainerLinks, link_layer, neighbours, proxying};
use crate::{
    kernel::Link,
    settings::{HostSettings, Role},
    state::{BridgeAddress, Ledger},
};

/// The needed changes; by default none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The bridge; a router has none.
    pub bridge: Option<String>,
    /// Its addresses with the length of their on-link prefixes: one for each claim.
    pub addresses: Vec<(Ipv6Addr, u8)>,
    /// The uplinks' names.
    pub uplinks: Vec<String>,
    /// Whether the host is to forward.
    pub forwarding: bool,
    /// Whether the kernel is to answer neighbour solicitations for containers.
    pub answers: bool,
    /// Addresses of prefixes that the node may still hold: no controller has said otherwise yet.
    pub(super) unclaimed: Vec<BridgeAddress>,
    /// Changes for earlier settings are kept until these changes are made.
    keep_earlier: bool,
}

impl Wanted {
    /// By the settings and the claims of an agent.
    pub fn by(settings: &HostSettings, claims: &[Claim]) -> Self {
        match settings.role {
            Role::Router => Self { uplinks: settings.uplinks.clone(), forwarding: true, ..Self::default() },
            Role::Host => Self {
                answers: settings.ndp_source.is_some(),
                ..Self::of_host(
                    &settings.bridge,
                    claims.iter().map(|claim| bridge_address(claim.container_prefix())).collect(),
                    settings.uplinks.clone(),
                )
            },
        }
    }

    pub(super) fn of_host(bridge: &str, addresses: Vec<(Ipv6Addr, u8)>, uplinks: Vec<String>) -> Self {
        Self {
            bridge: Some(bridge.to_owned()),
            addresses,
            uplinks,
            forwarding: true,
            answers: false,
            unclaimed: Vec::new(),
            keep_earlier: false,
        }
    }

    /// The same before the setup: only addresses of prefixes that the node no longer holds are not wanted (DESIGN I3, I7).
    #[must_use]
    pub fn before_setup(self) -> Self {
        Self { keep_earlier: true, ..self }
    }

    /// Whether no change is wanted: everything is undone, routes included.
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Whether all changes in `ledger` are certainly wanted; for sysctls of an interface, except forwarding, this depends on the
    /// present links.
    pub(super) fn covers(&self, ledger: &Ledger) -> bool {
        let sysctl = |path: &String| self.keep_earlier || interface(path).is_none();
        ledger.addresses.iter().all(|recorded| self.address(recorded))
            && ledger.made_bridges().all(|made| self.link(&made.name))
            && ledger.set_up.iter().all(|name| self.link(name))
            && self.forwarding
            && ledger.sysctls.keys().all(sysctl)
    }

    pub(super) fn address(&self, recorded: &BridgeAddress) -> bool {
        let link_local = recorded.addr.is_unicast_link_local() && self.bridge.is_some();
        let known =
            self.addresses.contains(&(recorded.addr, recorded.len)) || self.unclaimed.contains(recorded);
        (link_local || known) && (self.keep_earlier || self.bridge.as_deref() == Some(&recorded.interface))
    }

    /// A former bridge may be an uplink now: to take it away would cut the host off.
    pub(super) fn link(&self, name: &str) -> bool {
        self.keep_earlier
            || self.bridge.as_deref() == Some(name)
            || self.uplinks.iter().any(|uplink| uplink == name)
    }

    /// A host that forwards needs `accept_ra` = 2 where it was raised: it would ignore router advertisements otherwise. Links that
    /// containers are on need 0, and limits of neighbours.
    pub(super) fn sysctl(&self, path: &str, ledger: &Ledger, links: &[Link]) -> bool {
        if self.keep_earlier || path.ends_with("/forwarding") {
            return self.keep_earlier || self.forwarding;
        }
        if let Some(interface) = proxying::interface(path) {
            return self.answers && (interface == "all" || self.uplinks.iter().any(|name| name == interface));
        }
        if let Some(interface) = link_layer::interface(path) {
            return self.uplinks.iter().any(|name| name == interface);
        }
        let Some(interface) = interface(path) else { return self.forwarding };
        let inside = ContainerLinks::among(links, self.bridge.as_deref(), &self.uplinks);
        let on_it = links.iter().any(|link| link.name == interface && inside.contains(link.index));
        let needs_them = neighbours::limit(path).is_some() || ledger.switched_off.contains(path);
        self.forwarding && needs_them == on_it
    }
}

fn bridge_address(container_prefix: Prefix) -> (Ipv6Addr, u8) {
    (container_prefix.first_host(), container_prefix.len())
}

/// The interface of `net/ipv6/conf/INTERFACE/accept_ra`, or of another sysctl that depends on the present links.
fn interface(path: &str) -> Option<&str> {
    let accepts = || path.strip_prefix("net/ipv6/conf/")?.strip_suffix("/accept_ra");
    let limited = || Some(neighbours::limit(path)?.0);
    accepts().or_else(limited).or_else(|| proxying::interface(path)).or_else(|| link_layer::interface(path))
}
