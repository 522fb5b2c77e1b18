//! The claims that a controller has refused, or not confirmed yet, while it has confirmed another one. They are asked for again
//! while the agent is connected; the node's other prefixes work meanwhile (DESIGN I10), and a held one stays as it is (I5).

use std::time::Duration;

use sextant_proto::{Pool, PoolName};
use tokio::time::Instant;

use super::{link::LinkError, wishes::Wish};
use crate::{
    cluster::{Delta, View},
    problems::Finding,
    state::StateError,
};

/// The interval of attempts. A change of the pools brings the next one forward.
const RETRY: Duration = Duration::from_secs(30);
/// The interval of attempts after a failure that passes by itself, such as that of a controller that has just started.
const RETRY_SOON: Duration = Duration::from_secs(3);

/// The refused claims.
#[derive(Debug, Default)]
pub(super) struct Missing {
    refused: Vec<Refused>,
    /// The pools at the last change.
    pools: Vec<Pool>,
}

#[derive(Debug)]
struct Refused {
    wish: Wish,
    why: String,
    /// When it is asked for again; `None` while it is.
    due: Option<Instant>,
}

impl Missing {
    /// Forgets all: each claim is asked for again.
    pub(super) fn clear(&mut self) {
        self.refused.clear();
    }

    /// A claim was refused, for this reason. A held one is asked for again soon: a store that replaces a lost one may refuse it
    /// for a moment, and takes it for ended once its recovery window is closed (DESIGN I2).
    pub(super) fn refused(&mut self, wish: Wish, why: String) {
        let delay = if wish.held.is_some() { RETRY_SOON } else { RETRY };
        self.ask_again(wish, why, delay);
    }

    /// A claim failed.
    pub(super) fn failed(&mut self, wish: Wish, error: &LinkError) {
        match error {
            LinkError::Refused(_) => self.refused(wish, error.to_string()),
            _ => self.ask_again(wish, error.to_string(), RETRY_SOON),
        }
    }

    /// A claim was granted, and cannot be stored.
    pub(super) fn not_stored(&mut self, wish: Wish, error: &StateError) {
        self.ask_again(wish, error.to_string(), RETRY_SOON);
    }

    fn ask_again(&mut self, wish: Wish, why: String, delay: Duration) {
        let due = Instant::now() + delay;
        match self.refused.iter_mut().find(|it| it.wish.pool == wish.pool) {
            // The pools have changed since it was asked for: the answer may be of before.
            Some(before) => {
                let due = before.due.map_or(due, |sooner| sooner.min(due));
                *before = Refused { wish, why, due: Some(due) };
            }
            None => self.refused.push(Refused { wish, why, due: Some(due) }),
        }
    }

    /// A claim in this pool was granted.
    pub(super) fn granted(&mut self, pool: Option<&PoolName>) {
        self.refused.retain(|it| it.wish.pool.as_ref() != pool);
    }

    /// Whether the controller has not confirmed this pool's claim.
    pub(super) fn has(&self, pool: &PoolName) -> bool {
        self.refused.iter().any(|it| it.wish.pool.as_ref() == Some(pool))
    }

    /// The view has changed: with other pools, each claim may be granted now.
    pub(super) fn view_changed(&mut self, view: &View) {
        if !self.refused.is_empty() && !self.pools.iter().eq(view.pools()) {
            self.pools = view.pools().cloned().collect();
            self.ask_at_once();
        }
    }

    /// This delta is about to be taken into the view: where it ends a claim, there is room for another one.
    pub(super) fn delta(&mut self, delta: &Delta, view: &View) {
        if !self.refused.is_empty() && view.ends_claims(delta) {
            self.ask_at_once();
        }
    }

    /// What is being asked for is asked for again: the answer may be of before.
    fn ask_at_once(&mut self) {
        self.refused.iter_mut().for_each(|it| it.due = Some(Instant::now()));
    }

    /// When the next claim is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.refused.iter().filter_map(|it| it.due).min()
    }

    /// The claim to ask for now. The others follow, each after its answer.
    pub(super) fn next(&mut self) -> Option<Wish> {
        let next = self.refused.iter_mut().filter(|it| it.due.is_some()).min_by_key(|it| it.due)?;
        next.due = None;
        Some(next.wish.clone())
    }

    /// The problem with each.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let finding = |Refused { wish, why, .. }: &Refused| {
            let pool = wish.pool.as_ref().map(ToString::to_string).unwrap_or_default();
            Finding::new("pool-without-claim", format!("no prefix of pool {pool}: {why}"), "").about(pool)
        };
        self.refused.iter().map(finding).collect()
    }
}

#[cfg(test)]
mod tests {
    use sextant_proto::{Incarnation, NodeState, Peer, PeerClaim, Prefix, Revision};

    use super::*;
    use crate::{cluster::Change, routes::fixture};

    fn wish(pool: &str) -> Wish {
        Wish { pool: Some(pool.parse().unwrap()), host_len: None, held: None, beside: true }
    }

