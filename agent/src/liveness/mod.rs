//! Detects whether hosts whose agents are gone are still alive (DESIGN §5).
//!
//! A lost session means that an agent is gone, or cut off from the controllers; its host may still forward. So the host
//! itself is probed repeatedly, by neighbour unreachability detection of its next hop (RFC 4861 §7.3). [`suspicion`] decides
//! which next hops to probe when, and evaluates the results.
//!
//! A host with next hops on several uplinks is probed at each of them, even while its agent is connected: on a forwarding
//! host, the kernel does not stop using a dead next hop of a multipath route.
//!
//! On each uplink, some peers are asked until one has answered ([`silent_links`]): the interface may lead to no peer at all.
//!
//! One task, [`Liveness::run`]: it waits for a change of the view of the cluster or of the uplinks, and for the next probe. It
//! changes no route: it publishes [`Verdicts`], which the engine uses. Verdicts are not stored: a new agent assumes that all
//! hosts are alive, and probes them. The task never ends: if reading the kernel fails, it tries again.

mod host_verdicts;
mod silent_links;
mod suspicion;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use rand::Rng;
use sextant_daemon::OncePerMinute;
use sextant_proto::{NodeName, Peer};
use tokio::{sync::watch, time::Instant};

use crate::{
    cluster::{Input, Verdict, Verdicts},
    deadline,
    kernel::{Kernel, KernelError, Link, NextHop},
    problems::{Component, Problems},
    routes::is_routed,
    uplinks::{LocalUplink, direct_next_hops},
};

use host_verdicts::{NodeHop, host_verdicts};
use silent_links::SilentLinks;
use suspicion::{Observed, Suspicion, Target};

/// The least time between two rounds; with the limit of probes in one round, it limits the rate of probes.
const SPACING: Duration = Duration::from_millis(100);
/// The delay after a failure to read the kernel.
const RETRY: Duration = Duration::from_secs(1);

/// Probes the hosts of lost agents.
pub struct Liveness {
    kernel: Arc<dyn Kernel>,
    node: NodeName,
    uplinks: watch::Receiver<Vec<LocalUplink>>,
    input: watch::Receiver<Input>,
    verdicts: watch::Sender<Arc<Verdicts>>,
    suspicion: Suspicion<NodeHop>,
    silent_links: SilentLinks,
    problems: Problems,
    /// Nodes whose agents are gone.
    lost: BTreeSet<NodeName>,
    lines: OncePerMinute,
}

impl Liveness {
    /// For `node`, which reaches its peers over `uplinks`.
    pub fn new(
        kernel: Arc<dyn Kernel>,
        node: NodeName,
        uplinks: watch::Receiver<Vec<LocalUplink>>,
        input: watch::Receiver<Input>,
        verdicts: watch::Sender<Arc<Verdicts>>,
        problems: Problems,
    ) -> Self {
        let suspicion = Suspicion::new(|| rand::rng().random_range(0.8..=1.2));
        let (silent_links, lost) = (SilentLinks::default(), BTreeSet::new());
        let lines = OncePerMinute::default();
        Self { kernel, node, uplinks, input, verdicts, suspicion, silent_links, problems, lost, lines }
    }

    /// Runs forever.
    ///
    /// # Errors
    /// None: errors are logged, and tried again.
    pub async fn run(mut self) -> Result<(), Infallible> {
        loop {
            let due = self.round().await;
            self.publish();
            tokio::time::sleep(SPACING).await;
            // All are cancel safe.
            tokio::select! {
                changed = self.input.changed() => if changed.is_err() { std::future::pending::<()>().await },
                Ok(()) = self.uplinks.changed() => {}
                () = deadline::reached(due) => {}
            }
        }
    }

    /// Evaluates and probes, if there is anything to probe. Returns the time of the next round.
    async fn round(&mut self) -> Option<Instant> {
        let view = self.input.borrow_and_update().view.clone();
        let lost = view.peers().filter(|peer| is_suspect(&self.node, peer));
        self.lost = lost.map(|peer| peer.name.clone()).collect();
        if self.uplinks.has_changed().unwrap_or(false) {
            self.silent_links.uplinks_changed();
        }
        let uplinks = self.uplinks.borrow_and_update().clone();
        let is_due = self.silent_links.due().is_none_or(|due| due <= Instant::now());
        // With one uplink, each peer has one next hop.
        if uplinks.is_empty() || (self.lost.is_empty() && uplinks.len() < 2 && !is_due) {
            self.suspicion.set_suspects(&BTreeMap::new(), Instant::now());
            return self.silent_links.due().filter(|_| !uplinks.is_empty());
        }
        match self.probe(&uplinks, view.peers()).await {
            Ok(()) => self.suspicion.due().into_iter().chain(self.silent_links.due()).min(),
            Err(error) => {
                if let Some(suppressed) = self.lines.admit(&error.to_string(), Instant::now()) {
                    tracing::warn!(%error, suppressed, "cannot read neighbours from the kernel; trying again");
                }
                Some(Instant::now() + RETRY)
            }
        }
    }

