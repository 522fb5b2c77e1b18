//! Whether the hosts of lost agents are still there (DESIGN §5).
//!
//! A lost session says that an agent is gone, or cut off from the controllers, not that its host is. So the host itself is
//! asked, by neighbour unreachability detection of its next hop (RFC 4861 §7.3), again and again. [`suspicion`] decides whom
//! to ask when, and what the answers mean.
//!
//! A host that can be reached over several uplinks is asked at each of its next hops, whether its agent is there or not:
//! with forwarding on, the kernel itself never leaves out one that is dead.
//!
//! One task, [`Liveness::run`]: it waits for a change of what the session knows of the cluster, and for the next time to
//! ask or look. It changes no route: it publishes [`Verdicts`], which the engine takes into account. Verdicts survive
//! nothing: an agent that starts anew holds every host for alive, and asks. It never ends: a kernel that does not answer is
//! asked again.

mod judgement;
mod suspicion;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use rand::Rng;
use sextant_proto::{NodeName, NodeState, Peer};
use tokio::{sync::watch, time::Instant};

use crate::{
    cluster::{Input, Verdict, Verdicts},
    kernel::{Kernel, KernelError, Link, NextHop},
    routes::is_routed,
    uplinks::{LocalUplink, direct_next_hops, local_uplinks},
};

use judgement::{Way, judge};
use suspicion::{Sight, Suspicion, Target};

/// The least time between two looks at the kernel's neighbours; with the asks of one look, it bounds those of a second.
const SPACING: Duration = Duration::from_millis(100);
/// How long to wait after the kernel did not answer.
const RETRY: Duration = Duration::from_secs(1);

/// Asks the hosts of lost agents.
pub struct Liveness {
    kernel: Arc<dyn Kernel>,
    node: NodeName,
    uplinks: Vec<String>,
    input: watch::Receiver<Input>,
    verdicts: watch::Sender<Arc<Verdicts>>,
    suspicion: Suspicion<Way>,
    /// Nodes whose agents are gone.
    lost: BTreeSet<NodeName>,
}

impl Liveness {
    /// That of `node`, which reaches its peers over the interfaces `uplinks`.
    pub fn new(
        kernel: Arc<dyn Kernel>,
        node: NodeName,
        uplinks: Vec<String>,
        input: watch::Receiver<Input>,
        verdicts: watch::Sender<Arc<Verdicts>>,
    ) -> Self {
        let suspicion = Suspicion::new(|| rand::rng().random_range(0.8..=1.2));
        Self { kernel, node, uplinks, input, verdicts, suspicion, lost: BTreeSet::new() }
    }

    /// Asks, for ever.
    ///
    /// # Errors
    /// None: every trouble is told and tried again.
    pub async fn run(mut self) -> Result<(), Infallible> {
        loop {
            let due = self.round().await;
            self.publish();
            tokio::time::sleep(SPACING).await;
            // Both are cancel safe.
            tokio::select! {
                changed = self.input.changed() => if changed.is_err() { std::future::pending::<()>().await },
                () = until(due) => {}
            }
        }
    }

    /// Looks and asks if there is anybody to ask. When to do so again, if no news comes.
    async fn round(&mut self) -> Option<Instant> {
        let view = self.input.borrow_and_update().view.clone();
        let lost = view.peers().filter(|peer| is_suspect(&self.node, peer));
        self.lost = lost.map(|peer| peer.name.clone()).collect();
        // Over one uplink, there is one way to each peer.
        if self.lost.is_empty() && self.uplinks.len() < 2 {
            self.suspicion.suspect(&BTreeMap::new(), Instant::now());
            return None;
        }
        match self.look(view.peers()).await {
            Ok(()) => self.suspicion.due(),
            Err(error) => {
                tracing::warn!(%error, "the kernel does not say which neighbours are there; asking again");
                Some(Instant::now() + RETRY)
            }
        }
    }

    async fn look(&mut self, peers: impl Iterator<Item = &Peer> + Send) -> Result<(), KernelError> {
        let links = self.kernel.links().await?;
        let uplinks = local_uplinks(&self.uplinks, &links, &self.kernel.addresses().await?);
        let (suspects, others) = targets(&self.node, &uplinks, peers);
        let sight = self.sight(&links, &uplinks).await?;
        let now = Instant::now();
        self.suspicion.suspect(&suspects, now);
        for target in self.suspicion.look(&sight, &others, now) {
            tracing::debug!(addr = %target.addr, "asking a neighbour");
            if let Err(error) = self.kernel.probe_neighbour(target.link, target.addr).await {
                tracing::debug!(addr = %target.addr, %error, "a neighbour cannot be asked");
                self.suspicion.not_asked(target, Instant::now());
            }
        }
        Ok(())
    }

    async fn sight(&self, links: &[Link], uplinks: &[LocalUplink]) -> Result<Sight, KernelError> {
        let usable = |index: &u32| links.iter().any(|link| link.index == *index && link.up && link.carrier);
        let usable: BTreeSet<u32> = uplinks.iter().map(|uplink| uplink.link).filter(usable).collect();
        let mut neighbours = BTreeMap::new();
        for &link in &usable {
            let of_link = self.kernel.neighbours(link).await?.into_iter();
            neighbours.extend(of_link.map(|it| (Target { link: it.link, addr: it.addr }, it.state)));
        }
        Ok(Sight { usable, neighbours })
    }

    fn publish(&self) {
        let silent = self.suspicion.silent().cloned().collect();
        let now = judge(&self.suspicion.verdicts(), &silent, &self.lost);
        self.verdicts.send_if_modified(|before| {
            let changed = **before != now;
            if changed {
                tell_news(before, &now);
                *before = Arc::new(now);
            }
            changed
        });
    }
}

/// A peer that should be reachable, and whose agent is gone.
fn is_suspect(node: &NodeName, peer: &Peer) -> bool {
    is_routed(node, peer) && !peer.session
}

/// Where to ask: the suspects among `peers`, and those that there are several ways to; and where the others are.
fn targets<'a>(
    node: &NodeName,
    uplinks: &[LocalUplink],
    peers: impl Iterator<Item = &'a Peer>,
) -> (BTreeMap<Way, Target>, Vec<Target>) {
    let (mut asked, mut others) = (BTreeMap::new(), Vec::new());
    for peer in peers.filter(|peer| peer.name != *node) {
        let ways = direct_next_hops(uplinks, peer).map(|(_, hop)| hop);
        let target = |hop: NextHop| Some(Target { link: hop.link, addr: hop.gateway? });
        let targets: Vec<_> = ways.filter_map(target).collect();
        if is_suspect(node, peer) || (targets.len() > 1 && peer.state == NodeState::Ready) {
            asked.extend(targets.into_iter().map(|target| ((peer.name.clone(), target), target)));
        } else {
            others.extend(targets);
        }
    }
    (asked, others)
}

fn tell_news(before: &Verdicts, now: &Verdicts) {
    for hop in now.silent().filter(|hop| !before.is_silent(hop)) {
        tracing::info!(?hop, "a next hop does not answer, and its host does elsewhere: it is left out");
    }
    for (node, seen) in now.iter().filter(|(node, seen)| before.get(node) != Some(seen)) {
        match seen {
            Verdict::Forwarding => {
                tracing::info!(%node, "its agent is gone, and its host answers: its route stays")
            }
            Verdict::Dead => {
                tracing::warn!(%node, "its agent is gone, and its host does not answer: its prefix is refused")
            }
        }
    }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
