//! The one writer: takes all that waits, does it in one transaction of the file, then tells.
//!
//! Nothing is answered or published before the file has it. After a failure the file is opened again, and what became of
//! the group is read from it: done, or not done. If it cannot be opened, the group is answered "unknown" and kept, so that
//! once the file is back, watchers hear of it just if it was done.
//!
//! Of a group that the disk has no room for, what frees is tried once more, with the reserve (`room`). What keeps changes from
//! being done is noted until a write succeeds, which is tried once a second while nobody asks for one.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sextant_proto::unix_ms;
use tokio::sync::{mpsc, oneshot};

use super::{
    apply::{Answer, Done, Work, perform},
    file::{Failure, File, Spend, WriteError},
    lease::Deadlines,
    table::Loaded,
    watch::Publisher,
};
use crate::registry::{LeaseId, Refusal, RegistryError};

/// The most requests in one group: bounds the time that the first of them waits for the last.
const GROUP: usize = 1024;
/// How long to wait before an ended lease, or a file that does not open, is tried again unasked.
const RETRY: Duration = Duration::from_millis(500);

/// How often it is looked whether the file is still at its path.
const LOOK: Duration = Duration::from_secs(1);

/// What the writer is asked.
#[derive(Debug)]
pub enum Request {
    Work(Work, Reply<Answer>),
    KeepAlive(LeaseId, Reply<()>),
}

/// Why the last change was refused, other than for want of room; shared with those who ask.
#[derive(Debug, Clone, Default)]
pub struct Trouble(Arc<Mutex<Option<Refusal>>>);

impl Trouble {
    /// What keeps changes from being done.
    pub fn now(&self) -> Option<Refusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, failure: &Failure) {
        let mut trouble = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since_unix_ms = trouble.as_ref().map_or_else(unix_ms, |before| before.since_unix_ms);
        *trouble = Some(Refusal { reason: failure.to_string(), since_unix_ms });
    }

    fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Where the answer goes. Nobody may be listening any more.
pub type Reply<T> = oneshot::Sender<Result<T, RegistryError>>;

/// The writer's state; it lives on its own thread.
pub struct Writer {
    file: Arc<File>,
    requests: mpsc::Receiver<Request>,
    publisher: Publisher,
    deadlines: Deadlines,
    /// The file's sequence after the last group that was done.
    sequence: u64,
    /// What was done if the file's sequence is the next one.
    unsettled: Option<Vec<Done>>,
    /// Set after a failure.
    retry_at: Option<Instant>,
    /// Why nothing is written, if the file is not at its path.
    misplaced: Option<Misplaced>,
    trouble: Trouble,
    /// When it was last looked whether what failed works again.
    looked: Instant,
}

/// The file is not at its path.
struct Misplaced {
    what: String,
    /// What is answered; it names the newest backup.
    failure: Failure,
    /// When the newest backup is looked for again.
    said_anew: Instant,
}

/// One thing to do, and who wants to know. Nobody asked for the end of a lease whose time is over.
struct Asked {
    work: Work,
    reply: Option<Reply<Answer>>,
}

impl Asked {
    fn frees(&self) -> bool {
        match &self.work {
            Work::Commit(txn) => txn.frees(),
            Work::Grant(_) => false,
            Work::End(_) => true,
        }
    }
}

impl Writer {
    pub fn new(
        file: Arc<File>,
        loaded: Loaded,
        requests: mpsc::Receiver<Request>,
        publisher: Publisher,
        trouble: Trouble,
    ) -> Self {
        Self {
            file,
            requests,
            publisher,
            deadlines: Deadlines::anew(loaded.leases, Instant::now()),
            sequence: loaded.sequence,
            unsettled: None,
            retry_at: None,
            misplaced: None,
            trouble,
            looked: Instant::now(),
        }
    }

    /// Runs until nobody can ask any more, and everything asked is done.
    pub async fn run(mut self) {
        while let Some(requests) = self.next_requests().await {
            self.turn(requests);
        }
    }