    async fn probe(
        &mut self,
        uplinks: &[LocalUplink],
        peers: impl Iterator<Item = &Peer> + Send,
    ) -> Result<(), KernelError> {
        let links = self.kernel.links().await?;
        let peers: Vec<_> = peers.collect();
        let (suspects, others) = targets(&self.node, uplinks, peers.iter().copied());
        let connected = connected(&self.node, uplinks, &peers);
        let observed = self.observed(&links, uplinks).await?;
        let now = Instant::now();
        self.suspicion.set_suspects(&suspects, now);
        let probed = self.suspicion.evaluate(&observed, &others, now);
        let asked = self.silent_links.evaluate(&connected, &observed, now);
        self.problems.report(Component::Liveness, self.silent_links.findings(uplinks));
        for target in probed {
            tracing::debug!(addr = %target.addr, "probing neighbour");
            if let Err(error) = self.kernel.probe_neighbour(target.link, target.addr).await {
                tracing::debug!(addr = %target.addr, %error, "cannot probe neighbour");
                self.suspicion.probe_failed(target, Instant::now());
            }
        }
        for target in asked {
            if let Err(error) = self.kernel.probe_neighbour(target.link, target.addr).await {
                tracing::debug!(addr = %target.addr, %error, "cannot probe neighbour");
            }
        }
        Ok(())
    }

    async fn observed(&self, links: &[Link], uplinks: &[LocalUplink]) -> Result<Observed, KernelError> {
        let usable = |index: &u32| links.iter().any(|link| link.index == *index && link.up && link.carrier);
        let usable: BTreeSet<u32> = uplinks.iter().map(|uplink| uplink.link).filter(usable).collect();
        let mut neighbours = BTreeMap::new();
        for &link in &usable {
            let of_link = self.kernel.neighbours(link).await?.into_iter();
            neighbours.extend(of_link.map(|it| (Target { link: it.link, addr: it.addr }, it.state)));
        }
        Ok(Observed { usable, neighbours })
    }

    fn publish(&self) {
        let silent = self.suspicion.silent().cloned().collect();
        let now = host_verdicts(&self.suspicion.verdicts(), &silent, &self.lost);
        self.verdicts.send_if_modified(|before| {
            let changed = **before != now;
            if changed {
                log_changes(before, &now);
                *before = Arc::new(now);
            }
            changed
        });
    }
}

/// Whether a peer should be reachable, but its agent is gone.
fn is_suspect(node: &NodeName, peer: &Peer) -> bool {
    is_routed(node, peer) && !peer.session
}

/// The next hops of the peers whose agents are connected.
fn connected(node: &NodeName, uplinks: &[LocalUplink], peers: &[&Peer]) -> Vec<Target> {
    let connected = peers.iter().filter(|peer| peer.session && is_routed(node, peer));
    let hops = connected.flat_map(|peer| direct_next_hops(uplinks, peer)).map(|(_, hop)| hop);
    hops.filter_map(|hop| Some(Target { link: hop.link, addr: hop.gateway? })).collect()
}

/// The targets to probe: the next hops of the suspects among `peers`, and of peers with several; and the other peers' targets.
fn targets<'a>(
    node: &NodeName,
    uplinks: &[LocalUplink],
    peers: impl Iterator<Item = &'a Peer>,
) -> (BTreeMap<NodeHop, Target>, Vec<Target>) {
    let (mut probed, mut others) = (BTreeMap::new(), Vec::new());
    for peer in peers.filter(|peer| peer.name != *node) {
        let hops = direct_next_hops(uplinks, peer).map(|(_, hop)| hop);
        let target = |hop: NextHop| Some(Target { link: hop.link, addr: hop.gateway? });
        let targets: Vec<_> = hops.filter_map(target).collect();
        if is_suspect(node, peer) || (targets.len() > 1 && is_routed(node, peer)) {
            probed.extend(targets.into_iter().map(|target| ((peer.name.clone(), target), target)));
        } else {
            others.extend(targets);
        }
    }
    (probed, others)
}

fn log_changes(before: &Verdicts, now: &Verdicts) {
    for hop in now.silent().filter(|hop| !before.is_silent(hop)) {
        tracing::info!(
            gateway = hop.gateway.map(tracing::field::display),
            link = hop.link,
            "next hop does not answer; removed from routes, as the host answers on another next hop"
        );
    }
    for (node, seen) in now.iter().filter(|(node, seen)| before.get(node) != Some(seen)) {
        match seen {
            Verdict::Forwarding => {
                tracing::info!(%node, "agent gone, host answers; route kept")
            }
            Verdict::Dead => {
                tracing::warn!(%node, "agent gone, host does not answer; packets to its prefix refused")
            }
        }
    }
}
