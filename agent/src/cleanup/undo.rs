//! What is to be undone on a host, by what the agent noted and what is there. Pure.

use std::{collections::BTreeMap, fmt, net::Ipv6Addr};

use crate::{
    host::FORWARDING,
    kernel::{Address, Link, OwnRoute, Route, RouteProtocol, RouteTarget},
    state::Ledger,
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
    /// What must stay for now, and why; with the mend.
    pub kept: Vec<Kept>,
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
    /// One of the same name, made by somebody else.
    OtherBridge(String),
}

impl Kept {
    /// Whether it is ours still, so that a later cleanup has something to do.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::BusyBridge { .. })
    }
}

/// What leads back to how the host was.
pub fn undo(ledger: &Ledger, found: &Found) -> Undo {
    let mut undo = Undo::default();
    undo.sysctls(ledger, found);
    undo.routes(&found.routes);
    undo.links(ledger, found);
    undo
}

/// What the agent sets a sysctl to.
fn set_to(path: &str) -> &'static str {
    if path.ends_with("/accept_ra") { "2" } else { "1" }
}

impl Undo {
    /// Forwarding first: while it is on, `accept_ra` must stay 2. Turning it off for all turns each interface's off.
    fn sysctls(&mut self, ledger: &Ledger, found: &Found) {
        let all = ledger.sysctls.get_key_value(FORWARDING);
        let mut turned_off = false;
        let own = |path: &str| path != FORWARDING && path.ends_with("/forwarding");
        let (own, others): (Vec<_>, Vec<_>) =
            ledger.sysctls.iter().filter(|(path, _)| *path != FORWARDING).partition(|(path, _)| own(path));
        if let Some((path, before)) = all {
            turned_off = self.sysctl(found, path, before);
        }
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

    fn links(&mut self, ledger: &Ledger, found: &Found) {
        let named = |name: &String| found.links.iter().find(|link| link.name == *name);
        for noted in &ledger.addresses {
            let Some(link) = named(&noted.interface) else { continue };
            let there = |it: &&Address| (it.link, it.addr, it.len) == (link.index, noted.addr, noted.len);
            if found.addresses.iter().any(|it| there(&it)) {
                let (interface, addr, len) = (link.name.clone(), noted.addr, noted.len);
                self.steps.push(Step::Address { link: link.index, interface, addr, len });
            }
        }
        for link in ledger.set_up.iter().filter_map(named).filter(|link| link.up) {
            self.steps.push(Step::Down { link: link.index, interface: link.name.clone() });
        }
        if let Some(bridge) = ledger.bridge.as_ref().and_then(named) {
            self.bridge(ledger, bridge, &found.links);
        }
    }

    fn bridge(&mut self, ledger: &Ledger, bridge: &Link, links: &[Link]) {
        let interface = bridge.name.clone();
        if ledger.bridge_mac.as_ref().is_some_and(|mac| *mac != bridge.mac_text()) {
            self.kept.push(Kept::OtherBridge(interface));
            return;
        }
        let ports = links.iter().filter(|link| link.controller == Some(bridge.index));
        let ports: Vec<_> = ports.map(|link| link.name.clone()).collect();
        if ports.is_empty() {
            self.steps.push(Step::Bridge { link: bridge.index, interface });
        } else {
            self.kept.push(Kept::BusyBridge { interface, ports });
        }
    }
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
            Self::OtherBridge(interface) => {
                write!(f, "bridge {interface} stays: it is not the one that the agent made")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernel::{RouteKey, fake::permanent},
        state::BridgeAddress,
    };

    fn link(index: u32, name: &str) -> Link {
        let mac = vec![2, 0, 0, 0, 0, index as u8];
        Link { index, name: name.into(), up: true, carrier: true, bridge: false, controller: None, mac }
    }

    fn ledger() -> Ledger {
        let address =
            BridgeAddress { interface: "docker0".into(), addr: "2001:db8::1".parse().unwrap(), len: 80 };
        let sysctls = [("all/forwarding", "0"), ("eth0/accept_ra", "1"), ("eth1/forwarding", "1")];
        Ledger {
            bridge: Some("docker0".into()),
            bridge_mac: Some("02:00:00:00:00:03".into()),
            set_up: vec![],
            addresses: vec![address],
            sysctls: sysctls.map(|(name, value)| (format!("net/ipv6/conf/{name}"), value.into())).into(),
        }
    }

    fn found() -> Found {
        let route = |target, metric| Route {
            key: RouteKey { table: 254, destination: "2001:db8:1::/64".parse().unwrap(), metric },
            protocol: RouteProtocol::OURS,
            target,
        };
        let sysctls = [("all/forwarding", "1"), ("eth0/accept_ra", "2"), ("eth1/forwarding", "1")];
        Found {
            links: vec![link(2, "eth0"), Link { bridge: true, ..link(3, "docker0") }],
            addresses: vec![permanent(3, "2001:db8::1".parse().unwrap(), 80)],
            routes: vec![route(RouteTarget::Unreachable, 4), route(RouteTarget::Via([].into()), 512)],
            sysctls: sysctls.map(|(name, value)| (format!("net/ipv6/conf/{name}"), value.into())).into(),
        }
    }

    fn lines(undo: &Undo) -> Vec<String> {
        undo.steps.iter().map(Step::to_string).chain(undo.kept.iter().map(Kept::to_string)).collect()
    }

    #[test]
    fn everything_goes_in_an_order_that_leaks_nothing() {
        assert_eq!(
            lines(&undo(&ledger(), &found())),
            [
                "sysctl net/ipv6/conf/all/forwarding: 1 back to 0",
                "sysctl net/ipv6/conf/eth1/forwarding: 0 back to 1",
                "sysctl net/ipv6/conf/eth0/accept_ra: 2 back to 1",
                "route 2001:db8:1::/64 metric 512 table 254 removed",
                "route unreachable 2001:db8:1::/64 metric 4 table 254 removed",
                "address 2001:db8::1/80 of docker0 removed",
                "bridge docker0 deleted",
            ]
        );
        let nothing = undo(&Ledger::default(), &Found { routes: vec![], ..found() });
        assert_eq!(nothing, Undo::default(), "what is not noted is not ours");
        let done = Found { links: vec![link(2, "eth0")], ..Found::default() };
        assert_eq!(undo(&ledger(), &done), Undo::default(), "what is gone is gone");
    }

    #[test]
    fn what_others_have_made_of_it_stays() {
        let mut found = found();
        found.routes.clear();
        found.links[1].mac = vec![2, 0, 0, 0, 0, 9];
        found.sysctls.insert("net/ipv6/conf/all/forwarding".into(), "0".into());
        found.sysctls.insert("net/ipv6/conf/eth0/accept_ra".into(), "0".into());
        found.addresses.clear();
        assert_eq!(
            lines(&undo(&ledger(), &found)),
            [
                "sysctl net/ipv6/conf/eth0/accept_ra stays 0: somebody has set it since the agent did",
                "bridge docker0 stays: it is not the one that the agent made",
            ]
        );
    }

    #[test]
    fn a_bridge_with_containers_stays_and_is_named_with_the_mend() {
        let mut found = found();
        found.links.push(Link { controller: Some(3), ..link(7, "ve1") });
        let undo = undo(&ledger(), &found);
        assert!(!undo.steps.iter().any(|step| matches!(step, Step::Bridge { .. })));
        let kept = undo.kept[0].to_string();
        assert!(
            undo.kept[0].is_ours() && kept.contains("ve1") && kept.contains("stop the containers"),
            "{kept}"
        );
    }
}
