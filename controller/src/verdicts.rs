//! Verdicts of agents on hosts without an agent (DESIGN §5), collected in the store.
//!
//! Each controller keeps a key for each such node that its own agents report on, with what weight they have. The keys are attached to the controller's lease, and are deleted when the node's session is back,
//! or when no agent reports on it any more.
//!
//! One task, [`Verdicts::run`]: it waits for acks and for changes of the index, and also checks periodically, as an expired
//! lease may have deleted its keys. It never ends: calls to a store that does not answer are retried.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use sextant_daemon::{Failing, Outage, Recovered};
use sextant_proto::NodeName;
use tokio::time::Instant;

use crate::{
    acks::Acks,
    index::{Index, State},
    keys::Keys,
    records::{Observers, Record, VerdictRecord, unix_ms},
    registry::{LeaseId, Op, Outcome, RegistryError, SharedRegistry, Txn},
    sessions::Sessions,
};

/// How long to gather acks, so that a burst makes one transaction.
const GATHER: Duration = Duration::from_millis(200);
/// The interval of checks without changes.
const PERIOD: Duration = Duration::from_secs(5);
/// How long to wait for the index to see a write.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
/// How many operations one transaction has at most (etcd's own limit is 128).
const MOST_OPS: usize = 100;

/// The keeper of this controller's verdicts.
pub struct Verdicts {
    registry: SharedRegistry,
    keys: Keys,
    index: Index,
    sessions: Sessions,
    acks: Acks,
}

/// What is to be done in the store about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Put(NodeName, VerdictRecord),
    Delete(NodeName),
}

impl Verdicts {
    /// The keeper for the controller that `sessions` is of.
    pub fn new(registry: SharedRegistry, keys: Keys, index: Index, sessions: Sessions, acks: Acks) -> Self {
        Self { registry, keys, index, sessions, acks }
    }

    /// Keeps the verdicts.
    ///
    /// # Errors
    /// None: failures are logged and retried.
    pub async fn run(self) -> Result<(), Infallible> {
        let mut changes = self.acks.watch();
        let mut outage = Outage::default();
        loop {
            let _nothing_new = tokio::time::timeout(PERIOD, changes.next()).await;
            tokio::time::sleep(GATHER).await;
            let kept = self.keep().await;
            match kept {
                Ok(()) => {
                    if let Some(Recovered { failures, after_secs }) = outage.works(Instant::now()) {
                        tracing::info!(failures, after_secs, "verdicts on hosts are written again");
                    }
                }
                Err(error) => {
                    if let Some(Failing { failures, for_secs }) = outage.failed(Instant::now()) {
                        tracing::warn!(%error, failures, for_secs, "verdicts on hosts cannot be written; retrying");
                    }
                }
            }
        }
    }

    /// Writes the agents' verdicts to the store.
    async fn keep(&self) -> Result<(), RegistryError> {
        let Some(lease) = self.sessions.lease() else {
            return Ok(());
        };
        let (me, said) = (&self.sessions.identity().id, self.acks.verdicts());
        let steps = self.index.read(|state| steps(state, me, &said, unix_ms()));
        for some in steps.chunks(MOST_OPS) {
            some.iter().for_each(tell);
            let ops = some.iter().map(|step| self.op(step, lease)).collect();
            let outcome = self.registry.commit(Txn { guards: Vec::new(), ops }).await?;
            if let Outcome::Committed(revision) = outcome {
                // Else the next check would repeat the write.
                self.index.reaches(revision, SEEN_WITHIN).await;
            }
        }
        Ok(())
    }

    fn op(&self, step: &Step, lease: LeaseId) -> Op {
        let key = |node| self.keys.verdict(node, &self.sessions.identity().id);
        match step {
            Step::Put(node, record) => Op::Put { key: key(node), value: record.encode(), lease: Some(lease) },
            Step::Delete(node) => Op::Delete(key(node)),
        }
    }
}

/// The changes from the verdicts of the controller `me` in the store to those that its agents have reported.
fn steps(state: &State, me: &str, said: &BTreeMap<NodeName, Observers>, now_unix_ms: u64) -> Vec<Step> {
    let counts = |node: &NodeName| {
        state.peers().get(node).is_some_and(|peer| !peer.session && peer.ready_claims().next().is_some())
    };
    let written =
        |node: &NodeName| state.verdicts().get(&(node.clone(), me.to_owned())).map(|view| view.record);
    let puts = said.iter().filter(|(node, _)| counts(node)).filter_map(|(node, &observers)| {
        let (before, next) = (written(node), VerdictRecord::of(observers, now_unix_ms));
        let unchanged = before.is_some_and(|before| before.agrees(&next));
        (!unchanged).then(|| Step::Put(node.clone(), next))
    });
    let mine = state.verdicts().keys().filter(|(_, controller)| controller == me);
    let gone = mine.filter(|(node, _)| !counts(node) || !said.contains_key(node));
    puts.chain(gone.map(|(node, _)| Step::Delete(node.clone()))).collect()
}

