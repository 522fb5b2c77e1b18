//! [`NetlinkKernel`]: the kernel of the network namespace in which it was opened.
//!
//! Routes, dumps, events and neighbour probes use our own sockets, because rtnetlink sends one message at a time and does not
//! notice interrupted dumps. `configure` changes links and addresses through rtnetlink.

mod batch;
mod configure;
mod conversation;
mod dump;
mod events;
mod fdb;
mod filter;
mod firewall;
mod frame;
mod link;
mod neighbour;
mod neighbour_table;
mod netconf;
mod options;
mod proxy;
mod route;
mod rule;
mod socket;
mod sysctl;

use std::{collections::BTreeSet, net::Ipv6Addr};

use async_trait::async_trait;
use nix::libc::{EADDRNOTAVAIL, EEXIST, EINVAL, ENODEV, ENOENT, ESRCH};
use tokio::sync::{mpsc, watch};

use self::{
    configure::{Answer, Configuration},
    conversation::Conversation,
    dump::{Gathered, Sink},
    frame::Malformed,
};
use super::{
    Address, Change, Errno, Event, Kernel, KernelError, Link, Neighbour, NeighbourTable, ProxyEntry, Route,
    RouteKey, RouteProtocol, RouteReader, Rule, Scope,
};

/// The real kernel, over netlink.
pub struct NetlinkKernel {
    conversation: Conversation,
    configuration: Configuration,
}

impl NetlinkKernel {
    /// Opens netlink in the network namespace of the calling thread. All further calls must be made in the same namespace:
    /// sysctls belong to the calling thread's namespace, and so does the socket that is opened again after a failure.
    ///
    /// # Errors
    /// [`KernelError::Broken`] if no netlink socket can be opened.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self { conversation: Conversation::open()?, configuration: Configuration::open()? })
    }

    /// Waits for the end of the task that changes links and addresses. Without it, all such changes fail.
    ///
    /// # Errors
    /// Always: the task has no reason to end.
    pub fn closed(&self) -> impl Future<Output = Result<(), KernelError>> + Send + use<> {
        let closed = self.configuration.closed();
        async move {
            closed.await;
            Err(KernelError::Broken("the socket for changes of links and addresses is closed".to_owned()))
        }
    }
}

/// The result of a request. An errno in `harmless` means that the change had been made before.
fn done(answer: Answer, harmless: &[i32], request: impl FnOnce() -> String) -> Result<(), KernelError> {
    match answer {
        Err(errno) if !harmless.contains(&errno.code) => {
            Err(KernelError::Refused { request: request(), errno })
        }
        _ => Ok(()),
    }
}

#[async_trait]
impl Kernel for NetlinkKernel {
    async fn links(&self) -> Result<Vec<Link>, KernelError> {
        let mut links = Gathered::new(link::decode_link);
        let dumped = self.conversation.dump(&link::dump_links(), link::RTM_NEWLINK, &mut links).await?;
        dumped.map_err(|errno| refused("list links", errno))?;
        Ok(links.found)
    }

    async fn addresses(&self) -> Result<Vec<Address>, KernelError> {
        let mut addresses = Gathered::new(link::decode_address);
        let request = link::dump_addresses();
        let dumped = self.conversation.dump(&request, link::RTM_NEWADDR, &mut addresses).await?;
        dumped.map_err(|errno| refused("list addresses", errno))?;
        Ok(addresses.found)
    }

    async fn links_with_ipv4(&self) -> Result<BTreeSet<u32>, KernelError> {
        let mut links = Gathered::new(link::decode_address_link);
        let request = link::dump_ipv4_addresses();
        let dumped = self.conversation.dump(&request, link::RTM_NEWADDR, &mut links).await?;
        dumped.map_err(|errno| refused("list IPv4 addresses", errno))?;
        Ok(links.found.into_iter().collect())
    }

