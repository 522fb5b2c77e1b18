//! The changes to undo on a host, by the recorded changes, the host's state, and the changes that are still wanted. Pure.
//!
//! The same decision serves `sextant-agent cleanup`, where no change is wanted, and a start with other settings.

mod text;
mod users;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use self::users::{is_only_ours, others_addresses, ports, users};
use super::{link_layer, neighbours, proxying, renamed::followed, sysctls::FORWARDING, wanted::Wanted};
use crate::{
    kernel::{Address, Link, OwnRoute, ProxyEntry, Route, RouteProtocol, RouteTarget},
    state::{BridgeAddress, Ledger},
};

/// The host's state.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses.
    pub addresses: Vec<Address>,
    /// The routes of our protocol, of all tables.
    pub routes: Vec<Route>,
    /// The values of the recorded sysctls that exist.
    pub sysctls: BTreeMap<String, String>,
    /// The links with IPv4 addresses, which the agent never adds.
    pub ipv4: BTreeSet<u32>,
    /// The addresses that the kernel answers solicitations for.
    pub proxies: Vec<ProxyEntry>,
}

/// One step of an undo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Restore the value of a sysctl.
    Sysctl {
        /// Its path under `/proc/sys`.
        path: String,
        /// Its present value.
        now: String,
        /// Its value before the agent's change.
        before: String,
    },
    /// Delete a route of ours.
    Route(OwnRoute),
    /// Let the kernel no longer answer solicitations for an address.
    Proxy {
        /// The interface's index.
        link: u32,
        /// The interface's name.
        interface: String,
        /// The address.
        addr: Ipv6Addr,
    },
    /// Remove an address.
    Address {
        /// The interface's index.
        link: u32,
        /// The interface's name.
        interface: String,
        /// The address.
        addr: Ipv6Addr,
        /// The length of its on-link prefix.
        len: u8,
    },
    /// Set an interface down.
    Down {
        /// Its index.
        link: u32,
        /// Its name.
        interface: String,
    },
    /// Delete the bridge that the agent created.
    Bridge {
        /// Its index.
        link: u32,
        /// Its name.
        interface: String,
    },
}

/// The result of the decision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undo {
    /// The steps, in order: first forwarding is disabled, then routes, addresses and links are removed.
    pub steps: Vec<Step>,
    /// The changes that are kept, with reason and fix.
    pub kept: Vec<Kept>,
    /// The record after the steps: the wanted changes, and our changes that cannot be undone yet.
    pub left: Ledger,
}

/// A change that cannot be undone yet, or that another process has replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// Another process has set it to another value since.
    Sysctl {
        /// Its path under `/proc/sys`.
        path: String,
        /// Its present value.
        now: String,
    },
    /// Containers are connected to it.
    BusyBridge {
        /// Its name.
        interface: String,
        /// The connected interfaces.
        ports: Vec<String>,
    },
    /// The agent set it up, and containers are connected to it.
    BusyInterface {
        /// Its name.
        interface: String,
        /// The connected interfaces.
        ports: Vec<String>,
    },
    /// A bridge of the same name, which the agent did not create.
    OtherBridge(String),
    /// Others' addresses are on it: something uses it.
    AddressedInterface {
        /// Its name.
        interface: String,
        /// The addresses.
        addresses: Vec<String>,
    },
    /// Containers on a bridge that the agent did not create may use it as their gateway.
    UsedAddress {
        /// The address, with the length of its on-link prefix.
        address: String,
        /// The bridge.
        interface: String,
        /// The connected interfaces.
        ports: Vec<String>,
    },
    /// The containers on others' bridges need it.
    UsedSysctl {
        /// Its path under `/proc/sys`.
        path: String,
        /// Its present value.
        now: String,
        /// The bridges.
        bridges: Vec<String>,
    },
}

impl Kept {
    /// Whether the change is still ours, so that a later cleanup can undo it.
    pub fn is_ours(&self) -> bool {
        !matches!(self, Self::Sysctl { .. } | Self::OtherBridge(_))
    }
}

