//! [`FakeKernel`]: a kernel in memory that records writes, and injects faults.
//!
//! It follows the real kernel's rules; `agent/tests/kernel` applies the same changes to both, and compares them.

mod faults;
mod fib;
mod host;

use std::{
    io,
    net::Ipv6Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use nix::libc::ENODEV;
use sextant_proto::Prefix;
use tokio::sync::mpsc;

use self::{
    faults::Faults,
    fib::{Put, errno},
    host::Host,
};
use super::{
    Address, Change, Errno, Event, Kernel, KernelError, Link, Neighbour, NeighbourState, NeighbourTable,
    Route, RouteKey, RouteProtocol, RouteReader, Rule, RuleAction, Scope, types::MAIN_TABLE,
};

/// A kernel in memory. Its clones share one kernel: give one to the tested code, and keep one.
#[derive(Debug, Clone)]
pub struct FakeKernel {
    host: Arc<Mutex<Host>>,
}

/// A write to a fake kernel, successful or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// A change, and its result.
    Route(Change, Result<(), Errno>),
    /// [`Kernel::create_bridge`].
    CreateBridge(String),
    /// [`Kernel::set_up`].
    SetUp(u32),
    /// [`Kernel::set_down`].
    SetDown(u32),
    /// [`Kernel::delete_link`].
    DeleteLink(u32),
    /// [`Kernel::add_address`].
    AddAddress(u32, Ipv6Addr, u8),
    /// [`Kernel::renew_address`].
    RenewAddress(u32, Ipv6Addr, u8),
    /// [`Kernel::remove_address`].
    RemoveAddress(u32, Ipv6Addr, u8),
    /// [`Kernel::set_sysctl`]: path and value.
    SetSysctl(String, String),
    /// [`Kernel::probe_neighbour`].
    ProbeNeighbour(u32, Ipv6Addr),
}

impl Default for FakeKernel {
    fn default() -> Self {
        Self::new()
    }
}

/// The host's state, and changes by other processes.
impl FakeKernel {
    /// A host with a loopback interface only.
    pub fn new() -> Self {
        Self { host: Arc::new(Mutex::new(Host::new())) }
    }

    /// A host with one more link that is up and has an address; its index is 2.
    ///
    /// # Panics
    /// If `address` is not of the form `2001:db8::1/64`.
    pub fn with_uplink(name: &str, address: &str) -> Self {
        let fake = Self::new();
        let index = fake.add_link(name);
        let (addr, len) = address.split_once('/').expect("an address with its length");
        let addr = addr.parse().expect("an IPv6 address");
        fake.put_address(permanent(index, addr, len.parse().expect("a length")));
        fake
    }

    /// Adds a link that is up and has carrier; returns its index.
    pub fn add_link(&self, name: &str) -> u32 {
        self.host().add_link(name, false, true)
    }

    /// Adds a bridge without ports; returns its index.
    pub fn add_bridge(&self, name: &str) -> u32 {
        self.host().add_link(name, true, true)
    }

    /// Gives a link an IPv4 address.
    pub fn put_ipv4(&self, link: u32) {
        self.host().ipv4.insert(link);
    }

    /// Changes a link's flags, name or controller. A link that is set down loses its addresses and routes.
    pub fn change_link(&self, index: u32, change: impl FnOnce(&mut Link)) {
        self.host().change_link(index, change);
    }

    /// Deletes a link, with its addresses, routes and sysctls.
    pub fn remove_link(&self, index: u32) {
        self.host().remove_link(index);
    }

    /// Adds an address, or changes its flags.
    pub fn put_address(&self, address: Address) {
        self.host().put_address(address);
    }

    /// Removes an address as another process.
    pub fn foreign_remove_address(&self, addr: Ipv6Addr) {
        self.host().remove_address(|address| address.addr == addr);
    }

    /// Sets a sysctl, and creates it if it is missing.
    pub fn put_sysctl(&self, path: &str, value: &str) {
        self.host().set_sysctl(path, value);
    }

