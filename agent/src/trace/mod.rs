//! Checks this host and the path to another one, for `sextant trace`. It changes nothing, except that probes make the kernel
//! resolve a next hop.
//!
//! [`host`], [`arriving`], [`firewall`], [`neighbour_proxy`], [`path`] and [`target`] evaluate the observations, and are pure; [`probe`] is the edge to the sockets of the
//! probes; this module reads the facts.

mod arriving;
mod firewall;
mod host;
pub(crate) mod neighbour_proxy;
mod path;
mod policy;
mod probe;
mod target;

use std::{collections::BTreeMap, net::Ipv6Addr, sync::Arc, time::Duration};

use sextant_proto::{Claim, NodeName, PoolName};
use tokio::{sync::watch, time::Instant};

use self::{
    host::Facts,
    path::{Hop, Observed},
    policy::Tables,
};
use crate::{
    cluster::Input,
    doctor,
    engine::{Arriving, Asker},
    host::FORWARDING,
    kernel::{Address, Kernel, KernelError, Link, NeighbourState, NextHops, RouteTarget, RuleAction, Scope},
    problems::Found,
    settings::Settings,
};

pub(crate) use probe::{Kind, Probe, Received};

/// Timeout of the kernel's probe of a next hop, which takes 3 s at most.
const RESOLVED_WITHIN: Duration = Duration::from_millis(3500);
/// The interval of checks meanwhile.
const POLL: Duration = Duration::from_millis(50);
/// The kernel's table of this host's addresses, which comes before all others.
const LOCAL_TABLE: u32 = 255;

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// "bridge", "route", ….
    pub(crate) what: &'static str,
    pub(crate) state: State,
    pub(crate) saw: String,
    /// A command, or a hint; empty if nothing is wrong.
    pub(crate) fix: String,
}

/// The state that a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Good,
    /// Possibly wrong.
    Doubtful,
    Broken,
    /// Not checked, or inconclusive.
    Unknown,
}

impl Check {
    fn new(what: &'static str, state: State, saw: impl Into<String>) -> Self {
        Self { what, state, saw: saw.into(), fix: String::new() }
    }

    fn broken(what: &'static str, saw: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { fix: fix.into(), ..Self::new(what, State::Broken, saw) }
    }
}

/// The checks of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostReport {
    pub(crate) bridge_address: Option<Ipv6Addr>,
    pub(crate) checks: Vec<Check>,
    /// Of the packets that arrive from another node.
    pub(crate) arriving: Vec<Check>,
    pub(crate) received: Received,
}

/// The checks of the path to a node, from this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathReport {
    pub(crate) checks: Vec<Check>,
    pub(crate) probe: Probe,
}

/// Checks this host and paths from it.
#[derive(Clone)]
pub(crate) struct Tracer {
    kernel: Arc<dyn Kernel>,
    engine: Asker,
    input: watch::Receiver<Input>,
    problems: watch::Receiver<Found>,
    node: NodeName,
    bridge: String,
    /// Containers may be on other bridges alone, as with Docker's IPAM driver.
    needs_bridge: bool,
    table: u32,
}

impl Tracer {
    pub(crate) fn new(
        kernel: Arc<dyn Kernel>,
        engine: Asker,
        input: watch::Receiver<Input>,
        problems: watch::Receiver<Found>,
        settings: &Settings,
    ) -> Self {
        let (node, bridge) = (settings.node.clone(), settings.bridge.name.clone());
        let (needs_bridge, table) = (settings.needs_bridge(), settings.routes.table);
        Self { kernel, engine, input, problems, node, bridge, needs_bridge, table }
    }

    /// The probes that this host has received.
    pub(crate) fn received(&self) -> Received {
        probe::received()
    }

