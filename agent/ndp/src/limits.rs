//! How often one neighbour is served: a flood costs the others nothing (RFC 6583 §6). Pure.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::message::Mac;

/// So many neighbours are counted one by one; those beyond share one account.
const MOST: usize = 1024;
/// An account that was not used for so long is as full as a new one.
const FORGET: Duration = Duration::from_secs(2);
/// How often old accounts are looked for while all are in use: not for each packet of a flood from invented neighbours.
const LOOK: Duration = Duration::from_millis(100);

/// The accounts of all neighbours.
#[derive(Debug)]
pub struct Limits {
    /// Refilled each second.
    rate: f64,
    burst: f64,
    accounts: HashMap<Mac, Account>,
    rest: Account,
    /// Before that, no account is looked for that can be forgotten.
    full_until: Option<Instant>,
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
        let rest = Account { left: burst, at: now };
        Self { rate: rate.into(), burst, accounts: HashMap::new(), rest, full_until: None }
    }

    #[cfg(test)]
    pub(crate) fn sizes(&self) -> (usize, usize) {
        (self.accounts.len(), MOST)
    }

    /// Whether this neighbour may be served once more.
    pub fn admit(&mut self, neighbour: Mac, now: Instant) -> bool {
        let has_own = self.accounts.contains_key(&neighbour) || self.has_room(now);
        let full = Account { left: self.burst, at: now };
        let account = match has_own {
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

    /// Whether there is room for another account, maybe in the place of old ones.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.accounts.len() >= MOST && self.full_until.is_none_or(|until| until <= now) {
            self.accounts.retain(|_, account| now.saturating_duration_since(account.at) < FORGET);
            self.full_until = Some(now + LOOK);
        }
        self.accounts.len() < MOST
    }
}

/// Solicitations to all ports of the bridges, which make this many packets a second.
const COPIES: u32 = 100_000;
/// So many of them are permitted a second, beside many ports and few.
const TO_ALL: (u32, u32) = (100, 1000);

/// How urgent a question to all ports is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// It is about an address in use, or one that a container of this host may have.
    High,
    /// Only a neighbour asks for the address.
    Low,
}

/// How often all ports of the bridges are asked: each time makes a packet for each port, and a burst of them fills the kernel's queues, in
/// which the answers are lost.
#[derive(Debug)]
pub struct ToAll {
    rate: u32,
    left: f64,
    at: Instant,
}

impl ToAll {
    /// For so many ports.
    pub fn new(ports: usize, now: Instant) -> Self {
        let mut it = Self { rate: 0, left: 0.0, at: now };
        it.set_ports(ports);
        it.left = it.burst();
        it
    }

    /// There are so many ports now.
    pub fn set_ports(&mut self, ports: usize) {
        let ports = u32::try_from(ports).unwrap_or(u32::MAX).max(1);
        self.rate = (COPIES / ports).clamp(TO_ALL.0, TO_ALL.1);
    }

    /// Those of a tenth of a second may come at once.
    fn burst(&self) -> f64 {
        f64::from(self.rate) / 10.0
    }

    /// Whether all ports may be asked once more. Half of the burst is left to urgent questions: those of neighbours, however many there
    /// are, do not delay them.
    pub fn admit(&mut self, urgency: Urgency, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + since * f64::from(self.rate)).min(self.burst());
        self.at = now;
        let kept = if urgency == Urgency::High { 0.0 } else { self.burst() / 2.0 };
        let is_admitted = self.left - kept >= 1.0;
        self.left -= if is_admitted { 1.0 } else { 0.0 };
        is_admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ports_are_asked_the_more_rarely_the_more_they_are() {
        let now = Instant::now();
        for (ports, at_once) in [(0, 100), (10, 100), (500, 20), (1000, 10), (5000, 10)] {
            let mut limit = ToAll::new(ports, now);
            let mut admitted = |urgency| (0..1000).filter(|_| limit.admit(urgency, now)).count();
            assert_eq!(
                (admitted(Urgency::Low), admitted(Urgency::High)),
                (at_once / 2, at_once / 2),
                "{ports}"
            );
            let later = now + Duration::from_millis(10);
            assert!(!limit.admit(Urgency::Low, later) && limit.admit(Urgency::High, later));
        }
    }

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
