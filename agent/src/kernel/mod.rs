//! The kernel as the agent needs it: links, addresses, routes, and their changes.
//!
//! [`Kernel`] is the one edge to netlink and `/proc/sys`. It decides nothing: it reads the kernel's state, applies changes,
//! and passes on the kernel's notifications.

mod event;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod hops;
mod netlink;
mod rules;
mod types;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

pub use event::Event;
pub use hops::NextHops;
pub use netlink::NetlinkKernel;
pub use rules::{Further, Rule, RuleAction, Share};
pub use types::{
    Address, Change, Errno, LOCAL_TABLE, LOOPBACK_LINK, Link, MAIN_TABLE, Neighbour, NeighbourState,
    NeighbourTable, NextHop, OwnRoute, ProxyEntry, Route, RouteKey, RouteProtocol, RouteTarget, Scope,
};

/// A request that failed as a whole. The failure of a single route is an [`Errno`].
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel refused.
    #[error("{request}: {errno}")]
    Refused {
        /// The request, with its value.
        request: String,
        /// The kernel's reason.
        errno: Errno,
    },
    /// The exchange with the kernel failed: a lost answer, a full buffer, an interrupted dump. A retry may succeed.
    #[error("netlink: {0}")]
    Broken(String),
    /// A sysctl cannot be read.
    #[error("sysctl {path}: {source}")]
    Sysctl {
        /// The file under `/proc/sys`.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// A sysctl cannot be set.
    #[error("sysctl {path} cannot be set to {value}: {source}")]
    SysctlNotSet {
        /// The file under `/proc/sys`.
        path: String,
        /// The value that it should have.
        value: String,
        /// The reason.
        source: std::io::Error,
    },
}

/// Receives a dump of routes, route by route.
pub trait RouteReader: Send {
    /// A dump begins. An earlier dump was interrupted: its routes are void.
    fn begin(&mut self);

    /// Whether it takes routes of this protocol. The others may be left out, unread.
    fn takes(&self, _protocol: RouteProtocol) -> bool {
        true
    }

    /// The next route.
    fn take(&mut self, route: Route);
}

impl RouteReader for Vec<Route> {
    fn begin(&mut self) {
        self.clear();
    }

    fn take(&mut self, route: Route) {
        self.push(route);
    }
}

