//! What BFD's reports mean for a BGP session (RFC 5882 §4).

use tokio::time::Instant;

use crate::bfd::{Health, State};

/// Holds sessions back over a path that has failed.
#[derive(Debug, Clone)]
pub(super) struct BfdHold {
    failures: u64,
    until: Option<Instant>,
}

/// What a report means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The path has failed: a session over it ends now (RFC 5882 §4.2).
    Failed,
    /// The path works again: a session that was held back may begin.
    Recovered,
    /// Nothing changes.
    Unchanged,
}

impl BfdHold {
    /// After so many failures, which count no more.
    pub(super) fn new(failures: u64) -> Self {
        Self { failures, until: None }
    }

    /// Until when no session is to begin over a path that has failed: it would only fail again. Not for ever, as the
    /// neighbour may have stopped to do BFD at all. `None` if one may begin at `now`.
    pub(super) fn held_until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// Where the path has failed, sessions are held back until `until` at most.
    pub(super) fn judge(&mut self, health: Health, until: Instant) -> Verdict {
        if health.failures > self.failures {
            self.failures = health.failures;
            // It may have recovered already.
            self.until = (health.state != State::Up).then_some(until);
            return Verdict::Failed;
        }
        match health.state {
            State::Up if self.until.take().is_some() => Verdict::Recovered,
            _ => Verdict::Unchanged,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_path_that_fails_ends_the_session_and_holds_the_next_one_back() {
        let (mut hold, until) = (BfdHold::new(0), Instant::now() + Duration::from_secs(90));
        let table = [
            (State::Init, 0, Verdict::Unchanged, None),
            (State::Up, 0, Verdict::Unchanged, None),
            (State::Down, 1, Verdict::Failed, Some(until)),
            (State::Init, 1, Verdict::Unchanged, Some(until)),
            (State::Up, 1, Verdict::Recovered, None),
            // The neighbour has gone down on purpose: nothing has failed (RFC 5882 §3.2).
            (State::Down, 1, Verdict::Unchanged, None),
            (State::Up, 3, Verdict::Failed, None),
        ];
        for (state, failures, expected, held) in table {
            let verdict = hold.judge(Health { state, failures }, until);
            assert_eq!(
                (verdict, hold.held_until(Instant::now())),
                (expected, held),
                "{state:?}, {failures} failures"
            );
        }
    }
}
