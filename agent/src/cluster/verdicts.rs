//! Verdicts on the hosts of lost agents, and on single next hops.

use std::collections::{BTreeMap, BTreeSet};

use sextant_proto::{NodeName, Peer};

use crate::kernel::NextHop;

/// The verdict on a host whose agent is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It answers neighbour solicitations: it forwards without its agent.
    Forwarding,
    /// It left several neighbour solicitations in a row unanswered, while other hosts on the link answered.
    Dead,
}

/// All verdicts. A host without one is taken to forward.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdicts {
    nodes: BTreeMap<NodeName, Verdict>,
    /// The next hops that do not answer, of hosts that answer at another one.
    silent: BTreeSet<NextHop>,
}

impl Verdicts {
    /// Verdicts on hosts, and the silent next hops of hosts that answer at another one.
    pub fn new(nodes: BTreeMap<NodeName, Verdict>, silent: BTreeSet<NextHop>) -> Self {
        Self { nodes, silent }
    }

    /// The verdict on one host.
    pub fn get(&self, node: &NodeName) -> Option<&Verdict> {
        self.nodes.get(node)
    }

    /// The verdict on the host of `peer`. It is void once the peer's session is back.
    pub fn on(&self, peer: &Peer) -> Option<Verdict> {
        self.nodes.get(&peer.name).copied().filter(|_| !peer.session)
    }

    /// Whether the host of `peer` is dead.
    pub fn is_dead(&self, peer: &Peer) -> bool {
        self.on(peer) == Some(Verdict::Dead)
    }

    /// The verdicts on all hosts that have one.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeName, &Verdict)> {
        self.nodes.iter()
    }

    /// Whether the next hop does not answer while its host answers at another one.
    pub fn is_silent(&self, hop: &NextHop) -> bool {
        self.silent.contains(hop)
    }

    /// All silent next hops.
    pub fn silent(&self) -> impl Iterator<Item = &NextHop> {
        self.silent.iter()
    }
}

impl<const N: usize> From<[(NodeName, Verdict); N]> for Verdicts {
    fn from(nodes: [(NodeName, Verdict); N]) -> Self {
        Self { nodes: nodes.into(), silent: BTreeSet::new() }
    }
}
