//! The elapsed time of a store as its record has it. Pure: no clock and no store.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use sextant_proto::{Incarnation, Revision, convert, store::v1 as stored};

use crate::records::{Record, RecordError};

/// The most checkpoints that a record keeps. The oldest give way: what is older than those counts as younger.
const MOST: usize = 512;
/// A checkpoint is dropped if its neighbours are no further apart than this part of their age. An age is wrong by no more.
const PRECISION: u32 = 16;

/// `meta/elapsed`: how long controllers have served the store, and the elapsed time at each revision.
///
/// It only grows by what a running controller measured on its monotonic clock. Wall clocks have no part in it, and neither
/// has time in which no controller ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elapsed {
    incarnation: Incarnation,
    total: Duration,
    /// The total when the incarnation was first seen.
    began: Duration,
    /// All revisions up to one are from before its total; both ascend.
    checkpoints: Vec<(Revision, Duration)>,
}

impl Elapsed {
    /// Of a store that has no record yet, and is at `revision`. What is in it counts as made now.
    pub fn new(incarnation: Incarnation, revision: Revision) -> Self {
        let zero = Duration::ZERO;
        Self { incarnation, total: zero, began: zero, checkpoints: vec![(revision, zero)] }
    }

    /// The record `by` later, when the store is at `revision` and of this incarnation.
    pub fn advanced(&self, by: Duration, incarnation: Incarnation, revision: Revision) -> Self {
        let total = self.total.saturating_add(by);
        let began = if incarnation == self.incarnation { self.began } else { total };
        let mut checkpoints = self.checkpoints.clone();
        // A store that was replaced by an older copy of itself: its later revisions are yet to come.
        checkpoints.retain(|(earlier, _)| *earlier < revision);
        checkpoints.push((revision, total));
        thin(&mut checkpoints, total);
        Self { incarnation, total, began, checkpoints }
    }

    /// Whether it is of this incarnation of the store.
    pub fn is_of(&self, incarnation: Incarnation) -> bool {
        self.incarnation == incarnation
    }

    /// The age of this incarnation of the store; `None` for another incarnation.
    pub fn age_of(&self, incarnation: Incarnation) -> Option<Duration> {
        self.is_of(incarnation).then(|| self.total.saturating_sub(self.began))
    }

    /// How long ago a revision was made: at least this long.
    pub fn since(&self, revision: Revision) -> Duration {
        let at = self.checkpoints.partition_point(|(checkpoint, _)| *checkpoint < revision);
        self.checkpoints.get(at).map_or(Duration::ZERO, |(_, then)| self.total.saturating_sub(*then))
    }
}

/// Drops what adds no precision that matters at its age; the first and the last stay.
fn thin(checkpoints: &mut Vec<(Revision, Duration)>, total: Duration) {
    let mut kept: Vec<(Revision, Duration)> = Vec::with_capacity(checkpoints.len());
    for (index, checkpoint) in checkpoints.iter().enumerate() {
        let next = checkpoints.get(index + 1);
        let needed = match (kept.last(), next) {
            (Some((_, before)), Some((_, after))) => {
                after.saturating_sub(*before) > total.saturating_sub(*after) / PRECISION
            }
            _ => true,
        };
        if needed {
            kept.push(*checkpoint);
        }
    }
    let surplus = kept.len().saturating_sub(MOST);
    kept.drain(..surplus);
    *checkpoints = kept;
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Record for Elapsed {
    fn decode(value: &[u8]) -> Result<Self, RecordError> {
        let message: stored::Elapsed = Message::decode(value)?;
        let checkpoint = |it: stored::Checkpoint| (Revision(it.revision), Duration::from_millis(it.total_ms));
        Ok(Self {
            incarnation: convert::id("incarnation", &message.incarnation)?,
            total: Duration::from_millis(message.total_ms),
            began: Duration::from_millis(message.began_ms),
            checkpoints: message.checkpoints.into_iter().map(checkpoint).collect(),
        })
    }

    fn encode(&self) -> Bytes {
        let checkpoint =
            |it: &(Revision, Duration)| stored::Checkpoint { revision: it.0.0, total_ms: millis(it.1) };
        let message = stored::Elapsed {
            incarnation: self.incarnation.into(),
            total_ms: millis(self.total),
            began_ms: millis(self.began),
            checkpoints: self.checkpoints.iter().map(checkpoint).collect(),
        };
        message.encode_to_vec().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn incarnation(n: u8) -> Incarnation {
        format!("{n:032x}").parse().unwrap()
    }

    /// The record after steps of (time, revision then), all of incarnation 1.
    fn after(steps: &[(u64, u64)]) -> Elapsed {
        steps.iter().fold(Elapsed::new(incarnation(1), Revision(10)), |elapsed, (by, revision)| {
            elapsed.advanced(SECOND * u32::try_from(*by).unwrap(), incarnation(1), Revision(*revision))
        })
    }

    #[test]
    fn a_revision_is_as_old_as_the_time_that_was_measured_since() {
        let elapsed = after(&[(5, 20), (5, 20), (7, 40)]);
        for (revision, seconds) in [(1, 17), (10, 17), (11, 7), (20, 7), (21, 0), (40, 0), (99, 0)] {
            let since = elapsed.since(Revision(revision));
            assert_eq!(since, SECOND * seconds, "revision {revision}");
        }
        assert_eq!(Elapsed::decode(&elapsed.encode()).unwrap(), elapsed);
    }

    #[test]
    fn a_new_incarnation_begins_anew_and_its_revisions_keep_their_age() {
        let elapsed = after(&[(5, 20)]);
        assert_eq!(elapsed.age_of(incarnation(1)), Some(5 * SECOND));
        assert_eq!(elapsed.age_of(incarnation(2)), None, "nothing was measured of it yet");
        let restored = elapsed.advanced(3 * SECOND, incarnation(2), Revision(30));
        assert_eq!(restored.age_of(incarnation(2)), Some(Duration::ZERO));
        assert_eq!(restored.age_of(incarnation(1)), None);
        assert_eq!(restored.since(Revision(10)), 8 * SECOND);
        let later = restored.advanced(4 * SECOND, incarnation(2), Revision(31));
        assert_eq!(later.age_of(incarnation(2)), Some(4 * SECOND));
    }

    #[test]
    fn a_store_that_fell_back_makes_nothing_older() {
        let elapsed = after(&[(5, 20), (5, 30), (5, 15)]);
        assert_eq!(elapsed.since(Revision(16)), Duration::ZERO, "made anew after the fall");
        assert_eq!(elapsed.since(Revision(15)), Duration::ZERO);
        assert_eq!(elapsed.since(Revision(10)), 15 * SECOND);
    }

    #[test]
    fn years_of_checkpoints_stay_few_and_precise() {
        let mut elapsed = Elapsed::new(incarnation(1), Revision(0));
        let step = 600 * SECOND;
        let steps = 60_000_u32;
        for n in 1..=steps {
            elapsed = elapsed.advanced(step, incarnation(1), Revision(u64::from(n)));
        }
        assert!(elapsed.checkpoints.len() <= MOST, "{}", elapsed.checkpoints.len());
        assert!(elapsed.encode().len() < 8192, "{}", elapsed.encode().len());
        for n in (0..=steps).step_by(97) {
            let (since, truly) = (elapsed.since(Revision(u64::from(n))), step * (steps - n));
            assert!(since <= truly, "revision {n} counts as {since:?} and is {truly:?}");
            assert!(since + truly / 8 + step >= truly, "revision {n} counts as {since:?} and is {truly:?}");
        }
    }
}
