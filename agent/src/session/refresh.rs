//! When a connected agent asks for the receipts of its claims again.

use std::{collections::VecDeque, time::Duration};

use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::wishes::Wish;

/// The interval: controllers that have another root sign others, and those of a revoked controller count no longer. It is less than the
/// lifetime of a certificate, which a change of the root waits for.
const INTERVAL: Duration = Duration::from_secs(8 * 3600);

/// The receipts that are to be asked for, one claim after the other.
pub(super) struct Refresh {
    due: Interval,
    claims: VecDeque<Wish>,
}

impl Refresh {
    /// Of an agent that is connected from now on: it has asked for all of them.
    pub(super) fn new() -> Self {
        let mut due = tokio::time::interval_at(Instant::now() + INTERVAL, INTERVAL);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { due, claims: VecDeque::new() }
    }

    /// Waits until all receipts are to be asked for again. Cancel-safe.
    pub(super) async fn due(&mut self) {
        self.due.tick().await;
    }

    /// Asks for those of the held claims among `wishes`; returns the first.
    pub(super) fn begin(&mut self, wishes: Vec<Wish>) -> Option<Wish> {
        self.claims = wishes.into_iter().filter(|wish| wish.held.is_some()).collect();
        self.next()
    }

    /// The claim whose receipt is to be asked for next.
    pub(super) fn next(&mut self) -> Option<Wish> {
        self.claims.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use sextant_proto::{Claim, Epoch, Incarnation, Pool, Revision};

    use super::*;

    fn wish(pool: &str, held: bool) -> Wish {
        let definition = Pool::new(pool.parse().unwrap(), "fd00::/48".parse().unwrap(), 64, 64).unwrap();
        let epoch = Epoch { incarnation: Incarnation::random(), revision: Revision(7) };
        let claim = Claim { prefix: "fd00::/64".parse().unwrap(), epoch, pool: definition };
        Wish { pool: Some(pool.parse().unwrap()), host_len: None, held: held.then_some(claim), beside: true }
    }

    #[tokio::test(start_paused = true)]
    async fn receipts_are_asked_for_every_eight_hours_and_for_held_claims_alone() {
        let (mut refresh, hour) = (Refresh::new(), Duration::from_secs(3600));
        for _ in 0..2 {
            let before = Instant::now();
            assert!(tokio::time::timeout(hour * 8 - Duration::from_secs(1), refresh.due()).await.is_err());
            refresh.due().await;
            assert_eq!(before.elapsed(), hour * 8);
            let wishes = vec![wish("a", true), wish("b", false), wish("c", true)];
            let asked = [refresh.begin(wishes), refresh.next(), refresh.next()];
            let pools = asked.map(|wish| wish.map(|it| it.pool.unwrap().to_string()));
            assert_eq!(pools, [Some("a".to_owned()), Some("c".to_owned()), None]);
        }
        // A host that slept asks once, and then in the rhythm from there.
        tokio::time::advance(hour * 100).await;
        refresh.due().await;
        assert!(tokio::time::timeout(hour * 7, refresh.due()).await.is_err());
    }
}
