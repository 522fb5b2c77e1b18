//! Detection of loops: repetitions of the same state transition. Pure.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

/// More transitions than this within [`WINDOW`] are a loop.
const MOST: usize = 3;
/// The period within which transitions are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// A loop ends after this time without its transition.
const QUIET: Duration = Duration::from_secs(25);
/// The delay of the first transition of a loop; each further one doubles it.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// The longest delay. Less than [`QUIET`], so that a delayed loop does not count as ended.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// The recent transitions, by key. The cost of a call does not grow with the number of keys.
#[derive(Debug)]
pub struct Repeats<K> {
    seen: BTreeMap<K, Seen>,
    /// The keys of the present loops.
    looping: BTreeSet<K>,
    /// The transitions within the window, the oldest first.
    recent: VecDeque<(Instant, K)>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The times within the window; at most one more than [`MOST`].
    times: VecDeque<Instant>,
    /// The number of transitions in the present loop.
    looping: Option<u32>,
}

/// A transition that is part of a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeat {
    /// The number of transitions in this loop.
    pub times: u32,
    /// Whether the loop begins with this transition; callers report it then.
    pub begins: bool,
    /// How long to wait before the next attempt.
    pub delay: Duration,
}

impl<K> Default for Repeats<K> {
    fn default() -> Self {
        Self { seen: BTreeMap::new(), looping: BTreeSet::new(), recent: VecDeque::new() }
    }
}

impl<K: Ord + Clone> Repeats<K> {
    /// Records a transition. Returns a [`Repeat`] if it is more than the third within a minute, or continues a loop.
    /// Call [`Repeats::ended`] regularly.
    pub fn note(&mut self, transition: &K, now: Instant) -> Option<Repeat> {
        self.recent.push_back((now, transition.clone()));
        let seen = self.seen.entry(transition.clone()).or_default();
        seen.times.push_back(now);
        seen.times.retain(|at| now.duration_since(*at) < WINDOW);
        let begins = seen.looping.is_none();
        if begins && seen.times.len() <= MOST {
            return None;
        }
        let times = seen.looping.map_or(seen.times.len() as u32, |times| times.saturating_add(1));
        seen.looping = Some(times);
        if begins {
            self.looping.insert(transition.clone());
        }
        seen.times.drain(..seen.times.len().saturating_sub(MOST + 1));
        let doubled = times.saturating_sub(MOST as u32 + 1).min(10);
        Some(Repeat { times, begins, delay: FIRST_DELAY.saturating_mul(1 << doubled).min(MAX_DELAY) })
    }

    /// The loops that have ended, with the numbers of their transitions.
    pub fn ended(&mut self, now: Instant) -> Vec<(K, u32)> {
        let is_quiet = |seen: &Seen| seen.last().is_none_or(|last| now.duration_since(last) >= QUIET);
        let quiet = self.looping.iter().filter(|&key| self.seen.get(key).is_none_or(is_quiet));
        let quiet: Vec<K> = quiet.cloned().collect();
        self.forget_old(now);
        let mut ended = Vec::with_capacity(quiet.len());
        for key in quiet {
            self.looping.remove(&key);
            let times = self.seen.remove(&key).and_then(|seen| seen.looping);
            ended.extend(times.map(|times| (key, times)));
        }
        ended
    }

    /// Forgets keys without a loop whose last transition has left the window.
    fn forget_old(&mut self, now: Instant) {
        while let Some((_, key)) = self.recent.pop_front_if(|(at, _)| now.duration_since(*at) >= WINDOW) {
            let is_old = |seen: &Seen| {
                seen.looping.is_none() && seen.last().is_none_or(|last| now.duration_since(last) >= WINDOW)
            };
            if self.seen.get(&key).is_some_and(is_old) {
                self.seen.remove(&key);
            }
        }
    }

    /// The present loops, with the numbers of their transitions.
    pub fn lasting(&self) -> impl Iterator<Item = (&K, u32)> {
        self.looping.iter().filter_map(|key| Some((key, self.seen.get(key)?.looping?)))
    }
}

impl Seen {
    fn last(&self) -> Option<Instant> {
        self.times.back().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The results for transitions with these `gaps` (seconds) between them.
    fn after(gaps: &[u64]) -> Vec<Option<Repeat>> {
        let (mut repeats, mut now) = (Repeats::default(), Instant::now());
        let note = |gap: &u64| {
            now += Duration::from_secs(*gap);
            repeats.ended(now);
            repeats.note(&"fenced", now)
        };
        gaps.iter().map(note).collect()
    }

    fn repeat(times: u32, begins: bool, delay: u64) -> Option<Repeat> {
        Some(Repeat { times, begins, delay: Duration::from_secs(delay) })
    }

    #[test]
    fn more_than_three_within_a_minute_are_a_loop_until_a_quiet_time() {
        let none = None;
        let table: &[(&[u64], &[Option<Repeat>])] = &[
            (&[0, 1, 1], &[none; 3]),
            (&[0, 20, 20, 20], &[none; 4]),
            (&[0, 1, 1, 57], &[none, none, none, repeat(4, true, 1)]),
            (
                &[0, 0, 0, 0, 1, 1],
                &[none, none, none, repeat(4, true, 1), repeat(5, false, 2), repeat(6, false, 4)],
            ),
            // Slower because of its delay: the same loop.
            (
                &[0, 0, 0, 0, 24, 24],
                &[none, none, none, repeat(4, true, 1), repeat(5, false, 2), repeat(6, false, 4)],
            ),
            // A quiet time in between: a new loop.
            (
                &[0, 0, 0, 0, 25, 0, 0, 0],
                &[none, none, none, repeat(4, true, 1), none, none, none, repeat(4, true, 1)],
            ),
        ];
        for (gaps, expected) in table {
            assert_eq!(after(gaps), *expected, "{gaps:?}");
        }
        let delays: Vec<_> = after(&[0; 12]).into_iter().flatten().map(|it| it.delay.as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 10, 10, 10, 10, 10]);
    }

    #[test]
    fn loops_are_separate_by_key_and_end_once() {
        let (mut repeats, start) = (Repeats::default(), Instant::now());
        for _ in 0..5 {
            repeats.note(&"fenced", start);
        }
        repeats.note(&"superseded", start);
        assert_eq!(repeats.lasting().collect::<Vec<_>>(), [(&"fenced", 5)]);
        assert!(repeats.ended(start + QUIET - Duration::from_millis(1)).is_empty());
        assert_eq!(repeats.ended(start + QUIET), [("fenced", 5)]);
        assert!(repeats.ended(start + WINDOW).is_empty() && repeats.lasting().next().is_none());
        assert!(repeats.seen.is_empty() && repeats.recent.is_empty(), "old transitions take no memory");
    }
}
