//! The state of a fake kernel, and its changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
};

use nix::libc::{EBUSY, EEXIST};
use sextant_proto::Prefix;
use tokio::sync::mpsc;

use super::{
    super::{
        Address, Change, Errno, Event, Link, NeighbourState, NeighbourTable, NextHop, Route, RouteKey,
        RouteProtocol, RouteTarget, Scope,
    },
    Write,
    faults::Faults,
    fib::{Fib, Interfaces, Put, errno},
};

/// Capacity of a subscriber's channel.
const WAITING: usize = 1024;
/// The sysctls of each link, with the defaults of Linux.
const LINK_SYSCTLS: [(&str, &str); 8] = [
    ("accept_dad", "1"),
    ("accept_ra", "1"),
    ("addr_gen_mode", "0"),
    ("disable_ipv6", "0"),
    ("forwarding", "0"),
    ("keep_addr_on_down", "0"),
    ("ndisc_notify", "0"),
    ("proxy_ndp", "0"),
];
/// As above, of its neighbours.
const NEIGHBOUR_SYSCTLS: [(&str, &str); 2] = [("retrans_time_ms", "1000"), ("unres_qlen_bytes", "212992")];
const MAIN: u32 = 254;

/// The state of a fake kernel.
#[derive(Debug, Default)]
pub struct Host {
    pub interfaces: Interfaces,
    pub fib: Fib,
    /// Entries by link and address.
    pub neighbours: BTreeMap<(u32, Ipv6Addr), NeighbourState>,
    /// The state of an entry after a probe of its neighbour.
    pub answers: BTreeMap<(u32, Ipv6Addr), NeighbourState>,
    /// The protocols of proxy entries, by link and address.
    pub proxies: BTreeMap<(u32, Ipv6Addr), RouteProtocol>,
    /// The limits of Linux.
    pub neighbour_table: NeighbourTable,
    pub sysctls: BTreeMap<String, String>,
    /// The links with IPv4 addresses.
    pub ipv4: BTreeSet<u32>,
    pub writes: Vec<Write>,
    /// The scopes of the route dumps.
    pub route_dumps: Vec<Scope>,
    pub faults: Faults,
    subscribers: Vec<mpsc::Sender<Event>>,
    last_index: u32,
}

impl Host {
    /// A host with a loopback interface.
    pub fn new() -> Self {
        let neighbour_table = NeighbourTable { soft_limit: 512, limit: 1024, ..NeighbourTable::default() };
        let mut host = Self { neighbour_table, ..Self::default() };
        for interface in ["all", "default"] {
            host.add_link_sysctls(interface);
        }
        host.add_link("lo", false, true);
        host
    }

    pub fn subscribe(&mut self) -> mpsc::Receiver<Event> {
        let (events, receiver) = mpsc::channel(WAITING);
        self.subscribers.push(events);
        receiver
    }

    /// Sends an event to the subscribers. The last slot of a channel is for the overrun that covers the lost events.
    pub fn notify(&mut self, event: &Event) {
        self.subscribers.retain(|subscriber| !subscriber.is_closed());
        for subscriber in &self.subscribers {
            let sent = match subscriber.capacity() {
                0 => continue,
                1 => Event::Overrun,
                _ => event.clone(),
            };
            subscriber.try_send(sent).ok();
        }
    }

    pub fn end_subscriptions(&mut self) {
        self.subscribers.clear();
    }

    pub fn change(&mut self, change: &Change) -> Result<(), Errno> {
        if let Some(errno) = self.faults.of_change(change) {
            return Err(errno);
        }
        let route = Route {
            mtu: None,
            key: change.route().key,
            protocol: RouteProtocol::OURS,
            target: change.route().target.clone(),
        };
        match change {
            Change::Add(_) => self.fib.put(route, Put::Add, &self.interfaces).map(drop),
            Change::Replace(_) => self.fib.put(route, Put::Replace, &self.interfaces).map(drop),
            Change::Delete(_) => self.fib.remove(route.key, Some(RouteProtocol::OURS)).map(drop),
        }
    }

    pub fn remove_boot_route(&mut self, key: RouteKey, link: u32) {
        let leads_there = self.fib.route(key).is_some_and(|route| route.target.direct_link() == Some(link));
        if leads_there {
            let _none = self.fib.remove(key, Some(RouteProtocol::BOOT));
        }
    }

    pub fn foreign_put(&mut self, route: Route, how: Put) -> Result<(), Errno> {
        let existing = self.fib.put(route, how, &self.interfaces)?;
        self.notify(&Event::RouteChanged(existing));
        Ok(())
    }

    pub fn foreign_remove(&mut self, key: RouteKey) -> Result<Route, Errno> {
        let gone = self.fib.remove(key, None)?;
        self.notify(&Event::RouteDeleted(gone.clone()));
        Ok(gone)
    }

    pub fn add_link(&mut self, name: &str, bridge: bool, carrier: bool) -> u32 {
        self.last_index += 1;
        let link = Link {
            index: self.last_index,
            name: name.to_owned(),
            up: true,
            carrier,
            running: carrier,
            bridge,
            mac: vec![2, 0, 0, 0, 0, self.last_index as u8],
            kind: if bridge { "bridge" } else { "" }.to_owned(),
            mtu: 1500,
            ..Link::default()
        };
        self.add_link_sysctls(name);
        self.interfaces.links.insert(link.index, link.clone());
        if bridge {
            // A link without one is reported.
            let addr = format!("fe80::{}", link.index).parse().expect("an address");
            let address = Address { global: false, ..super::permanent(link.index, addr, 64) };
            self.interfaces.addresses.push(address);
        }
        self.notify(&Event::LinkChanged(link));
        self.last_index
    }

