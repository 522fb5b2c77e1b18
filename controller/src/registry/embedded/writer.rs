//! The single writer: commits all waiting requests in one transaction of the file, then answers and publishes.
//!
//! Nothing is answered or published before it is in the file. After a failure the file is reopened, and shows whether the
//! group was committed. If it cannot be reopened, the group is answered "unknown" and kept in doubt: once the file opens
//! again, watchers are notified if the group was committed.
//!
//! If the disk is full for a group, its requests that free space are retried with the reserve (`disk_space`). The last
//! failure is kept until a write succeeds; an idle writer attempts one every second.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use sextant_daemon::OncePerMinute;
use sextant_proto::unix_ms;
use tokio::sync::{mpsc, oneshot};

use super::{
    apply::{Answer, Applied, Work, perform},
    file::{Failure, File, Spend, WriteError},
    lease::Deadlines,
    table::Loaded,
    watch::Publisher,
};
use crate::registry::{LeaseId, Refusal, RegistryError};

/// The most requests in one group: bounds the latency of the first one.
const GROUP: usize = 1024;
/// The interval of retries to end a lease, or to open the file.
const RETRY: Duration = Duration::from_millis(500);

/// The interval of checks of the file's path and of retries while idle.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A request to the writer.
#[derive(Debug)]
pub enum Request {
    Work(Work, Reply<Answer>),
    KeepAlive(LeaseId, Reply<()>),
}

/// The last failure, other than a full disk; shared with readers.
#[derive(Debug, Clone, Default)]
pub struct LastFailure(Arc<Mutex<Option<Refusal>>>);

impl LastFailure {
    /// The current failure, if the last write failed.
    pub fn now(&self) -> Option<Refusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, failure: &Failure) {
        let mut last_failure = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since_unix_ms = last_failure.as_ref().map_or_else(unix_ms, |before| before.since_unix_ms);
        *last_failure = Some(Refusal { reason: failure.to_string(), since_unix_ms });
    }

    fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The channel of the answer. The receiver may be gone.
pub type Reply<T> = oneshot::Sender<Result<T, RegistryError>>;

/// The writer's state; it lives on its own thread.
pub struct Writer {
    file: Arc<File>,
    requests: mpsc::Receiver<Request>,
    publisher: Publisher,
    deadlines: Deadlines,
    /// The file's sequence after the last committed group.
    sequence: u64,
    /// A group that was committed if the file's sequence is the next one.
    in_doubt: Option<Vec<Applied>>,
    /// Set after a failure.
    retry_at: Option<Instant>,
    /// Set while the file is not at its path; nothing is written then.
    misplaced: Option<Misplaced>,
    last_failure: LastFailure,
    /// The last retry while idle.
    checked_at: Instant,
    lines: OncePerMinute,
}

/// The file is not at its path.
struct Misplaced {
    problem: String,
    /// The error that is answered; it names the newest backup.
    failure: Failure,
    /// When the newest backup is searched again.
    refresh_at: Instant,
}

/// A request and its reply channel. The end of an expired lease has none.
struct Pending {
    work: Work,
    reply: Option<Reply<Answer>>,
}

