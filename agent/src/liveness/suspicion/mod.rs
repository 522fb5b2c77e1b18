//! Decides which suspects to probe when, and evaluates the results. Pure.
//!
//! Each suspect is probed in rounds: a round starts with a probe, and ends with an answer or the kernel's failure. A suspect
//! is dead after [`ROUNDS`] failed rounds in a row, and only if a *witness*, any other neighbour on the same link, answered a
//! probe that was sent after the last round had started. If no neighbour answers, this host itself may be cut off, and
//! verdicts do not change. One answer makes a suspect alive.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    time::Duration,
};

use tokio::time::Instant;

use crate::cluster::Verdict;
use crate::kernel::NeighbourState;

/// The number of failed rounds in a row of a dead suspect.
const ROUNDS: u32 = 3;
/// The first interval between two rounds; it grows with each round up to [`MAX_INTERVAL`].
const FIRST_INTERVAL: Duration = Duration::from_secs(1);
const MAX_INTERVAL: Duration = Duration::from_secs(5);
/// The interval after a failed or inconclusive round.
const RETRY: Duration = Duration::from_millis(100);
/// The time after a probe of the first check for its result: a live neighbour answers sooner.
const FIRST_CHECK: Duration = Duration::from_millis(100);
/// The interval of later checks: the kernel's failure takes some seconds.
const CHECK: Duration = Duration::from_millis(500);
/// A longer round has failed. The kernel's own probe takes 3 s (`mcast_solicit`, `ucast_solicit` and `retrans_time_ms` of
/// `net.ipv6.neigh`), but each packet to a failed neighbour starts another one, so that `Failed` may never be visible.
const ANSWER_WITHIN: Duration = Duration::from_millis(3500);
/// The maximum number of probes in one call.
const MAX_PROBES: usize = 10;
/// The maximum number of open probes: the kernel has an entry for each.
const MAX_OPEN: usize = 250;
/// The number of witnesses on a link that are probed at once.
const MAX_WITNESSES: usize = 3;

/// A neighbour to probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    /// The uplink's index.
    pub(super) link: u32,
    /// The neighbour's address.
    pub(super) addr: Ipv6Addr,
}

/// The kernel's state.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// The uplinks that are up and have carrier. Neighbours on other uplinks cannot be judged.
    pub(super) usable: BTreeSet<u32>,
    /// Their neighbours.
    pub(super) neighbours: BTreeMap<Target, NeighbourState>,
}

/// The suspects, by their keys, and the witnesses.
#[derive(Debug)]
pub(super) struct Suspicion<K> {
    suspects: BTreeMap<K, Suspect>,
    witnesses: BTreeMap<u32, Witnesses>,
    /// A random factor around 1 for each interval, so that the agents of a cluster do not probe at the same time.
    jitter: fn() -> f64,
}

#[derive(Debug)]
struct Suspect {
    target: Target,
    phase: Phase,
    /// The number of failed rounds in a row, and the start of the last one.
    failed: u32,
    last_failed: Option<Instant>,
    interval: Duration,
    seen: Option<Verdict>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Between two rounds.
    Idle { until: Instant },
    /// In a round.
    Probed { at: Instant, check_at: Instant },
}

/// The result of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    Open,
    Answered,
    Failed,
    /// The entry was changed or removed meanwhile.
    Inconclusive,
}

/// The witnesses on a link, which show that the link works.
#[derive(Debug, Default)]
struct Witnesses {
    /// The open probes, with their start.
    probed: BTreeMap<Target, Instant>,
    check_at: Option<Instant>,
    /// The start of the last answered probe.
    answered: Option<Instant>,
}

impl<K: Ord + Clone> Suspicion<K> {
    pub(super) fn new(jitter: fn() -> f64) -> Self {
        Self { suspects: BTreeMap::new(), witnesses: BTreeMap::new(), jitter }
    }

    /// Replaces the suspects. A new suspect, or one with another target, is assumed alive, and probed.
    pub(super) fn set_suspects(&mut self, targets: &BTreeMap<K, Target>, now: Instant) {
        self.suspects.retain(|node, suspect| targets.get(node) == Some(&suspect.target));
        for (node, target) in targets {
            self.suspects.entry(node.clone()).or_insert_with(|| Suspect::new(*target, now));
        }
        if self.suspects.is_empty() {
            self.witnesses.clear();
        }
    }

