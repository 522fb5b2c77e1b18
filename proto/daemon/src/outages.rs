//! The log lines of one operation that several servers serve, while some of them fail. Pure.
//!
//! A failure is logged when it begins, with each server and for each new reason; then there is one reminder each minute, however
//! many servers fail.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::{RECOVERED, Recovered, once::condition};

/// The interval of reminders, and of lines with the same server and reason.
const REMINDER: Duration = Duration::from_secs(60);
/// How many reasons of one server are remembered. They may take turns.
const REASONS: usize = 8;

/// The failures of the servers of one operation, by their addresses.
#[derive(Debug, Default)]
pub struct Outages {
    servers: BTreeMap<String, Server>,
    /// The time of the last line.
    logged: Option<Instant>,
}

#[derive(Debug, Default)]
struct Server {
    lasting: Option<Lasting>,
    /// The logged reasons, and when.
    reasons: VecDeque<(String, Instant)>,
}

#[derive(Debug)]
struct Lasting {
    since: Instant,
    last: String,
    failures: u64,
    /// The failures since the last log line.
    unlogged: u64,
    /// The time of the first success after the last failure.
    works: Option<Instant>,
}

/// A failure to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailingServer {
    /// The number of failures of this server since its last line, including this one.
    pub failures: u64,
    /// The age of its outage.
    pub for_secs: u64,
    /// The other servers that fail, with their last reasons.
    pub others: String,
}

impl Outages {
    /// Records a failure of `server`. Returns it if it should be logged.
    pub fn failed(&mut self, server: &str, why: &str, now: Instant) -> Option<FailingServer> {
        let known = self.servers.entry(server.to_owned()).or_default();
        let continues = known.lasting.is_some();
        let lasting = known.lasting.get_or_insert_with(|| Lasting::since(now));
        (lasting.last, lasting.works) = (why.to_owned(), None);
        lasting.failures += 1;
        lasting.unlogged += 1;
        let due = self.logged.is_none_or(|logged| now.duration_since(logged) >= REMINDER);
        if !known.is_new(&condition(why), continues, now) && !due {
            return None;
        }
        self.logged = Some(now);
        let others = self.others(server);
        let lasting = self.servers.get_mut(server)?.lasting.as_mut()?;
        let failures = std::mem::take(&mut lasting.unlogged);
        Some(FailingServer { failures, for_secs: now.duration_since(lasting.since).as_secs(), others })
    }

    /// Records a success of `server`. Returns the end of its outage once, after [`RECOVERED`].
    pub fn works(&mut self, server: &str, now: Instant) -> Option<Recovered> {
        let lasting = self.servers.get_mut(server)?.lasting.as_mut()?;
        let works = *lasting.works.get_or_insert(now);
        if now.duration_since(works) < RECOVERED {
            return None;
        }
        let after_secs = works.duration_since(lasting.since).as_secs();
        let failures = lasting.failures;
        self.succeeded(server);
        Some(Recovered { failures, after_secs })
    }

    /// Records a lasting success of `server`: its next failure is a new one.
    pub fn succeeded(&mut self, server: &str) {
        if let Some(server) = self.servers.get_mut(server) {
            server.lasting = None;
        }
    }

    fn others(&self, server: &str) -> String {
        let failing = self.servers.iter().filter(|(name, _)| *name != server);
        let failing = failing.filter_map(|(name, it)| Some(format!("{name}: {}", it.lasting.as_ref()?.last)));
        failing.collect::<Vec<_>>().join("; ")
    }
}

impl Server {
    /// Whether the reason is worth a line of its own; then it is remembered.
    fn is_new(&mut self, why: &str, continues: bool, now: Instant) -> bool {
        let known = self.reasons.iter().position(|(reason, _)| reason == why);
        if let Some(at) = known {
            let fresh = now.duration_since(self.reasons[at].1) < REMINDER;
            if continues || fresh {
                return false;
            }
            self.reasons.remove(at);
        }
        self.reasons.truncate(REASONS - 1);
        self.reasons.push_front((why.to_owned(), now));
        true
    }
}

impl Lasting {
    fn since(now: Instant) -> Self {
        Self { since: now, last: String::new(), failures: 0, unlogged: 0, works: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(start: Instant, second: u64) -> Instant {
        start + Duration::from_secs(second)
    }

    #[test]
    fn any_number_of_failing_servers_is_one_reminder_each_minute() {
        for servers in 1..=5_u64 {
            let (mut outages, start) = (Outages::default(), Instant::now());
            let logged = (0..300).filter(|n| {
                let server = format!("c{}", n % servers);
                outages.failed(&server, "refused", second(start, *n)).is_some()
            });
            let logged: Vec<_> = logged.collect();
            assert_eq!(
                logged[..servers as usize],
                (0..servers).collect::<Vec<_>>(),
                "each one when it begins"
            );
            assert_eq!(logged.len() as u64, servers + 4, "{servers} servers: {logged:?}");
        }
    }

    #[test]
    fn a_reminder_has_the_other_servers() {
        let (mut outages, start) = (Outages::default(), Instant::now());
        outages.failed("c1", "refused", start);
        outages.failed("c2", "timed out", start);
        let failing = outages.failed("c1", "refused", second(start, 61)).unwrap();
        assert_eq!(failing, FailingServer { failures: 1, for_secs: 61, others: "c2: timed out".into() });
    }

    #[test]
    fn reasons_that_take_turns_or_count_up_are_logged_once() {
        let (mut outages, start) = (Outages::default(), Instant::now());
        let logged = (0..60).filter(|n| {
            let why = match n % 3 {
                0 => "no answer of m1".to_owned(),
                1 => "refused".to_owned(),
                _ => format!("ended after {n}.{n} s"),
            };
            outages.failed("c1", &why, second(start, *n)).is_some()
        });
        assert_eq!(logged.collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn a_server_that_works_for_some_seconds_between_failures_is_logged_once_a_minute() {
        let (mut outages, start) = (Outages::default(), Instant::now());
        let logged = (0..180).step_by(12).filter(|n| {
            outages.succeeded("c1");
            outages.failed("c1", "stream ended", second(start, *n)).is_some()
        });
        assert_eq!(logged.collect::<Vec<_>>(), [0, 60, 120]);
    }

    #[test]
    fn a_recovery_is_reported_once() {
        let (mut outages, start) = (Outages::default(), Instant::now());
        outages.failed("c1", "refused", start);
        assert_eq!(outages.works("c1", second(start, 3)), None);
        let recovered = Recovered { failures: 1, after_secs: 3 };
        assert_eq!(outages.works("c1", second(start, 8)), Some(recovered));
        assert_eq!(outages.works("c1", second(start, 9)), None);
        assert_eq!(outages.works("c2", second(start, 9)), None);
    }
}