impl Pending {
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
        last_failure: LastFailure,
    ) -> Self {
        Self {
            file,
            requests,
            publisher,
            deadlines: Deadlines::anew(loaded.leases, Instant::now()),
            sequence: loaded.sequence,
            in_doubt: None,
            retry_at: None,
            misplaced: None,
            last_failure,
            checked_at: Instant::now(),
            lines: OncePerMinute::default(),
        }
    }

    /// Runs until all senders are dropped and all requests are answered.
    pub async fn run(mut self) {
        while let Some(requests) = self.next_requests().await {
            self.serve(requests);
        }
    }

    /// The waiting requests; none if the leases or the file are due for a check; `None` at the end.
    async fn next_requests(&mut self) -> Option<Vec<Request>> {
        let mut requests = Vec::new();
        let check = Instant::now() + CHECK_INTERVAL;
        let wake = self.wake_at().map_or(check, |wake| wake.min(check));
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

    fn serve(&mut self, requests: Vec<Request>) {
        self.check_path();
        let group = self.take(requests);
        if let Some(failure) = self.misplacement() {
            return refuse(group, &failure.into());
        }
        // After the keep-alives: a lease does not end because its keep-alive waited in the queue.
        let overdue = self.overdue(Instant::now());
        if let Err(failure) = self.ensure_open() {
            return refuse(group, &failure.into());
        }
        self.retry_idle();
        // Separate groups: a full disk does not prevent leases from ending.
        for group in [overdue, group] {
            if !group.is_empty() {
                self.write(group);
            }
        }
    }

    /// Retries after a failure or a full disk, at intervals: an idle store gets no requests that would show the recovery.
    fn retry_idle(&mut self) {
        if self.checked_at.elapsed() < CHECK_INTERVAL {
            return;
        }
        self.checked_at = Instant::now();
        self.file.refill();
        if self.last_failure.now().is_some() {
            self.try_write(Vec::new(), Spend::Nothing);
        }
    }

    /// Checks whether the open file is still at its path, and logs when that changes.
    fn check_path(&mut self) {
        let now = Instant::now();
        let Some(problem) = self.file.misplaced() else {
            if self.misplaced.take().is_some() {
                tracing::info!("store file is at its path again");
                self.last_failure.clear();
                // Keep-alives were refused meanwhile.
                self.deadlines.restart(now);
            }
            return;
        };
        let known = self.misplaced.as_ref();
        if known.is_some_and(|known| known.problem == problem && now < known.refresh_at) {
            return;
        }
        let failure = Failure::Io(self.file.refusal(&problem));
        if known.is_none() {
            tracing::error!(error = %failure, "store file is not at its path");
        }
        self.last_failure.note(&failure);
        self.misplaced = Some(Misplaced { problem, failure, refresh_at: now + CHECK_INTERVAL });
    }

    fn misplacement(&self) -> Option<Failure> {
        self.misplaced.as_ref().map(|misplaced| misplaced.failure.clone())
    }

    /// Answers the keep-alives; returns the requests that need the file.
    fn take(&mut self, requests: Vec<Request>) -> Vec<Pending> {
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
                    group.push(Pending { work, reply });
                }
            }
        }
        group
    }

    fn overdue(&self, now: Instant) -> Vec<Pending> {
        if self.retry_at.is_some_and(|retry| now < retry) {
            return Vec::new();
        }
        let end = |lease| Pending { work: Work::End(lease), reply: None };
        self.deadlines.due(now).into_iter().map(end).collect()
    }

    fn write(&mut self, group: Vec<Pending>) {
        let Some((group, failure)) = self.try_write(group, Spend::Nothing) else { return };
        let (frees, adds) = group.into_iter().partition::<Vec<_>, _>(Pending::frees);
        refuse(adds, &failure.into());
        if !frees.is_empty()
            && let Some((frees, failure)) = self.try_write(frees, Spend::Reserve)
        {
            refuse(frees, &failure.into());
        }
    }

    /// Writes a group and answers it; returns a group that was not committed because the disk is full. Also writes an empty group.
    fn try_write(&mut self, group: Vec<Pending>, spend: Spend) -> Option<(Vec<Pending>, Failure)> {
        let empty = group.is_empty();
        let written = self.file.write(spend, |tables| {
            let done = group.iter().map(|pending| perform(tables, &pending.work));
            let done = done.collect::<Result<Vec<Applied>, _>>()?;
            let changed = empty || done.iter().any(Applied::changed);
            Ok((done, changed))
        });
        match written {
            Ok(done) => {
                self.sequence += u64::from(empty || done.iter().any(Applied::changed));
                self.recovered();
                self.publish(&done);
                self.check_path();
                match self.misplacement() {
                    // It is in the open file; a restart finds it only if that file is moved back.
                    Some(failure) => refuse(group, &RegistryError::Unknown(failure.to_string())),
                    None => answer(group, &done),
                }
                None
            }
            Err(WriteError::NoSpace(failure)) => Some((group, failure)),
            Err(WriteError::NotDone(failure)) => {
                let open = self.recover(&failure).is_some();
                self.not_done(group, failure, open)
            }
            Err(WriteError::Unknown { result, failure }) => self.resolve(group, result, failure),
        }
    }

    /// Determines whether a group in doubt was committed.
    fn resolve(
        &mut self,
        group: Vec<Pending>,
        done: Vec<Applied>,
        failure: Failure,
    ) -> Option<(Vec<Pending>, Failure)> {
        let next = self.sequence + 1;
        self.in_doubt = Some(done.clone());
        match self.recover(&failure) {
            Some(sequence) if sequence == next => answer(group, &done),
            Some(_) => return self.not_done(group, failure, true),
            None => {
                self.last_failure.note(&failure);
                refuse(group, &RegistryError::Unknown(failure.to_string()));
            }
        }
        None
    }

    fn not_done(&self, group: Vec<Pending>, failure: Failure, open: bool) -> Option<(Vec<Pending>, Failure)> {
        if open && matches!(failure, Failure::Full(_)) {
            return Some((group, failure));
        }
        self.last_failure.note(&failure);
        refuse(group, &failure.into());
        None
    }

    /// Reopens the file after a failure; returns its sequence on success.
    fn recover(&mut self, failure: &Failure) -> Option<u64> {
        if self.retry_at.is_none()
            && let Some(suppressed) = self.admit_line("failed", failure)
        {
            tracing::warn!(error = %failure, suppressed, "store failed; reopening it");
        }
        self.postpone(Instant::now());
        match self.file.reopen() {
            Ok(loaded) => {
                let sequence = loaded.sequence;
                self.reconcile(loaded);
                Some(sequence)
            }
            Err(error) => {
                if let Some(suppressed) = self.admit_line("cannot be reopened", &error) {
                    tracing::warn!(%error, suppressed, "store cannot be reopened; retrying");
                }
                None
            }
        }
    }

    fn admit_line(&mut self, what: &str, error: &dyn std::fmt::Display) -> Option<u64> {
        self.lines.admit_of(what, &error.to_string(), tokio::time::Instant::now())
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
                self.last_failure.note(&failure);
                Err(failure)
            }
        }
    }

    /// Schedules the next retry. Failures in between do not postpone it further.
    fn postpone(&mut self, now: Instant) {
        if self.retry_at.is_none_or(|retry| retry <= now) {
            self.retry_at = Some(now + RETRY);
        }
    }

    fn recovered(&mut self) {
        self.last_failure.clear();
        if self.retry_at.take().is_some() && self.file.disk_space().refusal().is_none() {
            tracing::info!("store recovered");
        }
    }

    /// Synchronises the state in memory with the file.
    fn reconcile(&mut self, loaded: Loaded) {
        let in_doubt = self.in_doubt.take();
        let ahead = loaded.sequence.checked_sub(self.sequence);
        self.sequence = loaded.sequence;
        match (ahead, in_doubt) {
            (Some(0), _) => {}
            (Some(1), Some(done)) => self.publish(&done),
            _ => {
                tracing::warn!("store was changed by another process while it was closed");
                self.deadlines = Deadlines::anew(loaded.leases, Instant::now());
                self.publisher.reset(loaded.revision);
            }
        }
    }

    /// Updates the deadlines and notifies the watchers of a committed group.
    fn publish(&mut self, done: &[Applied]) {
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

fn answer(group: Vec<Pending>, done: &[Applied]) {
    for (pending, done) in group.into_iter().zip(done) {
        if let Some(reply) = pending.reply {
            let _ = reply.send(Ok(done.answer));
        }
    }
}

fn refuse(group: Vec<Pending>, error: &RegistryError) {
    for reply in group.into_iter().filter_map(|pending| pending.reply) {
        let _ = reply.send(Err(error.clone()));
    }
}