    /// Evaluates the kernel's state; `others` are targets of peers that are no suspects. Returns the targets to probe now.
    pub(super) fn evaluate(&mut self, observed: &Observed, others: &[Target], now: Instant) -> Vec<Target> {
        self.witnesses.retain(|link, _| observed.usable.contains(link));
        for suspect in self.suspects.values_mut() {
            let answered = suspect.evaluate(observed, now, self.jitter);
            if let Some(probed_at) = answered {
                self.witnesses.entry(suspect.target.link).or_default().answer(probed_at);
            }
        }
        self.witnesses.values_mut().for_each(|witnesses| witnesses.evaluate(observed, now));
        self.declare_dead();
        let mut probes = self.due_suspects(now);
        probes.extend(self.probe_witnesses(observed, others, now));
        probes
    }

    /// A probe could not be sent: it proves nothing.
    pub(super) fn probe_failed(&mut self, target: Target, now: Instant) {
        for suspect in self.suspects.values_mut().filter(|suspect| suspect.target == target) {
            suspect.phase = Phase::Idle { until: now + FIRST_INTERVAL };
        }
        for witnesses in self.witnesses.values_mut() {
            witnesses.probed.remove(&target);
        }
    }

    /// The time of the next evaluation.
    pub(super) fn due(&self) -> Option<Instant> {
        let suspects = self.suspects.values().map(|suspect| match suspect.phase {
            Phase::Idle { until } => until,
            Phase::Probed { check_at, .. } => check_at,
        });
        let witnesses = self.witnesses.values().filter(|witnesses| !witnesses.probed.is_empty());
        suspects.chain(witnesses.filter_map(|witnesses| witnesses.check_at)).min()
    }

    /// The present verdicts.
    pub(super) fn verdicts(&self) -> BTreeMap<K, Verdict> {
        let seen = |(key, suspect): (&K, &Suspect)| Some((key.clone(), suspect.seen?));
        self.suspects.iter().filter_map(seen).collect()
    }

    /// Suspects that failed all rounds, with or without an answering witness.
    pub(super) fn silent(&self) -> impl Iterator<Item = &K> {
        let silent = self.suspects.iter().filter(|(_, suspect)| suspect.failed >= ROUNDS);
        silent.map(|(key, _)| key)
    }

    /// Declares suspects dead that failed all rounds on a working link.
    fn declare_dead(&mut self) {
        for suspect in self.suspects.values_mut().filter(|suspect| suspect.may_be_dead()) {
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
            suspect.phase = Phase::Probed { at: now, check_at: now + FIRST_CHECK };
            suspect.target
        };
        due.into_iter().take(MAX_PROBES.min(MAX_OPEN.saturating_sub(open))).map(begin).collect()
    }

    /// Probes witnesses on links where a suspect failed all rounds, the most recently reachable first.
    fn probe_witnesses(&mut self, observed: &Observed, others: &[Target], now: Instant) -> Vec<Target> {
        let links_to_verify: BTreeSet<u32> = (self.suspects.values())
            .filter(|suspect| suspect.may_be_dead() && observed.usable.contains(&suspect.target.link))
            .map(|suspect| suspect.target.link)
            .collect();
        let suspects: BTreeSet<Target> = self.suspects.values().map(|suspect| suspect.target).collect();
        let mut probes = Vec::new();
        for link in links_to_verify {
            let witnesses = self.witnesses.entry(link).or_default();
            if witnesses.probed.is_empty() {
                let candidates = candidates(observed, others, &suspects, link);
                witnesses.probed.extend(candidates.iter().map(|target| (*target, now)));
                witnesses.check_at = Some(now + FIRST_CHECK);
                probes.extend(candidates);
            }
        }
        probes
    }
}

/// The possible witnesses of a link: the kernel's neighbours, and peers.
fn candidates(observed: &Observed, others: &[Target], suspects: &BTreeSet<Target>, link: u32) -> Vec<Target> {
    let state = |target: &Target| observed.neighbours.get(target).copied().unwrap_or(NeighbourState::Unknown);
    let all: BTreeSet<Target> = observed.neighbours.keys().chain(others).copied().collect();
    let may =
        |target: &Target| target.link == link && !suspects.contains(target) && !state(target).is_fixed();
    let mut candidates: Vec<_> = all.into_iter().filter(may).collect();
    candidates.sort_by_key(state);
    candidates.truncate(MAX_WITNESSES);
    candidates
}

