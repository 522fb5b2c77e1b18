//! The claims that a controller has refused, or not confirmed yet, while it has confirmed another one. They are asked for again
//! while the agent is connected; the node's other prefixes work meanwhile (DESIGN I10), and a held one stays as it is (I5).

use std::time::Duration;

use sextant_proto::{Pool, PoolName};
use tokio::time::Instant;

use super::{link::LinkError, wishes::Wish};
use crate::{cluster::View, problems::Finding};

/// The interval of attempts. A change of the pools brings the next one forward.
const RETRY: Duration = Duration::from_secs(30);
/// The interval of attempts after a failure that passes by itself, such as that of a controller that has just started.
const RETRY_SOON: Duration = Duration::from_secs(3);

/// The refused claims.
#[derive(Debug, Default)]
pub(super) struct Missing {
    refused: Vec<(Wish, String)>,
    /// The pools at the last attempt.
    pools: Vec<Pool>,
    due: Option<Instant>,
}

impl Missing {
    /// Forgets all: each claim is asked for again.
    pub(super) fn clear(&mut self) {
        self.refused.clear();
        self.due = None;
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

    fn ask_again(&mut self, wish: Wish, why: String, delay: Duration) {
        self.granted(wish.pool.as_ref());
        self.refused.push((wish, why));
        let due = Instant::now() + delay;
        self.due = Some(self.due.map_or(due, |other| other.min(due)));
    }

    /// A claim in this pool was granted.
    pub(super) fn granted(&mut self, pool: Option<&PoolName>) {
        self.refused.retain(|(wish, _)| wish.pool.as_ref() != pool);
    }

    /// Whether the controller has not confirmed this pool's claim.
    pub(super) fn has(&self, pool: &PoolName) -> bool {
        self.refused.iter().any(|(wish, _)| wish.pool.as_ref() == Some(pool))
    }

    /// The view has changed: with other pools, a claim may be granted now.
    pub(super) fn view_changed(&mut self, view: &View) {
        if !self.refused.is_empty() && !self.pools.iter().eq(view.pools()) {
            self.pools = view.pools().cloned().collect();
            self.due = Some(Instant::now());
        }
    }

    /// When the next claim is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !self.refused.is_empty())
    }

    /// The claim to ask for now. The others follow, each after its answer.
    pub(super) fn next(&mut self) -> Option<Wish> {
        self.due = None;
        self.refused.first().map(|(wish, _)| wish.clone())
    }

    /// The problem with each.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let finding = |(wish, why): &(Wish, String)| {
            let pool = wish.pool.as_ref().map(ToString::to_string).unwrap_or_default();
            Finding::new("pool-without-claim", format!("no prefix of pool {pool}: {why}"), "")
        };
        self.refused.iter().map(finding).collect()
    }
}

#[cfg(test)]
mod tests {
    use sextant_proto::{Incarnation, Revision};

    use super::*;
    use crate::routes::fixture;

    fn wish(pool: &str) -> Wish {
        Wish { pool: Some(pool.parse().unwrap()), host_len: None, held: None, beside: true }
    }

    fn view(pools: &[&str]) -> View {
        let pool =
            |name: &&str| Pool::new(name.parse().unwrap(), "fd00::/48".parse().unwrap(), 64, 64).unwrap();
        fixture::view(pools.iter().map(pool).collect(), vec![])
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
    async fn what_is_missing_is_asked_for_again_and_at_once_when_the_pools_change() {
        let mut missing = Missing::default();
        missing.view_changed(&view(&["main"]));
        assert_eq!(missing.due(), None, "nothing is missing");
        missing.refused(wish("ula"), "is exhausted".into());
        missing.refused(wish("third"), "does not exist".into());
        assert_eq!(missing.due(), Some(Instant::now() + RETRY));
        assert_eq!(missing.findings()[0].saw, "no prefix of pool ula: is exhausted");

        missing.view_changed(&view(&["main", "ula"]));
        assert_eq!(missing.due(), Some(Instant::now()));
        assert_eq!(missing.next(), Some(wish("ula")));
        assert_eq!(missing.due(), None, "one at a time");
        missing.refused(wish("ula"), "is closed".into());
        assert_eq!(missing.next(), Some(wish("third")), "each in its turn");
        missing.granted(Some(&"third".parse().unwrap()));
        missing.granted(Some(&"ula".parse().unwrap()));
        assert_eq!((missing.due(), missing.findings().len()), (None, 0));
    }
}