/// The part of a host's network that the agent uses.
#[async_trait]
pub trait Kernel: Send + Sync + 'static {
    /// All links.
    async fn links(&self) -> Result<Vec<Link>, KernelError>;

    /// All IPv6 addresses of all links.
    async fn addresses(&self) -> Result<Vec<Address>, KernelError>;

    /// The links that have IPv4 addresses.
    async fn links_with_ipv4(&self) -> Result<std::collections::BTreeSet<u32>, KernelError>;

    /// Passes all IPv6 routes in `scope` to `reader`. They are complete only if this succeeds.
    async fn read_routes(&self, scope: Scope, reader: &mut dyn RouteReader) -> Result<(), KernelError>;

    /// All IPv6 routes in `scope`.
    async fn routes(&self, scope: Scope) -> Result<Vec<Route>, KernelError> {
        let mut routes = Vec::new();
        self.read_routes(scope, &mut routes).await?;
        Ok(routes)
    }

    /// The route that the kernel takes from `source` to `destination`, by its rules and all its tables (`ip -6 route get
    /// fibmatch`); for a packet that it receives on the link `iif` and forwards, or for one of this host itself. The inner error is the kernel's: EHOSTUNREACH for an unreachable route, EACCES for a prohibit route, EINVAL
    /// for a blackhole route, ENETUNREACH without a route.
    async fn lookup(
        &self,
        source: std::net::Ipv6Addr,
        destination: std::net::Ipv6Addr,
        iif: Option<u32>,
    ) -> Result<Result<Route, Errno>, KernelError>;

    /// All rules of the IPv6 routing policy, in the kernel's order.
    async fn rules(&self) -> Result<Vec<Rule>, KernelError>;

    /// Applies `changes` in order. One that fails does not stop the others (DESIGN I10).
    /// The results are in the order of the changes.
    async fn apply(&self, changes: &[Change]) -> Result<Vec<Result<(), Errno>>, KernelError>;

    /// Removes a route of `proto boot` that leads to a link without a gateway: the request names key, protocol and link. A missing
    /// one is no error.
    async fn remove_boot_route(&self, key: &RouteKey, link: u32) -> Result<(), KernelError>;

    /// Creates a bridge, and sets it up.
    async fn create_bridge(&self, name: &str) -> Result<(), KernelError>;

    /// Sets a link up.
    async fn set_up(&self, index: u32) -> Result<(), KernelError>;

    /// Sets a link down. A missing link is no error.
    async fn set_down(&self, index: u32) -> Result<(), KernelError>;

    /// Gives a link another name.
    async fn rename_link(&self, index: u32, name: &str) -> Result<(), KernelError>;

    /// Sets the size of a link's largest packet.
    async fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), KernelError>;

    /// Deletes a link. A missing link is no error.
    async fn delete_link(&self, index: u32) -> Result<(), KernelError>;

    /// Adds an address to a link, without duplicate address detection (`nodad`). An existing address is no error.
    async fn add_address(&self, index: u32, addr: std::net::Ipv6Addr, len: u8) -> Result<(), KernelError>;

    /// Sets an existing address again in place, which restores its connected route (`ip address change`).
    async fn renew_address(&self, index: u32, addr: std::net::Ipv6Addr, len: u8) -> Result<(), KernelError>;

    /// Removes an address from a link. A missing address is no error.
    async fn remove_address(&self, index: u32, addr: std::net::Ipv6Addr, len: u8) -> Result<(), KernelError>;

    /// The kernel's IPv6 neighbour entries of a link. None if there is no such link.
    async fn neighbours(&self, link: u32) -> Result<Vec<Neighbour>, KernelError>;

    /// The kernel's IPv6 neighbour entries of all links of this network namespace.
    async fn all_neighbours(&self) -> Result<Vec<Neighbour>, KernelError>;

    /// Starts a reachability probe of a neighbour (RFC 4861 §7.3): the kernel solicits the known link-layer address, or
    /// resolves the address. The entry is [`NeighbourState::Probing`] when this returns, and later has the result. With the
    /// kernel's defaults, a neighbour that does not answer is `Failed` after 3 s. Don't probe a [fixed](NeighbourState::is_fixed) one
    /// entries: a probe would overwrite them.
    async fn probe_neighbour(&self, link: u32, addr: std::net::Ipv6Addr) -> Result<(), KernelError>;

    /// The addresses that the kernel answers solicitations for, of all links.
    async fn proxy_entries(&self) -> Result<Vec<ProxyEntry>, KernelError>;

    /// Lets the kernel answer for an address on a link, by an entry of our protocol. An existing entry becomes ours.
    async fn add_proxy_entry(&self, link: u32, addr: std::net::Ipv6Addr) -> Result<(), KernelError>;

    /// Ends that. A missing entry is no error.
    async fn remove_proxy_entry(&self, link: u32, addr: std::net::Ipv6Addr) -> Result<(), KernelError>;

    /// The size and the limits of the kernel's IPv6 neighbour table; `None` if the kernel does not show them.
    fn neighbour_table(&self) -> Result<Option<NeighbourTable>, KernelError>;

    /// The value of a sysctl, e.g. of `net/ipv6/conf/eth0/accept_ra`, without white space around it; `None` if there is no
    /// such sysctl.
    fn sysctl(&self, path: &str) -> Result<Option<String>, KernelError>;

    /// Sets a sysctl.
    fn set_sysctl(&self, path: &str, value: &str) -> Result<(), KernelError>;

    /// Changes of links, addresses, routes, rules and forwarding from now on, without this `Kernel`'s own changes of routes. The
    /// channel is bounded: a reader that is too slow receives [`Event::Overrun`] in place of the lost events. The channel ends
    /// when the netlink socket fails.
    async fn events(&self) -> Result<mpsc::Receiver<Event>, KernelError>;

    /// Counts the changes of nf_tables from now on, one for each transaction. Rules of the legacy `ip6tables` notify of nothing. The
    /// channel ends when the netlink socket fails.
    fn firewall_changes(&self) -> Result<watch::Receiver<u64>, KernelError>;
}