fn tell(step: &Step) {
    match step {
        Step::Put(node, VerdictRecord { forwarding: true, .. }) => {
            tracing::info!(%node, "forwarding without agent: the host answers its peers");
        }
        Step::Put(node, _) => tracing::warn!(%node, "host dead: it answers no agent of this controller"),
        Step::Delete(node) => tracing::info!(%node, "verdict on host cleared"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sextant_proto::{NodeId, NodeState, Revision};

    use super::*;
    use crate::{
        records::{ClaimRecord, HeldClaim, Meta, NodeRecord, SessionRecord},
        registry::{Entry, Listing},
    };

    fn name(n: u8) -> NodeName {
        format!("h{n}").parse().unwrap()
    }

    /// Of three agents.
    fn observers(forwarding: bool) -> Observers {
        if forwarding { Observers { forwarding: 3, dead: 0 } } else { Observers { forwarding: 0, dead: 3 } }
    }

    fn entry(key: String, value: Bytes) -> Entry {
        Entry { key, value, created: Revision(1), modified: Revision(1), lease: None }
    }

    /// Ready nodes 1 to 4, of which only 4 has a session; node 5, which is not announced; and these verdicts: node, controller,
    /// forwarding.
    fn state(verdicts: &[(u8, &str, bool)]) -> State {
        let keys = Keys::new(&"default".parse().unwrap());
        let meta = Meta { recovering: false, ..Meta::new() };
        let mut entries = vec![entry(keys.meta(), meta.encode())];
        for n in 1..=5 {
            let (prefix, pool) = (format!("2001:db8:{n}::/64").parse().unwrap(), "main".parse().unwrap());
            let (node, node_id) = (name(n), NodeId::random());
            let claim = ClaimRecord { node: node.clone(), node_id, pool, claimed_unix_ms: 0, prior: None };
            let record = NodeRecord {
                state: if n == 5 { NodeState::Joining } else { NodeState::Ready },
                uplinks: vec![],
                since_unix_ms: 0,
                ..NodeRecord::new(
                    node_id,
                    HeldClaim { announced: n != 5, ..HeldClaim::new(prefix, claim.pool.clone()) },
                )
            };
            entries.extend([
                entry(keys.claim(prefix), claim.encode()),
                entry(keys.node(&node), record.encode()),
            ]);
        }
        entries.push(entry(
            keys.session(&name(4)),
            SessionRecord { controller: "c1".into(), instance: None, serial: String::new() }.encode(),
        ));
        for (n, controller, forwarding) in verdicts {
            let record = VerdictRecord::of(observers(*forwarding), 5);
            entries.push(entry(keys.verdict(&name(*n), controller), record.encode()));
        }
        State::new(keys, meta, &Listing { revision: Revision(1), entries }).unwrap()
    }

    fn steps_of(written: &[(u8, &str, bool)], said: &[(u8, bool)]) -> Vec<Step> {
        let said = said.iter().map(|&(n, forwarding)| (name(n), observers(forwarding))).collect();
        steps(&state(written), "c1", &said, 9)
    }

    fn put(n: u8, forwarding: bool) -> Step {
        Step::Put(name(n), VerdictRecord::of(observers(forwarding), 9))
    }

    #[test]
    fn only_new_verdicts_are_written() {
        let written = [(2, "c1", false), (3, "c1", true)];
        assert_eq!(
            steps_of(&written, &[(1, true), (2, true), (3, true)]),
            [put(1, true), put(2, true)],
            "the third is unchanged, with its time"
        );
    }

    #[test]
    fn withdrawn_and_outdated_verdicts_are_deleted() {
        let written = [(1, "c1", false), (4, "c1", true), (9, "c1", true), (2, "c2", true)];
        assert_eq!(
            steps_of(&written, &[(4, true), (9, true)]),
            [Step::Delete(name(1)), Step::Delete(name(4)), Step::Delete(name(9))],
            "no agent reports on h1, h4's session is back, h9 is forgotten; h2's is another controller's"
        );
    }

    #[test]
    fn no_verdict_is_written_for_a_node_that_is_not_lost() {
        assert_eq!(steps_of(&[], &[(4, false), (5, false), (9, false)]), []);
    }
}