    async fn read_routes(&self, scope: Scope, reader: &mut dyn RouteReader) -> Result<(), KernelError> {
        let (protocol, table) = match scope {
            Scope::Ours => (RouteProtocol::OURS.0, 0),
            Scope::Advertised => (RouteProtocol::ADVERTISED.0, 0),
            Scope::Connected => (RouteProtocol::KERNEL.0, 0),
            Scope::Boot => (RouteProtocol::BOOT.0, 0),
            Scope::Table(table) => (0, table),
        };
        let request = route::dump_request(protocol, table);
        let mut routes = Routes { scope, reader };
        match self.conversation.dump(&request, route::RTM_NEWROUTE, &mut routes).await? {
            Ok(()) => Ok(()),
            // A table that never had a route.
            Err(errno) if errno.code == ENOENT && table != 0 => Ok(()),
            Err(errno) => Err(refused("list routes", errno)),
        }
    }

    async fn lookup(
        &self,
        source: Ipv6Addr,
        destination: Ipv6Addr,
        iif: Option<u32>,
    ) -> Result<Result<Route, Errno>, KernelError> {
        let (mut routes, request) =
            (Gathered::new(route::decode), route::lookup_request(source, destination, iif));
        let answer = self.conversation.get(&request, route::RTM_NEWROUTE, &mut routes).await?;
        let missing = || KernelError::Broken(format!("lookup of {destination}: no route in the answer"));
        Ok(match answer {
            Ok(()) => Ok(routes.found.pop().ok_or_else(missing)?),
            Err(errno) => Err(errno),
        })
    }

    async fn rules(&self) -> Result<Vec<Rule>, KernelError> {
        let mut rules = Gathered::new(rule::decode);
        let dumped = self.conversation.dump(&rule::dump_rules(), rule::RTM_NEWRULE, &mut rules).await?;
        dumped.map_err(|errno| refused("list rules", errno))?;
        Ok(rules.found)
    }

    async fn apply(&self, changes: &[Change]) -> Result<Vec<Result<(), Errno>>, KernelError> {
        self.conversation.apply(changes).await
    }

    async fn remove_boot_route(&self, key: &RouteKey, link: u32) -> Result<(), KernelError> {
        let request = || format!("remove route {} of proto boot from interface {link}", key.destination);
        let removal = route::boot_removal(key, link);
        done(self.conversation.request(removal, 0).await?, &[ESRCH, ENODEV], request)
    }

    async fn create_bridge(&self, name: &str) -> Result<(), KernelError> {
        let request = || format!("create bridge {name}");
        done(self.configuration.create_bridge(name).await?, &[], request)
    }

    async fn set_up(&self, index: u32) -> Result<(), KernelError> {
        let request = || format!("set interface {index} up");
        done(self.configuration.set_up(index).await?, &[], request)
    }

    async fn set_down(&self, index: u32) -> Result<(), KernelError> {
        let request = || format!("set interface {index} down");
        done(self.configuration.set_down(index).await?, &[ENODEV], request)
    }

    async fn rename_link(&self, index: u32, name: &str) -> Result<(), KernelError> {
        let request = || format!("give interface {index} the name {name}");
        done(self.configuration.rename_link(index, name).await?, &[], request)
    }

