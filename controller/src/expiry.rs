//! What ends by itself: the claims of hosts that have been down for `hold_down`, and quarantines (DESIGN §5).
//!
//! One task, [`Expiry::run`]: it looks every second. Its clock is its own and monotonic: a node is down from when this
//! controller first saw it without a session. It never ends: a store that does not answer is tried again.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    time::Duration,
};

use sextant_proto::{NodeName, NodeState};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{
    acks::Acks,
    claims::{Claims, ForgetError},
    grpc::Others,
    index::{Index, State},
};

/// How often to look.
const TICK: Duration = Duration::from_secs(1);
/// How often to look for quarantines that are over.
const TICKS_PER_QUARANTINE_LOOK: u64 = 5;

/// Ends what has lasted long enough.
pub struct Expiry {
    claims: Claims,
    index: Index,
    acks: Acks,
    others: Others,
    hold_down: Option<Duration>,
    down: BTreeMap<NodeName, Instant>,
}

impl Expiry {
    /// Ends claims of nodes that have been down for `hold_down`; never if there is none.
    pub fn new(
        claims: Claims,
        index: Index,
        acks: Acks,
        others: Others,
        hold_down: Option<Duration>,
    ) -> Self {
        Self { claims, index, acks, others, hold_down, down: BTreeMap::new() }
    }

    /// Looks and ends, for ever.
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
                    tracing::debug!(%error, "quarantines cannot be ended; trying again");
                    return;
                }
            }
        }
    }

    async fn end_held_down(&mut self, hold_down: Duration) {
        let down = self.index.read(down);
        let now = Instant::now();
        let due = due(&mut self.down, down, now, hold_down);
        if due.is_empty() {
            return;
        }
        // One that is still being set up has no session; its agent is heard all the same.
        self.others.refresh().await;
        for node in due.into_iter().filter(|node| self.acks.of(node).is_none()) {
            match self.claims.hold_down(&node).await {
                Ok((prefix, revision)) => {
                    tracing::warn!(%node, %prefix, %revision, ?hold_down, "claim ended: down for hold_down");
                    self.down.remove(&node);
                }
                Err(ForgetError::Up { .. } | ForgetError::Forwarding { .. } | ForgetError::Unknown(_)) => {}
                Err(error) => tracing::warn!(%node, %error, "claim of a host that is down cannot be ended"),
            }
        }
    }
}

/// The nodes without a session, whose hosts nobody sees forwarding. A drained one was put aside by a person, and stays.
/// While a store stands in for a lost one, its nodes are still to come: nobody is down yet.
fn down(state: &State) -> BTreeSet<NodeName> {
    let nodes = state.peers().values().filter(|_| !state.meta().recovering && !state.meta().restoring);
    let gone = nodes.filter(|peer| !peer.session && peer.state != NodeState::Drained);
    let forwards = |node: &NodeName| state.verdict(node).is_some_and(|verdict| verdict.forwarding);
    gone.map(|peer| peer.name.clone()).filter(|node| !forwards(node)).collect()
}

/// Keeps since when each is down; those that have been for long enough.
fn due(
    since: &mut BTreeMap<NodeName, Instant>,
    down: BTreeSet<NodeName>,
    now: Instant,
    hold_down: Duration,
) -> Vec<NodeName> {
    since.retain(|node, _| down.contains(node));
    for node in down {
        since.entry(node).or_insert(now);
    }
    let is_due = |since: &Instant| now.duration_since(*since) >= hold_down;
    since.iter().filter(|(_, since)| is_due(since)).map(|(node, _)| node.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_down_all_the_time_is_due() {
        let names =
            |names: &[&str]| names.iter().map(|it| it.parse().unwrap()).collect::<BTreeSet<NodeName>>();
        let (mut since, start, hold_down) = (BTreeMap::new(), Instant::now(), Duration::from_secs(10));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(due(&mut since, names(&["h1", "h2"]), at(0), hold_down).is_empty());
        assert!(due(&mut since, names(&["h1"]), at(5), hold_down).is_empty(), "h2 was back for a moment");
        assert_eq!(due(&mut since, names(&["h1", "h2"]), at(10), hold_down), ["h1".parse().unwrap()]);
        assert_eq!(due(&mut since, names(&["h1", "h2"]), at(20), hold_down).len(), 2);
        assert!(due(&mut since, names(&[]), at(99), hold_down).is_empty());
    }
}
