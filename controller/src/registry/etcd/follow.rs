//! What a watch tells, and how it knows that it is current. Pure: the clock is handed in.
//!
//! etcd tells a watch only of its own range, so silence says nothing: the store may have gone on elsewhere, an event may
//! be on its way, or the member may be frozen, or cut off from the others. What etcd offers against that, progress
//! notifications on request, overtake events before 3.4.25 and 3.5.8 (etcd issue 15220; Debian 12 has 3.4.23), and later
//! ones do not answer in every state. So an idle watch asks by reads, which are linearizable and ordered on all versions:
//!
//! - [`Probe::Revision`] asks for the store's revision. It also shows that the member answers, and has a quorum.
//! - If that is past what was told, [`Probe::Unchanged`] asks whether the range is still as it was: then what was told
//!   is current, and an empty batch says so. Else events are on their way, and are waited for.

use std::time::{Duration, Instant};

use sextant_proto::Revision;

use super::fault::{Fault, Kind};
use crate::registry::{Batch, Event, WatchEnded};

/// How long an event may take to come before it is asked whether there is one.
const LINGER: Duration = Duration::from_millis(25);
/// After a failure, how long until the next question.
const AFTER_FAILURE: Duration = Duration::from_millis(200);
/// [`Probe::Unchanged`] costs the member time linear in the range: it may take up one part in so many.
const CHECK_SHARE: u32 = 10;

/// What a watch's stream says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Changes, in order; none in a mere sign of life.
    Events(Vec<Event>),
    /// What was asked for is compacted.
    Compacted,
    /// The member ended the watch, for this reason.
    Cancelled(String),
}

/// A question of an idle watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// At which revision is the store?
    Revision,
    /// Is the range as it was at this revision?
    Unchanged(Revision),
}

/// Its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The store is at this revision.
    At(Revision),
    /// The range is as it was, up to this revision.
    Unchanged(Revision),
    /// The range has changed.
    Changed,
}

/// How far a watch is.
#[derive(Debug)]
pub struct Follower {
    /// All changes up to it were told.
    told: Revision,
    /// The store is known to be at least there.
    known: Revision,
    /// When the stream last said something.
    quiet_since: Instant,
    ask_after: Instant,
    check_after: Instant,
    /// Since when events are missed that must be there.
    behind_since: Option<Instant>,
    /// Since when questions fail.
    failing_since: Option<Instant>,
    /// How long to be quiet before asking.
    idle: Duration,
    /// How long the above two may last.
    stale: Duration,
}