    /// Sets the result of later probes of a neighbour; its entry does not change before a probe. By default probes fail.
    pub fn set_probe_result(&self, link: u32, addr: Ipv6Addr, answer: NeighbourState) {
        self.host().answers.insert((link, addr), answer);
    }

    /// Sets a neighbour entry.
    pub fn put_neighbour(&self, neighbour: Neighbour) {
        self.host().neighbours.insert((neighbour.link, neighbour.addr), neighbour.state);
    }

    /// Changes the size and the limits of the neighbour table.
    pub fn change_neighbour_table(&self, change: impl FnOnce(&mut NeighbourTable)) {
        change(&mut self.host().neighbour_table);
    }

    /// All routes of our protocol.
    pub fn routes_of_ours(&self) -> Vec<Route> {
        let mut routes = self.all_routes();
        routes.retain(|route| route.protocol == RouteProtocol::OURS);
        routes
    }

    /// All routes of all tables, by their keys.
    pub fn all_routes(&self) -> Vec<Route> {
        self.host().fib.routes().cloned().collect()
    }

    /// The route of a key.
    pub fn route(&self, key: RouteKey) -> Option<Route> {
        self.host().fib.route(key).cloned()
    }

    /// Adds a route as `ip -6 route add` does.
    ///
    /// # Errors
    /// As the kernel: EEXIST, or the errno of an invalid next hop.
    pub fn foreign_add(&self, route: Route) -> Result<(), Errno> {
        self.host().foreign_put(route, Put::Add)
    }

    /// Adds or replaces a route as `ip -6 route replace` does.
    ///
    /// # Errors
    /// The errno of an invalid next hop.
    pub fn foreign_replace(&self, route: Route) -> Result<(), Errno> {
        self.host().foreign_put(route, Put::ReplaceOrAdd)
    }

    /// Adds next hops to a route as `ip -6 route append` does.
    ///
    /// # Errors
    /// EEXIST if a next hop exists, or the errno of an invalid one.
    ///
    /// # Panics
    /// If there would be two routes with one key (one with and one without next hops), which is not supported.
    pub fn foreign_append(&self, route: Route) -> Result<(), Errno> {
        self.host().foreign_put(route, Put::Append)
    }

    /// Deletes a route as `ip -6 route del` does, whatever its protocol.
    ///
    /// # Errors
    /// ESRCH if there is none.
    pub fn foreign_remove(&self, key: RouteKey) -> Result<Route, Errno> {
        self.host().foreign_remove(key)
    }

    /// All writes, in order.
    pub fn writes(&self) -> Vec<Write> {
        self.host().writes.clone()
    }

    /// The writes since the last call.
    pub fn take_writes(&self) -> Vec<Write> {
        std::mem::take(&mut self.host().writes)
    }

    fn host(&self) -> MutexGuard<'_, Host> {
        // Another panic has its own message.
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Fault injection.
impl FakeKernel {
    /// Makes the `nth` change from now on fail once, counted from 0 over all calls of `apply`.
    pub fn fail_change(&self, nth: usize, code: i32) {
        self.host().faults.fail_nth(nth, code);
    }

    /// Makes each change of a destination fail until [`Self::heal_destination`].
    pub fn fail_destination(&self, destination: Prefix, code: i32) {
        self.host().faults.destinations.insert(destination, code);
    }

    /// Ends [`Self::fail_destination`].
    pub fn heal_destination(&self, destination: Prefix) {
        self.host().faults.destinations.remove(&destination);
    }

    /// Makes the next `apply` fail after so many changes: 0 applies none, `usize::MAX` applies all and loses the answers.
    pub fn break_apply_after(&self, changes: usize) {
        self.host().faults.break_apply_after = Some(changes);
    }

    /// Makes the next `count` reads of links, addresses or routes fail.
    pub fn break_reads(&self, count: usize) {
        self.host().faults.broken_reads = count;
    }

    /// Makes the next dump of routes end silently after so many, as an IPv6 dump may during changes of other processes.
    pub fn truncate_next_dump(&self, left: usize) {
        self.host().faults.truncated_dump = Some(left);
    }