    /// What waits; nothing if it is time to look at the leases or the file; `None` at the end.
    async fn next_requests(&mut self) -> Option<Vec<Request>> {
        let mut requests = Vec::new();
        let look = Instant::now() + LOOK;
        let wake = self.wake_at().map_or(look, |wake| wake.min(look));
        let receive = self.requests.recv_many(&mut requests, GROUP);
        match tokio::time::timeout_at(wake.into(), receive).await {
            Ok(received) => (received > 0).then_some(requests),
            Err(_) => Some(Vec::new()),
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        if !self.file.is_open() {
            return self.retry_at;
        }
        if self.misplaced.is_some() {
            return None;
        }
        let next = self.deadlines.next()?;
        Some(self.retry_at.map_or(next, |retry| retry.max(next)))
    }

    fn turn(&mut self, requests: Vec<Request>) {
        self.look();
        let group = self.take(requests);
        if let Some(failure) = self.misplacement() {
            return refuse(group, &failure.into());
        }
        // After the keep-alives: a lease does not end because we were slow to read that it is kept alive.
        let overdue = self.overdue(Instant::now());
        if let Err(failure) = self.ensure_open() {
            return refuse(group, &failure.into());
        }
        self.try_again();
        // Apart: what fills the disk does not keep leases from ending.
        for group in [overdue, group] {
            if !group.is_empty() {
                self.write(group);
            }
        }
    }

    /// Looks once in a while whether there is room, and whether what failed works again: nobody may ask for a change for long.
    fn try_again(&mut self) {
        if self.looked.elapsed() < LOOK {
            return;
        }
        self.looked = Instant::now();
        self.file.refill();
        if self.trouble.now().is_some() {
            self.try_write(Vec::new(), Spend::Nothing);
        }
    }

    /// Looks whether the open file is still at its path, and logs when that changes.
    fn look(&mut self) {
        let now = Instant::now();
        let Some(what) = self.file.misplaced() else {
            if self.misplaced.take().is_some() {
                tracing::info!("store is at its path again");
                self.trouble.clear();
                // Nobody could keep them alive.
                self.deadlines.restart(now);
            }
            return;
        };
        let known = self.misplaced.as_ref();
        if known.is_some_and(|known| known.what == what && now < known.said_anew) {
            return;
        }
        let failure = Failure::Io(self.file.refusal(&what));
        if known.is_none() {
            tracing::error!(error = %failure, "store is not at its path");
        }
        self.trouble.note(&failure);
        self.misplaced = Some(Misplaced { what, failure, said_anew: now + LOOK });
    }

    fn misplacement(&self) -> Option<Failure> {
        self.misplaced.as_ref().map(|misplaced| misplaced.failure.clone())
    }

    /// Answers the keep-alives; the rest needs the file.
    fn take(&mut self, requests: Vec<Request>) -> Vec<Asked> {
        let now = Instant::now();
        let mut group = Vec::with_capacity(requests.len());
        for request in requests {
            match request {
                Request::KeepAlive(lease, reply) => {
                    if let Some(failure) = self.misplacement() {
                        let _ = reply.send(Err(failure.into()));
                        continue;
                    }
                    let kept = self.deadlines.keep_alive(lease, now);
                    let _ = reply.send(kept.then_some(()).ok_or(RegistryError::LeaseEnded(lease)));
                }
                Request::Work(work, reply) => {
                    let reply = Some(reply);
                    group.push(Asked { work, reply });
                }
            }
        }
        group
    }

    fn overdue(&self, now: Instant) -> Vec<Asked> {
        if self.retry_at.is_some_and(|retry| now < retry) {
            return Vec::new();
        }
        let end = |lease| Asked { work: Work::End(lease), reply: None };
        self.deadlines.due(now).into_iter().map(end).collect()
    }

    fn write(&mut self, group: Vec<Asked>) {
        let Some((group, failure)) = self.try_write(group, Spend::Nothing) else { return };
        let (frees, adds) = group.into_iter().partition::<Vec<_>, _>(Asked::frees);
        refuse(adds, &failure.into());
        if !frees.is_empty()
            && let Some((frees, failure)) = self.try_write(frees, Spend::Reserve)
        {
            refuse(frees, &failure.into());
        }
    }

    /// Writes a group and answers it; one that was surely not done for want of room comes back. An empty group is written too.
    fn try_write(&mut self, group: Vec<Asked>, spend: Spend) -> Option<(Vec<Asked>, Failure)> {
        let empty = group.is_empty();
        let written = self.file.write(spend, |tables| {
            let done = group.iter().map(|asked| perform(tables, &asked.work));
            let done = done.collect::<Result<Vec<Done>, _>>()?;
            let changed = empty || done.iter().any(Done::changed);
            Ok((done, changed))
        });
        match written {
            Ok(done) => {
                self.sequence += u64::from(empty || done.iter().any(Done::changed));
                self.working_again();
                self.tell(&done);
                self.look();
                match self.misplacement() {
                    // It is in the open file; whether a restart finds it depends on whether that comes back.
                    Some(failure) => refuse(group, &RegistryError::Unknown(failure.to_string())),
                    None => answer(group, &done),
                }
                None
            }
            Err(WriteError::NoRoom(failure)) => Some((group, failure)),
            Err(WriteError::NotDone(failure)) => {
                let open = self.recover(&failure).is_some();
                self.not_done(group, failure, open)
            }
            Err(WriteError::Unknown { result, failure }) => self.settle(group, result, failure),
        }
    }

    /// Finds out what became of a group whose commit failed.
    fn settle(
        &mut self,
        group: Vec<Asked>,
        done: Vec<Done>,
        failure: Failure,
    ) -> Option<(Vec<Asked>, Failure)> {
        let next = self.sequence + 1;
        self.unsettled = Some(done.clone());
        match self.recover(&failure) {
            Some(sequence) if sequence == next => answer(group, &done),
            Some(_) => return self.not_done(group, failure, true),
            None => {
                self.trouble.note(&failure);
                refuse(group, &RegistryError::Unknown(failure.to_string()));
            }
        }
        None
    }

    fn not_done(&self, group: Vec<Asked>, failure: Failure, open: bool) -> Option<(Vec<Asked>, Failure)> {
        if open && matches!(failure, Failure::Full(_)) {
            return Some((group, failure));
        }
        self.trouble.note(&failure);
        refuse(group, &failure.into());
        None
    }

    /// Opens the file again after a failure; its sequence if that went well.
    fn recover(&mut self, failure: &Failure) -> Option<u64> {
        if self.retry_at.is_none() {
            tracing::warn!(error = %failure, "store failed; opening it again");
        }
        self.postpone(Instant::now());
        match self.file.reopen() {
            Ok(loaded) => {
                let sequence = loaded.sequence;
                self.reconcile(loaded);
                Some(sequence)
            }
            Err(error) => {
                tracing::warn!(%error, "store stays closed; trying again");
                None
            }
        }
    }

    fn ensure_open(&mut self) -> Result<(), Failure> {
        if self.file.is_open() {
            return Ok(());
        }
        match self.file.reopen() {
            Ok(loaded) => {
                self.reconcile(loaded);
                Ok(())
            }
            Err(error) => {
                self.postpone(Instant::now());
                let failure = Failure::from(&error);
                self.trouble.note(&failure);
                Err(failure)
            }
        }
    }

    /// Sets the next try. What fails in between does not put it off further.
    fn postpone(&mut self, now: Instant) {
        if self.retry_at.is_none_or(|retry| retry <= now) {
            self.retry_at = Some(now + RETRY);
        }
    }

    fn working_again(&mut self) {
        self.trouble.clear();
        if self.retry_at.take().is_some() && self.file.room().refusal().is_none() {
            tracing::info!("store works again");
        }
    }

    /// Brings what is in memory to where the file is.
    fn reconcile(&mut self, loaded: Loaded) {
        let unsettled = self.unsettled.take();
        let ahead = loaded.sequence.checked_sub(self.sequence);
        self.sequence = loaded.sequence;
        match (ahead, unsettled) {
            (Some(0), _) => {}
            (Some(1), Some(done)) => self.tell(&done),
            _ => {
                tracing::warn!("store was changed by somebody else while it was closed");
                self.deadlines = Deadlines::anew(loaded.leases, Instant::now());
                self.publisher.reset(loaded.revision);
            }
        }
    }

    /// Tells the deadlines and the watchers of a group that is in the file.
    fn tell(&mut self, done: &[Done]) {
        let now = Instant::now();
        for done in done {
            match done.answer {
                Answer::Granted(lease, ttl) => self.deadlines.add(lease, ttl, now),
                Answer::Ended(lease) | Answer::NoLease(lease) => self.deadlines.remove(lease),
                Answer::Outcome(_) => {}
            }
        }
        self.publisher.publish(done.iter().filter_map(|done| done.batch.clone()));
    }
}

fn answer(group: Vec<Asked>, done: &[Done]) {
    for (asked, done) in group.into_iter().zip(done) {
        if let Some(reply) = asked.reply {
            let _ = reply.send(Ok(done.answer));
        }
    }
}

fn refuse(group: Vec<Asked>, error: &RegistryError) {
    for reply in group.into_iter().filter_map(|asked| asked.reply) {
        let _ = reply.send(Err(error.clone()));
    }
}