/// Decides how to undo the changes in `ledger` that are not in `wanted`.
pub fn undo(ledger: &Ledger, found: &Found, wanted: &Wanted) -> Undo {
    let ledger = &followed(ledger, &found.links, wanted.bridge.as_deref());
    let mut undo = Undo { left: ledger.clone(), ..Undo::default() };
    let users = if wanted.is_nothing() { users(ledger, found) } else { Vec::new() };
    undo.sysctls(ledger, found, wanted, &users);
    if !wanted.answers {
        undo.proxies(found);
    }
    if wanted.is_nothing() {
        undo.routes(&found.routes);
        undo.left.stood = None;
    }
    undo.links(ledger, found, wanted);
    undo
}

/// The value to which the agent has set a sysctl.
fn value_set_by_agent(path: &str, ledger: &Ledger) -> String {
    let limit = neighbours::limit(path).map(|(_, limit)| limit.to_string());
    limit.unwrap_or_else(|| match path {
        path if ledger.switched_off.contains(path) => "0".to_owned(),
        path if path.ends_with("/accept_ra") => "2".to_owned(),
        path if path.ends_with("/proxy_delay") => "0".to_owned(),
        _ => "1".to_owned(),
    })
}

impl Undo {
    /// Forwarding first: while it is enabled, `accept_ra` must stay 2. Disabling it for all disables it for each interface.
    /// Both stay while `users` are containers on others' bridges.
    fn sysctls(&mut self, ledger: &Ledger, found: &Found, wanted: &Wanted, users: &[String]) {
        let used = |path: &str| {
            let ours_only = neighbours::limit(path).is_some()
                || proxying::interface(path).is_some()
                || link_layer::interface(path).is_some();
            let needed = !ledger.switched_off.contains(path) && !ours_only;
            !users.is_empty() && needed
        };
        let unwanted = |path: &str| !wanted.sysctl(path, ledger, &found.links) && !used(path);
        self.left.sysctls.retain(|path, _| !unwanted(path));
        self.left.switched_off.retain(|path| !unwanted(path));
        for path in ledger.sysctls.keys().filter(|path| used(path)) {
            self.used_sysctl(path, ledger, found, users);
        }
        let all = ledger.sysctls.get_key_value(FORWARDING).filter(|(path, _)| unwanted(path));
        let own = |path: &str| path.ends_with("/forwarding");
        let others = ledger.sysctls.iter().filter(|(path, _)| *path != FORWARDING && unwanted(path));
        let (own, others): (Vec<_>, Vec<_>) = others.partition(|(path, _)| own(path));
        let disabled = all.is_some_and(|(path, before)| self.sysctl(ledger, found, path, before));
        for (path, before) in own.into_iter().filter(|_| disabled) {
            if found.sysctls.contains_key(path) {
                let (now, before) = ("0".to_owned(), before.clone());
                self.steps.push(Step::Sysctl { path: path.clone(), now, before });
            }
        }
        for (path, before) in others {
            self.sysctl(ledger, found, path, before);
        }
    }

    fn used_sysctl(&mut self, path: &str, ledger: &Ledger, found: &Found, users: &[String]) {
        match found.sysctls.get(path) {
            Some(now) if ledger.sysctls.get(path) != Some(now) => {
                let (path, now, bridges) = (path.to_owned(), now.clone(), users.to_vec());
                self.kept.push(Kept::UsedSysctl { path, now, bridges });
            }
            _ => drop(self.left.sysctls.remove(path)),
        }
    }

    fn sysctl(&mut self, ledger: &Ledger, found: &Found, path: &str, before: &str) -> bool {
        let Some(now) = found.sysctls.get(path) else { return false };
        let (path, now) = (path.to_owned(), now.clone());
        if now == before {
            return false;
        }
        if now != value_set_by_agent(&path, ledger) {
            self.kept.push(Kept::Sysctl { path, now });
            return false;
        }
        self.steps.push(Step::Sysctl { path, now, before: before.to_owned() });
        true
    }

    fn proxies(&mut self, found: &Found) {
        for it in found.proxies.iter().filter(|it| it.is_ours()) {
            if let Some(link) = found.links.iter().find(|link| link.index == it.link) {
                self.steps.push(Step::Proxy { link: it.link, interface: link.name.clone(), addr: it.addr });
            }
        }
    }