    /// Checks this host, for the prefix of a pool; without one, for its primary prefix. Also for packets that arrive.
    pub(crate) async fn host(
        &self,
        pool: Option<&PoolName>,
        arriving: Option<Arriving>,
    ) -> Result<HostReport, KernelError> {
        let (links, addresses) = (self.kernel.links().await?, self.kernel.addresses().await?);
        let asked = pool.map(ToString::to_string);
        let (claim, pool, paused) = {
            let input = self.input.borrow();
            let in_pool = |claim: &&Claim| pool.is_none_or(|pool| claim.pool.name == *pool);
            let claim = input.claims.iter().find(in_pool).cloned();
            let pool = claim.as_ref().map(|claim| claim.pool.prefix);
            (claim, pool, input.view.control().paused)
        };
        let taken = match claim.as_ref().zip(arriving) {
            Some((claim, arriving)) => {
                let taken = self.engine.arriving(claim.prefix, arriving).await.transpose()?;
                taken.map(|taken| arriving::check(&self.node, arriving, &taken))
            }
            None => None,
        };
        let bridge = claim.as_ref().and_then(|claim| self.bridge_of(claim, &links, &addresses));
        let link = bridge.map(|(link, _)| link);
        let link = link.or_else(|| links.iter().find(|link| link.name == self.bridge));
        let object = claim.as_ref().map(|claim| claim.prefix.to_string()).or(asked);
        let unused = object.and_then(|object| self.problems.borrow().unused(&object).cloned());
        let facts = Facts {
            unused,
            node: &self.node,
            bridge: link.map_or(&self.bridge, |link| &link.name),
            link,
            needs_bridge: self.needs_bridge,
            address: bridge.map(|(_, address)| (address.addr, address.len)),
            container_prefix: claim.as_ref().map(|claim| claim.container_prefix()),
            forwarding: self.kernel.sysctl(FORWARDING)?,
            paused,
            pool,
            ruleset: doctor::ruleset().await,
            legacy_forward: doctor::legacy_forward().await,
        };
        Ok(HostReport {
            bridge_address: facts.address.map(|(addr, _)| addr),
            checks: host::checks(&facts),
            arriving: taken.into_iter().collect(),
            received: probe::received(),
        })
    }

    /// Checks the path to the bridge address `target` of `node`.
    pub(crate) async fn path(&self, node: &NodeName, target: Ipv6Addr) -> Result<PathReport, PathError> {
        let probed = target::is_of(node, target, &self.input.borrow().view)?;
        let towards = self.engine.towards(node.clone(), target).await.ok_or(PathError::Stopping)??;
        let (links, addresses) = (self.kernel.links().await?, self.kernel.addresses().await?);
        let own = self.claim_towards(target);
        let forwards = own.and_then(|claim| self.bridge_of(&claim, &links, &addresses));
        let source = forwards.map(|(_, address)| address.addr);
        // As a packet of a container, which the host forwards. Without an address on the bridge, the kernel chooses the source address.
        let bridge = forwards.map(|(bridge, _)| bridge).filter(|bridge| bridge.up);
        let from = source.unwrap_or(Ipv6Addr::UNSPECIFIED);
        let found = self.kernel.lookup(from, target, bridge.map(|bridge| bridge.index)).await?;
        let iif = bridge.map_or("lo", |bridge| bridge.name.as_str());
        let decides = policy::decides(&self.tables().await?, source, target, iif);
        let own: Vec<_> = addresses.iter().map(|address| address.addr).collect();
        let probe = match probed {
            true => probe::run(source, target, &own).await,
            false => Probe::none(source, target),
        };
        let answered = !probed || probe.all_answered();
        let hops = match found.as_ref().map(|route| &route.target) {
            Ok(RouteTarget::Via(hops)) => self.hops(hops, target, &links, answered).await?,
            _ => Vec::new(),
        };
        let observed = Observed {
            here: &self.node,
            peer: node,
            towards,
            found,
            decides,
            table: self.table,
            links,
            hops,
            answered,
        };
        Ok(PathReport { checks: path::checks(&observed), probe })
    }

