//! The choice of a member. Pure: the clock is a parameter.
//!
//! One member is preferred until it fails; then the next one is, and the failed one is penalised for a while. So no call
//! waits for a member that does not answer while another one does.

use std::time::{Duration, Instant};

/// The penalty of a member after its first failure; doubled with each further one.
const FIRST_PENALTY: Duration = Duration::from_secs(1);
/// The longest penalty.
const LONGEST_PENALTY: Duration = Duration::from_secs(30);

/// The health of the members.
#[derive(Debug)]
pub struct Endpoints {
    members: Vec<Health>,
    preferred: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Health {
    /// Consecutive failures.
    failures: u32,
    /// The end of the penalty.
    until: Option<Instant>,
}

impl Health {
    fn is_penalised(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

impl Endpoints {
    /// `count` members without history; the one at index `first` is preferred.
    pub fn new(count: usize, first: usize) -> Self {
        Self { members: vec![Health::default(); count], preferred: first % count.max(1) }
    }

    /// All members in the order of calls: the preferred one, the others, the penalised ones.
    pub fn order(&self, now: Instant) -> Vec<usize> {
        let count = self.members.len();
        let ring = (0..count).map(|step| (self.preferred + step) % count);
        let (mut penalised, mut order): (Vec<_>, Vec<_>) =
            ring.partition(|member| self.members[*member].is_penalised(now));
        penalised.sort_by_key(|member| self.members[*member].until);
        order.append(&mut penalised);
        order
    }

    /// Records a failure of a member.
    pub fn failed(&mut self, member: usize, now: Instant) {
        let health = &mut self.members[member];
        let penalty = FIRST_PENALTY * 2u32.saturating_pow(health.failures.min(16));
        health.failures = health.failures.saturating_add(1);
        health.until = Some(now + penalty.min(LONGEST_PENALTY));
        if member == self.preferred {
            self.preferred = self.order(now)[0];
        }
    }

    /// Records an answer of a member.
    pub fn answered(&mut self, member: usize) {
        self.members[member] = Health::default();
        if self.members[self.preferred].failures > 0 {
            self.preferred = member;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_preferred_until_it_fails() {
        let (mut members, now) = (Endpoints::new(3, 1), Instant::now());
        assert_eq!(members.order(now), [1, 2, 0]);
        members.answered(1);
        members.failed(1, now);
        assert_eq!(members.order(now), [2, 0, 1]);
        members.failed(1, now);
        members.answered(2);
        // A recovered member does not become the preferred one again.
        let later = now + 2 * LONGEST_PENALTY;
        assert_eq!(members.order(later), [2, 0, 1]);
        members.answered(1);
        assert_eq!(members.order(later), [2, 0, 1]);
    }

    #[test]
    fn penalised_members_are_last() {
        let (mut members, now) = (Endpoints::new(3, 0), Instant::now());
        members.failed(1, now);
        assert_eq!(members.order(now), [0, 2, 1]);
        members.failed(0, now + FIRST_PENALTY / 2);
        assert_eq!(members.order(now + FIRST_PENALTY / 2), [2, 1, 0]);
        members.failed(2, now + FIRST_PENALTY / 2);
        assert_eq!(
            members.order(now + FIRST_PENALTY / 2)[0],
            1,
            "all are penalised: the one with the shortest rest of its penalty first"
        );
    }

    #[test]
    fn the_penalty_grows_to_its_limit() {
        let (mut members, now) = (Endpoints::new(2, 0), Instant::now());
        members.failed(0, now);
        assert_eq!(members.order(now + FIRST_PENALTY), [1, 0], "no longer preferred");
        for _ in 0..40 {
            members.failed(1, now);
        }
        assert!(members.members[1].is_penalised(now + LONGEST_PENALTY - Duration::from_millis(1)));
        assert!(!members.members[1].is_penalised(now + LONGEST_PENALTY));
    }

    #[test]
    fn if_all_have_failed_the_one_that_answers_is_preferred() {
        let (mut members, now) = (Endpoints::new(2, 0), Instant::now());
        members.failed(0, now);
        members.failed(1, now);
        members.answered(0);
        assert_eq!(members.order(now + LONGEST_PENALTY), [0, 1]);
    }
}
