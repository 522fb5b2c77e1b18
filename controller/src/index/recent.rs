//! Which revisions are new: at which moments the index had seen which. Pure: no clock.

use std::{collections::VecDeque, time::Duration};

use sextant_proto::Revision;
use tokio::time::Instant;

/// For how long a revision is new. Within this time an agent that was granted a claim connects, and one that was refused asks again:
/// its longest back-off is 5 s.
const NEW: Duration = Duration::from_secs(6);
/// Moments closer to each other than this are one.
const APART: Duration = Duration::from_secs(1);

/// The last moments, and the revision that the index had seen then; both ascend.
#[derive(Debug, Default)]
pub(super) struct Recent {
    moments: VecDeque<(Instant, Revision)>,
}

impl Recent {
    /// The index has seen `revision`, and nothing later.
    pub(super) fn note(&mut self, revision: Revision, now: Instant) {
        let mut latest = self.moments.iter().rev();
        let is_near = match (latest.next(), latest.next()) {
            (Some((last, _)), Some((before, _))) => last.duration_since(*before) < APART,
            _ => false,
        };
        if is_near {
            self.moments.pop_back();
        }
        self.moments.push_back((now, revision));
        // Of those that are older, the last one says everything.
        while self.moments.get(1).is_some_and(|(then, _)| now.duration_since(*then) >= NEW) {
            self.moments.pop_front();
        }
    }

    /// Whether a revision may be younger than [`NEW`]. What was there when the index began counts as new for that time.
    pub(super) fn has(&self, revision: Revision, now: Instant) -> bool {
        let mut old = self.moments.iter().filter(|(then, _)| now.duration_since(*then) >= NEW);
        !old.any(|(_, seen)| *seen >= revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_new_for_six_seconds_however_often_the_store_changes() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut recent = Recent::default();
        recent.note(Revision(100), at(0));
        assert!(recent.has(Revision(100), at(5_999)) && !recent.has(Revision(100), at(6_000)));
        for n in 1..=200 {
            recent.note(Revision(100 + n), at(60_000 + n * 100));
        }
        assert!(recent.moments.len() < 10, "{}", recent.moments.len());
        let now = at(80_000);
        let young = (1..=200).map(|n| (n, recent.has(Revision(100 + n), now)));
        for (n, is_new) in young {
            let age = Duration::from_millis(20_000 - n * 100);
            assert!(is_new || age >= NEW, "revision {n} is {age:?} old");
            assert!(!is_new || age < NEW + 2 * APART, "revision {n} is {age:?} old");
        }
    }

    #[test]
    fn it_ends_without_a_further_change() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut recent = Recent::default();
        for (ms, revision) in [(0, 1), (10_000, 2), (10_300, 3), (10_500, 4)] {
            recent.note(Revision(revision), at(ms));
        }
        assert!(recent.has(Revision(4), at(12_000)));
        assert!(!recent.has(Revision(4), at(16_500)));
    }
}
