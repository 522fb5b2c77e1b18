//! What is known of a neighbour, for people.

use std::{
    net::Ipv6Addr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sextant_daemon::OncePerMinute;
use sextant_proto::{BgpNeighbour, unix_ms};
use tokio::{sync::watch, time::Instant};

use super::{
    meters::{Counts, Meters},
    peer::State,
};
use crate::{bfd, settings::NeighbourSettings};

/// The status of all neighbours, one of which is this one's.
pub(super) struct Status {
    all: watch::Sender<Vec<BgpNeighbour>>,
    nth: usize,
    name: String,
    counts: Counts,
    lines: Mutex<OncePerMinute>,
    /// What the neighbour said when it ended the last session, until there is another one.
    said: Mutex<Option<String>>,
}

impl Status {
    pub(super) fn new(
        all: watch::Sender<Vec<BgpNeighbour>>,
        neighbour: &NeighbourSettings,
        meters: &Meters,
    ) -> Self {
        let counts = meters.of(&neighbour.name(), neighbour.bfd.is_some());
        counts.since.set(seconds(unix_ms()));
        let mut nth = 0;
        all.send_modify(|all| {
            nth = all.len();
            all.push(BgpNeighbour {
                address: neighbour.address,
                interface: neighbour.interface.as_deref().unwrap_or_default().to_owned(),
                remote_as: neighbour.remote_as,
                state: word(State::Idle).into(),
                since_unix_ms: unix_ms(),
                sent: 0,
                received: 0,
                error: String::new(),
                bfd: String::new(),
                imported: 0,
            });
        });
        Self { all, nth, name: neighbour.name(), counts, lines: Mutex::default(), said: Mutex::default() }
    }

    pub(super) fn state(&self, state: State) {
        let established = state == State::Established;
        // Between attempts it goes to and fro: that is one state to a person.
        let word = word(state);
        let mut was = String::new();
        self.change(|it| {
            was.clone_from(&it.state);
            if it.state != word {
                (it.state, it.since_unix_ms) = (word.into(), unix_ms());
            }
        });
        if established != (was == "established") {
            self.counts.established.set(i64::from(established));
            self.counts.since.set(seconds(unix_ms()));
            self.counts.flaps.inc_by(u64::from(!established));
            self.counts.announced.set(0);
            tracing::info!(neighbour = self.name, state = word, was, "BGP session state changed");
        }
    }

    /// There is no session, and none is to be.
    pub(super) fn drained(&self) {
        tracing::info!(neighbour = self.name, "BGP session ended: host drained");
        self.change(|it| (it.state, it.since_unix_ms) = ("drained".into(), unix_ms()));
    }

    pub(super) fn established(&self) {
        self.said().take();
        self.change(|it| (it.sent, it.received, it.error) = (0, 0, String::new()));
    }

    /// Where it was found.
    pub(super) fn address(&self, address: Ipv6Addr) {
        tracing::info!(neighbour = self.name, %address, "BGP neighbour found");
        self.change(|it| it.address = address);
    }

    /// BFD has reported that the path failed.
    pub(super) fn path_failed(&self, error: String) {
        if let Some((_, failures)) = &self.counts.bfd {
            failures.inc();
        }
        self.error(error);
    }

    pub(super) fn bfd(&self, state: bfd::State) {
        if let Some((up, _)) = &self.counts.bfd {
            up.set(i64::from(state == bfd::State::Up));
        }
        let word = match state {
            bfd::State::AdminDown => "admin-down",
            bfd::State::Down => "down",
            bfd::State::Init => "init",
            bfd::State::Up => "up",
        };
        self.change(|it| it.bfd = word.into());
    }

    /// It knows of so many prefixes by us.
    pub(super) fn announced(&self, prefixes: usize) {
        self.counts.announced.set(i64::try_from(prefixes).unwrap_or(i64::MAX));
    }

    pub(super) fn notified(&self, by_us: bool) {
        if by_us { &self.counts.notifications_sent } else { &self.counts.notifications_received }.inc();
    }

    pub(super) fn imported(&self, prefixes: usize) {
        self.counts.imported.set(i64::try_from(prefixes).unwrap_or(i64::MAX));
        self.change(|it| it.imported = prefixes as u64);
    }

    pub(super) fn sent(&self) {
        self.counts.updates_sent.inc();
        self.change(|it| it.sent += 1);
    }

    pub(super) fn received(&self) {
        self.counts.updates_received.inc();
        self.change(|it| it.received += 1);
    }

    /// The neighbour has ended the session, and said why. That stays visible beside later errors.
    pub(super) fn ended_by_neighbour(&self, error: String) {
        self.said().replace(error.clone());
        self.show_error(error);
    }

    pub(super) fn error(&self, error: String) {
        let said = self.said().clone();
        self.show_error(said.map_or(error.clone(), |said| format!("{said}; then: {error}")));
    }

    fn said(&self) -> MutexGuard<'_, Option<String>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show_error(&self, error: String) {
        self.change(|it| {
            if it.error != error {
                let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(suppressed) = lines.admit(&error, Instant::now()) {
                    tracing::warn!(neighbour = self.name, error, suppressed, "error with a BGP neighbour");
                }
                it.error = error;
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut BgpNeighbour)) {
        self.all.send_if_modified(|all| {
            let before = all[self.nth].clone();
            change(&mut all[self.nth]);
            all[self.nth] != before
        });
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Established => "established",
        State::OpenSent | State::OpenConfirm => "opening",
        State::Idle | State::Connect | State::Active => "connecting",
    }
}

fn seconds(unix_ms: u64) -> i64 {
    i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX)
}
