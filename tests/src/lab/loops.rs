//! Detects daemons in a loop: the same transition repeats while the test changes nothing.
//!
//! Daemons log their transitions in one format (`sextant_daemon::transition`). The lab records the length of each log
//! whenever the test changes something: by a signal, a process, a setting, or a command that is not a query. So the order of
//! changes and transitions does not depend on the daemons' clocks.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail};
use serde_json::Value;

/// How often a transition may repeat while nothing else changes.
const MAX_REPEATS: u32 = 10;

/// A command with one of these words changes something. All others are queries.
const CHANGING: [&str; 29] = [
    "add",
    "append",
    "change",
    "cp",
    "del",
    "delete",
    "drain",
    "flush",
    "forget",
    "grow",
    "insert",
    "join",
    "kill",
    "move-leader",
    "pause",
    "put",
    "reassign",
    "recover",
    "remove",
    "renumber",
    "replace",
    "reserve",
    "restore",
    "resume",
    "revoke",
    "set",
    "setup",
    "undrain",
    "unreserve",
];

/// Transitions of retries while a peer is unreachable: not counted if they are as slow as the back-off's cap makes them
/// (2.5 to 5 s, agent/src/session/backoff.rs; 500 ms, controller/src/index/task.rs).
const RETRIES: [(&str, &str, Duration); 4] = [
    ("session", "link", Duration::from_millis(2500)),
    ("session", "welcome", Duration::from_millis(2500)),
    ("announcement", "set up", Duration::from_millis(2500)),
    ("index", "watch ended", Duration::from_millis(500)),
];

/// A transition, as a daemon logged it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Transition {
    subject: String,
    from: String,
    to: String,
    why: String,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, from, to, why } = self;
        write!(f, "{subject}: {from} -> {to} ({why})")
    }
}

/// The length of each log whenever the test changed something.
#[derive(Debug, Default)]
pub(super) struct Changes(Mutex<HashMap<PathBuf, Vec<u64>>>);

impl Changes {
    /// Records that the test changes something now.
    pub(super) fn record(&self, logs: &[PathBuf]) {
        let mut lengths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for log in logs.iter().filter(|log| is_daemon_log(log)) {
            let length = fs::metadata(log).map_or(0, |file| file.len());
            let recorded = lengths.entry(log.clone()).or_default();
            if recorded.last() != Some(&length) {
                recorded.push(length);
            }
        }
    }

    /// The lengths of this log at the changes, in order.
    pub(super) fn of(&self, log: &Path) -> Vec<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(log).cloned().unwrap_or_default()
    }
}

/// Whether a command changes something, by its words.
pub(super) fn changes_something<S: AsRef<OsStr>>(args: &[S]) -> bool {
    args.iter().any(|arg| arg.as_ref().to_str().is_some_and(|arg| CHANGING.contains(&arg)))
}

/// Checks that the daemon of this log made no transition more than ten times between two changes of the test.
///
/// # Errors
/// If it did, with the transition and its last log line.
pub(super) fn check_log(log: &Path, changes: &[u64]) -> anyhow::Result<()> {
    if !is_daemon_log(log) {
        return Ok(());
    }
    let name = log.file_name().unwrap_or_default().to_string_lossy();
    let text = fs::read(log).with_context(|| format!("{} cannot be read", log.display()))?;
    let mut watch = Watch::default();
    let (mut offset, mut changes) = (0u64, changes.iter().copied().peekable());
    for line in text.split_inclusive(|octet| *octet == b'\n') {
        while changes.next_if(|change| *change <= offset).is_some() {
            watch = Watch::default();
        }
        offset += line.len() as u64;
        let Some((at, transition)) = parse(line) else { continue };
        if watch.exceeds_limit(at, &transition) {
            bail!(
                "{name}: loop: the same transition more than {MAX_REPEATS} times while nothing else changed: {transition}; \
                 last log line:\n{}",
                String::from_utf8_lossy(line).trim_end()
            );
        }
    }
    Ok(())
}

fn is_daemon_log(log: &Path) -> bool {
    let name = log.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("controller-") || name.starts_with("agent-")
}

fn parse(line: &[u8]) -> Option<(Duration, Transition)> {
    let entry: Value = serde_json::from_slice(line).ok()?;
    if entry["message"] != "transition" {
        return None;
    }
    let field = |name: &str| entry[name].as_str().map(str::to_owned);
    let at = humantime::parse_rfc3339(entry["timestamp"].as_str()?).ok()?;
    let at = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    let transition =
        Transition { subject: field("subject")?, from: field("from")?, to: field("to")?, why: field("why")? };
    Some((at, transition))
}

