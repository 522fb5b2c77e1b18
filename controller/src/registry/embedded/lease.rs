//! The deadlines of leases. Pure: the clock is a parameter.
//!
//! The file holds the leases and their TTLs; deadlines exist only here, on the monotonic clock.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use crate::registry::LeaseId;

/// The deadlines of all leases.
#[derive(Debug, Default)]
pub struct Deadlines {
    leases: HashMap<LeaseId, Lease>,
    order: BTreeSet<(Instant, LeaseId)>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    ttl: Duration,
    /// None if the TTL exceeds the range of the clock.
    deadline: Option<Instant>,
}

impl Deadlines {
    /// The leases of a store that was opened just now: each starts with its full TTL, because no keep-alive was possible before.
    pub fn anew(leases: impl IntoIterator<Item = (LeaseId, Duration)>, now: Instant) -> Self {
        let mut deadlines = Self::default();
        for (lease, ttl) in leases {
            deadlines.add(lease, ttl, now);
        }
        deadlines
    }

    /// Adds a lease that was granted just now.
    pub fn add(&mut self, lease: LeaseId, ttl: Duration, now: Instant) {
        self.remove(lease);
        let deadline = now.checked_add(ttl);
        self.leases.insert(lease, Lease { ttl, deadline });
        self.order.extend(deadline.map(|at| (at, lease)));
    }

    /// Renews a lease for its TTL; false if it does not exist.
    pub fn keep_alive(&mut self, lease: LeaseId, now: Instant) -> bool {
        let known = self.leases.get(&lease).copied();
        if let Some(Lease { ttl, .. }) = known {
            self.add(lease, ttl, now);
        }
        known.is_some()
    }

    /// Renews all leases.
    pub fn restart(&mut self, now: Instant) {
        let leases: Vec<_> = self.leases.iter().map(|(id, lease)| (*id, lease.ttl)).collect();
        *self = Self::anew(leases, now);
    }

    /// Forgets a lease that has ended.
    pub fn remove(&mut self, lease: LeaseId) {
        if let Some(deadline) = self.leases.remove(&lease).and_then(|lease| lease.deadline) {
            self.order.remove(&(deadline, lease));
        }
    }

    /// The expired leases, the longest expired first. They stay until they are removed.
    pub fn due(&self, now: Instant) -> Vec<LeaseId> {
        let over = self.order.iter().take_while(|(at, _)| *at <= now);
        over.map(|(_, lease)| *lease).collect()
    }

    /// The next deadline.
    pub fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lease_is_due_after_its_ttl_and_not_before() {
        let start = Instant::now();
        let mut deadlines = Deadlines::anew([(LeaseId(1), 3 * SECOND), (LeaseId(2), 2 * SECOND)], start);
        assert_eq!(deadlines.next(), Some(start + 2 * SECOND));
        assert_eq!(deadlines.due(start + 2 * SECOND - Duration::from_nanos(1)), []);
        assert_eq!(deadlines.due(start + 2 * SECOND), [LeaseId(2)]);
        assert_eq!(deadlines.due(start + 9 * SECOND), [LeaseId(2), LeaseId(1)]);
        deadlines.remove(LeaseId(2));
        assert_eq!(deadlines.next(), Some(start + 3 * SECOND));
    }

    #[test]
    fn keep_alive_gives_the_full_ttl_from_now() {
        let start = Instant::now();
        let mut deadlines = Deadlines::anew([(LeaseId(1), 3 * SECOND)], start);
        assert!(deadlines.keep_alive(LeaseId(1), start + 2 * SECOND));
        assert_eq!(deadlines.next(), Some(start + 5 * SECOND));
        assert_eq!(deadlines.due(start + 4 * SECOND), []);
        deadlines.remove(LeaseId(1));
        assert!(!deadlines.keep_alive(LeaseId(1), start));
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn a_ttl_beyond_the_clock_never_ends() {
        let start = Instant::now();
        let mut deadlines = Deadlines::anew([(LeaseId(1), Duration::MAX)], start);
        assert_eq!(deadlines.next(), None);
        assert!(deadlines.keep_alive(LeaseId(1), start));
    }
}
