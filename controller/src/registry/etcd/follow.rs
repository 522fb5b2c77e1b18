//! The progress of a watch, and the proof that it is current. Pure: the clock is a parameter.
//!
//! etcd notifies a watch only of its own range, so silence is ambiguous: other keys may have changed, an event may be in
//! flight, or the member may be frozen or partitioned. etcd's own answer, progress notifications on request, overtakes
//! events before 3.4.25 and 3.5.8 (etcd issue 15220; Debian 12 has 3.4.23), and later versions do not answer in every state.
//! So an idle watch probes with reads, which are linearizable and ordered on all versions:
//!
//! - [`Probe::Revision`] reads the store's revision. It also shows that the member answers and has a quorum.
//! - If that is newer than the delivered revision, [`Probe::Unchanged`] checks whether the range has changed since. If not,
//!   the watch is current, and delivers an empty batch. Else events are in flight, and the watch waits for them.

use std::time::{Duration, Instant};

use sextant_proto::Revision;

use super::fault::{Fault, Kind};
use crate::registry::{Batch, Event, WatchEnded};

/// The time that an event may be in flight before the watch probes for it.
const LINGER: Duration = Duration::from_millis(25);
/// The pause after a failed probe.
const AFTER_FAILURE: Duration = Duration::from_millis(200);
/// [`Probe::Unchanged`] costs the member time linear in the range: it may use at most this fraction (1/n) of the time.
const CHECK_SHARE: u32 = 10;

/// A message on a watch's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Changes, in order; empty in a progress notification.
    Events(Vec<Event>),
    /// The requested revision is compacted.
    Compacted,
    /// The member ended the watch for this reason.
    Cancelled(String),
}

/// A probe of an idle watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Reads the store's revision. When it was sent, all changes up to this one were delivered: the store is not before it.
    Revision(Revision),
    /// Checks whether the range has changed since this revision.
    Unchanged(Revision),
}

impl Probe {
    /// The revision that the store has at least, unless it was taken back. Changes that are delivered while the probe is on its way do
    /// not count: it may have read the store before them.
    fn at_least(self) -> Revision {
        let (Self::Revision(delivered) | Self::Unchanged(delivered)) = self;
        delivered
    }
}

/// The result of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeResult {
    /// The store is at this revision.
    At(Revision),
    /// The range has not changed up to this revision.
    Unchanged(Revision),
    /// The range has changed.
    Changed,
}

/// The progress of a watch.
#[derive(Debug)]
pub struct Follower {
    /// All changes up to it were delivered.
    delivered: Revision,
    /// The store is known to have reached this revision.
    known: Revision,
    /// The time of the last message on the stream.
    quiet_since: Instant,
    ask_after: Instant,
    check_after: Instant,
    /// Since when known changes have not arrived.
    behind_since: Option<Instant>,
    /// Since when probes fail.
    failing_since: Option<Instant>,
    /// The silence before a probe.
    idle: Duration,
    /// The longest duration of the two states above.
    stale: Duration,
}

impl Follower {
    /// A watch of the changes after `after`.
    pub fn new(after: Revision, idle: Duration, stale: Duration, now: Instant) -> Self {
        Self {
            delivered: after,
            known: after,
            quiet_since: now,
            ask_after: now,
            check_after: now,
            behind_since: None,
            failing_since: None,
            idle,
            stale,
        }
    }

    /// All changes up to it were delivered.
    pub fn delivered(&self) -> Revision {
        self.delivered
    }

    /// The store has reached `revision`: another caller has received it, and may wait for this watch to deliver it.
    pub fn require(&mut self, revision: Revision) {
        self.known = self.known.max(revision);
    }

    /// Handles a message of the stream; returns the batches to deliver.
    pub fn received(&mut self, message: Message, now: Instant) -> Result<Vec<Batch>, WatchEnded> {
        let events = match message {
            Message::Events(events) => events,
            Message::Compacted => return Err(WatchEnded::Compacted(self.delivered)),
            Message::Cancelled(reason) => return Err(WatchEnded::Lost(reason)),
        };
        self.quiet_since = now;
        self.failing_since = None;
        let mut batches: Vec<Batch> = Vec::new();
        // Older events cancelled each other out before [`ProbeResult::Unchanged`].
        for event in events.into_iter().filter(|event| revision(event) > self.delivered) {
            let revision = revision(&event);
            match batches.last_mut() {
                Some(batch) if batch.revision == revision => batch.events.push(event),
                _ => batches.push(Batch { revision, events: vec![event] }),
            }
        }
        if let Some(last) = batches.last() {
            self.advance(last.revision);
        }
        Ok(batches)
    }

    /// The next probe, and its time if the stream stays silent.
    pub fn next_probe(&self) -> (Instant, Probe) {
        if self.known > self.delivered {
            let at = self.check_after.max(self.quiet_since + LINGER);
            return (at, Probe::Unchanged(self.delivered));
        }
        let at = self.ask_after.max(self.quiet_since + self.idle);
        (at, Probe::Revision(self.delivered))
    }

