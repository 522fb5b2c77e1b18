//! What is to be undone on a host, by what the agent recorded, what is there, and what is still wanted. Pure.
//!
//! The one decision for both: `sextant-agent cleanup`, which wants nothing any more, and a start with other settings, which
//! wants some of it.

use std::{collections::BTreeMap, fmt, net::Ipv6Addr};

use super::{sysctls::FORWARDING, wanted::Wanted};
use crate::{
    kernel::{Address, Link, OwnRoute, Route, RouteProtocol, RouteTarget},
    state::{BridgeAddress, Ledger},
};

/// What is there.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// All links.
    pub links: Vec<Link>,
    /// All their addresses.
    pub addresses: Vec<Address>,
    /// The routes of our protocol, of all tables.
    pub routes: Vec<Route>,
    /// The values of those sysctls that the ledger names, as far as they exist.
    pub sysctls: BTreeMap<String, String>,
}

/// Something to undo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Give a sysctl the value it had.
    Sysctl {
        /// Its path under `/proc/sys`.
        path: String,
        /// What it has.
        now: String,
        /// What it had.
        before: String,
    },
    /// Take a route of ours away.
    Route(OwnRoute),
    /// Take an address away.
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
    /// Delete the bridge that the agent made.
    Bridge {
        /// Its index.
        link: u32,
        /// Its name.
        interface: String,
    },
}

/// What to do, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undo {
    /// First nothing is forwarded any more, then what was forwarded by goes.
    pub steps: Vec<Step>,
    /// What must stay for now, and why; with the fix.
    pub kept: Vec<Kept>,
    /// What is still recorded once the steps are done: what is wanted, and what must stay for now and is ours.
    pub left: Ledger,
}

/// Something of ours that cannot go yet, or is no longer ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// Somebody has set it to something else since.
    Sysctl {
        /// Its path under `/proc/sys`.
        path: String,
        /// What it has.
        now: String,
    },
    /// Containers are connected to it.
    BusyBridge {
        /// Its name.
        interface: String,
        /// What is connected.
        ports: Vec<String>,
    },
    /// It was down before the agent, and containers are connected to it.
    BusyInterface {
        /// Its name.
        interface: String,
        /// What is connected.
        ports: Vec<String>,
    },
    /// One of the same name, made by somebody else.
    OtherBridge(String),
}

impl Kept {
    /// Whether it is ours still, so that a later cleanup has something to do.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::BusyBridge { .. } | Self::BusyInterface { .. })
    }
}

/// What leads from what is recorded in `ledger` to what is `wanted` of it.
pub fn undo(ledger: &Ledger, found: &Found, wanted: &Wanted) -> Undo {
    let mut undo = Undo { left: ledger.clone(), ..Undo::default() };
    undo.sysctls(ledger, found, wanted);
    if wanted.is_nothing() {
        undo.routes(&found.routes);
    }
    undo.links(ledger, found, wanted);
    undo
}

/// What the agent sets a sysctl to.
fn set_to(path: &str) -> &'static str {
    if path.ends_with("/accept_ra") { "2" } else { "1" }
}

impl Undo {
    /// Forwarding first: while it is on, `accept_ra` must stay 2. Turning it off for all turns each interface's off.
    fn sysctls(&mut self, ledger: &Ledger, found: &Found, wanted: &Wanted) {
        let unwanted = |path: &str| !wanted.sysctl(path, ledger, &found.links);
        self.left.sysctls.retain(|path, _| !unwanted(path));
        let all = ledger.sysctls.get_key_value(FORWARDING).filter(|(path, _)| unwanted(path));
        let own = |path: &str| path.ends_with("/forwarding");
        let others = ledger.sysctls.iter().filter(|(path, _)| *path != FORWARDING && unwanted(path));
        let (own, others): (Vec<_>, Vec<_>) = others.partition(|(path, _)| own(path));
        let turned_off = all.is_some_and(|(path, before)| self.sysctl(found, path, before));
        for (path, before) in own.into_iter().filter(|_| turned_off) {
            if found.sysctls.contains_key(path) {
                let (now, before) = ("0".to_owned(), before.clone());
                self.steps.push(Step::Sysctl { path: path.clone(), now, before });
            }
        }
        for (path, before) in others {
            self.sysctl(found, path, before);
        }
    }

    fn sysctl(&mut self, found: &Found, path: &str, before: &str) -> bool {
        let Some(now) = found.sysctls.get(path) else { return false };
        let (path, now) = (path.to_owned(), now.clone());
        if now == before {
            return false;
        }
        if now != set_to(&path) {
            self.kept.push(Kept::Sysctl { path, now });
            return false;
        }
        self.steps.push(Step::Sysctl { path, now, before: before.to_owned() });
        true
    }

