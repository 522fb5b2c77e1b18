//! Agents that this controller has recently refused a prefix, and why, for the status: such an agent is in no
//! record of the store. In memory only; what ends a refusal is a claim of the agent, a new incarnation, or silence.
//!
//! They are kept by node id: the name under which an agent asks may be another node's, which works.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sextant_proto::{Incarnation, NodeId, NodeName, Revision, unix_ms};
use tokio::time::Instant;

use crate::index::{Index, State};

/// An agent that has not asked for so long, for each controller that it may ask meanwhile, has given up. It tries the next one
/// within 5 s, and may wait 5 s for a connection.
const SILENT: Duration = Duration::from_secs(10);
/// How many agents are kept; further ones are left out.
const MOST: usize = 256;

/// The refused agents, shared.
#[derive(Clone)]
pub struct Refusals {
    index: Index,
    agents: Arc<Mutex<BTreeMap<NodeId, Noted>>>,
}

#[derive(Debug, Clone)]
struct Noted {
    asker: Asker,
    why: String,
    since_unix_ms: u64,
    last: Instant,
    /// The store, and its revision, at the last refusal.
    store: (Incarnation, Revision),
}

/// The names of an agent that asks for a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asker {
    /// That under which it asks.
    name: NodeName,
    /// Its node id holds claims under this other name.
    former: Option<NodeName>,
    /// The name belongs to another node id.
    is_anothers: bool,
}

/// An agent that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The node of its id; else the name under which it asks.
    pub node: NodeName,
    /// The name under which it asks, if that belongs to another node id.
    pub asks_as: Option<NodeName>,
    /// The reason, with the fix.
    pub why: String,
    /// Since when this controller refuses it.
    pub since_unix_ms: u64,
}

impl Refusals {
    /// None yet, of the store that `index` follows.
    pub fn new(index: Index) -> Self {
        Self { index, agents: Arc::default() }
    }

    /// The agent of this node id was refused just now, under this name.
    pub fn note(&self, name: &NodeName, node_id: NodeId, why: String) {
        let (asker, store) = self
            .index
            .read(|state| (Asker::of(name, node_id, state), (state.meta().incarnation, state.published())));
        let mut agents = self.agents();
        let before = agents.get(&node_id);
        let since_unix_ms = before.map_or_else(unix_ms, |before| before.since_unix_ms);
        if before.is_some() || agents.len() < MOST {
            let noted = Noted { asker, why, since_unix_ms, last: Instant::now(), store };
            agents.insert(node_id, noted);
        }
    }

    /// The agent was granted a prefix.
    pub fn end(&self, name: &NodeName, node_id: NodeId) {
        let is_its =
            |id: &NodeId, asker: &Asker| *id == node_id || (asker.name == *name && !asker.is_anothers);
        self.agents().retain(|id, noted| !is_its(id, &noted.asker));
    }

    /// All that are refused still. A grant by another controller is seen in the index.
    pub fn list(&self) -> Vec<Refused> {
        let now = Instant::now();
        let mut agents = self.agents();
        self.index.read(|state| agents.retain(|id, noted| noted.lasts(*id, state, now)));
        let mut refused: Vec<_> = agents.values().map(Noted::refused).collect();
        refused.sort_by(|a, b| (&a.node, &a.asks_as).cmp(&(&b.node, &b.asks_as)));
        refused
    }

    fn agents(&self) -> MutexGuard<'_, BTreeMap<NodeId, Noted>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asker {
    fn of(name: &NodeName, node_id: NodeId, state: &State) -> Self {
        let holder = state.nodes().get(name).map(|node| node.record.node_id);
        Self {
            name: name.clone(),
            former: state.other_name(name, node_id).cloned(),
            is_anothers: holder.is_some_and(|holder| holder != node_id),
        }
    }
}

impl Noted {
    fn refused(&self) -> Refused {
        let Asker { name, former, is_anothers } = &self.asker;
        Refused {
            node: former.as_ref().filter(|_| *is_anothers).unwrap_or(name).clone(),
            asks_as: is_anothers.then(|| name.clone()),
            why: self.why.clone(),
            since_unix_ms: self.since_unix_ms,
        }
    }

    fn lasts(&self, id: NodeId, state: &State, now: Instant) -> bool {
        let (incarnation, revision) = self.store;
        let controllers = u32::try_from(state.controllers().len()).unwrap_or(u32::MAX).max(1);
        let asks = now.duration_since(self.last) < SILENT.saturating_mul(controllers);
        let Asker { name, former, is_anothers } = &self.asker;
        let holder = |name: &NodeName| state.nodes().get(name).map(|node| node.record.node_id);
        let may_be_its = |it: &&NodeName| holder(it) == Some(id) || (*it == name && !is_anothers);
        let mut names = former.iter().chain([name]).filter(may_be_its);
        asks && state.meta().incarnation == incarnation && !names.any(|name| is_back(state, name, revision))
    }
}

/// Whether a node was granted a claim after the revision, or its agent has connected.
fn is_back(state: &State, name: &NodeName, revision: Revision) -> bool {
    let connected = state.sessions().get(name).is_some_and(|session| session.modified > revision);
    let mut claims = state.peers().get(name).into_iter().flat_map(|peer| &peer.claims);
    connected || claims.any(|claim| claim.claimed > revision)
}
