//! Acknowledgements of this controller's agents, and waiting for them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sextant_proto::{Ack, Applied, NodeName, Revision};
use tokio::sync::watch;

use crate::{index::Index, records::Observers};

/// A source of the acknowledgements at other controllers.
#[async_trait::async_trait]
pub trait Refresh: Send + Sync {
    /// Queries all other controllers and keeps their answers. Returns whether there are any.
    async fn refresh(&self) -> bool;
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
    /// The acknowledgements at other controllers, at the last query.
    remote: Mutex<HashMap<NodeName, Applied>>,
    changed: watch::Sender<()>,
}

/// The progress of the live agents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The agents with a session.
    pub live: usize,
    /// Those that have applied the revision.
    pub applied: usize,
    /// Those that have not applied it.
    pub laggards: Vec<NodeName>,
}

impl Acks {
    /// Without acks; `index` knows the live agents.
    pub fn new(index: Index) -> Self {
        let (applied, remote) = (Mutex::default(), Mutex::default());
        let shared = Shared { applied, remote, changed: watch::Sender::new(()) };
        Self { index, shared: Arc::new(shared) }
    }

    /// Records an agent's ack.
    pub fn record(&self, node: &NodeName, applied: Applied) {
        self.applied().insert(node.clone(), applied);
        self.shared.changed.send_replace(());
    }

    /// An agent's stream has ended: drops its acknowledgement.
    pub fn forget(&self, node: &NodeName) {
        self.applied().remove(node);
        self.shared.changed.send_replace(());
    }

    /// The acknowledgement of `node`: its own if connected here, else the last one from other controllers.
    pub fn of(&self, node: &NodeName) -> Option<Applied> {
        let local = self.applied().get(node).cloned();
        local.map(|applied| self.revisions().lift(applied)).or_else(|| self.remote().get(node).cloned())
    }

    /// The acknowledgements of the agents that are connected here.
    pub fn local(&self) -> HashMap<NodeName, Applied> {
        let revisions = self.revisions();
        self.applied().iter().map(|(node, applied)| (node.clone(), revisions.lift(applied.clone()))).collect()
    }

    /// Replaces the acknowledgements at other controllers.
    pub fn keep_remote(&self, remote: HashMap<NodeName, Applied>) {
        *self.remote() = remote;
    }

    /// What the agents connected here see of hosts without an agent. Each has one observer on a host.
    pub fn verdicts(&self) -> BTreeMap<NodeName, Observers> {
        let applied = self.applied();
        let mut seen: BTreeMap<NodeName, Observers> = BTreeMap::new();
        for applied in applied.values() {
            let each: BTreeMap<_, _> =
                applied.ack.verdicts.iter().map(|verdict| (&verdict.node, verdict.forwarding)).collect();
            for (node, forwarding) in each {
                seen.entry(node.clone()).or_default().add(forwarding);
            }
        }
        seen
    }

    /// The progress of all live agents but `except` towards `revision`.
    pub fn progress(&self, revision: Revision, except: Option<&NodeName>) -> Progress {
        let live: Vec<NodeName> = self.index.read(|state| state.sessions().keys().cloned().collect());
        let revisions = self.revisions();
        let (applied, remote) = (self.applied(), self.remote());
        let mut progress = Progress::default();
        for node in live.into_iter().filter(|node| Some(node) != except) {
            progress.live += 1;
            let local = applied.get(&node).map(|local| revisions.up_to(local.ack.revision));
            match local.or_else(|| remote.get(&node).map(|remote| remote.ack.revision)) {
                Some(applied) if applied >= revision => progress.applied += 1,
                _ => progress.laggards.push(node),
            }
        }
        progress
    }

    /// Changes with each ack and each change of the live agents.
    pub fn watch(&self) -> Changes {
        Changes { acks: self.shared.changed.subscribe(), index: self.index.subscribe() }
    }

    fn revisions(&self) -> Revisions {
        // In this order: what is published is never behind what was seen before it.
        let seen = self.index.seen();
        Revisions { seen, published: self.index.published() }
    }

    fn remote(&self) -> MutexGuard<'_, HashMap<NodeName, Applied>> {
        self.shared.remote.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn applied(&self) -> MutexGuard<'_, HashMap<NodeName, Applied>> {
        self.shared.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The revision of this controller's index, and the last revision with changes for agents.
///
/// Controllers that started at different times number the same content by different revisions: each uses the revision at which
/// it listed the store. So an agent that has applied the last change for agents here has applied everything that this
/// controller has seen, whatever number another controller uses.
struct Revisions {
    seen: Revision,
    published: Revision,
}

impl Revisions {
    fn up_to(&self, applied: Revision) -> Revision {
        if applied >= self.published { applied.max(self.seen) } else { applied }
    }

    fn lift(&self, applied: Applied) -> Applied {
        let ack = Ack { revision: self.up_to(applied.ack.revision), ..applied.ack };
        Applied { ack, ..applied }
    }
}

/// Notifies of changes of [`Acks::progress`].
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
    fn an_ack_of_all_published_changes_covers_all_seen_ones() {
        let revisions = Revisions { seen: Revision(66), published: Revision(60) };
        assert_eq!(revisions.up_to(Revision(59)), Revision(59), "something is still to come");
        assert_eq!(revisions.up_to(Revision(60)), Revision(66));
        assert_eq!(
            revisions.up_to(Revision(70)),
            Revision(70),
            "a resumed stream may know more than this controller"
        );
    }
}
