//! Watches: a stream from one member, beside it the questions of [`Follower`] on the same member.
//!
//! No task: a watch lives in whoever polls it. It ends with the member that it is on; the next one goes elsewhere.

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
    follow::{Finding, Follower, Message, Probe},
    member::{Line, Member},
};
use crate::registry::{Batch, KeyRange, Watch, WatchEnded};

/// All changes of `range` after revision `after`.
pub fn watch(cluster: Arc<Cluster>, range: KeyRange, after: Revision) -> Watch {
    let now = Instant::now().into_std();
    let follower = Follower::new(after, cluster.timeouts.idle, cluster.timeouts.stale, now);
    let watcher = Watcher {
        wanted: cluster.handed(),
        cluster,
        range,
        follower,
        line: None,
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
    line: Option<Open>,
    /// The question that is being asked.
    probe: Option<BoxFuture<'static, Answer>>,
    wanted: Receiver<Revision>,
    ready: VecDeque<Batch>,
}

struct Open {
    number: usize,
    member: Member,
    line: Line,
}

struct Answer {
    probe: Probe,
    asked: Instant,
    finding: Result<Finding, Fault>,
}

/// What a watcher waits for.
enum News {
    Heard(Result<Message, Fault>),
    Answered(Answer),
    Wanted,
    Due(Probe),
}

impl Watcher {
    async fn next(&mut self) -> Result<Batch, WatchEnded> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(batch);
            }
            let open = match self.line.take() {
                Some(open) => open,
                None => self.open().await?,
            };
            let open = self.line.insert(open);
            let (at, probe) = self.follower.next_probe();
            let news = tokio::select! {
                // What has come is taken in before anything is asked or given up.
                biased;
                message = open.line.next() => News::Heard(message),
                answer = asked(&mut self.probe) => News::Answered(answer),
                _ = self.wanted.changed() => News::Wanted,
                () = sleep_until(at.into()), if self.probe.is_none() => News::Due(probe),
            };
            self.take(news)?;
        }
    }

    fn take(&mut self, news: News) -> Result<(), WatchEnded> {
        let now = Instant::now();
        match news {
            News::Heard(Ok(message)) => {
                let batches = self.follower.heard(message, now.into_std())?;
                self.ready.extend(batches);
            }
            News::Heard(Err(fault)) => return Err(self.lost(fault)),
            News::Answered(answer) => {
                self.probe = None;
                self.answered(answer, now)?;
            }
            News::Wanted => {
                let wanted = *self.wanted.borrow_and_update();
                self.follower.wanted(wanted);
            }
            News::Due(probe) => self.ask(probe, now),
        }
        Ok(())
    }

    /// Opens the stream on the first member that answers.
    async fn open(&mut self) -> Result<Open, WatchEnded> {
        let (range, after) = (&self.range, self.follower.told());
        let mut told = Vec::new();
        self.cluster.watch_may_begin().await;
        for (number, member) in self.cluster.order() {
            let limit = self.cluster.timeouts.read;
            // The question first: on a stream, etcd does not say that a login has ended.
            let opening = self.cluster.on(number, &member, limit, || async {
                member.probe(range, Probe::Revision).await?;
                member.watch(range, after).await
            });
            match opening.await {
                Ok(line) => {
                    return Ok(Open { number, member, line });
                }
                Err(fault) => {
                    if fault.kind == Kind::Login {
                        // Whether it helps is for the next watch to see.
                        let _ = self.cluster.on(number, &member, limit, || member.sign_in_again()).await;
                    }
                    told.push(fault.to_string());
                }
            }
        }
        Err(WatchEnded::Lost(told.join("; ")))
    }

    fn ask(&mut self, probe: Probe, asked: Instant) {
        let Some(open) = &self.line else { return };
        let (member, range, number) = (open.member.clone(), self.range.clone(), open.number);
        let cluster = Arc::clone(&self.cluster);
        self.probe = Some(
            async move {
                let limit = cluster.timeouts.read.min(cluster.timeouts.stale / 2);
                let finding = cluster.on(number, &member, limit, || member.probe(&range, probe)).await;
                Answer { probe, asked, finding }
            }
            .boxed(),
        );
    }

    fn answered(&mut self, answer: Answer, now: Instant) -> Result<(), WatchEnded> {
        let (asked, now) = (answer.asked.into_std(), now.into_std());
        match answer.finding {
            Ok(finding) => {
                let current = self.follower.found(answer.probe, finding, asked, now)?;
                self.ready.extend(current);
                Ok(())
            }
            Err(fault) => self.follower.unanswered(&fault, asked, now),
        }
    }

    fn lost(&self, fault: Fault) -> WatchEnded {
        let endpoint = self.line.as_ref().map_or("", |open| &open.member.endpoint);
        WatchEnded::Lost(fault.at(endpoint).to_string())
    }

    /// The next watch is on another member.
    fn end(&self, ended: &WatchEnded) {
        let WatchEnded::Lost(why) = ended else { return };
        self.cluster.watch_lost();
        if let Some(open) = &self.line {
            let fault = Fault { kind: Kind::Broken, text: format!("a watch was lost: {why}") };
            self.cluster.failed(open.number, &fault);
        }
    }
}

/// The answer to the question that is being asked; never, if none is.
async fn asked(probe: &mut Option<BoxFuture<'static, Answer>>) -> Answer {
    match probe {
        Some(probe) => probe.await,
        None => std::future::pending().await,
    }
}
