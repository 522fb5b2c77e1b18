//! Looks at the way from this host to another one, for `sextant trace`. Changes nothing, but that probes have the kernel
//! resolve a next hop.
//!
//! What was seen means, [`host`], [`firewall`] and [`way`] say, which are pure; [`probe`] is the edge to the sockets that
//! probes leave by; this gathers.

mod firewall;
mod host;
mod policy;
mod probe;
mod way;

use std::{collections::BTreeMap, net::Ipv6Addr, sync::Arc, time::Duration};

use sextant_proto::NodeName;
use tokio::{sync::watch, time::Instant};

use self::{
    host::Facts,
    policy::Tables,
    way::{Hop, Observed},
};
use crate::{
    cluster::Input,
    doctor,
    engine::Asker,
    host::FORWARDING,
    kernel::{Address, Kernel, KernelError, Link, NeighbourState, NextHops, RouteTarget, RuleAction, Scope},
    settings::Settings,
};

pub(crate) use probe::{Kind, Probe, Received};

/// How long the kernel may take to find out whether a next hop is there: its own time for that is 3 s.
const RESOLVED_WITHIN: Duration = Duration::from_millis(3500);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);
/// The kernel's own table, which is looked in before all others, and holds this host's addresses only.
const LOCAL_TABLE: u32 = 255;

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// "bridge", "route", ….
    pub(crate) what: &'static str,
    pub(crate) state: State,
    pub(crate) saw: String,
    /// A command, or what to look at; empty where nothing is to be mended.
    pub(crate) mend: String,
}

/// What a check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Good,
    /// It may be wrong.
    Doubtful,
    Broken,
    /// It could not be looked at, or says nothing.
    Silent,
}

impl Check {
    fn new(what: &'static str, state: State, saw: impl Into<String>) -> Self {
        Self { what, state, saw: saw.into(), mend: String::new() }
    }

    fn broken(what: &'static str, saw: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { mend: mend.into(), ..Self::new(what, State::Broken, saw) }
    }
}

/// This host, as far as what comes to its containers depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostLook {
    pub(crate) bridge_address: Option<Ipv6Addr>,
    pub(crate) checks: Vec<Check>,
    pub(crate) received: Received,
}

/// The way to a node, as far as it can be seen from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WayLook {
    pub(crate) checks: Vec<Check>,
    pub(crate) probe: Probe,
}

/// Who looks.
#[derive(Clone)]
pub(crate) struct Tracer {
    kernel: Arc<dyn Kernel>,
    engine: Asker,
    input: watch::Receiver<Input>,
    node: NodeName,
    bridge: String,
    table: u32,
}

impl Tracer {
    pub(crate) fn new(
        kernel: Arc<dyn Kernel>,
        engine: Asker,
        input: watch::Receiver<Input>,
        settings: &Settings,
    ) -> Self {
        let (node, bridge) = (settings.node.clone(), settings.bridge.name.clone());
        Self { kernel, engine, input, node, bridge, table: settings.routes.table }
    }

    /// What of the probes of others has arrived here so far.
    pub(crate) fn received(&self) -> Received {
        probe::received()
    }

    /// This host by itself.
    pub(crate) async fn host(&self) -> Result<HostLook, KernelError> {
        let (links, addresses) = (self.kernel.links().await?, self.kernel.addresses().await?);
        let (claim, pool, paused) = {
            let input = self.input.borrow();
            let pool = input.claim.as_ref().map(|claim| claim.pool.prefix);
            (input.claim.clone(), pool, input.view.control().paused)
        };
        let facts = Facts {
            node: &self.node,
            bridge: &self.bridge,
            link: links.iter().find(|link| link.name == self.bridge),
            address: self.bridge_address(&links, &addresses),
            container_prefix: claim.as_ref().map(|claim| claim.container_prefix()),
            forwarding: self.kernel.sysctl(FORWARDING)?,
            paused,
            pool,
            ruleset: doctor::ruleset().await,
            legacy_forward: doctor::legacy_forward().await,
        };
        Ok(HostLook {
            bridge_address: facts.address.map(|(addr, _)| addr),
            checks: host::checks(&facts),
            received: probe::received(),
        })
    }

    /// The way to the bridge address `target` of `node`.
    pub(crate) async fn way(&self, node: &NodeName, target: Ipv6Addr) -> Result<WayLook, WayError> {
        let towards = self.engine.towards(node.clone()).await.ok_or(WayError::Stopping)??;
        let (links, addresses) = (self.kernel.links().await?, self.kernel.addresses().await?);
        let source = self.bridge_address(&links, &addresses).map(|(addr, _)| addr);
        // Without an address on the bridge, the kernel's choice is as good as any to look the route up with.
        let found = self.kernel.lookup(source.unwrap_or(Ipv6Addr::UNSPECIFIED), target).await?;
        let decides = policy::decides(&self.tables().await?, source, target);
        let own: Vec<_> = addresses.iter().map(|address| address.addr).collect();
        let probe = probe::run(source, target, &own).await;
        let hops = match found.as_ref().map(|route| &route.target) {
            Ok(RouteTarget::Via(hops)) => self.hops(hops, target, &links, probe.all_answered()).await?,
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
        };
        Ok(WayLook { checks: way::checks(&observed), probe })
    }

    fn bridge_address(&self, links: &[Link], addresses: &[Address]) -> Option<(Ipv6Addr, u8)> {
        let bridge = links.iter().find(|link| link.name == self.bridge)?;
        let claimed = self.input.borrow().claim.as_ref().map(|claim| claim.container_prefix())?;
        let of_it = |it: &&Address| it.link == bridge.index && claimed.contains(it.addr) && !it.tentative;
        addresses.iter().find(of_it).map(|it| (it.addr, it.len))
    }

    /// The rules, and the tables that they look in.
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

    /// What the kernel knows of the next hops. Where probes were lost, they are asked first.
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
                self.asked(hop.link, addr).await?
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

    async fn asked(
        &self,
        link: u32,
        addr: Ipv6Addr,
    ) -> Result<Option<crate::kernel::Neighbour>, KernelError> {
        let before = self.neighbour(link, addr).await?;
        if before.is_some_and(|it| matches!(it.state, NeighbourState::Fixed | NeighbourState::Failed)) {
            return Ok(before);
        }
        self.kernel.probe_neighbour(link, addr).await?;
        let until = Instant::now() + RESOLVED_WITHIN;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = self.neighbour(link, addr).await?;
            let asking = now.is_none_or(|it| it.state == NeighbourState::Probing);
            if !asking || Instant::now() >= until {
                return Ok(now);
            }
        }
    }
}

/// Why the way cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WayError {
    #[error("the agent is stopping")]
    Stopping,
    #[error("{0}; try again")]
    Kernel(#[from] KernelError),
}
