//! Detects loops of the session: the same transition more than three times within a minute.
//!
//! A claim that ends once is no repetition of the end of another one: operators may end as many claims as they like. The end of
//! one and the same claim repeats only if controllers disagree on it.

use std::time::Duration;

use sextant_daemon::Repeats;
use sextant_proto::{Epoch, Incarnation, Revision};
use tokio::time::Instant;

use super::{Ended, link::LinkError, protocol::Lost};
use crate::problems::Finding;

/// A claim: the store and the revision at which it was granted.
type ClaimId = (Incarnation, Revision);

fn claim_id(epoch: Epoch) -> ClaimId {
    (epoch.incarnation, epoch.revision)
}

/// A transition of the session that is normal once, and a fault if repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Transition {
    /// A controller refused this claim; the agent claims again. A controller of an earlier version does not tell which one.
    Fenced(Option<ClaimId>),
    /// The view shows that this claim has ended; the agent claims again.
    ClaimLost(ClaimId),
    /// The view is of another store, or of another history of the store.
    OtherStore,
    /// Another stream of this node replaced the connected one.
    Superseded,
    /// The controller of the connected stream had lost its store.
    StaleController,
    /// The connected stream ended for another reason.
    StreamLost,
}

impl Transition {
    /// The transition at the end of a connection; `connected` is whether its stream was open. A failed attempt is none: it is
    /// repeated with back-off, and changes nothing.
    pub(super) fn of(ended: &Ended, connected: bool) -> Option<Self> {
        match ended {
            Ended::Fenced { epoch, .. } => Some(Self::Fenced(epoch.map(claim_id))),
            Ended::ClaimLost(lost) => Some(match lost.why {
                Lost::NewerClaim | Lost::NotInStore => Self::ClaimLost(claim_id(lost.epoch)),
                Lost::StoreReplaced | Lost::OtherHistory => Self::OtherStore,
            }),
            Ended::State(_) => None,
            Ended::Link(_) if !connected => None,
            Ended::Link(LinkError::Superseded(_)) => Some(Self::Superseded),
            Ended::Link(LinkError::Stale) => Some(Self::StaleController),
            Ended::Link(_) => Some(Self::StreamLost),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Fenced(_) => "claim fenced and claimed again",
            Self::ClaimLost(_) => "claim ended and claimed again",
            Self::OtherStore => "claim ended by another store or history and claimed again",
            Self::Superseded => "stream superseded by another one of this node",
            Self::StaleController => "stream closed because its controller has lost its store",
            Self::StreamLost => "stream lost",
        }
    }
}

/// The present loops of the session.
#[derive(Debug, Default)]
pub(super) struct Loops {
    repeats: Repeats<Transition>,
}

impl Loops {
    /// A connection has ended. Returns the least delay before the next one, and logs a loop that begins.
    pub(super) fn connection_ended(&mut self, ended: &Ended, connected: bool, now: Instant) -> Duration {
        let Some(transition) = Transition::of(ended, connected) else { return Duration::ZERO };
        let Some(repeat) = self.repeats.note(&transition, now) else { return Duration::ZERO };
        if repeat.begins {
            tracing::warn!(
                transition = transition.text(), times = repeat.times, error = %ended,
                "session loop: the same transition more than three times within a minute; backing off"
            );
        }
        repeat.delay
    }

