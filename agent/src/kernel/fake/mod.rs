//! [`FakeKernel`]: a kernel in memory that records writes, and injects faults.
//!
//! It follows the real kernel's rules; `agent/tests/kernel` applies the same changes to both, and compares them.

mod faults;
mod fib;
mod host;
mod kernel;

use std::{
    net::Ipv6Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sextant_proto::Prefix;

use self::{faults::Faults, fib::Put, host::Host};
use super::{
    Address, Change, Errno, Event, Link, Neighbour, NeighbourState, NeighbourTable, Route, RouteKey,
    RouteProtocol, Scope,
};

#[cfg(doc)]
use super::Kernel;

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
    /// [`Kernel::remove_boot_route`].
    RemoveBootRoute(RouteKey, u32),
    /// [`Kernel::create_bridge`].
    CreateBridge(String),
    /// [`Kernel::set_up`].
    SetUp(u32),
    /// [`Kernel::set_down`].
    SetDown(u32),
    /// [`Kernel::rename_link`].
    RenameLink(u32, String),
    /// [`Kernel::set_mtu`]: index and MTU.
    SetMtu(u32, u32),
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

/// The prefix of link-local addresses (RFC 4291 §2.5.6).
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);

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

    /// A host with one more link that is up and has an address, and the link-local one of the same interface identifier; its index
    /// is 2.
    ///
    /// # Panics
    /// If `address` is not of the form `2001:db8::1/64`.
    pub fn with_uplink(name: &str, address: &str) -> Self {
        let fake = Self::new();
        let index = fake.add_link(name);
        let (addr, len) = address.split_once('/').expect("an address with its length");
        let addr: Ipv6Addr = addr.parse().expect("an IPv6 address");
        fake.put_address(permanent(index, addr, len.parse().expect("a length")));
        let interface_identifier = addr.to_bits() & u128::from(u64::MAX);
        fake.put_address(permanent(
            index,
            Ipv6Addr::from_bits(LINK_LOCAL.to_bits() | interface_identifier),
            64,
        ));
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

    /// Gives a link another name as another process.
    ///
    /// # Panics
    /// If another link has that name.
    pub fn foreign_rename(&self, index: u32, name: &str) {
        self.host().rename_link(index, name).expect("a free name");
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

    /// The scopes of the route dumps since the last call. The kernel walks through all of its routes for each.
    pub fn take_route_dumps(&self) -> Vec<Scope> {
        std::mem::take(&mut self.host().route_dumps)
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

    /// Makes changes of addresses inside of these prefixes fail, and of no others.
    pub fn refuse_addresses(&self, prefixes: impl IntoIterator<Item = Prefix>) {
        self.host().faults.refused_addresses = prefixes.into_iter().collect();
    }

    /// Links cannot be renamed by the agent, as those that are up before Linux 6.2.
    pub fn refuse_renames(&self) {
        self.host().faults.busy_names = true;
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

    /// The link of a sysctl goes just before the sysctl is written.
    pub fn lose_sysctl(&self, path: &str) {
        self.host().faults.vanishing_sysctls.insert(path.to_owned());
    }
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
        prefix_route: true,
    }
}
