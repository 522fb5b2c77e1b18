//! Whom to ask when, and what the answers mean. Pure.
//!
//! Each suspect is asked in rounds: a round begins with an ask, and ends with an answer, or with the kernel giving up. A
//! host is dead after [`ROUNDS`] failed rounds in a row, and only if a *witness* on the same link, anybody but that host,
//! answered an ask made after the last round had begun: where nobody answers, it may be this host that is cut off, and what
//! was stays. One answer makes it alive.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    time::Duration,
};

use tokio::time::Instant;

use crate::cluster::Verdict;
use crate::kernel::NeighbourState;

/// How many rounds in a row a dead host has failed.
const ROUNDS: u32 = 3;
/// From the end of a round to the next, at first; grows with each up to [`MAX_INTERVAL`].
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
const MAX_INTERVAL: Duration = Duration::from_secs(5);
/// The same after a failed round that proves nothing yet.
const AGAIN: Duration = Duration::from_millis(100);
/// When to look for an answer first: one that is there answers in less.
const FIRST_LOOK: Duration = Duration::from_millis(100);
/// When to look again: giving up takes the kernel some seconds.
const LOOK: Duration = Duration::from_millis(500);
/// A round that takes longer has failed. The kernel's own takes 3 s (`mcast_solicit`, `ucast_solicit` and `retrans_time_ms`
/// of `net.ipv6.neigh`), but each packet to a failed neighbour begins another one, so that `Failed` may never be seen.
const ANSWER_WITHIN: Duration = Duration::from_millis(3500);
/// How many asks one look makes at most.
const ASKS: usize = 10;
/// How many asks are open at most: the kernel keeps an entry for each.
const OPEN: usize = 250;
/// How many witnesses of a link are asked at once.
const WITNESSES: usize = 3;

/// Where a neighbour is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    /// The uplink's index.
    pub(super) link: u32,
    /// The neighbour's address.
    pub(super) addr: Ipv6Addr,
}

/// What the kernel shows.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// The uplinks that are up and have carrier. No other one says anything of anybody.
    pub(super) usable: BTreeSet<u32>,
    /// Their neighbours.
    pub(super) neighbours: BTreeMap<Target, NeighbourState>,
}

/// All suspects, by whatever tells them apart, and witnesses.
#[derive(Debug)]
pub(super) struct Suspicion<K> {
    suspects: BTreeMap<K, Suspect>,
    witnesses: BTreeMap<u32, Witnesses>,
    /// A factor around 1 for each delay, so that a cluster's agents do not ask all at once.
    dice: fn() -> f64,
}

#[derive(Debug)]
struct Suspect {
    target: Target,
    phase: Phase,
    /// How many rounds in a row have failed, and when the last of them began.
    failed: u32,
    last_failed: Option<Instant>,
    interval: Duration,
    seen: Option<Verdict>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Between two rounds.
    Rests { until: Instant },
    /// In a round.
    Asked { at: Instant, look_at: Instant },
}

/// What became of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    Open,
    Answered,
    Failed,
    /// Something else happened to the entry.
    Void,
}

/// Those of a link who may testify that it works.
#[derive(Debug, Default)]
struct Witnesses {
    /// Since when the open asks are.
    asked: BTreeMap<Target, Instant>,
    look_at: Option<Instant>,
    /// When the last ask was made that anybody answered.
    answered: Option<Instant>,
}

impl<K: Ord + Clone> Suspicion<K> {
    pub(super) fn new(dice: fn() -> f64) -> Self {
        Self { suspects: BTreeMap::new(), witnesses: BTreeMap::new(), dice }
    }

    /// These are the suspects from now on. Whoever is new among them, or elsewhere, is held for alive, and asked.
    pub(super) fn suspect(&mut self, targets: &BTreeMap<K, Target>, now: Instant) {
        self.suspects.retain(|node, suspect| targets.get(node) == Some(&suspect.target));
        for (node, target) in targets {
            self.suspects.entry(node.clone()).or_insert_with(|| Suspect::new(*target, now));
        }
        if self.suspects.is_empty() {
            self.witnesses.clear();
        }
    }