    async fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), KernelError> {
        let request = || format!("set MTU {mtu} of interface {index}");
        done(self.configuration.set_mtu(index, mtu).await?, &[], request)
    }

    async fn delete_link(&self, index: u32) -> Result<(), KernelError> {
        let request = || format!("delete interface {index}");
        done(self.configuration.delete_link(index).await?, &[ENODEV], request)
    }

    async fn add_address(&self, index: u32, addr: Ipv6Addr, len: u8) -> Result<(), KernelError> {
        let request = || format!("add address {addr}/{len} to interface {index}");
        done(self.configuration.add_address(index, addr, len).await?, &[EEXIST], request)
    }

    async fn renew_address(&self, index: u32, addr: Ipv6Addr, len: u8) -> Result<(), KernelError> {
        let request = || format!("renew address {addr}/{len} of interface {index}");
        done(self.configuration.renew_address(index, addr, len).await?, &[], request)
    }

    async fn remove_address(&self, index: u32, addr: Ipv6Addr, len: u8) -> Result<(), KernelError> {
        let request = || format!("remove address {addr}/{len} from interface {index}");
        let gone = [EADDRNOTAVAIL, ENODEV];
        done(self.configuration.remove_address(index, addr, len).await?, &gone, request)
    }

    async fn neighbours(&self, link: u32) -> Result<Vec<Neighbour>, KernelError> {
        let mut neighbours = Gathered::new(neighbour::decode);
        let request = neighbour::dump_neighbours(Some(link));
        match self.conversation.dump(&request, neighbour::RTM_NEWNEIGH, &mut neighbours).await? {
            Ok(()) => {
                // A kernel before 4.20 does not filter.
                neighbours.found.retain(|neighbour| neighbour.link == link);
                Ok(neighbours.found)
            }
            Err(errno) if errno.code == ENODEV => Ok(Vec::new()),
            Err(errno) => Err(refused("list neighbours", errno)),
        }
    }

    async fn all_neighbours(&self) -> Result<Vec<Neighbour>, KernelError> {
        let mut neighbours = Gathered::new(neighbour::decode);
        let request = neighbour::dump_neighbours(None);
        let dumped = self.conversation.dump(&request, neighbour::RTM_NEWNEIGH, &mut neighbours).await?;
        dumped.map_err(|errno| refused("list neighbours", errno))?;
        Ok(neighbours.found)
    }

    async fn probe_neighbour(&self, link: u32, addr: Ipv6Addr) -> Result<(), KernelError> {
        let (message, flags) = neighbour::probe(link, addr);
        match self.conversation.request(message, flags).await? {
            Ok(()) => Ok(()),
            // No entry, or one without a link-layer address to probe.
            Err(errno) if matches!(errno.code, ENOENT | EINVAL) => {
                let request = || format!("resolve neighbour {addr} on interface {link}");
                let (message, flags) = neighbour::resolve(link, addr);
                done(self.conversation.request(message, flags).await?, &[], request)
            }
            Err(errno) => Err(refused(&format!("probe neighbour {addr} on interface {link}"), errno)),
        }
    }

    async fn proxy_entries(&self) -> Result<Vec<ProxyEntry>, KernelError> {
        let mut entries = Gathered::new(proxy::decode);
        let dumped = self.conversation.dump(&proxy::dump(), neighbour::RTM_NEWNEIGH, &mut entries).await?;
        dumped.map_err(|errno| refused("list proxy entries", errno))?;
        Ok(entries.found)
    }

    async fn add_proxy_entry(&self, link: u32, addr: Ipv6Addr) -> Result<(), KernelError> {
        let request = || format!("add proxy entry {addr} to interface {link}");
        let (message, flags) = proxy::add(link, addr);
        done(self.conversation.request(message, flags).await?, &[], request)
    }

    async fn remove_proxy_entry(&self, link: u32, addr: Ipv6Addr) -> Result<(), KernelError> {
        let request = || format!("remove proxy entry {addr} from interface {link}");
        let (message, flags) = proxy::remove(link, addr);
        done(self.conversation.request(message, flags).await?, &[ENOENT, ENODEV], request)
    }

    fn neighbour_table(&self) -> Result<Option<NeighbourTable>, KernelError> {
        neighbour_table::read()
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

    fn firewall_changes(&self) -> Result<watch::Receiver<u64>, KernelError> {
        firewall::subscribe()
    }
}

/// Passes routes on to the reader.
struct Routes<'a> {
    scope: Scope,
    reader: &'a mut dyn RouteReader,
}

impl Sink for Routes<'_> {
    fn begin(&mut self) {
        self.reader.begin();
    }

    fn take(&mut self, payload: &[u8]) -> Result<(), Malformed> {
        if route::protocol(payload).is_some_and(|protocol| !self.reader.takes(protocol)) {
            return Ok(());
        }
        // A kernel before 4.20 does not filter.
        if let Some(route) = route::decode(payload)?.filter(|route| in_scope(route, self.scope)) {
            self.reader.take(route);
        }
        Ok(())
    }
}

fn in_scope(route: &Route, scope: Scope) -> bool {
    match scope {
        Scope::Ours => route.protocol == RouteProtocol::OURS,
        Scope::Advertised => route.protocol == RouteProtocol::ADVERTISED,
        Scope::Connected => route.protocol == RouteProtocol::KERNEL,
        Scope::Boot => route.protocol == RouteProtocol::BOOT,
        Scope::Table(table) => route.key.table == table,
    }
}

fn refused(request: &str, errno: Errno) -> KernelError {
    KernelError::Refused { request: request.to_owned(), errno }
}
