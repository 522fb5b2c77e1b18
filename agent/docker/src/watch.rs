//! Follows the engine: the one connection to it, the one reader of its events. It changes nothing.
//!
//! Events say what is to be read again. After a connection, and every half minute, everything is read: so nothing is missed for long.
//! A task that needs the state at this moment asks for a look ([`Fresh`]); one that acts on the engine gets the connection, and the
//! number of events as a reason to look ([`Following`]).

use std::{path::PathBuf, pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt, Stream, StreamExt};
use sextant_daemon::{Failing, Outage};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use crate::{
    engine::{Engine, EngineError, listens},
    live::{Event, Live, Stale},
    pace::rest_after,
    trouble::Trouble,
};

/// How soon an engine that is away is tried again.
const AWAY: Duration = Duration::from_millis(500);
/// The least time between two looks; longer where the engine takes long to answer.
const SETTLE: Duration = Duration::from_millis(250);
/// When everything is read again after a connection: events may have come before the engine has heard that they are wanted.
const SECOND_LOOK: Duration = Duration::from_secs(1);
/// How long someone who asks for a look waits for it.
const FRESH: Duration = Duration::from_secs(1);
/// So many may wait for one.
const MOST_ASKED: usize = 16;
/// When everything is read again later.
const RESYNC: Duration = Duration::from_secs(30);

/// What is seen of the engine, and what prevents that.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Watched {
    /// The last that was seen. It stays while the engine is away: its containers may run on.
    pub live: Arc<Live>,
    /// Why the engine cannot be asked.
    pub trouble: Option<Trouble>,
}

/// The engine for those who act on it. Each change is a reason to look.
#[derive(Debug, Clone, Default)]
pub struct Following {
    /// The connection, or why there is none; `None` before the first attempt.
    pub engine: Option<Result<Engine, Trouble>>,
    /// The number of connections so far.
    pub connections: u64,
    /// The number of events so far.
    pub events: u64,
    /// How often the engine was found to have ended: its events did, or nothing listened at its socket, also before the first connection.
    pub ends: u64,
}

/// Watches an engine.
#[derive(Debug)]
pub struct Watch {
    socket: PathBuf,
    seen: watch::Sender<Watched>,
    following: watch::Sender<Following>,
    asked: mpsc::Receiver<oneshot::Sender<Arc<Live>>>,
}

/// Asks the watch for a look at this moment.
#[derive(Debug, Clone)]
pub struct Fresh(mpsc::Sender<oneshot::Sender<Arc<Live>>>);

impl Fresh {
    /// What the engine has now; `None` if it does not answer in time.
    pub async fn look(&self) -> Option<Arc<Live>> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.0.send(reply).await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(FRESH, asked).await.ok().flatten()
    }
}

impl Watch {
    /// Of the engine behind this socket; what it sees is sent to `seen`.
    pub fn new(socket: PathBuf, seen: watch::Sender<Watched>) -> (Self, Fresh) {
        let (fresh, asked) = mpsc::channel(MOST_ASKED);
        (Self { socket, seen, following: watch::Sender::default(), asked }, Fresh(fresh))
    }

    /// The connection and its events.
    pub fn following(&self) -> watch::Receiver<Following> {
        self.following.subscribe()
    }

    /// Watches until nobody looks any more.
    pub async fn run(mut self) {
        // Before the first attempt it may run: it may have asked an earlier process of the agent.
        let (mut outage, mut may_run) = (Outage::default(), true);
        while !self.seen.is_closed() {
            let done = match Engine::connect(&self.socket).await {
                Ok(engine) => {
                    may_run = true;
                    self.follow(&engine, &mut outage).await
                }
                Err(error) => Err(Lost { error, ended: false }),
            };
            let Err(Lost { error, ended }) = done else { return };
            let ended = may_run && (ended || !listens(&self.socket).await);
            may_run &= !ended;
            if let Some(Failing { failures, for_secs }) = outage.failed(Instant::now()) {
                tracing::warn!(socket = %self.socket.display(), %error, failures, for_secs, "Docker does not answer; retrying");
            }
            self.tell_trouble(&Trouble::of(&error, &self.socket), ended);
            // Nobody who has asked is to wait for it.
            while self.asked.try_recv().is_ok() {}
            tokio::time::sleep(AWAY).await;
        }
    }

    /// Follows an engine until it goes, or nobody looks any more.
    async fn follow(&mut self, engine: &Engine, outage: &mut Outage) -> Result<(), Lost> {
        let mut events = pin!(engine.events().fuse());
        let Err(error) = self.follow_events(engine, &mut events, outage).await else { return Ok(()) };
        let ended = !matches!(error, EngineError::Events(_)) && is_over(events).await;
        Err(Lost { error, ended })
    }