    /// Takes in what the kernel shows; `others` are peers that are no suspects. The answer is whom to ask now.
    pub(super) fn look(&mut self, sight: &Sight, others: &[Target], now: Instant) -> Vec<Target> {
        self.witnesses.retain(|link, _| sight.usable.contains(link));
        for suspect in self.suspects.values_mut() {
            let answered = suspect.look(sight, now, self.dice);
            if let Some(asked_at) = answered {
                self.witnesses.entry(suspect.target.link).or_default().answer(asked_at);
            }
        }
        self.witnesses.values_mut().for_each(|witnesses| witnesses.look(sight, now));
        self.judge();
        let mut asks = self.due_suspects(now);
        asks.extend(self.call_witnesses(sight, others, now));
        asks
    }

    /// An ask could not be made: it proves nothing.
    pub(super) fn not_asked(&mut self, target: Target, now: Instant) {
        for suspect in self.suspects.values_mut().filter(|suspect| suspect.target == target) {
            suspect.phase = Phase::Rests { until: now + FIRST_INTERVAL };
        }
        for witnesses in self.witnesses.values_mut() {
            witnesses.asked.remove(&target);
        }
    }

    /// When to look next.
    pub(super) fn due(&self) -> Option<Instant> {
        let suspects = self.suspects.values().map(|suspect| match suspect.phase {
            Phase::Rests { until } => until,
            Phase::Asked { look_at, .. } => look_at,
        });
        let witnesses = self.witnesses.values().filter(|witnesses| !witnesses.asked.is_empty());
        suspects.chain(witnesses.filter_map(|witnesses| witnesses.look_at)).min()
    }

    /// What has been seen.
    pub(super) fn verdicts(&self) -> BTreeMap<K, Verdict> {
        let seen = |(key, suspect): (&K, &Suspect)| Some((key.clone(), suspect.seen?));
        self.suspects.iter().filter_map(seen).collect()
    }

    /// Those that have failed often enough, whether others were heard on their link or not.
    pub(super) fn silent(&self) -> impl Iterator<Item = &K> {
        let silent = self.suspects.iter().filter(|(_, suspect)| suspect.failed >= ROUNDS);
        silent.map(|(key, _)| key)
    }

    /// Declares dead whom nobody has heard on a link that works.
    fn judge(&mut self) {
        for suspect in self.suspects.values_mut().filter(|suspect| suspect.is_accused()) {
            let witnesses = self.witnesses.get(&suspect.target.link);
            if witnesses.and_then(|witnesses| witnesses.answered) >= suspect.last_failed {
                suspect.seen = Some(Verdict::Dead);
                suspect.interval = FIRST_INTERVAL;
            }
        }
    }

    /// Begins the rounds that are due, those that have waited longest first.
    fn due_suspects(&mut self, now: Instant) -> Vec<Target> {
        let open = self.suspects.values().filter(|suspect| suspect.phase.is_round()).count();
        let mut due: Vec<_> =
            self.suspects.values_mut().filter_map(|suspect| Some((suspect.due(now)?, suspect))).collect();
        due.sort_by_key(|(since, _)| *since);
        let begin = |(_, suspect): (Instant, &mut Suspect)| {
            suspect.phase = Phase::Asked { at: now, look_at: now + FIRST_LOOK };
            suspect.target
        };
        due.into_iter().take(ASKS.min(OPEN.saturating_sub(open))).map(begin).collect()
    }

    /// Asks witnesses where somebody is accused, those first who are most likely there.
    fn call_witnesses(&mut self, sight: &Sight, others: &[Target], now: Instant) -> Vec<Target> {
        let accused: BTreeSet<u32> = (self.suspects.values())
            .filter(|suspect| suspect.is_accused() && sight.usable.contains(&suspect.target.link))
            .map(|suspect| suspect.target.link)
            .collect();
        let suspects: BTreeSet<Target> = self.suspects.values().map(|suspect| suspect.target).collect();
        let mut asks = Vec::new();
        for link in accused {
            let witnesses = self.witnesses.entry(link).or_default();
            if witnesses.asked.is_empty() {
                let called = candidates(sight, others, &suspects, link);
                witnesses.asked.extend(called.iter().map(|target| (*target, now)));
                witnesses.look_at = Some(now + FIRST_LOOK);
                asks.extend(called);
            }
        }
        asks
    }
}

