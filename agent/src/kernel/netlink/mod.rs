//! [`NetlinkKernel`]: the kernel of the network namespace that it was opened in.
//!
//! Everything goes through our own sockets and not through `rtnetlink`: that sends one message at a time, does not notice
//! interrupted dumps, and can call a request done that was never sent.

mod batch;
mod configure;
mod conversation;
mod dump;
mod events;
mod frame;
mod link;
mod neighbour;
mod route;
mod rule;
mod socket;
mod sysctl;

use std::net::Ipv6Addr;

use async_trait::async_trait;
use nix::libc::{EADDRNOTAVAIL, EEXIST, EINVAL, ENODEV, ENOENT};
use tokio::sync::mpsc;

use self::{configure::Request, conversation::Conversation, dump::Item};
use super::{
    Address, Change, Errno, Event, Kernel, KernelError, Link, Neighbour, Route, RouteProtocol, Rule, Scope,
};

/// The real kernel, over netlink.
pub struct NetlinkKernel {
    conversation: Conversation,
}

impl NetlinkKernel {
    /// Opens netlink in the network namespace of the calling thread. All further calls must be made in the same namespace:
    /// sysctls are those of the calling thread's, and so is the socket that is opened anew after the conversation broke.
    ///
    /// # Errors
    /// [`KernelError::Broken`] if there is no netlink socket to be had.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self { conversation: Conversation::open()? })
    }

    /// Makes a request; one refused with an errno out of `harmless` had been done before.
    async fn configure(
        &self,
        (message, flags): Request,
        harmless: &[i32],
        what: impl FnOnce() -> String,
    ) -> Result<(), KernelError> {
        match self.conversation.request(message, flags).await? {
            Err(errno) if !harmless.contains(&errno.code) => {
                Err(KernelError::Refused { what: what(), errno })
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Kernel for NetlinkKernel {
    async fn links(&self) -> Result<Vec<Link>, KernelError> {
        let item = Item { kind: link::RTM_NEWLINK, decode: link::decode_link };
        let links = self.conversation.dump(&link::dump_links(), item).await?;
        links.map_err(|errno| refused("list the links", errno))
    }

    async fn addresses(&self) -> Result<Vec<Address>, KernelError> {
        let item = Item { kind: link::RTM_NEWADDR, decode: link::decode_address };
        let addresses = self.conversation.dump(&link::dump_addresses(), item).await?;
        addresses.map_err(|errno| refused("list the addresses", errno))
    }

    async fn routes(&self, scope: Scope) -> Result<Vec<Route>, KernelError> {
        let (protocol, table) = match scope {
            Scope::Ours => (RouteProtocol::OURS.0, 0),
            Scope::Table(table) => (0, table),
        };
        let item = Item { kind: route::RTM_NEWROUTE, decode: route::decode };
        match self.conversation.dump(&route::dump_request(protocol, table), item).await? {
            Ok(mut routes) => {
                // A kernel before 4.20 does not filter.
                routes.retain(|route| in_scope(route, scope));
                Ok(routes)
            }
            // A table that no route was ever in.
            Err(errno) if errno.code == ENOENT && table != 0 => Ok(Vec::new()),
            Err(errno) => Err(refused("list the routes", errno)),
        }
    }

    async fn lookup(
        &self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
    ) -> Result<Result<Route, Errno>, KernelError> {
        let item = Item { kind: route::RTM_NEWROUTE, decode: route::decode };
        let found = self.conversation.get(&route::lookup_request(source, destination), item).await?;
        let nothing = || KernelError::Broken(format!("no route in the answer about {destination}"));
        Ok(match found {
            Ok(route) => Ok(route.ok_or_else(nothing)?),
            Err(errno) => Err(errno),
        })
    }

    async fn rules(&self) -> Result<Vec<Rule>, KernelError> {
        let item = Item { kind: rule::RTM_NEWRULE, decode: rule::decode };
        let rules = self.conversation.dump(&rule::dump_rules(), item).await?;
        rules.map_err(|errno| refused("list the rules", errno))
    }

    async fn apply(&self, changes: &[Change]) -> Result<Vec<Result<(), Errno>>, KernelError> {
        self.conversation.apply(changes).await
    }

    async fn create_bridge(&self, name: &str) -> Result<(), KernelError> {
        let what = || format!("make the bridge {name}");
        self.configure(configure::create_bridge(name), &[], what).await
    }

    async fn set_up(&self, index: u32) -> Result<(), KernelError> {
        let what = || format!("set up the interface of index {index}");
        self.configure(configure::set_up(index), &[], what).await
    }

    async fn set_down(&self, index: u32) -> Result<(), KernelError> {
        let what = || format!("set down the interface of index {index}");
        self.configure(configure::set_down(index), &[ENODEV], what).await
    }

    async fn delete_link(&self, index: u32) -> Result<(), KernelError> {
        let what = || format!("delete the interface of index {index}");
        self.configure(configure::delete_link(index), &[ENODEV], what).await
    }

    async fn add_address(&self, index: u32, addr: Ipv6Addr, len: u8) -> Result<(), KernelError> {
        let what = || format!("add {addr}/{len} to the interface of index {index}");
        self.configure(configure::add_address(index, addr, len), &[EEXIST], what).await
    }

    async fn remove_address(&self, index: u32, addr: Ipv6Addr, len: u8) -> Result<(), KernelError> {
        let what = || format!("remove {addr}/{len} from the interface of index {index}");
        let gone = [EADDRNOTAVAIL, ENODEV];
        self.configure(configure::remove_address(index, addr, len), &gone, what).await
    }

    async fn neighbours(&self, link: u32) -> Result<Vec<Neighbour>, KernelError> {
        let item = Item { kind: neighbour::RTM_NEWNEIGH, decode: neighbour::decode };
        match self.conversation.dump(&neighbour::dump_neighbours(link), item).await? {
            Ok(mut neighbours) => {
                // A kernel before 4.20 does not filter.
                neighbours.retain(|neighbour| neighbour.link == link);
                Ok(neighbours)
            }
            Err(errno) if errno.code == ENODEV => Ok(Vec::new()),
            Err(errno) => Err(refused("list the neighbours", errno)),
        }
    }

    async fn ask(&self, link: u32, addr: Ipv6Addr) -> Result<(), KernelError> {
        let (message, flags) = neighbour::probe(link, addr);
        match self.conversation.request(message, flags).await? {
            Ok(()) => Ok(()),
            // No entry, or one without a link-layer address to probe.
            Err(errno) if matches!(errno.code, ENOENT | EINVAL) => {
                let what = || format!("ask the neighbour {addr} on the interface of index {link}");
                self.configure(neighbour::resolve(link, addr), &[], what).await
            }
            Err(errno) => Err(refused(&format!("probe the neighbour {addr}"), errno)),
        }
    }

    fn sysctl(&self, path: &str) -> Result<Option<String>, KernelError> {
        sysctl::read(path)
    }

    fn set_sysctl(&self, path: &str, value: &str) -> Result<(), KernelError> {
        sysctl::write(path, value)
    }

    async fn events(&self) -> Result<mpsc::Receiver<Event>, KernelError> {
        events::subscribe(self.conversation.port())
    }
}

fn in_scope(route: &Route, scope: Scope) -> bool {
    match scope {
        Scope::Ours => route.protocol == RouteProtocol::OURS,
        Scope::Table(table) => route.key.table == table,
    }
}

fn refused(what: &str, errno: Errno) -> KernelError {
    KernelError::Refused { what: what.to_owned(), errno }
}