    /// The present loops as a problem. Logs loops that have ended.
    pub(super) fn problem(&mut self, now: Instant) -> Option<Finding> {
        for (transition, times) in self.repeats.ended(now) {
            tracing::info!(transition = transition.text(), times, "session loop ended");
        }
        let text = |(transition, times): (&Transition, u32)| format!("{} {times} times", transition.text());
        let loops: Vec<_> = self.repeats.lasting().map(text).collect();
        (!loops.is_empty()).then(|| {
            let saw = format!("session loop: {}", loops.join(", "));
            Finding::unready("session-loop", saw, "see the logs of this agent and its controllers")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::protocol::LostClaim, *};

    fn epoch(revision: u64) -> Epoch {
        Epoch { incarnation: Incarnation::try_from(&[1; 16][..]).unwrap(), revision: Revision(revision) }
    }

    fn fenced() -> Ended {
        fenced_since(4)
    }

    fn fenced_since(revision: u64) -> Ended {
        Ended::Fenced { reason: "x".into(), epoch: Some(epoch(revision)) }
    }

    fn ended_since(revision: u64, why: Lost) -> Ended {
        let (prefix, pool) = ("2001:db8:1::/64".parse().unwrap(), "main".parse().unwrap());
        Ended::ClaimLost(LostClaim { prefix, pool, epoch: epoch(revision), why })
    }

    fn link(error: LinkError) -> Ended {
        Ended::Link(error)
    }

    #[test]
    fn transitions_at_the_end_of_a_connection() {
        let lost = || link(LinkError::StreamEnded("x".into()));
        let superseded = || link(LinkError::Superseded("x".into()));
        let table = [
            (fenced(), true, Some(Transition::Fenced(Some(claim_id(epoch(4)))))),
            (fenced(), false, Some(Transition::Fenced(Some(claim_id(epoch(4)))))),
            (ended_since(4, Lost::NotInStore), true, Some(Transition::ClaimLost(claim_id(epoch(4))))),
            (ended_since(4, Lost::NewerClaim), true, Some(Transition::ClaimLost(claim_id(epoch(4))))),
            (ended_since(4, Lost::OtherHistory), true, Some(Transition::OtherStore)),
            (ended_since(4, Lost::StoreReplaced), true, Some(Transition::OtherStore)),
            (superseded(), true, Some(Transition::Superseded)),
            (link(LinkError::Stale), true, Some(Transition::StaleController)),
            (link(LinkError::Silent(Duration::ZERO)), true, Some(Transition::StreamLost)),
            (lost(), true, Some(Transition::StreamLost)),
            (lost(), false, None),
            (link(LinkError::Connect("x".into())), false, None),
            (link(LinkError::Duplicate("x".into())), false, None),
        ];
        for (ended, connected, transition) in table {
            assert_eq!(Transition::of(&ended, connected), transition, "{ended}, connected: {connected}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_is_delayed_and_reported_while_it_lasts() {
        let mut loops = Loops::default();
        let fenced = fenced();
        let mut waited = Vec::new();
        for _ in 0..9 {
            let delay = loops.connection_ended(&fenced, true, Instant::now());
            tokio::time::sleep(delay).await;
            waited.push(delay.as_secs());
            let problem = loops.problem(Instant::now());
            assert_eq!(problem.is_some(), waited.len() > 3, "{problem:?} after {waited:?}");
        }
        assert_eq!(waited, [0, 0, 0, 1, 2, 4, 8, 10, 10]);
        let problem = loops.problem(Instant::now()).unwrap();
        assert!(problem.saw.contains("claim fenced and claimed again 9 times"), "{problem:?}");
        tokio::time::sleep(Duration::from_secs(15)).await;
        assert_eq!(loops.problem(Instant::now()), None, "no transition for 25 s");
    }

    /// Commands of operators: each ends another claim.
    #[tokio::test(start_paused = true)]
    async fn the_ends_of_different_claims_are_no_loop_and_those_of_one_claim_are() {
        let mut loops = Loops::default();
        let mut ends = |ended: Ended| {
            let delay = loops.connection_ended(&ended, true, Instant::now());
            (delay.is_zero(), loops.problem(Instant::now()).is_none())
        };
        for revision in 0..20 {
            let why = if revision % 2 == 0 { Lost::NotInStore } else { Lost::NewerClaim };
            assert_eq!(ends(ended_since(revision, why)), (true, true), "{revision}");
            assert_eq!(ends(fenced_since(revision)), (true, true), "{revision}");
        }
        let again: Vec<_> = (0..4).map(|_| ends(ended_since(30, Lost::NotInStore))).collect();
        assert_eq!(again, [(true, true), (true, true), (true, true), (false, false)]);
    }
}