    /// The claim whose prefix containers use as source towards `target`: the one of the same pool, else the primary one.
    fn claim_towards(&self, target: Ipv6Addr) -> Option<Claim> {
        let input = self.input.borrow();
        let of_pool = input.claims.iter().find(|claim| claim.pool.prefix.contains(target));
        of_pool.or(input.claims.first()).cloned()
    }

    /// The bridge that probes are sent from, with its address: that of the settings, or else the first one of a network of the IPAM
    /// driver.
    fn bridge_of<'a>(
        &self,
        claim: &Claim,
        links: &'a [Link],
        addresses: &'a [Address],
    ) -> Option<(&'a Link, &'a Address)> {
        let usable = |it: &(&Link, &Address)| it.0.index == it.1.link && !it.1.tentative;
        let pairs = |bridge: &'a Link| addresses.iter().map(move |address| (bridge, address)).filter(usable);
        let own = links.iter().filter(|link| link.name == self.bridge).flat_map(pairs);
        let mut own = own.filter(|(_, address)| claim.container_prefix().contains(address.addr));
        let of_networks = links.iter().filter(|link| link.bridge && !self.needs_bridge).flat_map(pairs);
        let of_networks = of_networks.filter(|(_, address)| claim.prefix.contains(address.addr));
        own.next().or_else(|| of_networks.min_by_key(|(_, address)| address.addr))
    }

    /// The rules, and their tables.
    async fn tables(&self) -> Result<Tables, KernelError> {
        let rules = self.kernel.rules().await?;
        let mut tables = BTreeMap::new();
        for rule in &rules {
            if let RuleAction::Table(table) = rule.action
                && table != LOCAL_TABLE
                && !tables.contains_key(&table)
            {
                tables.insert(table, self.kernel.routes(Scope::Table(table)).await?);
            }
        }
        Ok(Tables { rules, tables })
    }

    /// The kernel's neighbour entries of the next hops. If probes were lost, the kernel probes the next hops first.
    async fn hops(
        &self,
        hops: &NextHops,
        target: Ipv6Addr,
        links: &[Link],
        answered: bool,
    ) -> Result<Vec<Hop>, KernelError> {
        let mut seen = Vec::new();
        for hop in hops {
            let addr = hop.gateway.unwrap_or(target);
            let link = links.iter().find(|link| link.index == hop.link).cloned();
            let usable = link.as_ref().is_some_and(|link| link.up && link.carrier);
            let neighbour = if answered || !usable {
                self.neighbour(hop.link, addr).await?
            } else {
                self.probed(hop.link, addr).await?
            };
            seen.push(Hop { addr, link, neighbour });
        }
        Ok(seen)
    }

    async fn neighbour(
        &self,
        link: u32,
        addr: Ipv6Addr,
    ) -> Result<Option<crate::kernel::Neighbour>, KernelError> {
        let all = self.kernel.neighbours(link).await?;
        Ok(all.into_iter().find(|neighbour| neighbour.addr == addr))
    }

    async fn probed(
        &self,
        link: u32,
        addr: Ipv6Addr,
    ) -> Result<Option<crate::kernel::Neighbour>, KernelError> {
        let before = self.neighbour(link, addr).await?;
        if before.is_some_and(|it| it.state.is_fixed() || it.state == NeighbourState::Failed) {
            return Ok(before);
        }
        self.kernel.probe_neighbour(link, addr).await?;
        let until = Instant::now() + RESOLVED_WITHIN;
        loop {
            tokio::time::sleep(POLL).await;
            let now = self.neighbour(link, addr).await?;
            let probing = now.is_none_or(|it| it.state == NeighbourState::Probing);
            if !probing || Instant::now() >= until {
                return Ok(now);
            }
        }
    }
}

/// The path cannot be checked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PathError {
    #[error("the agent is stopping")]
    Stopping,
    #[error(transparent)]
    Elsewhere(#[from] target::Elsewhere),
    #[error("{0}; try again")]
    Kernel(#[from] KernelError),
}