    async fn follow_events(
        &mut self,
        engine: &Engine,
        events: &mut (impl Stream<Item = Result<Event, EngineError>> + Unpin),
        outage: &mut Outage,
    ) -> Result<(), EngineError> {
        // The engine is asked for its events with the first poll.
        let _none_yet = events.next().now_or_never();
        self.following.send_modify(|it| {
            it.engine = Some(Ok(engine.clone()));
            it.connections += 1;
        });
        let mut live = Live { version: engine.version().await?, ..Live::default() };
        let (mut stale, mut next) = (Stale::everything(), SECOND_LOOK);
        let (mut whole, mut asking) = (Instant::now(), Vec::new());
        loop {
            let (began, mut meanwhile) = (Instant::now(), Stale::default());
            let mut looking = Box::pin(look(engine, &mut live, &stale));
            loop {
                tokio::select! {
                    looked = &mut looking => break looked?,
                    event = events.next() => self.note(event, &mut meanwhile)?,
                }
            }
            drop(looking);
            let took = began.elapsed();
            let _recovered = outage.works(Instant::now());
            self.tell(&live);
            answer(&mut asking, &live);
            let (ended, rest) = (Instant::now(), rest_after(took, SETTLE));
            stale = meanwhile;
            // Two looks have a rest between them; the first event after it is followed at once.
            let mut due = whole + next;
            loop {
                if !stale.is_empty() {
                    due = due.min(ended + rest);
                }
                tokio::select! {
                    event = events.next() => self.note(event, &mut stale)?,
                    Some(reply) = self.asked.recv() => {
                        stale = Stale::everything();
                        asking.push(reply);
                        due = due.min(ended + rest_after(took, Duration::ZERO));
                    }
                    () = tokio::time::sleep_until(due) => break,
                    () = self.seen.closed() => return Ok(()),
                }
            }
            if Instant::now() >= whole + next {
                (whole, next) = (Instant::now(), RESYNC);
                stale = Stale::everything();
            }
        }
    }

    /// Notes what an event makes stale, and tells of it. The stream of the events has no end while the engine runs.
    fn note(&self, event: Option<Result<Event, EngineError>>, stale: &mut Stale) -> Result<(), EngineError> {
        stale.note(event.ok_or(EngineError::Closed)??);
        self.following.send_modify(|it| it.events += 1);
        Ok(())
    }

    fn tell_trouble(&self, trouble: &Trouble, ended: bool) {
        self.following.send_if_modified(|it| {
            let before = it.engine.as_ref().and_then(|engine| engine.as_ref().err());
            let changed = ended || before != Some(trouble);
            it.engine = Some(Err(trouble.clone()));
            it.ends += u64::from(ended);
            changed
        });
        let trouble = Some(trouble.clone());
        self.seen.send_if_modified(|seen| std::mem::replace(&mut seen.trouble, trouble.clone()) != trouble);
    }

    fn tell(&self, live: &Live) {
        self.seen.send_if_modified(|seen| {
            let changed = *seen.live != *live || seen.trouble.is_some();
            if changed {
                *seen = Watched { live: Arc::new(live.clone()), trouble: None };
            }
            changed
        });
    }
}

/// Those who have asked get what is known; one that does not wait any more is no matter.
fn answer(asking: &mut Vec<oneshot::Sender<Arc<Live>>>, live: &Live) {
    if asking.is_empty() {
        return;
    }
    let live = Arc::new(live.clone());
    for reply in asking.drain(..) {
        let _gone = reply.send(live.clone());
    }
}

/// Why an engine is not followed any more: its last answer, and whether it has ended.
struct Lost {
    error: EngineError,
    ended: bool,
}

/// Whether the stream of the events ends: an engine does not end it while it runs, but a request to one that is killed may fail first.
/// What is no event comes from one that runs.
async fn is_over(events: impl Stream<Item = Result<Event, EngineError>> + Unpin) -> bool {
    let all = events.all(|event| std::future::ready(event.is_ok()));
    tokio::time::timeout(FRESH, all).await == Ok(true)
}

/// Reads what is stale.
async fn look(engine: &Engine, live: &mut Live, stale: &Stale) -> Result<(), EngineError> {
    if stale.networks() {
        live.set_networks(engine.networks().await?);
    }
    match stale.containers() {
        None => live.set_containers(engine.running(&[]).await?),
        Some(ids) if !ids.is_empty() => live.update(&ids, engine.running(&ids).await?),
        Some(_) => {}
    }
    Ok(())
}
