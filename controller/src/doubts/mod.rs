//! Nodes that report history that the store does not have (DESIGN I1, I6).
//!
//! Agents report in their hello the mark, claim and revision that they know. If the store does not have them, that is a doubt,
//! and is put into the store, so that the nodes of all controllers count. One node alone is reported and affects only its own
//! claim; two give the store a new incarnation ([`crate::lineage`]), if their doubts are a [`proof`].

mod proof;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sextant_daemon::OncePerMinute;
use sextant_proto::{Epoch, Incarnation, Mark, NodeId, NodeName, Revision};
use tokio::time::Instant;

use crate::{
    index::{Index, State},
    keys::{Key, Keys},
    lineage::{Known, foreign, fork},
    records::{DoubtRecord, Record},
    registry::{Entry, Op, Outcome, RegistryError, SharedRegistry, Txn},
};

use proof::{Doubt, is_proof};

/// How long a controller that has just started waits for an agent that confirms the store's history, before it grants a new
/// prefix in a store that has sessions. Agents reconnect within 5 s.
const CONFIRM_WITHIN: Duration = Duration::from_secs(5);
/// How long a single node with a doubt waits for a second one.
const SECOND_WITHIN: Duration = Duration::from_secs(10);

/// The history that a node reports.
#[derive(Debug, Clone, Copy, Default)]
pub struct Knows {
    /// The incarnation and revision of its view.
    pub view: Option<(Incarnation, Revision)>,
    /// The last mark that it has received.
    pub mark: Option<Mark>,
}

/// A node with a doubt.
#[derive(Debug, Clone, Copy)]
pub struct Doubter<'a> {
    /// Its name.
    pub node: &'a NodeName,
    /// Its id.
    pub node_id: Option<NodeId>,
    /// The claim that it shows, if it is one that the store does not have.
    pub claim: Option<Epoch>,
}

/// The nodes' reports on the store's history, and the decision.
#[derive(Clone)]
pub struct Lineage {
    registry: SharedRegistry,
    keys: Keys,
    index: Index,
    shared: Arc<Shared>,
}

struct Shared {
    /// Since when each node reports a doubt to this controller, and of which incarnation.
    since: Mutex<HashMap<NodeName, (Incarnation, Instant)>>,
    /// An agent has confirmed the store's history.
    confirmed: AtomicBool,
    /// The store had sessions at the start: their agents will connect.
    awaited_until: Option<Instant>,
    lines: Mutex<OncePerMinute>,
}

impl Lineage {
    /// The history of the store that `index` follows.
    pub fn new(registry: SharedRegistry, keys: Keys, index: Index) -> Self {
        let awaited = index.read(|state| !state.sessions().is_empty());
        let awaited_until = awaited.then(|| Instant::now() + CONFIRM_WITHIN);
        let (since, confirmed) = (Mutex::default(), AtomicBool::new(false));
        Self {
            registry,
            keys,
            index,
            shared: Arc::new(Shared { since, confirmed, awaited_until, lines: Mutex::default() }),
        }
    }

    /// Checks the history that `node` reports, while the store is at `revision` and the index is current. Returns whether it
    /// agrees with the store; if not, the node must not be sent deletions.
    pub async fn heard(
        &self,
        node: &NodeName,
        node_id: Option<NodeId>,
        knows: &Knows,
        revision: Revision,
    ) -> bool {
        let (doubt, confirms) =
            self.index.read(|state| (doubt(state, knows, revision), confirms(state, knows)));
        if confirms {
            self.shared.confirmed.store(true, Ordering::Relaxed);
        }
        match doubt {
            None => {
                self.agrees(node).await;
                true
            }
            Some(doubt) => {
                self.doubted(Doubter { node, node_id, claim: None }, doubt).await;
                false
            }
        }
    }

