//! What the agents of this controller have applied, and waiting for it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sextant_proto::{BgpNeighbour, Conflict, FailedRoute, NodeName, Problem, Revision, Verdict};
use tokio::sync::watch;

use crate::index::Index;

/// A source of the acknowledgements that other controllers have.
#[async_trait::async_trait]
pub trait Refresh: Send + Sync {
    /// Asks all other controllers, and keeps what they say. Whether there are any.
    async fn refresh(&self) -> bool;
}

/// What an agent said of its kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Everything up to here is applied, but for what failed.
    pub revision: Revision,
    /// What the kernel refused.
    pub failed: Vec<FailedRoute>,
    /// Routes of others for the same destinations.
    pub conflicts: Vec<Conflict>,
    /// Routes to peers that are gone, kept until a person says so.
    pub held: u32,
    /// What it saw of hosts whose agents are gone.
    pub verdicts: Vec<Verdict>,
    /// Its BGP neighbours.
    pub bgp: Vec<BgpNeighbour>,
    /// What is wrong with its host. It says nothing of what is applied: nobody waits for it.
    pub problems: Vec<Problem>,
    /// The agent's build.
    pub version: String,
}

/// The last acks of all connected agents.
#[derive(Debug, Clone)]
pub struct Acks {
    index: Index,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    applied: Mutex<HashMap<NodeName, Applied>>,
    /// What other controllers' agents have applied, as last asked.
    remote: Mutex<HashMap<NodeName, Applied>>,
    changed: watch::Sender<()>,
}

/// How far the live agents are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// How many agents have a session.
    pub live: usize,
    /// How many of them have applied the revision.
    pub applied: usize,
    /// Those that have not.
    pub laggards: Vec<NodeName>,
}

impl Acks {
    /// No acks yet; `index` knows who is live.
    pub fn new(index: Index) -> Self {
        let (applied, remote) = (Mutex::default(), Mutex::default());
        let shared = Shared { applied, remote, changed: watch::Sender::new(()) };
        Self { index, shared: Arc::new(shared) }
    }

    /// An agent's ack.
    pub fn record(&self, node: &NodeName, applied: Applied) {
        self.applied().insert(node.clone(), applied);
        self.shared.changed.send_replace(());
    }

    /// An agent's stream has ended: what it said is no longer to be relied on.
    pub fn forget(&self, node: &NodeName) {
        self.applied().remove(node);
        self.shared.changed.send_replace(());
    }

    /// What `node` has applied, while it is connected here, or by the last word of the others.
    pub fn of(&self, node: &NodeName) -> Option<Applied> {
        let local = self.applied().get(node).cloned();
        local.map(|ack| self.all_told().lift(ack)).or_else(|| self.remote().get(node).cloned())
    }

    /// What the agents that are connected here have applied.
    pub fn local(&self) -> HashMap<NodeName, Applied> {
        let told = self.all_told();
        self.applied().iter().map(|(node, ack)| (node.clone(), told.lift(ack.clone()))).collect()
    }

    /// What the other controllers say of theirs, in place of what they said before.
    pub fn keep_remote(&self, remote: HashMap<NodeName, Applied>) {
        *self.remote() = remote;
    }

    /// What all agents that are connected here see of hosts whose agents are gone: whether any sees them forwarding.
    pub fn verdicts(&self) -> BTreeMap<NodeName, bool> {
        let applied = self.applied();
        let mut seen = BTreeMap::new();
        for verdict in applied.values().flat_map(|ack| &ack.verdicts) {
            *seen.entry(verdict.node.clone()).or_insert(false) |= verdict.forwarding;
        }
        seen
    }

    /// How far all live agents but `except` are towards `revision`.
    pub fn progress(&self, revision: Revision, except: Option<&NodeName>) -> Progress {
        let live: Vec<NodeName> = self.index.read(|state| state.sessions().keys().cloned().collect());
        let told = self.all_told();
        let (applied, remote) = (self.applied(), self.remote());
        let mut progress = Progress::default();
        for node in live.into_iter().filter(|node| Some(node) != except) {
            progress.live += 1;
            let local = applied.get(&node).map(|ack| told.up_to(ack.revision));
            match local.or_else(|| remote.get(&node).map(|ack| ack.revision)) {
                Some(applied) if applied >= revision => progress.applied += 1,
                _ => progress.laggards.push(node),
            }
        }
        progress
    }

    /// Changes whenever an ack comes, or who is live changes.
    pub fn watch(&self) -> Changes {
        Changes { acks: self.shared.changed.subscribe(), index: self.index.subscribe() }
    }

    fn all_told(&self) -> Told {
        // In this order: what is published is never behind what was seen before it.
        let seen = self.index.seen();
        Told { seen, published: self.index.published() }
    }

    fn remote(&self) -> MutexGuard<'_, HashMap<NodeName, Applied>> {
        self.shared.remote.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn applied(&self) -> MutexGuard<'_, HashMap<NodeName, Applied>> {
        self.shared.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far this controller knows the store, and how much of that there was to tell.
///
/// Controllers that began at different times name the same content by different revisions: each takes the one at which it
/// listed the store for the last that agents see. So an agent that has all there is to tell here has applied whatever
/// this controller has seen, by whichever number another one calls it.
struct Told {
    seen: Revision,
    published: Revision,
}

impl Told {
    fn up_to(&self, applied: Revision) -> Revision {
        if applied >= self.published { applied.max(self.seen) } else { applied }
    }

    fn lift(&self, ack: Applied) -> Applied {
        Applied { revision: self.up_to(ack.revision), ..ack }
    }
}

/// Tells when [`Acks::progress`] may have changed.
#[derive(Debug)]
pub struct Changes {
    acks: watch::Receiver<()>,
    index: watch::Receiver<Revision>,
}

impl Changes {
    /// Waits for the next change. Cancel safe.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.acks.changed() => {}
            _ = self.index.changed() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_all_that_was_told_has_applied_all_that_was_seen() {
        let told = Told { seen: Revision(66), published: Revision(60) };
        assert_eq!(told.up_to(Revision(59)), Revision(59), "something is still to come");
        assert_eq!(told.up_to(Revision(60)), Revision(66));
        assert_eq!(
            told.up_to(Revision(70)),
            Revision(70),
            "a resumed stream may know more than this controller"
        );
    }
}