    /// Routes to peers before unreachable routes.
    fn routes(&mut self, routes: &[Route]) {
        let ours = routes.iter().filter(|route| route.protocol == RouteProtocol::OURS);
        let mut ours: Vec<_> =
            ours.map(|route| OwnRoute { key: route.key, target: route.target.clone() }).collect();
        ours.sort_by_key(|route| (route.target == RouteTarget::Unreachable, route.key));
        self.steps.extend(ours.into_iter().map(Step::Route));
    }

    fn links(&mut self, ledger: &Ledger, found: &Found, wanted: &Wanted) {
        let named = |name: &str| found.links.iter().find(|link| link.name == name);
        self.left.addresses.retain(|recorded| wanted.address(recorded));
        for recorded in ledger.addresses.iter().filter(|recorded| !wanted.address(recorded)) {
            let Some(link) = named(&recorded.interface) else { continue };
            let ports = ports(link, &found.links);
            if wanted.is_nothing() && !ports.is_empty() && !is_only_ours(link, ledger, found) {
                self.used_address(recorded, ports, found, link);
            } else {
                self.address(recorded, link, found);
            }
        }
        self.left.set_up.retain(|name| wanted.link(name));
        for name in ledger.set_up.iter().filter(|name| !wanted.link(name)) {
            if let Some(link) = named(name).filter(|link| link.up) {
                self.down(link, ledger, found);
            }
        }
        let unwanted = ledger.made_bridges().filter(|made| !wanted.link(&made.name));
        let mut kept_bridges = Vec::new();
        for made in unwanted {
            if let Some(bridge) = named(&made.name)
                && self.bridge(made.mac.as_deref(), bridge, ledger, found)
            {
                kept_bridges.push(made.name);
            }
        }
        self.left.retain_bridges(|name| wanted.link(name) || kept_bridges.iter().any(|it| it == name));
    }

    fn address(&mut self, recorded: &BridgeAddress, link: &Link, found: &Found) {
        let is_it = |it: &Address| (it.link, it.addr, it.len) == (link.index, recorded.addr, recorded.len);
        if found.addresses.iter().any(is_it) {
            let (interface, addr, len) = (link.name.clone(), recorded.addr, recorded.len);
            self.steps.push(Step::Address { link: link.index, interface, addr, len });
        }
    }

    fn used_address(&mut self, recorded: &BridgeAddress, ports: Vec<String>, found: &Found, link: &Link) {
        let is_it = |it: &Address| (it.link, it.addr, it.len) == (link.index, recorded.addr, recorded.len);
        if found.addresses.iter().any(is_it) {
            let address = format!("{}/{}", recorded.addr, recorded.len);
            self.kept.push(Kept::UsedAddress { address, interface: link.name.clone(), ports });
            self.left.addresses.push(recorded.clone());
        }
    }

    fn down(&mut self, link: &Link, ledger: &Ledger, found: &Found) {
        let (interface, ports) = (link.name.clone(), ports(link, &found.links));
        let addresses = others_addresses(link, ledger, found);
        if ports.is_empty() && addresses.is_empty() {
            self.steps.push(Step::Down { link: link.index, interface });
            return;
        }
        self.left.set_up.push(interface.clone());
        self.kept.push(match &ports[..] {
            [] => Kept::AddressedInterface { interface, addresses },
            _ => Kept::BusyInterface { interface, ports },
        });
    }

    /// Whether the bridge is kept, and is ours.
    fn bridge(&mut self, mac: Option<&str>, bridge: &Link, ledger: &Ledger, found: &Found) -> bool {
        let (interface, ports) = (bridge.name.clone(), ports(bridge, &found.links));
        if mac.is_some_and(|mac| *mac != bridge.mac_text()) {
            self.kept.push(Kept::OtherBridge(interface));
            return false;
        }
        let addresses = others_addresses(bridge, ledger, found);
        if ports.is_empty() && addresses.is_empty() {
            self.steps.push(Step::Bridge { link: bridge.index, interface });
            return false;
        }
        if ports.is_empty() {
            self.kept.push(Kept::AddressedInterface { interface, addresses });
            return true;
        }
        self.kept.push(Kept::BusyBridge { interface, ports });
        true
    }
}

#[cfg(test)]
mod tests;
