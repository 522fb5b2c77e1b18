//! What the agent asks of its kernel, answered by the fake one.

use std::{io, net::Ipv6Addr};

use async_trait::async_trait;
use nix::libc::ENODEV;
use tokio::sync::{mpsc, watch};

use super::{
    super::{
        Address, Change, Errno, Event, Kernel, KernelError, Link, Neighbour, NeighbourState, NeighbourTable,
        ProxyEntry, Route, RouteKey, RouteProtocol, RouteReader, Rule, RuleAction, Scope, types::MAIN_TABLE,
    },
    FakeKernel, Write,
    fib::errno,
    host::Host,
    permanent,
};

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
        host.route_dumps.push(scope);
        let in_scope = |route: &&Route| match scope {
            Scope::Ours => route.protocol == RouteProtocol::OURS,
            Scope::Advertised => route.protocol == RouteProtocol::ADVERTISED,
            Scope::Connected => route.protocol == RouteProtocol::KERNEL,
            Scope::Boot => route.protocol == RouteProtocol::BOOT,
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
        _iif: Option<u32>,
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

    async fn remove_boot_route(&self, key: &RouteKey, link: u32) -> Result<(), KernelError> {
        let mut host = self.host();
        host.writes.push(Write::RemoveBootRoute(*key, link));
        host.remove_boot_route(*key, link);
        Ok(())
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

    async fn rename_link(&self, index: u32, name: &str) -> Result<(), KernelError> {
        let mut host = self.host();
        host.writes.push(Write::RenameLink(index, name.to_owned()));
        existing(&host, index)?;
        let request = || format!("give interface {index} the name {name}");
        host.rename_link(index, name).map_err(|errno| KernelError::Refused { request: request(), errno })
    }

    async fn set_mtu(&self, index: u32, mtu: u32) -> Result<(), KernelError> {
        let mut host = self.host();
        host.writes.push(Write::SetMtu(index, mtu));
        existing(&host, index)?;
        host.change_link(index, |link| link.mtu = mtu);
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
        host.faults.of_address(addr)?;
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
        host.faults.of_address(addr)?;
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

    async fn proxy_entries(&self) -> Result<Vec<ProxyEntry>, KernelError> {
        let mut host = self.host();
        host.faults.of_read()?;
        let entry = |(&(link, addr), &protocol)| ProxyEntry { link, addr, protocol, router: true };
        Ok(host.proxies.iter().map(entry).collect())
    }

    async fn add_proxy_entry(&self, link: u32, addr: Ipv6Addr) -> Result<(), KernelError> {
        let mut host = self.host();
        existing(&host, link)?;
        host.proxies.insert((link, addr), RouteProtocol::OURS);
        Ok(())
    }

    async fn remove_proxy_entry(&self, link: u32, addr: Ipv6Addr) -> Result<(), KernelError> {
        self.host().proxies.remove(&(link, addr));
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
            let (path, value) = (path.to_owned(), value.to_owned());
            Err(KernelError::SysctlNotSet { path, value, source: io::Error::from(code) })
        };
        if host.faults.vanishing_sysctls.contains(path) {
            host.sysctls.remove(path);
        }
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

    /// None: it has no firewall.
    fn firewall_changes(&self) -> Result<watch::Receiver<u64>, KernelError> {
        Ok(watch::channel(0).1)
    }
}

fn existing(host: &Host, index: u32) -> Result<(), KernelError> {
    if host.interfaces.links.contains_key(&index) {
        return Ok(());
    }
    Err(KernelError::Refused { request: format!("configure interface {index}"), errno: errno(ENODEV) })
}