/// Who may testify for a link: whoever the kernel knows there, and peers.
fn candidates(sight: &Sight, others: &[Target], suspects: &BTreeSet<Target>, link: u32) -> Vec<Target> {
    let state = |target: &Target| sight.neighbours.get(target).copied().unwrap_or(NeighbourState::Unknown);
    let all: BTreeSet<Target> = sight.neighbours.keys().chain(others).copied().collect();
    let may = |target: &Target| {
        target.link == link && !suspects.contains(target) && state(target) != NeighbourState::Fixed
    };
    let mut candidates: Vec<_> = all.into_iter().filter(may).collect();
    candidates.sort_by_key(state);
    candidates.truncate(WITNESSES);
    candidates
}

impl Suspect {
    fn new(target: Target, now: Instant) -> Self {
        let phase = Phase::Rests { until: now };
        Self { target, phase, failed: 0, last_failed: None, interval: FIRST_INTERVAL, seen: None }
    }

    /// Failed often enough, and not declared dead.
    fn is_accused(&self) -> bool {
        self.failed >= ROUNDS && self.seen != Some(Verdict::Dead)
    }

    /// Since when its next round is due, if it is.
    fn due(&self, now: Instant) -> Option<Instant> {
        match self.phase {
            Phase::Rests { until } if until <= now => Some(until),
            _ => None,
        }
    }

    /// Takes in what its neighbour entry shows; if that is an answer, when it was asked for.
    fn look(&mut self, sight: &Sight, now: Instant, dice: fn() -> f64) -> Option<Instant> {
        let state = sight.neighbours.get(&self.target).copied();
        if !sight.usable.contains(&self.target.link) || state == Some(NeighbourState::Fixed) {
            // Nothing can be learnt now.
            (self.failed, self.last_failed) = (0, None);
            self.phase = Phase::Rests { until: now + FIRST_INTERVAL };
            return None;
        }
        let Phase::Asked { at, .. } = self.phase else {
            return None;
        };
        match round(state, now - at) {
            Round::Open => self.phase = Phase::Asked { at, look_at: now + LOOK },
            Round::Void => self.phase = Phase::Rests { until: now + AGAIN },
            Round::Failed => self.fail(at, now, dice),
            Round::Answered => {
                self.answer(now, dice);
                return Some(at);
            }
        }
        None
    }

    fn answer(&mut self, now: Instant, dice: fn() -> f64) {
        if self.failed > 0 {
            self.interval = FIRST_INTERVAL;
        }
        (self.failed, self.last_failed, self.seen) = (0, None, Some(Verdict::Forwarding));
        self.rest(now, dice);
    }

    fn fail(&mut self, began: Instant, now: Instant, dice: fn() -> f64) {
        self.failed = self.failed.saturating_add(1);
        self.last_failed = Some(began);
        if self.failed < ROUNDS {
            self.interval = FIRST_INTERVAL;
            self.phase = Phase::Rests { until: now + AGAIN };
        } else {
            self.rest(now, dice);
        }
    }

    fn rest(&mut self, now: Instant, dice: fn() -> f64) {
        self.phase = Phase::Rests { until: now + self.interval.mul_f64(dice()) };
        self.interval = (self.interval * 3 / 2).min(MAX_INTERVAL);
    }
}

impl Phase {
    fn is_round(self) -> bool {
        matches!(self, Self::Asked { .. })
    }
}

impl Witnesses {
    fn look(&mut self, sight: &Sight, now: Instant) {
        let asked = std::mem::take(&mut self.asked);
        for (target, at) in asked {
            match round(sight.neighbours.get(&target).copied(), now - at) {
                Round::Open => {
                    self.asked.insert(target, at);
                }
                Round::Answered => self.answer(at),
                Round::Failed | Round::Void => {}
            }
        }
        self.look_at = Some(now + LOOK);
    }

    fn answer(&mut self, asked_at: Instant) {
        self.answered = self.answered.max(Some(asked_at));
    }
}

/// What an entry says of a round that began so long ago.
fn round(state: Option<NeighbourState>, age: Duration) -> Round {
    match state {
        Some(NeighbourState::Reachable) => Round::Answered,
        Some(NeighbourState::Failed) => Round::Failed,
        Some(NeighbourState::Probing) if age >= ANSWER_WITHIN => Round::Failed,
        Some(NeighbourState::Probing) => Round::Open,
        Some(NeighbourState::Stale | NeighbourState::Unknown | NeighbourState::Fixed) | None => Round::Void,
    }
}

#[cfg(test)]
mod tests;