    pub fn create_bridge(&mut self, name: &str) -> Result<(), Errno> {
        if self.interfaces.links.values().any(|link| link.name == name) {
            return Err(errno(EEXIST));
        }
        // A bridge without ports has carrier, and loses it with the first port that has none.
        self.add_link(name, true, true);
        Ok(())
    }

    /// Changes a link. A link that is set down loses its addresses and routes.
    pub fn change_link(&mut self, index: u32, change: impl FnOnce(&mut Link)) {
        let Some(link) = self.interfaces.links.get_mut(&index) else {
            return;
        };
        let was_up = link.up;
        change(link);
        let link = link.clone();
        self.notify(&Event::LinkChanged(link.clone()));
        if was_up && !link.up {
            self.drop_addresses(index);
            self.notify_removed(index, Fib::link_down);
        }
    }

    /// Renames a link. Its sysctls follow.
    pub fn rename_link(&mut self, index: u32, name: &str) -> Result<(), Errno> {
        if self.faults.busy_names {
            return Err(errno(EBUSY));
        }
        if self.interfaces.links.values().any(|link| link.name == name) {
            return Err(errno(EEXIST));
        }
        let Some(before) = self.interfaces.links.get(&index).map(|link| link.name.clone()) else {
            return Ok(());
        };
        for directory in ["conf", "neigh"] {
            let from = format!("net/ipv6/{directory}/{before}/");
            let paths: Vec<_> = self.sysctls.keys().filter(|path| path.starts_with(&from)).cloned().collect();
            for path in paths {
                let value = self.sysctls.remove(&path).unwrap_or_default();
                self.sysctls.insert(format!("net/ipv6/{directory}/{name}/{}", &path[from.len()..]), value);
            }
        }
        self.change_link(index, |link| name.clone_into(&mut link.name));
        Ok(())
    }

    pub fn remove_link(&mut self, index: u32) {
        let Some(link) = self.interfaces.links.remove(&index) else {
            return;
        };
        self.drop_addresses(index);
        self.notify_removed(index, Fib::link_gone);
        let of_link = ["conf", "neigh"].map(|directory| format!("net/ipv6/{directory}/{}/", link.name));
        self.sysctls.retain(|path, _| !of_link.iter().any(|prefix| path.starts_with(prefix)));
        self.notify(&Event::LinkGone(link));
    }

    /// Adds an address to a link, with the kernel's connected route.
    pub fn put_address(&mut self, address: Address) {
        self.interfaces.addresses.retain(|old| (old.link, old.addr) != (address.link, address.addr));
        self.interfaces.addresses.push(address.clone());
        if let Some(route) = connected(&address)
            && let Ok(route) = self.fib.put(route, Put::Add, &self.interfaces)
        {
            self.notify(&Event::RouteChanged(route));
        }
        self.notify(&Event::AddressChanged(address));
    }

    pub fn remove_address(&mut self, matches: impl Fn(&Address) -> bool) {
        let gone: Vec<Address> =
            self.interfaces.addresses.extract_if(.., |address| matches(address)).collect();
        for address in gone {
            let key = connected(&address).map(|route| route.key);
            if let Some(route) = key.and_then(|key| self.fib.remove_connected(key, address.link)) {
                self.notify(&Event::RouteGone(route));
            }
            self.notify(&Event::AddressGone(address));
        }
    }

    /// Sets a sysctl. Forwarding of `all` also sets forwarding of each link.
    pub fn set_sysctl(&mut self, path: &str, value: &str) {
        if path == "net/ipv6/conf/all/forwarding" {
            for (_, other) in self.sysctls.iter_mut().filter(|(path, _)| path.ends_with("/forwarding")) {
                value.clone_into(other);
            }
        }
        self.sysctls.insert(path.to_owned(), value.to_owned());
        let interface = path.strip_prefix("net/ipv6/conf/").and_then(|rest| rest.strip_suffix("/forwarding"));
        if let Some(interface) = interface {
            let link =
                self.interfaces.links.values().find(|link| link.name == interface).map(|link| link.index);
            if link.is_some() || interface == "all" {
                self.notify(&Event::Forwarding { link, on: value != "0" });
            }
        }
    }

    fn drop_addresses(&mut self, index: u32) {
        self.remove_address(|address| address.link == index);
    }

    fn notify_removed(&mut self, index: u32, gone: impl FnOnce(&mut Fib, u32) -> Vec<Route>) {
        for route in gone(&mut self.fib, index) {
            self.notify(&Event::RouteGone(route));
        }
    }

    fn add_link_sysctls(&mut self, interface: &str) {
        for (name, value) in LINK_SYSCTLS {
            self.sysctls.insert(format!("net/ipv6/conf/{interface}/{name}"), value.to_owned());
        }
        for (name, value) in NEIGHBOUR_SYSCTLS {
            self.sysctls.insert(format!("net/ipv6/neigh/{interface}/{name}"), value.to_owned());
        }
    }
}

const KERNEL: RouteProtocol = RouteProtocol(2);

/// The route to an address's on-link prefix.
fn connected(address: &Address) -> Option<Route> {
    let hop = NextHop { gateway: None, link: address.link, onlink: false };
    Some(Route {
        mtu: None,
        key: RouteKey {
            table: MAIN,
            destination: Prefix::containing(address.addr, address.len)?,
            metric: 256,
        },
        protocol: KERNEL,
        target: RouteTarget::Via([hop].into()),
    })
}
