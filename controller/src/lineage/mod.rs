//! Whether the store is still the one that agents and controllers know (DESIGN I1, I6).
//!
//! An etcd snapshot that is restored takes the store back to an earlier revision, under the same incarnation: grants and
//! ends since then are gone, and revisions are used a second time. So each grant and each end puts a random mark
//! ([`History`]), and each transaction of the claim logic guards the last mark that its controller knows. That the store
//! was taken back shows in three ways: a controller sees its revision fall, or misses a mark ([`course`]); or agents say that
//! they know a mark, a claim or a revision that the store does not have ([`Lineage::heard`]). One agent alone is reported
//! and changes nothing but its own claim; two make the store another incarnation ([`fork`]): agents keep their routes,
//! register what they hold, and of two that held one prefix the later one has it.

mod fork;
mod history;
mod witnesses;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sextant_proto::{Incarnation, Mark, NodeName, Revision};
use tokio::time::Instant;

use crate::{
    index::{Index, State},
    keys::Keys,
    registry::{RegistryError, SharedRegistry},
};

pub use fork::{Course, course, fork};
pub use history::{History, KEPT, Known};
pub use witnesses::Doubt;

use witnesses::Witnesses;

/// How long a controller that has just started waits for an agent that confirms the store's history, before it grants a new
/// prefix in a store that has sessions. Agents reconnect within 5 s.
const CONFIRM_WITHIN: Duration = Duration::from_secs(5);
/// For how long a single node that knows another history is asked to wait for a second one.
const SECOND_WITHIN: Duration = Duration::from_secs(10);

/// What a node says that it knows of the store.
#[derive(Debug, Clone, Copy, Default)]
pub struct Knows {
    /// The incarnation and revision of its view.
    pub view: Option<(Incarnation, Revision)>,
    /// The last mark that it has seen.
    pub mark: Option<Mark>,
}

/// What nodes say of the store's history, and what comes of it.
#[derive(Clone)]
pub struct Lineage {
    registry: SharedRegistry,
    keys: Keys,
    index: Index,
    shared: Arc<Shared>,
}

struct Shared {
    witnesses: Mutex<Witnesses>,
    /// An agent has said that it knows the store's history.
    confirmed: AtomicBool,
    /// The store had sessions at the start: their agents will come.
    awaited_until: Option<Instant>,
}

impl Lineage {
    /// The history of the store that `index` follows.
    pub fn new(registry: SharedRegistry, keys: Keys, index: Index) -> Self {
        let awaited = index.read(|state| !state.sessions().is_empty());
        let awaited_until = awaited.then(|| Instant::now() + CONFIRM_WITHIN);
        let (witnesses, confirmed) = (Mutex::default(), AtomicBool::new(false));
        Self { registry, keys, index, shared: Arc::new(Shared { witnesses, confirmed, awaited_until }) }
    }

    /// What `node` knows, at a time when the store was at `revision` and the index as new. Whether its word agrees with the
    /// store; where it does not, it must not be told that anything is gone.
    pub async fn heard(&self, node: &NodeName, knows: &Knows, revision: Revision) -> bool {
        let (doubt, confirms) =
            self.index.read(|state| (doubt(state, knows, revision), confirms(state, knows)));
        if confirms {
            self.shared.confirmed.store(true, Ordering::Relaxed);
        }
        match doubt {
            None => {
                self.witnesses().agrees(node);
                true
            }
            Some(doubt) => {
                self.doubted(node, doubt).await;
                false
            }
        }
    }

    /// A node knows something that the store must have, and does not. Returns whether it was made another incarnation; else
    /// since when the node says so.
    pub async fn doubted(&self, node: &NodeName, doubt: String) -> Doubted {
        let here = self.index.read(|state| state.meta().incarnation);
        let (since, enough) = {
            let mut witnesses = self.witnesses();
            if witnesses.doubts(here, node, &doubt, Instant::now()) {
                tracing::warn!(%node, doubt, "node knows a history that the store does not have; a second node decides");
            }
            (witnesses.since(node), witnesses.are_enough(here))
        };
        if !enough {
            let waited = since.is_some_and(|since| since.elapsed() >= SECOND_WITHIN);
            return if waited { Doubted::Alone } else { Doubted::Waiting };
        }
        let why = format!("at least two nodes know a later one: node {node}: {doubt}");
        match fork(&self.registry, &self.keys, here, &why).await {
            Ok(()) => self.index.reconsider(),
            Err(error) => tracing::warn!(%error, "store cannot be made another incarnation; trying again"),
        }
        Doubted::Waiting
    }

    /// Nodes that know another history than the store's.
    pub fn doubts(&self) -> Vec<Doubt> {
        let here = self.index.read(|state| state.meta().incarnation);
        self.witnesses().all(here)
    }

    /// Whether a new prefix is not to be granted yet: nobody has confirmed yet that the store's history is the one that
    /// agents know.
    pub fn is_unconfirmed(&self) -> bool {
        let waits = self.shared.awaited_until.is_some_and(|until| Instant::now() < until);
        waits && !self.shared.confirmed.load(Ordering::Relaxed)
    }

    /// What the store answered from is behind what was seen of it: looks at it anew.
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

    fn witnesses(&self) -> MutexGuard<'_, Witnesses> {
        self.shared.witnesses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of a node that knows what the store does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubted {
    /// It is to try again: a second node may come, or the store is another incarnation by then.
    Waiting,
    /// No second node has come for a while.
    Alone,
}

/// What of a node's knowledge the store must have and does not.
fn doubt(state: &State, knows: &Knows, revision: Revision) -> Option<String> {
    let here = state.meta().incarnation;
    let ahead = knows.view.filter(|(incarnation, view)| *incarnation == here && *view > revision);
    if let Some((_, view)) = ahead {
        return Some(format!("its view is of revision {view}, and the store is at {revision}"));
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
