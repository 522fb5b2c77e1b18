//! What BFD says of the way to a neighbour, and what follows for the BGP session (RFC 5882). Pure but for the waiting.

use std::net::SocketAddrV6;

use tokio::{sync::watch, time::Instant};

use crate::bfd::{Aim, Health, State};

/// A way that is watched.
#[derive(Debug)]
pub(in crate::bgp) struct Watched {
    health: watch::Receiver<Health>,
    aim: Option<Aim>,
    failures: u64,
    held_until: Option<Instant>,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bgp) enum Way {
    /// A session over it is to end now (RFC 5882 §4.2).
    Failed,
    /// A session that was held back may begin.
    Back,
    /// Nothing.
    AsBefore,
}

impl Watched {
    pub(in crate::bgp) fn new(health: watch::Receiver<Health>, aim: Option<Aim>) -> Self {
        let failures = health.borrow().failures;
        Self { health, aim, failures, held_until: None }
    }

    /// The neighbour is here.
    pub(in crate::bgp) fn aim(&self, neighbour: SocketAddrV6) {
        if let Some(aim) = &self.aim {
            aim.at(neighbour);
        }
    }

    /// Until when no session is to begin over a way that has failed: it would only fail again. Not for ever, as the neighbour
    /// may have stopped to do BFD at all. `None` if one may begin at `now`.
    pub(in crate::bgp) fn held_until(&self, now: Instant) -> Option<Instant> {
        self.held_until.filter(|until| *until > now)
    }

    /// Where the way has failed, sessions are held back until `until` at most.
    pub(in crate::bgp) fn judge(&mut self, health: Health, until: Instant) -> Way {
        if health.failures > self.failures {
            self.failures = health.failures;
            // It may be back already.
            self.held_until = (health.state != State::Up).then_some(until);
            return Way::Failed;
        }
        match health.state {
            State::Up if self.held_until.take().is_some() => Way::Back,
            _ => Way::AsBefore,
        }
    }
}

/// The next news of a way; none ever of one that is not watched. Cancel safe.
pub(in crate::bgp) async fn changed(watched: &mut Option<Watched>) -> Health {
    if let Some(watched) = watched
        && watched.health.changed().await.is_ok()
    {
        return *watched.health.borrow_and_update();
    }
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_way_that_fails_ends_the_session_and_holds_the_next_one_back() {
        let (_tx, health) = watch::channel(Health { state: State::Down, failures: 0 });
        let (mut watched, until) = (Watched::new(health, None), Instant::now() + Duration::from_secs(90));
        let table = [
            (State::Init, 0, Way::AsBefore, None),
            (State::Up, 0, Way::AsBefore, None),
            (State::Down, 1, Way::Failed, Some(until)),
            (State::Init, 1, Way::AsBefore, Some(until)),
            (State::Up, 1, Way::Back, None),
            // The neighbour has gone down on purpose: nothing has failed (RFC 5882 §3.2).
            (State::Down, 1, Way::AsBefore, None),
            (State::Up, 3, Way::Failed, None),
        ];
        for (state, failures, expected, held) in table {
            let way = watched.judge(Health { state, failures }, until);
            assert_eq!(
                (way, watched.held_until(Instant::now())),
                (expected, held),
                "{state:?}, {failures} failures"
            );
        }
    }
}
