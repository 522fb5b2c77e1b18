//! Detects loops of the session: the same transition more than three times within a minute.

use std::time::Duration;

use sextant_daemon::Repeats;
use tokio::time::Instant;

use super::{Ended, link::LinkError};
use crate::problems::Finding;

/// A transition of the session that is normal once, and a fault if repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Transition {
    /// A controller refused the claim; the agent claims again.
    Fenced,
    /// The view shows that the claim has ended; the agent claims again.
    ClaimLost,
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
            Ended::Fenced { .. } => Some(Self::Fenced),
            Ended::ClaimLost(_) => Some(Self::ClaimLost),
            Ended::State(_) => None,
            Ended::Link(_) if !connected => None,
            Ended::Link(LinkError::Superseded(_)) => Some(Self::Superseded),
            Ended::Link(LinkError::Stale) => Some(Self::StaleController),
            Ended::Link(_) => Some(Self::StreamLost),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Fenced => "claim fenced and claimed again",
            Self::ClaimLost => "claim ended and claimed again",
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
    use super::{super::protocol::Lost, *};

    fn fenced() -> Ended {
        Ended::Fenced { reason: "x".into(), epoch: None }
    }

    fn link(error: LinkError) -> Ended {
        Ended::Link(error)
    }

    #[test]
    fn transitions_at_the_end_of_a_connection() {
        let lost = || link(LinkError::StreamEnded("x".into()));
        let superseded = || link(LinkError::Superseded("x".into()));
        let table = [
            (fenced(), true, Some(Transition::Fenced)),
            (fenced(), false, Some(Transition::Fenced)),
            (Ended::ClaimLost(Lost::NotInStore), true, Some(Transition::ClaimLost)),
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
}
