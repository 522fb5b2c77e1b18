//! Expiry of the claims of hosts that have been down for `hold_down`, and of quarantines (DESIGN §5).
//!
//! One task, [`Expiry::run`]: it looks every second. Its clock is its own and monotonic: a node is down from when this
//! controller first saw it without a session. It never ends: a store that does not answer is tried again.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use sextant_daemon::{Failing, Outage};
use sextant_proto::{NodeName, NodeState, Peer};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{
    acks::{Acks, Refresh},
    claims::{Claims, ForgetError, listed},
    index::{Index, State},
};

/// The interval of checks.
const TICK: Duration = Duration::from_secs(1);
/// The interval of checks for quarantines that have ended.
const TICKS_PER_QUARANTINE_LOOK: u64 = 5;

/// How long the neighbours of a host that is down have at least to say that it is there: they ask at once, and what forwards
/// answers within a second.
const UNSEEN: Duration = Duration::from_secs(15);

/// Ends expired claims and quarantines.
pub struct Expiry {
    claims: Claims,
    index: Index,
    acks: Acks,
    others: Arc<dyn Refresh>,
    hold_down: Option<Duration>,
    down: BTreeMap<NodeName, Instant>,
    outage: Outage,
}

impl Expiry {
    /// Ends claims of nodes that have been down for `hold_down`; never if there is none.
    pub fn new(
        claims: Claims,
        index: Index,
        acks: Acks,
        others: Arc<dyn Refresh>,
        hold_down: Option<Duration>,
    ) -> Self {
        Self { claims, index, acks, others, hold_down, down: BTreeMap::new(), outage: Outage::default() }
    }

    /// Checks periodically, for ever.
    ///
    /// # Errors
    /// None: a store that does not answer is tried again.
    pub async fn run(mut self) -> Result<(), Infallible> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for ticks in 0u64.. {
            tick.tick().await;
            if let Some(hold_down) = self.hold_down {
                self.end_held_down(hold_down).await;
            }
            if ticks.is_multiple_of(TICKS_PER_QUARANTINE_LOOK) {
                self.end_quarantines().await;
            }
        }
        std::future::pending().await
    }

    async fn end_quarantines(&self) {
        loop {
            match self.claims.end_quarantines().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    tracing::debug!(%error, "quarantines cannot be ended; retrying");
                    return;
                }
            }
        }
    }

    async fn end_held_down(&mut self, hold_down: Duration) {
        let down = self.index.read(|state| down(state, hold_down));
        let due = due(&mut self.down, down, Instant::now());
        if due.is_empty() {
            self.waits(0);
            return;
        }
        // One that is still being set up has no session; its agent is heard all the same.
        self.others.refresh().await;
        let silent: Vec<_> = due.into_iter().filter(|node| self.acks.of(node).is_none()).collect();
        let (mut waiting, many) = (0, silent.len());
        for (n, node) in silent.into_iter().enumerate() {
            match self.claims.hold_down(&node).await {
                Ok((prefixes, revision)) => {
                    let prefix = listed(&prefixes);
                    tracing::warn!(%node, prefix, %revision, ?hold_down, "claim ended: node down for hold_down");
                    self.down.remove(&node);
                    self.outage = Outage::default();
                }
                Err(ForgetError::Up { .. } | ForgetError::Forwarding { .. } | ForgetError::Unknown(_)) => {}
                Err(ForgetError::Brake { .. }) => {
                    waiting = many - n;
                    break;
                }
                Err(error) => {
                    if let Some(Failing { failures, for_secs }) = self.outage.failed(Instant::now()) {
                        tracing::warn!(%node, %error, failures, for_secs, "claims of down hosts cannot be ended; retrying");
                    }
                }
            }
        }
        self.waits(waiting);
    }

    /// So many claims would end if the brake let them.
    fn waits(&self, waiting: usize) {
        if waiting > 0 && self.claims.waiting() == 0 {
            tracing::warn!(
                waiting,
                "too many nodes were forgotten recently; claims of down hosts are kept until `sextant resume`"
            );
        }
        self.claims.set_waiting(waiting);
    }
}

/// The nodes without a session that may lose their claims, and after how long. A drained one was put aside by a person, and
/// stays. While a store stands in for a lost one, its nodes are still to come: nobody is down yet.
fn down(state: &State, hold_down: Duration) -> BTreeMap<NodeName, Duration> {
    let nodes = state.peers().values().filter(|_| !state.meta().stands_in() && !state.meta().restoring);
    let gone = nodes.filter(|peer| !peer.session && peer.state() != NodeState::Drained);
    gone.filter_map(|peer| Some((peer.name.clone(), patience(state, peer, hold_down)?))).collect()
}

/// The time without a session after which a node's claim ends; never while its host may be alive.
fn patience(state: &State, peer: &Peer, hold_down: Duration) -> Option<Duration> {
    if peer.next_hops.is_empty() {
        // It was never announced: no peer routes to it.
        return Some(hold_down);
    }
    // No claim ends by itself while any agent sees the host alive, even one against others.
    if state.is_seen_forwarding(&peer.name) {
        return None;
    }
    match state.verdict(&peer.name) {
        Some(_) => Some(hold_down),
        // No agent is connected at all: the controllers are partitioned.
        None if state.sessions().is_empty() => None,
        None => Some(hold_down.max(UNSEEN)),
    }
}

/// Keeps since when each is down; those that have been for long enough.
fn due(
    since: &mut BTreeMap<NodeName, Instant>,
    down: BTreeMap<NodeName, Duration>,
    now: Instant,
) -> Vec<NodeName> {
    since.retain(|node, _| down.contains_key(node));
    let is_due = |(node, patience): (NodeName, Duration)| {
        let since = *since.entry(node.clone()).or_insert(now);
        (now.duration_since(since) >= patience).then_some(node)
    };
    down.into_iter().filter_map(is_due).collect()
}

#[cfg(test)]
mod tests;