    fn view(pools: &[&str]) -> View {
        let pool =
            |name: &&str| Pool::new(name.parse().unwrap(), "fd00::/48".parse().unwrap(), 64, 64).unwrap();
        fixture::view(pools.iter().map(pool).collect(), vec![])
    }

    fn peer(name: &str, nth: u16) -> Peer {
        let prefix = Prefix::containing([0xfd00, 0, 0, nth, 0, 0, 0, 0].into(), 64).unwrap();
        let claim = PeerClaim::current(prefix, "ula".parse().unwrap(), Revision(1), NodeState::Ready);
        let drain_timeout = Duration::ZERO;
        Peer {
            name: name.parse().unwrap(),
            claims: vec![claim],
            next_hops: vec![],
            session: true,
            drain_timeout,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_that_passes_by_itself_is_tried_again_soon() {
        let mut missing = Missing::default();
        missing.failed(wish("ula"), &LinkError::Refused("is exhausted".into()));
        assert_eq!(missing.due(), Some(Instant::now() + RETRY));
        missing.failed(wish("third"), &LinkError::Silent(Duration::from_secs(9)));
        assert_eq!(missing.due(), Some(Instant::now() + RETRY_SOON));
    }

    /// Its pool may be restored by another node's claim, which is no change of the pools that this agent knows.
    #[tokio::test(start_paused = true)]
    async fn a_held_claim_that_is_refused_is_asked_for_again_soon() {
        let pool = Pool::new("main".parse().unwrap(), "fd00::/48".parse().unwrap(), 64, 64).unwrap();
        let epoch = sextant_proto::Epoch { incarnation: Incarnation::random(), revision: Revision(7) };
        let held = sextant_proto::Claim { prefix: "fd00::/64".parse().unwrap(), epoch, pool };
        let mut missing = Missing::default();
        let wish = Wish { held: Some(held), ..wish("main") };
        missing.failed(wish, &LinkError::Refused("pool \"main\" does not exist".into()));
        assert_eq!(missing.due(), Some(Instant::now() + RETRY_SOON));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_asked_for_at_once_when_a_claim_ends() {
        let (h1, h2) = (peer("h1", 1), peer("h2", 2));
        let view = fixture::view(vec![], vec![h1.clone(), h2.clone()]);
        let mut missing = Missing::default();
        missing.view_changed(&view);
        missing.refused(wish("ula"), "is exhausted".into());
        let delta =
            |change| Delta { since: Revision(1), revision: Revision(2), mark: None, changes: vec![change] };
        let asks = |missing: &Missing| missing.due() == Some(Instant::now());
        missing.delta(&delta(Change::Peer(h1.clone())), &view);
        missing.delta(&delta(Change::Peer(peer("h3", 3))), &view);
        assert!(!asks(&missing), "nothing has ended");
        let moved = h1.clone().with_each_claim(|claim| claim.prefix = "fd00:0:0:9::/64".parse().unwrap());
        for ends in [Change::PeerRemoved(h2.name), Change::Peer(moved)] {
            missing.delta(&delta(ends), &view);
            assert!(asks(&missing));
            assert_eq!(missing.next(), Some(wish("ula")));
            missing.refused(wish("ula"), "is exhausted".into());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_asked_for_again_and_at_once_when_the_pools_change() {
        let mut missing = Missing::default();
        missing.view_changed(&view(&["main"]));
        assert_eq!(missing.due(), None, "nothing is missing");
        missing.refused(wish("ula"), "is exhausted".into());
        missing.refused(wish("third"), "does not exist".into());
        missing.refused(wish("fourth"), "does not exist".into());
        assert_eq!(missing.due(), Some(Instant::now() + RETRY));
        assert_eq!(missing.findings()[0].saw, "no prefix of pool ula: is exhausted");

        tokio::time::advance(Duration::from_secs(1)).await;
        missing.view_changed(&view(&["main", "ula"]));
        for pool in ["ula", "third", "fourth"] {
            assert_eq!(missing.due(), Some(Instant::now()), "{pool} at once");
            assert_eq!(missing.next(), Some(wish(pool)), "each in its turn");
            match pool {
                "third" => missing.granted(Some(&"third".parse().unwrap())),
                _ => missing.refused(wish(pool), "is closed".into()),
            }
        }
        assert_eq!(missing.due(), Some(Instant::now() + RETRY));
        // The pools change while one is asked for: the answer may be of before.
        tokio::time::advance(RETRY).await;
        assert_eq!(missing.next(), Some(wish("ula")));
        missing.view_changed(&view(&["main", "ula", "third"]));
        missing.refused(wish("ula"), "is closed".into());
        assert_eq!(missing.next(), Some(wish("ula")));
        missing.granted(Some(&"fourth".parse().unwrap()));
        missing.granted(Some(&"ula".parse().unwrap()));
        assert_eq!((missing.due(), missing.findings().len()), (None, 0));
    }
}