    /// Handles the result of a probe that was sent at `asked`; returns an empty batch if it proves the watch current.
    pub fn answered(
        &mut self,
        probe: Probe,
        result: ProbeResult,
        asked: Instant,
        now: Instant,
    ) -> Result<Option<Batch>, WatchEnded> {
        self.failing_since = None;
        self.ask_after = now + self.idle;
        self.check_after = now + LINGER.max(now.saturating_duration_since(asked) * CHECK_SHARE);
        let outdated = matches!(probe, Probe::Unchanged(since) if since != self.delivered);
        match result {
            ProbeResult::At(revision) if revision < probe.at_least() => Err(WatchEnded::Lost(format!(
                "the store is at revision {revision}, before {}: it was replaced or restored",
                probe.at_least()
            ))),
            ProbeResult::At(revision) => {
                self.known = self.known.max(revision);
                // The first check need not wait.
                self.check_after = now;
                Ok(None)
            }
            ProbeResult::Unchanged(_) | ProbeResult::Changed if outdated => Ok(None),
            ProbeResult::Unchanged(revision) if revision <= self.delivered => Ok(None),
            ProbeResult::Unchanged(revision) => {
                self.advance(revision);
                Ok(Some(Batch { revision, events: Vec::new() }))
            }
            ProbeResult::Changed => {
                let since = *self.behind_since.get_or_insert(asked);
                self.unless_stale(since, now, || "the member does not deliver changes".to_owned())
                    .map(|()| None)
            }
        }
    }

    /// Handles the failure of a probe that was sent at `asked`.
    pub fn failed(&mut self, fault: &Fault, asked: Instant, now: Instant) -> Result<(), WatchEnded> {
        if fault.kind == Kind::NoRevision {
            return Err(WatchEnded::Compacted(self.delivered));
        }
        self.ask_after = now + AFTER_FAILURE;
        self.check_after = self.ask_after;
        let since = *self.failing_since.get_or_insert(asked);
        self.unless_stale(since, now, || fault.to_string())
    }

    fn unless_stale(
        &self,
        since: Instant,
        now: Instant,
        why: impl FnOnce() -> String,
    ) -> Result<(), WatchEnded> {
        if now.saturating_duration_since(since) < self.stale {
            return Ok(());
        }
        Err(WatchEnded::Lost(why()))
    }

    fn advance(&mut self, revision: Revision) {
        self.delivered = revision;
        self.known = self.known.max(revision);
        self.behind_since = None;
    }
}

