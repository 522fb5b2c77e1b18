//! Holds back announcements of uplinks that change again and again: each one makes all peers change routes. Pure.

use std::{collections::VecDeque, time::Duration};

use sextant_proto::Uplink;
use tokio::time::Instant;

/// So many changes within [`WINDOW`] are announced at once.
const BURST: usize = 6;
const WINDOW: Duration = Duration::from_secs(60);
/// A later one is announced once it has lasted this long.
const SETTLED: Duration = Duration::from_secs(5);

/// The announced uplinks, and their changes.
#[derive(Debug, Default)]
pub(super) struct Settling {
    announced: Vec<Uplink>,
    changes: VecDeque<Instant>,
    /// The uplinks that are held back, and since when they are as they are.
    held: Option<(Vec<Uplink>, Instant)>,
}

impl Settling {
    /// The uplinks to announce, for those that this host has now.
    pub(super) fn settle(&mut self, uplinks: Vec<Uplink>, now: Instant) -> Vec<Uplink> {
        if uplinks == self.announced {
            self.held = None;
        } else if self.is_calm(now) || self.has_lasted(&uplinks, now) {
            self.changes.push_back(now);
            (self.announced, self.held) = (uplinks, None);
        } else if self.held.as_ref().is_none_or(|(held, _)| *held != uplinks) {
            self.held = Some((uplinks, now));
        }
        self.announced.clone()
    }

    /// When to ask again although nothing has changed.
    pub(super) fn due(&self) -> Option<Instant> {
        self.held.as_ref().map(|(_, since)| *since + SETTLED)
    }

    fn is_calm(&mut self, now: Instant) -> bool {
        while self.changes.front().is_some_and(|change| *change + WINDOW <= now) {
            self.changes.pop_front();
        }
        self.changes.len() < BURST
    }

    fn has_lasted(&self, uplinks: &[Uplink], now: Instant) -> bool {
        self.held.as_ref().is_some_and(|(held, since)| held == uplinks && *since + SETTLED <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uplinks(name: &str) -> Vec<Uplink> {
        vec![Uplink { interface: name.into(), addresses: vec![] }]
    }

    #[test]
    fn the_first_changes_are_announced_at_once_and_a_flapping_address_is_not() {
        let (mut settling, start) = (Settling::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for n in 0..BURST {
            let now = uplinks(&format!("eth{n}"));
            assert_eq!(settling.settle(now.clone(), at(n as u64)), now);
            assert_eq!(settling.due(), None);
        }
        let last = uplinks("eth5");
        for second in 10..40 {
            let flapping = uplinks(&format!("eth{}", second % 2));
            assert_eq!(settling.settle(flapping, at(second)), last, "{second}");
        }
        assert_eq!(settling.settle(last.clone(), at(40)), last);
        assert_eq!(settling.due(), None, "it is as it was");

        let other = uplinks("eth9");
        assert_eq!(settling.settle(other.clone(), at(41)), last);
        assert_eq!(settling.settle(other.clone(), at(44)), last);
        assert_eq!(settling.due(), Some(at(46)));
        assert_eq!(settling.settle(other.clone(), at(46)), other, "it has lasted");
        let later = uplinks("eth0");
        assert_eq!(settling.settle(later.clone(), at(200)), later, "all is calm again");
    }
}
