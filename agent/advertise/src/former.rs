//! The prefixes that were advertised before: containers still have addresses of them. Pure.

use std::{fmt, time::Duration};

use sextant_proto::Prefix;
use tokio::time::Instant;

/// After this time a host has given up an address of a former prefix (RFC 4862 §5.5.3).
pub const FORMER_FOR: Duration = Duration::from_secs(2 * 3600);

/// What must survive a restart of the process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remembered {
    /// The prefixes that are advertised.
    pub advertised: Vec<Prefix>,
    /// Those before, each with the time for which hosts may still have addresses of it.
    pub former: Vec<(Prefix, Duration)>,
}

/// Where that is stored.
pub trait Store: fmt::Debug + Send + 'static {
    /// Stores it for good.
    ///
    /// # Errors
    /// If it is not stored, with the reason.
    fn keep(&self, remembered: &Remembered) -> Result<(), String>;
}

/// The prefixes that were advertised, also where nothing was for a while.
#[derive(Debug, Default)]
pub(super) struct Former {
    /// Those that are advertised now, or were last.
    last: Vec<Prefix>,
    /// Those before, each with the time after which no host has an address of it.
    until: Vec<(Prefix, Instant)>,
}

impl Former {
    pub(super) fn restored(Remembered { advertised, former }: Remembered, now: Instant) -> Self {
        // The clock may have been set back meanwhile.
        let until = former.into_iter().map(|(prefix, rest)| (prefix, now + rest.min(FORMER_FOR)));
        Self { last: advertised, until: until.collect() }
    }

    pub(super) fn remembered(&self, now: Instant) -> Remembered {
        let former = self.until.iter().map(|(prefix, until)| (*prefix, until.saturating_duration_since(now)));
        Remembered { advertised: self.last.clone(), former: former.collect() }
    }

    /// These are advertised from now on: the last ones are former ones, but for those that stay. Whether something has changed.
    pub(super) fn follow(&mut self, wanted: &[Prefix], now: Instant) -> bool {
        if self.last == wanted {
            return false;
        }
        let last = std::mem::replace(&mut self.last, wanted.to_vec());
        self.until.retain(|(prefix, _)| !last.contains(prefix));
        self.until.extend(last.into_iter().map(|prefix| (prefix, now + FORMER_FOR)));
        self.until.retain(|(prefix, _)| !wanted.contains(prefix));
        true
    }

    pub(super) fn now(&mut self, now: Instant) -> Vec<Prefix> {
        self.until.retain(|(_, until)| *until > now);
        self.until.iter().map(|(prefix, _)| *prefix).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(3);

    fn two() -> [Prefix; 2] {
        ["2001:db8:1::/64", "2001:db8:2::/64"].map(|prefix| prefix.parse().unwrap())
    }

    #[test]
    fn former_prefixes_are_remembered_for_two_hours() {
        let [one, other] = two();
        let (now, mut former) = (Instant::now(), Former::default());
        assert!(former.follow(&[one], now));
        assert!(!former.follow(&[one], now));
        assert_eq!(former.now(now), [], "it is still advertised");
        // Nothing is advertised for a while, as without a bridge.
        former.follow(&[], now);
        former.follow(&[other], now);
        assert_eq!(former.now(now), [one]);
        former.follow(&[one], now + STEP);
        assert_eq!(former.now(now + STEP), [other], "what is wanted again is no former one");
        assert_eq!(former.now(now + FORMER_FOR), [other]);
        assert_eq!(former.now(now + FORMER_FOR + STEP), []);
    }

    #[test]
    fn a_restart_forgets_none_of_them() {
        let [one, other] = two();
        let (now, mut former) = (Instant::now(), Former::default());
        former.follow(&[one], now);
        former.follow(&[other], now);
        // With the same prefix, and with another one than before.
        let restarted = |wanted: &[Prefix]| {
            let mut again = Former::restored(former.remembered(now + STEP), now + STEP);
            again.follow(wanted, now + STEP);
            (again.now(now + STEP), again.now(now + FORMER_FOR + Duration::from_secs(1)))
        };
        assert_eq!(restarted(&[other]), (vec![one], vec![]));
        assert_eq!(restarted(&[one]), (vec![other], vec![other]));
        assert_eq!(restarted(&[]), (vec![one, other], vec![other]));
        let late = Remembered { former: vec![(one, FORMER_FOR * 9)], ..Remembered::default() };
        assert_eq!(Former::restored(late, now).now(now + FORMER_FOR + STEP), []);
    }
}