    /// Removes all faults.
    pub fn heal(&self) {
        self.host().faults = Faults::default();
    }

    /// Sends an overrun to the subscribers.
    pub fn overrun(&self) {
        self.host().notify(&Event::Overrun);
    }

    /// Ends all subscriptions, as a failed socket does.
    pub fn end_subscriptions(&self) {
        self.host().end_subscriptions();
    }

    /// Makes writes of a sysctl fail with EROFS, as in a container.
    pub fn refuse_sysctl(&self, path: &str) {
        self.host().faults.refused_sysctls.insert(path.to_owned());
    }
}

#[async_trait]
impl Kernel for FakeKernel {
    async fn links(&self) -> Result<Vec<Link>, KernelError> {
        let mut host = self.host();
        host.faults.of_read()?;
        Ok(host.interfaces.links.values().cloned().collect())
    }

    async fn addresses(&self) -> Result<Vec<Address>, KernelError> {
        let mut host = self.host();
        host.faults.of_read()?;
        Ok(host.interfaces.addresses.clone())
    }

    async fn links_with_ipv4(&self) -> Result<std::collections::BTreeSet<u32>, KernelError> {
        let mut host = self.host();
        host.faults.of_read()?;
        Ok(host.ipv4.clone())
    }

    async fn read_routes(&self, scope: Scope, reader: &mut dyn RouteReader) -> Result<(), KernelError> {
        let mut host = self.host();
        host.faults.of_read()?;
        let in_scope = |route: &&Route| match scope {
            Scope::Ours => route.protocol == RouteProtocol::OURS,
            Scope::Advertised => route.protocol == RouteProtocol::ADVERTISED,
            Scope::Connected => route.protocol == RouteProtocol::KERNEL,
            Scope::Table(table) => route.key.table == table,
        };
        let mut routes = host.fib.routes().filter(in_scope).cloned().collect();
        host.faults.of_dump(&mut routes);
        reader.begin();
        routes.into_iter().for_each(|route| reader.take(route));
        Ok(())
    }

    async fn lookup(
        &self,
        _source: Ipv6Addr,
        destination: Ipv6Addr,
    ) -> Result<Result<Route, Errno>, KernelError> {
        let mut host = self.host();
        host.faults.of_read()?;
        Ok(host.fib.lookup(MAIN_TABLE, destination))
    }

    async fn rules(&self) -> Result<Vec<Rule>, KernelError> {
        self.host().faults.of_read()?;
        Ok(vec![Rule { priority: 32766, action: RuleAction::Table(MAIN_TABLE), ..Rule::default() }])
    }

    async fn apply(&self, changes: &[Change]) -> Result<Vec<Result<(), Errno>>, KernelError> {
        let mut host = self.host();
        let breaks_after = host.faults.break_apply_after.take();
        let mut results = Vec::new();
        for change in changes.iter().take(breaks_after.unwrap_or(usize::MAX)) {
            let result = host.change(change);
            host.writes.push(Write::Route(change.clone(), result.clone()));
            results.push(result);
        }
        match breaks_after {
            None => Ok(results),
            Some(_) => Err(KernelError::Broken("no acknowledgement (injected)".to_owned())),
        }
    }

    async fn create_bridge(&self, name: &str) -> Result<(), KernelError> {
        let mut host = self.host();
        host.writes.push(Write::CreateBridge(name.to_owned()));
        let request = || format!("create bridge {name}");
        (host.create_bridge(name)).map_err(|errno| KernelError::Refused { request: request(), errno })
    }

    async fn set_up(&self, index: u32) -> Result<(), KernelError> {
        let mut host = self.host();
        host.writes.push(Write::SetUp(index));
        existing(&host, index)?;
        host.change_link(index, |link| link.up = true);
        Ok(())
    }

    async fn set_down(&self, index: u32) -> Result<(), KernelError> {
        let mut host = self.host();
        host.writes.push(Write::SetDown(index));
        host.change_link(index, |link| link.up = false);
        Ok(())
    }

