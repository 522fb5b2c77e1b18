//! How often one neighbour is served: a flood costs the others nothing (RFC 6583 §6). Pure.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::message::Mac;

/// So many neighbours are counted one by one; those beyond share one account.
const MOST: usize = 1024;
/// An account that was not used for so long is as full as a new one.
const FORGET: Duration = Duration::from_secs(2);

/// The accounts of all neighbours.
#[derive(Debug)]
pub struct Limits {
    /// Refilled each second.
    rate: f64,
    burst: f64,
    accounts: HashMap<Mac, Account>,
    rest: Account,
}

#[derive(Debug, Clone, Copy)]
struct Account {
    left: f64,
    at: Instant,
}

impl Limits {
    /// `rate` a second for each neighbour, and up to twice as many at once.
    pub fn new(rate: u32, now: Instant) -> Self {
        let burst = f64::from(rate) * 2.0;
        Self { rate: rate.into(), burst, accounts: HashMap::new(), rest: Account { left: burst, at: now } }
    }

    #[cfg(test)]
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.accounts.len(), MOST)
    }

    /// Whether this neighbour may be served once more.
    pub fn admit(&mut self, neighbour: Mac, now: Instant) -> bool {
        if self.accounts.len() >= MOST && !self.accounts.contains_key(&neighbour) {
            self.accounts.retain(|_, account| now.saturating_duration_since(account.at) < FORGET);
        }
        let full = Account { left: self.burst, at: now };
        let account = match self.accounts.len() < MOST || self.accounts.contains_key(&neighbour) {
            true => self.accounts.entry(neighbour).or_insert(full),
            false => &mut self.rest,
        };
        let since = now.saturating_duration_since(account.at).as_secs_f64();
        account.left = (account.left + since * self.rate).min(self.burst);
        account.at = now;
        if account.left < 1.0 {
            return false;
        }
        account.left -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(limits: &mut Limits, neighbour: Mac, times: usize, now: Instant) -> usize {
        (0..times).filter(|_| limits.admit(neighbour, now)).count()
    }

    #[test]
    fn a_flood_costs_only_its_sender() {
        let now = Instant::now();
        let mut limits = Limits::new(100, now);
        let (one, other) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        assert_eq!(admitted(&mut limits, one, 50_000, now), 200);
        assert_eq!(admitted(&mut limits, other, 10, now), 10);
        assert_eq!(admitted(&mut limits, one, 1000, now + Duration::from_secs(1)), 100);
    }

    #[test]
    fn invented_neighbours_share_one_account() {
        let now = Instant::now();
        let mut limits = Limits::new(100, now);
        let invented = |n: u32| -> Mac {
            let [a, b, c, d] = n.to_be_bytes();
            [2, 0, a, b, c, d]
        };
        let served = (0..50_000).filter(|n| limits.admit(invented(*n), now)).count();
        assert_eq!((served, limits.accounts.len()), (MOST + 200, MOST));
        let later = now + FORGET;
        assert!(limits.admit(invented(60_000), later));
        assert_eq!(limits.accounts.len(), 1, "those before are forgotten");
    }
}