impl Suspect {
    fn new(target: Target, now: Instant) -> Self {
        let phase = Phase::Idle { until: now };
        Self { target, phase, failed: 0, last_failed: None, interval: FIRST_INTERVAL, seen: None }
    }

    /// Whether it failed all rounds, and is not declared dead yet.
    fn may_be_dead(&self) -> bool {
        self.failed >= ROUNDS && self.seen != Some(Verdict::Dead)
    }

    /// The due time of its next round, if that has passed.
    fn due(&self, now: Instant) -> Option<Instant> {
        match self.phase {
            Phase::Idle { until } if until <= now => Some(until),
            _ => None,
        }
    }

    /// Evaluates its neighbour entry. Returns the start of the probe if it was answered.
    fn evaluate(&mut self, observed: &Observed, now: Instant, jitter: fn() -> f64) -> Option<Instant> {
        let state = observed.neighbours.get(&self.target).copied();
        if !observed.usable.contains(&self.target.link) || state.is_some_and(NeighbourState::is_fixed) {
            // No probe can be evaluated now.
            (self.failed, self.last_failed) = (0, None);
            self.phase = Phase::Idle { until: now + FIRST_INTERVAL };
            return None;
        }
        let Phase::Probed { at, .. } = self.phase else {
            return None;
        };
        match round(state, now - at) {
            Round::Open => self.phase = Phase::Probed { at, check_at: now + CHECK },
            Round::Inconclusive => self.phase = Phase::Idle { until: now + RETRY },
            Round::Failed => self.fail(at, now, jitter),
            Round::Answered => {
                self.answer(now, jitter);
                return Some(at);
            }
        }
        None
    }

    fn answer(&mut self, now: Instant, jitter: fn() -> f64) {
        if self.failed > 0 {
            self.interval = FIRST_INTERVAL;
        }
        (self.failed, self.last_failed, self.seen) = (0, None, Some(Verdict::Forwarding));
        self.wait(now, jitter);
    }

    fn fail(&mut self, started: Instant, now: Instant, jitter: fn() -> f64) {
        self.failed = self.failed.saturating_add(1);
        self.last_failed = Some(started);
        if self.failed < ROUNDS {
            self.interval = FIRST_INTERVAL;
            self.phase = Phase::Idle { until: now + RETRY };
        } else {
            self.wait(now, jitter);
        }
    }

    fn wait(&mut self, now: Instant, jitter: fn() -> f64) {
        self.phase = Phase::Idle { until: now + self.interval.mul_f64(jitter()) };
        self.interval = (self.interval * 3 / 2).min(MAX_INTERVAL);
    }
}

impl Phase {
    fn is_round(self) -> bool {
        matches!(self, Self::Probed { .. })
    }
}

impl Witnesses {
    fn evaluate(&mut self, observed: &Observed, now: Instant) {
        let probed = std::mem::take(&mut self.probed);
        for (target, at) in probed {
            match round(observed.neighbours.get(&target).copied(), now - at) {
                Round::Open => {
                    self.probed.insert(target, at);
                }
                Round::Answered => self.answer(at),
                Round::Failed | Round::Inconclusive => {}
            }
        }
        self.check_at = Some(now + CHECK);
    }

    fn answer(&mut self, probed_at: Instant) {
        self.answered = self.answered.max(Some(probed_at));
    }
}

/// The result of a round of this age, by its neighbour entry.
fn round(state: Option<NeighbourState>, age: Duration) -> Round {
    match state {
        Some(NeighbourState::Reachable) => Round::Answered,
        Some(NeighbourState::Failed) => Round::Failed,
        Some(NeighbourState::Probing) if age >= ANSWER_WITHIN => Round::Failed,
        Some(NeighbourState::Probing) => Round::Open,
        Some(
            NeighbourState::Stale
            | NeighbourState::Unknown
            | NeighbourState::Fixed
            | NeighbourState::Permanent,
        )
        | None => Round::Inconclusive,
    }
}

#[cfg(test)]
mod tests;
