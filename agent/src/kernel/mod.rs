//! The kernel as the agent needs it: links, addresses, routes, and what happens to them.
//!
//! [`Kernel`] is the one edge to netlink and `/proc/sys`. It decides nothing: it reads what is, does what it is told, and
//! tells what happens.

#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod hops;
mod netlink;
mod types;

use async_trait::async_trait;
use tokio::sync::mpsc;

pub use hops::NextHops;
pub use netlink::NetlinkKernel;
pub use types::{
    Address, Change, Errno, Event, Link, MAIN_TABLE, Neighbour, NeighbourState, NextHop, OwnRoute, Route,
    RouteKey, RouteProtocol, RouteTarget, Rule, RuleAction, Scope,
};

/// Why the kernel did not do what it was asked as a whole. What fails for one route alone is an [`Errno`].
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The kernel refused.
    #[error("{what}: {errno}")]
    Refused {
        /// What was asked, with its value.
        what: String,
        /// The kernel's reason.
        errno: Errno,
    },
    /// The conversation with the kernel broke: a lost answer, a full buffer, an interrupted dump. Trying again may help.
    #[error("netlink: {0}")]
    Broken(String),
    /// A sysctl cannot be read or written.
    #[error("sysctl {path}: {source}")]
    Sysctl {
        /// The file under `/proc/sys`.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Takes a dump of routes in, route by route.
pub trait RouteReader: Send {
    /// A dump begins. If one had begun before, that was interrupted: what was taken in of it is void.
    fn begin(&mut self);

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

/// A host's network, as far as the agent has to do with it.
#[async_trait]
pub trait Kernel: Send + Sync + 'static {
    /// All links.
    async fn links(&self) -> Result<Vec<Link>, KernelError>;

    /// All IPv6 addresses of all links.
    async fn addresses(&self) -> Result<Vec<Address>, KernelError>;

    /// Has `reader` take in all IPv6 routes of all tables that `scope` asks for. What it took in is whole only if this
    /// succeeds.
    async fn read_routes(&self, scope: Scope, reader: &mut dyn RouteReader) -> Result<(), KernelError>;

    /// All IPv6 routes of all tables that `scope` asks for.
    async fn routes(&self, scope: Scope) -> Result<Vec<Route>, KernelError> {
        let mut routes = Vec::new();
        self.read_routes(scope, &mut routes).await?;
        Ok(routes)
    }

    /// The route that the kernel takes from `source` to `destination`, by its rules and all its tables (`ip -6 route get
    /// fibmatch`); or why it takes none: EHOSTUNREACH for an unreachable route, EACCES for a prohibiting one, EINVAL for a
    /// blackhole, ENETUNREACH for none.
    async fn lookup(
        &self,
        source: std::net::Ipv6Addr,
        destination: std::net::Ipv6Addr,
    ) -> Result<Result<Route, Errno>, KernelError>;

    /// All rules of the IPv6 routing policy, in the kernel's order.
    async fn rules(&self) -> Result<Vec<Rule>, KernelError>;

    /// Does `changes` in their order, as fast as the kernel goes; one that fails does not stop the others (DESIGN I10).
    /// The results are in the order of the changes.
    async fn apply(&self, changes: &[Change]) -> Result<Vec<Result<(), Errno>>, KernelError>;

    /// Makes a bridge, and sets it up.
    async fn create_bridge(&self, name: &str) -> Result<(), KernelError>;

    /// Sets a link up.
    async fn set_up(&self, index: u32) -> Result<(), KernelError>;

    /// Sets a link down. It being gone is no error.
    async fn set_down(&self, index: u32) -> Result<(), KernelError>;

    /// Takes a link away. It being gone already is no error.
    async fn delete_link(&self, index: u32) -> Result<(), KernelError>;

    /// Gives a link an address that needs no duplicate address detection (`nodad`). It being there already is no error.
    async fn add_address(&self, index: u32, addr: std::net::Ipv6Addr, len: u8) -> Result<(), KernelError>;

    /// Takes an address from a link. It being gone already is no error.
    async fn remove_address(&self, index: u32, addr: std::net::Ipv6Addr, len: u8) -> Result<(), KernelError>;

    /// The IPv6 neighbours of a link, as far as the kernel has entries of them. None if there is no such link.
    async fn neighbours(&self, link: u32) -> Result<Vec<Neighbour>, KernelError>;

    /// Has the kernel ask a neighbour now whether it is there (RFC 4861 §7.3): by a solicitation to the link-layer address
    /// that it has of it, or by resolving the address. The entry is [`NeighbourState::Asking`] when this returns, and then
    /// says how it went; with the kernel's defaults a neighbour that does not answer is `Failed` after 3 s. Not for
    /// entries that are [`NeighbourState::Fixed`]: it would undo that.
    async fn ask(&self, link: u32, addr: std::net::Ipv6Addr) -> Result<(), KernelError>;

    /// The value of a sysctl, e.g. of `net/ipv6/conf/eth0/accept_ra`, without white space around it; `None` if there is no
    /// such sysctl.
    fn sysctl(&self, path: &str) -> Result<Option<String>, KernelError>;

    /// Sets a sysctl.
    fn set_sysctl(&self, path: &str, value: &str) -> Result<(), KernelError>;

    /// What happens to links, addresses and routes from now on, but for what this `Kernel` did itself to routes. The
    /// receiver's channel is bounded: a reader that is too slow gets [`Event::Overrun`] instead of what it missed. Its
    /// end means that the kernel cannot be listened to any more.
    async fn events(&self) -> Result<mpsc::Receiver<Event>, KernelError>;
}