fn revision(event: &Event) -> Revision {
    match event {
        Event::Put(entry) => entry.modified,
        Event::Deleted { revision, .. } => *revision,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_millis(300);
    const STALE: Duration = Duration::from_secs(5);
    const TICK: Duration = Duration::from_millis(10);

    fn follower(after: u64) -> (Follower, Instant) {
        let now = Instant::now();
        (Follower::new(Revision(after), IDLE, STALE, now), now)
    }

    fn gone(key: &str, revision: u64) -> Event {
        Event::Deleted { key: key.to_owned(), revision: Revision(revision) }
    }

    fn summary(batches: &[Batch]) -> Vec<(u64, usize)> {
        batches.iter().map(|batch| (batch.revision.0, batch.events.len())).collect()
    }

    fn lost<T: std::fmt::Debug>(result: Result<T, WatchEnded>, words: &str) {
        let text = format!("{result:?}");
        assert!(matches!(&result, Err(WatchEnded::Lost(why)) if why.contains(words)), "{text}");
    }

    #[test]
    fn events_become_one_batch_a_revision() {
        let (mut follower, now) = follower(3);
        let events = vec![gone("a", 4), gone("b", 4), gone("a", 7)];
        let batches = follower.received(Message::Events(events), now).unwrap();
        assert_eq!(summary(&batches), [(4, 2), (7, 1)]);
        let again = vec![gone("a", 7), gone("c", 9)];
        let batches = follower.received(Message::Events(again), now).unwrap();
        assert_eq!(summary(&batches), [(9, 1)], "nothing is delivered twice");
        assert_eq!(follower.received(Message::Events(vec![]), now).unwrap(), []);
        assert_eq!(follower.delivered(), Revision(9));
    }

    #[test]
    fn an_idle_watch_probes_and_delivers_an_empty_batch() {
        let (mut follower, start) = follower(3);
        assert_eq!(follower.next_probe(), (start + IDLE, Probe::Revision(Revision(3))));
        let now = start + IDLE;
        let at = |revision| ProbeResult::At(Revision(revision));
        assert_eq!(follower.answered(Probe::Revision(Revision(3)), at(3), now, now + TICK).unwrap(), None);
        assert_eq!(follower.next_probe(), (now + TICK + IDLE, Probe::Revision(Revision(3))));
        follower.answered(Probe::Revision(Revision(3)), at(8), now, now + TICK).unwrap();
        let check = Probe::Unchanged(Revision(3));
        assert_eq!(follower.next_probe(), (now + TICK, check));
        let current = follower.answered(check, ProbeResult::Unchanged(Revision(9)), now, now + TICK);
        assert_eq!(summary(current.unwrap().as_slice()), [(9, 0)]);
        assert_eq!(follower.next_probe().1, Probe::Revision(Revision(9)));
    }

    #[test]
    fn a_required_revision_is_probed_at_once() {
        let (mut follower, now) = follower(3);
        follower.require(Revision(5));
        assert_eq!(follower.next_probe(), (now + LINGER, Probe::Unchanged(Revision(3))));
        follower.received(Message::Events(vec![gone("a", 5)]), now).unwrap();
        assert_eq!(
            follower.next_probe().1,
            Probe::Revision(Revision(5)),
            "the event arrived without a probe"
        );
    }

    #[test]
    fn the_result_of_an_outdated_probe_is_ignored() {
        let (mut follower, now) = follower(3);
        follower.require(Revision(6));
        follower.received(Message::Events(vec![gone("a", 5)]), now).unwrap();
        let old = Probe::Unchanged(Revision(3));
        let result = ProbeResult::Unchanged(Revision(9));
        assert_eq!(follower.answered(old, result, now, now).unwrap(), None);
        assert_eq!(follower.delivered(), Revision(5));
    }

    /// A member that was frozen answers late: by then the change is delivered that was made after the read.
    #[test]
    fn a_change_that_overtakes_a_probe_does_not_end_the_watch() {
        let (mut follower, now) = follower(3);
        let (_, probe) = follower.next_probe();
        follower.received(Message::Events(vec![gone("a", 4)]), now).unwrap();
        let answered = follower.answered(probe, ProbeResult::At(Revision(3)), now, now + TICK);
        assert_eq!(answered.unwrap(), None);
        let (_, probe) = follower.next_probe();
        lost(follower.answered(probe, ProbeResult::At(Revision(3)), now, now + TICK), "restored");
    }

    #[test]
    fn an_expensive_check_is_rare() {
        let (mut follower, start) = follower(3);
        follower.require(Revision(5));
        let check = Probe::Unchanged(Revision(3));
        let now = start + Duration::from_secs(1);
        follower.answered(check, ProbeResult::Changed, start, now).unwrap();
        assert_eq!(follower.next_probe(), (now + Duration::from_secs(10), check));
    }

    #[test]
    fn missing_events_end_the_watch() {
        let (mut follower, start) = follower(3);
        follower.require(Revision(5));
        let check = Probe::Unchanged(Revision(3));
        follower.answered(check, ProbeResult::Changed, start, start + TICK).unwrap();
        let late = start + STALE;
        let signs = follower.received(Message::Events(vec![]), late);
        assert_eq!(signs.unwrap(), [], "a progress notification is not an event");
        lost(follower.answered(check, ProbeResult::Changed, late - TICK, late), "does not deliver");
        follower.received(Message::Events(vec![gone("a", 4)]), late).unwrap();
        let check = Probe::Unchanged(Revision(4));
        follower.answered(check, ProbeResult::Changed, late, late + TICK).unwrap();
    }

    #[test]
    fn a_silent_member_ends_the_watch_after_the_limit() {
        let (mut follower, start) = follower(3);
        let fault = Fault::timeout(Duration::from_secs(2));
        let tries = [0, 2, 4].map(|s| start + Duration::from_secs(s));
        let answered = |at: Instant| at + Duration::from_secs(2);
        follower.failed(&fault, tries[0], answered(tries[0])).unwrap();
        follower.failed(&fault, tries[1], answered(tries[1])).unwrap();
        lost(follower.failed(&fault, tries[2], answered(tries[2])), "no answer");
        let at = ProbeResult::At(Revision(3));
        follower.answered(Probe::Revision(Revision(3)), at, tries[2], tries[2]).unwrap();
        follower.failed(&fault, tries[2], answered(tries[2])).unwrap();
    }

    #[test]
    fn compaction_and_a_replaced_store_end_the_watch() {
        let (mut follower, now) = follower(3);
        let compacted = |ended| matches!(ended, WatchEnded::Compacted(Revision(3)));
        assert!(compacted(follower.received(Message::Compacted, now).unwrap_err()));
        let mut fault = Fault::timeout(TICK);
        fault.kind = Kind::NoRevision;
        assert!(compacted(follower.failed(&fault, now, now).unwrap_err()));
        let back = follower.answered(Probe::Revision(Revision(3)), ProbeResult::At(Revision(2)), now, now);
        lost(back, "restored");
        lost(follower.received(Message::Cancelled("etcdserver: no leader".into()), now), "no leader");
    }
}
