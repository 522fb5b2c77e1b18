//! Watches: a stream from one member, and the probes of [`Follower`] on the same member.
//!
//! No task: a watch runs in its caller's poll. It ends if its member fails; the next watch uses another member.

use std::{collections::VecDeque, sync::Arc};

use futures::{FutureExt, future::BoxFuture, stream};
use sextant_proto::Revision;
use tokio::{
    sync::watch::Receiver,
    time::{Instant, sleep_until},
};

use super::{
    cluster::Cluster,
    fault::{Fault, Kind},
    follow::{Follower, Message, Probe, ProbeResult},
    member::{Member, Stream},
};
use crate::registry::{Batch, KeyRange, Watch, WatchEnded};

/// All changes of `range` after revision `after`.
pub fn watch(cluster: Arc<Cluster>, range: KeyRange, after: Revision) -> Watch {
    let now = Instant::now().into_std();
    let follower = Follower::new(after, cluster.timeouts.idle, cluster.timeouts.stale, now);
    let watcher = Watcher {
        newest: cluster.reported(),
        cluster,
        range,
        follower,
        open: None,
        probe: None,
        ready: VecDeque::new(),
    };
    Box::pin(stream::unfold(Some(watcher), |watcher| async move {
        let mut watcher = watcher?;
        match watcher.next().await {
            Ok(batch) => Some((Ok(batch), Some(watcher))),
            Err(ended) => {
                watcher.end(&ended);
                Some((Err(ended), None))
            }
        }
    }))
}

struct Watcher {
    cluster: Arc<Cluster>,
    range: KeyRange,
    follower: Follower,
    open: Option<Open>,
    /// The probe in progress.
    probe: Option<BoxFuture<'static, Answer>>,
    newest: Receiver<Revision>,
    ready: VecDeque<Batch>,
}

struct Open {
    number: usize,
    member: Member,
    stream: Stream,
}

struct Answer {
    probe: Probe,
    asked: Instant,
    result: Result<ProbeResult, Fault>,
}

/// An input of the watcher.
enum Input {
    Received(Result<Message, Fault>),
    Answered(Answer),
    Revision,
    Due(Probe),
}

impl Watcher {
    async fn next(&mut self) -> Result<Batch, WatchEnded> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            let open = match self.open.take() {
                Some(open) => open,
                None => self.open_stream().await?,
            };
            let open = self.open.insert(open);
            let (at, probe) = self.follower.next_probe();
            let input = tokio::select! {
                // Received messages are handled before probes and timeouts.
                biased;
                message = open.stream.next() => Input::Received(message),
                answer = asked(&mut self.probe) => Input::Answered(answer),
                _ = self.newest.changed() => Input::Revision,
                () = sleep_until(at.into()), if self.probe.is_none() => Input::Due(probe),
            };
            self.take(input)?;
        }
    }

    fn take(&mut self, input: Input) -> Result<(), WatchEnded> {
        let now = Instant::now();
        match input {
            Input::Received(Ok(message)) => {
                let batches = self.follower.received(message, now.into_std())?;
                self.ready.extend(batches);
            }
            Input::Received(Err(fault)) => return Err(self.lost(fault)),
            Input::Answered(answer) => {
                self.probe = None;
                self.answered(answer, now)?;
            }
            Input::Revision => {
                let revision = *self.newest.borrow_and_update();
                self.follower.require(revision);
            }
            Input::Due(probe) => self.ask(probe, now),
        }
        Ok(())
    }

    /// Opens the stream on the first member that answers.
    async fn open_stream(&mut self) -> Result<Open, WatchEnded> {
        let (range, after) = (&self.range, self.follower.delivered());
        let mut errors = Vec::new();
        self.cluster.watch_may_begin().await;
        for (number, member) in self.cluster.order() {
            let limit = self.cluster.timeouts.read;
            // The probe first: on a stream, etcd does not report an expired login.
            let opening = self.cluster.on(number, &member, limit, || async {
                member.probe(range, Probe::Revision(after)).await?;
                member.watch(range, after).await
            });
            match opening.await {
                Ok(stream) => {
                    return Ok(Open { number, member, stream });
                }
                Err(fault) => {
                    if fault.kind == Kind::Unauthenticated {
                        // The next watch uses the new login.
                        let _ = self.cluster.on(number, &member, limit, || member.sign_in_again()).await;
                    }
                    errors.push(fault.to_string());
                }
            }
        }
        Err(WatchEnded::Lost(errors.join("; ")))
    }

    fn ask(&mut self, probe: Probe, asked: Instant) {
        let Some(open) = &self.open else { return };
        let (member, range, number) = (open.member.clone(), self.range.clone(), open.number);
        let cluster = Arc::clone(&self.cluster);
        self.probe = Some(
            async move {
                let limit = cluster.timeouts.read.min(cluster.timeouts.stale / 2);
                let result = cluster.on(number, &member, limit, || member.probe(&range, probe)).await;
                Answer { probe, asked, result }
            }
            .boxed(),
        );
    }

    fn answered(&mut self, answer: Answer, now: Instant) -> Result<(), WatchEnded> {
        let (asked, now) = (answer.asked.into_std(), now.into_std());
        match answer.result {
            Ok(result) => {
                let current = self.follower.answered(answer.probe, result, asked, now)?;
                self.ready.extend(current);
                Ok(())
            }
            Err(fault) => self.follower.failed(&fault, asked, now),
        }
    }

    fn lost(&self, fault: Fault) -> WatchEnded {
        let endpoint = self.open.as_ref().map_or("", |open| &open.member.endpoint);
        WatchEnded::Lost(fault.at(endpoint).to_string())
    }

    /// Records the failure, so that the next watch uses another member.
    fn end(&self, ended: &WatchEnded) {
        let WatchEnded::Lost(why) = ended else { return };
        self.cluster.watch_lost();
        if let Some(open) = &self.open {
            let fault = Fault { kind: Kind::Broken, text: format!("watch lost: {why}") };
            self.cluster.failed(open.number, &fault);
        }
    }
}

/// The answer to the probe in progress; pending for ever without one.
async fn asked(probe: &mut Option<BoxFuture<'static, Answer>>) -> Answer {
    match probe {
        Some(probe) => probe.await,
        None => std::future::pending().await,
    }
}