impl Follower {
    /// A watch of what comes after `after`.
    pub fn new(after: Revision, idle: Duration, stale: Duration, now: Instant) -> Self {
        Self {
            told: after,
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

    /// All changes up to it were told.
    pub fn told(&self) -> Revision {
        self.told
    }

    /// The store is at least at `revision`: somebody else was told so, and may wait for this watch to get there.
    pub fn wanted(&mut self, revision: Revision) {
        self.known = self.known.max(revision);
    }

    /// What the stream says; the batches to tell.
    pub fn heard(&mut self, message: Message, now: Instant) -> Result<Vec<Batch>, WatchEnded> {
        let events = match message {
            Message::Events(events) => events,
            Message::Compacted => return Err(WatchEnded::Compacted(self.told)),
            Message::Cancelled(reason) => return Err(WatchEnded::Lost(reason)),
        };
        self.quiet_since = now;
        self.failing_since = None;
        let mut batches: Vec<Batch> = Vec::new();
        // What is not after `told` can only be what cancelled itself out before [`Finding::Unchanged`].
        for event in events.into_iter().filter(|event| revision(event) > self.told) {
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

    /// The next question, and when to ask it if the stream stays quiet.
    pub fn next_probe(&self) -> (Instant, Probe) {
        if self.known > self.told {
            let at = self.check_after.max(self.quiet_since + LINGER);
            return (at, Probe::Unchanged(self.told));
        }
        let at = self.ask_after.max(self.quiet_since + self.idle);
        (at, Probe::Revision)
    }

    /// The answer to a probe that was asked at `asked`; perhaps a batch that says that the watch is current.
    pub fn found(
        &mut self,
        probe: Probe,
        finding: Finding,
        asked: Instant,
        now: Instant,
    ) -> Result<Option<Batch>, WatchEnded> {
        self.failing_since = None;
        self.ask_after = now + self.idle;
        self.check_after = now + LINGER.max(now.saturating_duration_since(asked) * CHECK_SHARE);
        let outdated = matches!(probe, Probe::Unchanged(since) if since != self.told);
        match finding {
            Finding::At(revision) if revision < self.told => Err(WatchEnded::Lost(format!(
                "the store is at revision {revision}, before {}: it is another one, or was restored",
                self.told
            ))),
            Finding::At(revision) => {
                self.known = self.known.max(revision);
                // The first check need not wait: it is asked for only now.
                self.check_after = now;
                Ok(None)
            }
            Finding::Unchanged(_) | Finding::Changed if outdated => Ok(None),
            Finding::Unchanged(revision) if revision <= self.told => Ok(None),
            Finding::Unchanged(revision) => {
                self.advance(revision);
                Ok(Some(Batch { revision, events: Vec::new() }))
            }
            Finding::Changed => {
                let since = *self.behind_since.get_or_insert(asked);
                self.unless_stale(since, now, || "its member does not tell it what has changed".to_owned())
                    .map(|()| None)
            }
        }
    }

    /// A probe that was asked at `asked` failed.
    pub fn unanswered(&mut self, fault: &Fault, asked: Instant, now: Instant) -> Result<(), WatchEnded> {
        if fault.kind == Kind::NoRevision {
            return Err(WatchEnded::Compacted(self.told));
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
        self.told = revision;
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

    fn told(batches: &[Batch]) -> Vec<(u64, usize)> {
        batches.iter().map(|batch| (batch.revision.0, batch.events.len())).collect()
    }

    fn lost<T: std::fmt::Debug>(result: Result<T, WatchEnded>, words: &str) {
        let told = format!("{result:?}");
        assert!(matches!(&result, Err(WatchEnded::Lost(why)) if why.contains(words)), "{told}");
    }

    #[test]
    fn events_become_one_batch_a_revision() {
        let (mut follower, now) = follower(3);
        let events = vec![gone("a", 4), gone("b", 4), gone("a", 7)];
        let batches = follower.heard(Message::Events(events), now).unwrap();
        assert_eq!(told(&batches), [(4, 2), (7, 1)]);
        let again = vec![gone("a", 7), gone("c", 9)];
        let batches = follower.heard(Message::Events(again), now).unwrap();
        assert_eq!(told(&batches), [(9, 1)], "nothing is told twice");
        assert_eq!(follower.heard(Message::Events(vec![]), now).unwrap(), []);
        assert_eq!(follower.told(), Revision(9));
    }

    #[test]
    fn an_idle_watch_asks_and_says_that_it_is_current() {
        let (mut follower, start) = follower(3);
        assert_eq!(follower.next_probe(), (start + IDLE, Probe::Revision));
        let now = start + IDLE;
        let at = |revision| Finding::At(Revision(revision));
        assert_eq!(follower.found(Probe::Revision, at(3), now, now + TICK).unwrap(), None);
        assert_eq!(follower.next_probe(), (now + TICK + IDLE, Probe::Revision));
        follower.found(Probe::Revision, at(8), now, now + TICK).unwrap();
        let check = Probe::Unchanged(Revision(3));
        assert_eq!(follower.next_probe(), (now + TICK, check));
        let current = follower.found(check, Finding::Unchanged(Revision(9)), now, now + TICK);
        assert_eq!(told(current.unwrap().as_slice()), [(9, 0)]);
        assert_eq!(follower.next_probe().1, Probe::Revision);
    }

    #[test]
    fn who_wants_a_revision_gets_it_at_once() {
        let (mut follower, now) = follower(3);
        follower.wanted(Revision(5));
        assert_eq!(follower.next_probe(), (now + LINGER, Probe::Unchanged(Revision(3))));
        follower.heard(Message::Events(vec![gone("a", 5)]), now).unwrap();
        assert_eq!(follower.next_probe().1, Probe::Revision, "it came by itself");
    }

    #[test]
    fn an_answer_about_the_past_proves_nothing() {
        let (mut follower, now) = follower(3);
        follower.wanted(Revision(6));
        follower.heard(Message::Events(vec![gone("a", 5)]), now).unwrap();
        let old = Probe::Unchanged(Revision(3));
        let finding = Finding::Unchanged(Revision(9));
        assert_eq!(follower.found(old, finding, now, now).unwrap(), None);
        assert_eq!(follower.told(), Revision(5));
    }

    #[test]
    fn a_check_that_is_dear_is_rare() {
        let (mut follower, start) = follower(3);
        follower.wanted(Revision(5));
        let check = Probe::Unchanged(Revision(3));
        let now = start + Duration::from_secs(1);
        follower.found(check, Finding::Changed, start, now).unwrap();
        assert_eq!(follower.next_probe(), (now + Duration::from_secs(10), check));
    }

    #[test]
    fn events_that_do_not_come_end_the_watch() {
        let (mut follower, start) = follower(3);
        follower.wanted(Revision(5));
        let check = Probe::Unchanged(Revision(3));
        follower.found(check, Finding::Changed, start, start + TICK).unwrap();
        let late = start + STALE;
        let signs = follower.heard(Message::Events(vec![]), late);
        assert_eq!(signs.unwrap(), [], "a sign of life is no event");
        lost(follower.found(check, Finding::Changed, late - TICK, late), "does not tell");
        follower.heard(Message::Events(vec![gone("a", 4)]), late).unwrap();
        let check = Probe::Unchanged(Revision(4));
        follower.found(check, Finding::Changed, late, late + TICK).unwrap();
    }

    #[test]
    fn a_member_that_does_not_answer_is_given_up_after_a_while() {
        let (mut follower, start) = follower(3);
        let fault = Fault::silent(Duration::from_secs(2));
        let tries = [0, 2, 4].map(|s| start + Duration::from_secs(s));
        let answered = |at: Instant| at + Duration::from_secs(2);
        follower.unanswered(&fault, tries[0], answered(tries[0])).unwrap();
        follower.unanswered(&fault, tries[1], answered(tries[1])).unwrap();
        lost(follower.unanswered(&fault, tries[2], answered(tries[2])), "no answer");
        let at = Finding::At(Revision(3));
        follower.found(Probe::Revision, at, tries[2], tries[2]).unwrap();
        follower.unanswered(&fault, tries[2], answered(tries[2])).unwrap();
    }

    #[test]
    fn compaction_and_a_replaced_store_end_the_watch() {
        let (mut follower, now) = follower(3);
        let compacted = |ended| matches!(ended, WatchEnded::Compacted(Revision(3)));
        assert!(compacted(follower.heard(Message::Compacted, now).unwrap_err()));
        let mut fault = Fault::silent(TICK);
        fault.kind = Kind::NoRevision;
        assert!(compacted(follower.unanswered(&fault, now, now).unwrap_err()));
        let back = follower.found(Probe::Revision, Finding::At(Revision(2)), now, now);
        lost(back, "restored");
        lost(follower.heard(Message::Cancelled("etcdserver: no leader".into()), now), "no leader");
    }
}