/// The transitions of a daemon since the test last changed something.
#[derive(Debug, Default)]
struct Watch {
    seen: HashMap<Transition, Repeats>,
}

#[derive(Debug)]
struct Repeats {
    times: u32,
    last: Duration,
}

impl Watch {
    /// Counts a transition; whether it exceeds the limit. A new transition is a change, and resets all counts.
    fn exceeds_limit(&mut self, at: Duration, transition: &Transition) -> bool {
        if let Some(repeats) = self.seen.get_mut(transition) {
            let since = at.saturating_sub(repeats.last);
            repeats.last = at;
            if !is_retry(transition, since) {
                repeats.times += 1;
            }
            return repeats.times > MAX_REPEATS;
        }
        self.seen.values_mut().for_each(|repeats| repeats.times = 0);
        self.seen.insert(transition.clone(), Repeats { times: 1, last: at });
        false
    }
}

/// Whether it is a retry with the back-off at its cap.
fn is_retry(transition: &Transition, since: Duration) -> bool {
    let retries = |(subject, why, cap): &(&str, &str, Duration)| {
        transition.subject == *subject && transition.why == *why && since >= *cap
    };
    RETRIES.iter().any(retries)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a log that cycles through these transitions, one each `period`.
    fn check(round: &[[&str; 4]], times: u64, period: Duration, changes: &[usize]) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("agent-h1.log");
        let line = |(index, [subject, from, to, why]): (u64, [&str; 4])| {
            let at = std::time::UNIX_EPOCH + period * u32::try_from(index).unwrap();
            let at = humantime::format_rfc3339_millis(at);
            format!(
                "{{\"timestamp\":\"{at}\",\"level\":\"DEBUG\",\"message\":\"transition\",\"subject\":\"{subject}\",\
                 \"from\":\"{from}\",\"to\":\"{to}\",\"why\":\"{why}\",\"target\":\"x\"}}\n"
            )
        };
        let lines: Vec<_> =
            (0..times * round.len() as u64).zip(round.iter().copied().cycle()).map(line).collect();
        let lengths: Vec<_> = changes.iter().map(|change| lines[..*change].concat().len() as u64).collect();
        fs::write(&log, lines.concat()).unwrap();
        check_log(&log, &lengths).map_err(|error| error.to_string())
    }

    const UP: [&str; 4] = ["session", "disconnected", "connected", "welcome"];
    const CLAIM_LOST: [&str; 4] = ["session", "connected", "disconnected", "claim lost"];
    const LINK: [&str; 4] = ["session", "connected", "disconnected", "link"];

    #[test]
    fn a_loop_is_reported_at_any_speed() {
        for period in [1, 10_000].map(Duration::from_millis) {
            let error = check(&[UP, CLAIM_LOST], 12, period, &[]).unwrap_err();
            assert!(
                error.starts_with("agent-h1.log: loop: the same transition more than 10 times"),
                "{error}"
            );
            assert!(error.contains("session: "), "{error}");
        }
        assert!(
            check(&[UP, CLAIM_LOST], 12, Duration::from_secs(10), &[]).unwrap_err().contains("claim lost")
        );
        assert_eq!(check(&[UP, CLAIM_LOST], 10, Duration::ZERO, &[]), Ok(()), "ten times are allowed");
    }

    #[test]
    fn retries_at_the_cap_of_the_backoff_are_no_loop() {
        assert_eq!(check(&[UP, LINK], 100, Duration::from_millis(1300), &[]), Ok(()));
        check(&[UP, LINK], 100, Duration::from_millis(100), &[]).unwrap_err();
    }

    #[test]
    fn a_change_by_the_test_resets_the_count() {
        assert_eq!(check(&[UP, LINK], 12, Duration::ZERO, &[10]), Ok(()));
        check(&[UP, LINK], 16, Duration::ZERO, &[4]).unwrap_err();
    }

    #[test]
    fn queries_are_no_changes() {
        assert!(!changes_something(&["ip", "-6", "route", "show"]));
        assert!(!changes_something(&["sextant", "--controller", "x", "status"]));
        assert!(changes_something(&["ip", "link", "set", "p1", "nomaster"]));
        assert!(changes_something(&["sextant", "node", "forget", "h1"]));
    }
}