    async fn delete_link(&self, index: u32) -> Result<(), KernelError> {
        let mut host = self.host();
        host.writes.push(Write::DeleteLink(index));
        host.remove_link(index);
        Ok(())
    }

    async fn add_address(&self, index: u32, addr: Ipv6Addr, len: u8) -> Result<(), KernelError> {
        let mut host = self.host();
        host.writes.push(Write::AddAddress(index, addr, len));
        existing(&host, index)?;
        let exists = (host.interfaces.addresses.iter()).any(|old| (old.link, old.addr) == (index, addr));
        if !exists {
            host.put_address(permanent(index, addr, len));
        }
        Ok(())
    }

    async fn renew_address(&self, index: u32, addr: Ipv6Addr, len: u8) -> Result<(), KernelError> {
        let mut host = self.host();
        host.writes.push(Write::RenewAddress(index, addr, len));
        let old = host.interfaces.addresses.iter().find(|old| (old.link, old.addr) == (index, addr)).cloned();
        host.put_address(old.unwrap_or_else(|| permanent(index, addr, len)));
        Ok(())
    }

    async fn remove_address(&self, index: u32, addr: Ipv6Addr, len: u8) -> Result<(), KernelError> {
        let mut host = self.host();
        host.writes.push(Write::RemoveAddress(index, addr, len));
        host.remove_address(|address| (address.link, address.addr, address.len) == (index, addr, len));
        Ok(())
    }

    async fn neighbours(&self, link: u32) -> Result<Vec<Neighbour>, KernelError> {
        let mut neighbours = self.all_neighbours().await?;
        neighbours.retain(|neighbour| neighbour.link == link);
        Ok(neighbours)
    }

    async fn all_neighbours(&self) -> Result<Vec<Neighbour>, KernelError> {
        let mut host = self.host();
        host.faults.of_read()?;
        let neighbour = |(&(link, addr), &state)| Neighbour { link, addr, state, mac: None };
        Ok(host.neighbours.iter().map(neighbour).collect())
    }

    async fn probe_neighbour(&self, link: u32, addr: Ipv6Addr) -> Result<(), KernelError> {
        let mut host = self.host();
        host.writes.push(Write::ProbeNeighbour(link, addr));
        existing(&host, link)?;
        let answer = host.answers.get(&(link, addr)).copied().unwrap_or(NeighbourState::Failed);
        host.neighbours.insert((link, addr), answer);
        Ok(())
    }

    fn neighbour_table(&self) -> Result<Option<NeighbourTable>, KernelError> {
        Ok(Some(self.host().neighbour_table))
    }

    fn sysctl(&self, path: &str) -> Result<Option<String>, KernelError> {
        Ok(self.host().sysctls.get(path).cloned())
    }

    fn set_sysctl(&self, path: &str, value: &str) -> Result<(), KernelError> {
        let mut host = self.host();
        host.writes.push(Write::SetSysctl(path.to_owned(), value.to_owned()));
        let refused = |code: nix::errno::Errno| {
            Err(KernelError::Sysctl { path: path.to_owned(), source: io::Error::from(code) })
        };
        if host.faults.refused_sysctls.contains(path) {
            return refused(nix::errno::Errno::EROFS);
        }
        if !host.sysctls.contains_key(path) {
            return refused(nix::errno::Errno::ENOENT);
        }
        host.set_sysctl(path, value);
        Ok(())
    }

    async fn events(&self) -> Result<mpsc::Receiver<Event>, KernelError> {
        Ok(self.host().subscribe())
    }
}

fn existing(host: &Host, index: u32) -> Result<(), KernelError> {
    if host.interfaces.links.contains_key(&index) {
        return Ok(());
    }
    Err(KernelError::Refused { request: format!("configure interface {index}"), errno: errno(ENODEV) })
}

/// A usable address with an infinite lifetime.
pub fn permanent(link: u32, addr: Ipv6Addr, len: u8) -> Address {
    Address {
        link,
        addr,
        len,
        global: !addr.is_unicast_link_local() && !addr.is_loopback(),
        tentative: false,
        dad_failed: false,
        deprecated: false,
        temporary: false,
        permanent: true,
    }
}