    /// Those that lead somewhere before those that refuse.
    fn routes(&mut self, routes: &[Route]) {
        let ours = routes.iter().filter(|route| route.protocol == RouteProtocol::OURS);
        let mut ours: Vec<_> =
            ours.map(|route| OwnRoute { key: route.key, target: route.target.clone() }).collect();
        ours.sort_by_key(|route| (route.target == RouteTarget::Unreachable, route.key));
        self.steps.extend(ours.into_iter().map(Step::Route));
    }

    fn links(&mut self, ledger: &Ledger, found: &Found, wanted: &Wanted) {
        let named = |name: &str| found.links.iter().find(|link| link.name == name);
        self.left.addresses.retain(|noted| wanted.address(noted));
        for noted in ledger.addresses.iter().filter(|noted| !wanted.address(noted)) {
            let Some(link) = named(&noted.interface) else { continue };
            self.address(noted, link, found);
        }
        self.left.set_up.retain(|name| wanted.link(name));
        for name in ledger.set_up.iter().filter(|name| !wanted.link(name)) {
            if let Some(link) = named(name).filter(|link| link.up) {
                self.down(link, &found.links);
            }
        }
        let unwanted = ledger.made_bridges().filter(|made| !wanted.link(&made.name));
        let mut ours_still = Vec::new();
        for made in unwanted {
            if let Some(bridge) = named(&made.name)
                && self.bridge(made.mac.as_deref(), bridge, &found.links)
            {
                ours_still.push(made.name);
            }
        }
        self.left.retain_bridges(|name| wanted.link(name) || ours_still.iter().any(|it| it == name));
    }

    fn address(&mut self, noted: &BridgeAddress, link: &Link, found: &Found) {
        let there = |it: &Address| (it.link, it.addr, it.len) == (link.index, noted.addr, noted.len);
        if found.addresses.iter().any(there) {
            let (interface, addr, len) = (link.name.clone(), noted.addr, noted.len);
            self.steps.push(Step::Address { link: link.index, interface, addr, len });
        }
    }

    fn down(&mut self, link: &Link, links: &[Link]) {
        let (interface, ports) = (link.name.clone(), ports(link, links));
        if ports.is_empty() {
            self.steps.push(Step::Down { link: link.index, interface });
        } else {
            self.left.set_up.push(interface.clone());
            self.kept.push(Kept::BusyInterface { interface, ports });
        }
    }

    /// Whether it stays for now, and is ours.
    fn bridge(&mut self, mac: Option<&str>, bridge: &Link, links: &[Link]) -> bool {
        let (interface, ports) = (bridge.name.clone(), ports(bridge, links));
        if mac.is_some_and(|mac| *mac != bridge.mac_text()) {
            self.kept.push(Kept::OtherBridge(interface));
            return false;
        }
        if ports.is_empty() {
            self.steps.push(Step::Bridge { link: bridge.index, interface });
            return false;
        }
        self.kept.push(Kept::BusyBridge { interface, ports });
        true
    }
}

fn ports(of: &Link, links: &[Link]) -> Vec<String> {
    links.iter().filter(|link| link.controller == Some(of.index)).map(|link| link.name.clone()).collect()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl { path, now, before } => write!(f, "sysctl {path}: {now} back to {before}"),
            Self::Route(OwnRoute { key, target }) => {
                let kind = if *target == RouteTarget::Unreachable { "unreachable " } else { "" };
                let (destination, metric, table) = (key.destination, key.metric, key.table);
                write!(f, "route {kind}{destination} metric {metric} table {table} removed")
            }
            Self::Address { interface, addr, len, .. } => {
                write!(f, "address {addr}/{len} of {interface} removed")
            }
            Self::Down { interface, .. } => write!(f, "interface {interface} set down"),
            Self::Bridge { interface, .. } => write!(f, "bridge {interface} deleted"),
        }
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl { path, now } => {
                write!(f, "sysctl {path} stays {now}: somebody has set it since the agent did")
            }
            Self::BusyBridge { interface, ports } => write!(
                f,
                "bridge {interface} stays: {} are connected to it; stop the containers, and run this again",
                ports.join(", ")
            ),
            Self::BusyInterface { interface, ports } => write!(
                f,
                "interface {interface} stays up: {} are connected to it; stop the containers, and run this again",
                ports.join(", ")
            ),
            Self::OtherBridge(interface) => {
                write!(f, "bridge {interface} stays: it is not the one that the agent made")
            }
        }
    }
}

#[cfg(test)]
mod tests;