    /// A node reports history that the store lacks. The nodes of all controllers count: each doubt is in the store. Returns
    /// the decision for the node.
    pub async fn doubted(&self, doubter: Doubter<'_>, doubt: String) -> Doubted {
        let here = self.index.read(|state| state.meta().incarnation);
        let node = doubter.node;
        let since = self.since(node, here);
        match self.is_proven(doubter, here, &doubt).await {
            Ok(true) => {
                let why = format!("at least two nodes know a later one: node {node}: {doubt}");
                match fork(&self.registry, &self.keys, here, &why).await {
                    Ok(()) => self.index.reconsider(),
                    Err(error) => {
                        let mut lines = self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner);
                        if let Some(suppressed) = lines.admit(&error.to_string(), Instant::now()) {
                            tracing::warn!(%error, suppressed, "new incarnation of the store cannot be written; retrying");
                        }
                    }
                }
                Doubted::Waiting
            }
            Ok(_) if since.elapsed() >= SECOND_WITHIN => Doubted::Alone,
            Ok(_) => Doubted::Waiting,
            Err(error) => {
                tracing::debug!(%node, %error, "doubt of a node cannot be written");
                Doubted::Waiting
            }
        }
    }

    /// Since when the node reports it to this controller.
    fn since(&self, node: &NodeName, here: Incarnation) -> Instant {
        let mut since = self.shared.since.lock().unwrap_or_else(PoisonError::into_inner);
        let known = since.get(node).filter(|(of, _)| *of == here).map(|(_, since)| *since);
        known.unwrap_or_else(|| {
            let now = Instant::now();
            since.insert(node.clone(), (here, now));
            now
        })
    }

    /// Puts the node's doubt of the store `here` into the store; whether all doubts together are a proof.
    async fn is_proven(
        &self,
        Doubter { node, node_id, claim }: Doubter<'_>,
        here: Incarnation,
        knows: &str,
    ) -> Result<bool, RegistryError> {
        let own = DoubtRecord { of: here, knows: knows.to_owned(), node_id, claim };
        let listed = self.registry.list(&self.keys.doubts()).await?.entries;
        let mut doubts: Vec<_> = listed.iter().filter_map(|entry| self.doubt_in(entry, here)).collect();
        match doubts.iter_mut().find(|doubt| doubt.node == *node) {
            Some(there) if (there.record.node_id, there.record.claim) == (node_id, claim) => {}
            Some(there) => {
                there.record.clone_from(&own);
                self.put(node, &own).await?;
            }
            None => {
                tracing::warn!(%node, knows, "node reports history that the store does not have; waiting for a second node to confirm");
                let since = self.put(node, &own).await?;
                doubts.push(Doubt { node: node.clone(), record: own, since });
            }
        }
        Ok(self.index.read(|state| is_proof(&doubts, state)))
    }

    fn doubt_in(&self, entry: &Entry, here: Incarnation) -> Option<Doubt> {
        let Some(Key::Doubt(node)) = self.keys.parse(&entry.key) else { return None };
        let record = DoubtRecord::decode(&entry.value).ok().filter(|doubt| doubt.of == here)?;
        Some(Doubt { node, record, since: entry.created })
    }

    /// Puts a doubt into the store; returns at which revision. Into another store, none is put.
    async fn put(&self, node: &NodeName, doubt: &DoubtRecord) -> Result<Revision, RegistryError> {
        let guards = self.index.read(|state| state.same_record());
        let ops = vec![Op::put(self.keys.doubt(node), doubt.encode())];
        match self.registry.commit(Txn { guards, ops }).await? {
            Outcome::Committed(revision) | Outcome::Refused(revision) => Ok(revision),
        }
    }

    /// The node agrees with the store: deletes its doubt.
    async fn agrees(&self, node: &NodeName) {
        if !self.index.read(|state| state.doubts().any(|(it, _)| it == node)) {
            return;
        }
        let (guards, key) = (self.index.read(|state| state.same_record()), self.keys.doubt(node));
        if let Err(error) = self.registry.commit(Txn { guards, ops: vec![Op::Delete(key)] }).await {
            tracing::debug!(%node, %error, "doubt of a node cannot be deleted");
        }
    }

    /// Whether new prefixes are withheld: no agent has confirmed the store's history yet.
    pub fn is_unconfirmed(&self) -> bool {
        let waits = self.shared.awaited_until.is_some_and(|until| Instant::now() < until);
        waits && !self.shared.confirmed.load(Ordering::Relaxed)
    }

    /// The store answered from an older revision than seen before: checks it again.
    ///
    /// # Errors
    /// Always, if it is.
    pub fn not_back(&self, seen: Revision, revision: Revision) -> Result<(), RegistryError> {
        if revision >= seen {
            return Ok(());
        }
        self.index.reconsider();
        Err(RegistryError::Unavailable(format!(
            "the store went back from revision {seen} to {revision}: a snapshot of it was restored; try again"
        )))
    }
}

/// The decision for a node with a doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubted {
    /// It must retry: a second node may confirm, or the store may have a new incarnation by then.
    Waiting,
    /// No second node has confirmed for a while.
    Alone,
}

/// The part of a node's history that the store lacks.
fn doubt(state: &State, knows: &Knows, revision: Revision) -> Option<String> {
    let here = state.meta().incarnation;
    let ahead = knows.view.filter(|(incarnation, view)| *incarnation == here && *view > revision);
    if let Some((_, view)) = ahead {
        return Some(format!("its view is of revision {view}, and the store is at {revision}"));
    }
    let known = [knows.view.map(|(incarnation, _)| incarnation), knows.mark.map(|mark| mark.incarnation)];
    if let Some(foreign) = known.into_iter().flatten().find_map(|it| foreign(state.meta(), it)) {
        return Some(foreign);
    }
    let mark = knows.mark.filter(|mark| mark.incarnation == here)?;
    let missing = state.lineage().knows(mark.id, mark.revision) == Known::Missing;
    missing.then(|| format!("the change that it saw at revision {} is not in the store", mark.revision))
}

fn confirms(state: &State, knows: &Knows) -> bool {
    let here = state.meta().incarnation;
    let mark = knows.mark.filter(|mark| mark.incarnation == here);
    mark.is_some_and(|mark| state.lineage().knows(mark.id, mark.revision) == Known::Present)
}
