//! The log lines of an outage, a failure that lasts: its start, a reminder each minute, its end. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// The interval of reminders.
const REMINDER: Duration = Duration::from_secs(60);
/// A shorter success between two failures does not end an outage.
pub const RECOVERED: Duration = Duration::from_secs(5);

/// The failures of one operation.
#[derive(Debug, Default)]
pub struct Outage {
    lasting: Option<Lasting>,
}

#[derive(Debug)]
struct Lasting {
    since: Instant,
    logged: Instant,
    /// The failures since the last log line.
    unlogged: u64,
    /// All failures.
    failures: u64,
    /// The time of the first success after the last failure.
    works: Option<Instant>,
}

/// A failure to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failing {
    /// The number of failures since the last log line, including this one.
    pub failures: u64,
    /// The age of the outage.
    pub for_secs: u64,
}

/// The end of an outage, to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// The number of failures.
    pub failures: u64,
    /// The length of the outage.
    pub after_secs: u64,
}

impl Outage {
    /// Records a failure. Returns it if it should be logged.
    pub fn failed(&mut self, now: Instant) -> Option<Failing> {
        let Some(lasting) = &mut self.lasting else {
            let (since, logged) = (now, now);
            self.lasting = Some(Lasting { since, logged, unlogged: 0, failures: 1, works: None });
            return Some(Failing { failures: 1, for_secs: 0 });
        };
        lasting.works = None;
        lasting.failures += 1;
        lasting.unlogged += 1;
        if now.duration_since(lasting.logged) < REMINDER {
            return None;
        }
        lasting.logged = now;
        let failures = std::mem::take(&mut lasting.unlogged);
        Some(Failing { failures, for_secs: now.duration_since(lasting.since).as_secs() })
    }

    /// Whether the outage lasts.
    pub fn lasts(&self) -> bool {
        self.lasting.is_some()
    }

    /// Records a success. Returns the end of an outage once, after [`RECOVERED`].
    pub fn works(&mut self, now: Instant) -> Option<Recovered> {
        let lasting = self.lasting.as_mut()?;
        let works = *lasting.works.get_or_insert(now);
        if now.duration_since(works) < RECOVERED {
            return None;
        }
        let Lasting { since, failures, .. } = self.lasting.take()?;
        Some(Recovered { failures, after_secs: works.duration_since(since).as_secs() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_logged_when_it_begins_each_minute_and_when_it_ends() {
        let (mut outage, start) = (Outage::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(outage.works(at(0)), None, "nothing has failed");
        let logged: Vec<_> = (0..=125).filter_map(|n| Some((n, outage.failed(at(n))?.failures))).collect();
        assert_eq!(logged, [(0, 1), (60, 60), (120, 60)]);
        // Two short successes: the same outage.
        assert_eq!((outage.works(at(126)), outage.works(at(129))), (None, None));
        assert_eq!(outage.failed(at(130)), None);
        assert_eq!((outage.works(at(131)), outage.works(at(135))), (None, None));
        assert_eq!(outage.works(at(136)), Some(Recovered { failures: 127, after_secs: 131 }));
        assert_eq!(outage.works(at(200)), None, "once");
        assert_eq!(outage.failed(at(201)), Some(Failing { failures: 1, for_secs: 0 }), "another one");
    }
}
