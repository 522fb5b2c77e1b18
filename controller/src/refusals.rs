//! Agents that this controller has recently refused a prefix, and why, for the status: such a node is in no
//! record of the store. In memory only; what ends a refusal is a claim of the node, a new incarnation, or silence.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sextant_proto::{Incarnation, NodeName, Revision, unix_ms};
use tokio::time::Instant;

use crate::index::{Index, State};

/// An agent that has not asked for so long has given up. Agents try again within 5 s, at one controller after another.
const SILENT: Duration = Duration::from_secs(30);
/// How many nodes are kept; further ones are left out.
const MOST: usize = 256;

/// The refused nodes, shared.
#[derive(Clone)]
pub struct Refusals {
    index: Index,
    nodes: Arc<Mutex<BTreeMap<NodeName, Noted>>>,
}

#[derive(Debug, Clone)]
struct Noted {
    why: String,
    since_unix_ms: u64,
    last: Instant,
    /// The store, and its revision, at the last refusal.
    store: (Incarnation, Revision),
}

/// A node that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its name.
    pub node: NodeName,
    /// The reason, with the fix.
    pub why: String,
    /// Since when this controller refuses it.
    pub since_unix_ms: u64,
}

impl Refusals {
    /// None yet, of the store that `index` follows.
    pub fn new(index: Index) -> Self {
        Self { index, nodes: Arc::default() }
    }

    /// The node was refused just now.
    pub fn note(&self, node: &NodeName, why: String) {
        let store = self.index.read(|state| (state.meta().incarnation, state.published()));
        let mut nodes = self.nodes();
        let since_unix_ms = nodes.get(node).map_or_else(unix_ms, |before| before.since_unix_ms);
        if nodes.contains_key(node) || nodes.len() < MOST {
            nodes.insert(node.clone(), Noted { why, since_unix_ms, last: Instant::now(), store });
        }
    }

    /// The node was granted a prefix.
    pub fn end(&self, node: &NodeName) {
        self.nodes().remove(node);
    }

    /// All that are refused still. A grant by another controller is seen in the index.
    pub fn list(&self) -> Vec<Refused> {
        let now = Instant::now();
        let mut nodes = self.nodes();
        self.index.read(|state| nodes.retain(|node, noted| noted.lasts(node, state, now)));
        let refused = |(node, noted): (&NodeName, &Noted)| Refused {
            node: node.clone(),
            why: noted.why.clone(),
            since_unix_ms: noted.since_unix_ms,
        };
        nodes.iter().map(refused).collect()
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<NodeName, Noted>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Noted {
    fn lasts(&self, node: &NodeName, state: &State, now: Instant) -> bool {
        let (incarnation, revision) = self.store;
        let granted = state
            .peers()
            .get(node)
            .is_some_and(|peer| peer.claims.iter().any(|claim| claim.claimed > revision));
        now.duration_since(self.last) < SILENT && state.meta().incarnation == incarnation && !granted
    }
}
