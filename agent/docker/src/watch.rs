//! Watches the engine: its networks and containers, and their changes. It changes nothing.
//!
//! Events say what is to be read again. After a connection, and every half minute, everything is read: so nothing is missed for long.

use std::{path::PathBuf, pin::pin, sync::Arc, time::Duration};

use futures::{FutureExt, Stream, StreamExt};
use sextant_daemon::Outage;
use tokio::{sync::watch, time::Instant};

use crate::{
    engine::{Engine, EngineError},
    live::{Event, Live, Stale},
    trouble::Trouble,
};

/// How soon an engine that is away is tried again.
const AWAY: Duration = Duration::from_millis(500);
/// How long events are collected; longer where the engine takes long to answer, so that it is busy a fifth of the time at most.
const SETTLE: Duration = Duration::from_millis(250);
/// How many times as long as the last look.
const REST: u32 = 4;
/// When everything is read again after a connection: events may have come before the engine has heard that they are wanted.
const SECOND_LOOK: Duration = Duration::from_secs(1);
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

/// Watches an engine.
#[derive(Debug)]
pub struct Watch {
    /// The engine's socket.
    pub socket: PathBuf,
    /// What is seen.
    pub seen: watch::Sender<Watched>,
}

impl Watch {
    /// Watches until nobody looks any more.
    pub async fn run(self) {
        let mut outage = Outage::default();
        while !self.seen.is_closed() {
            let done = match Engine::connect(&self.socket).await {
                Ok(engine) => self.follow(&engine, &mut outage).await,
                Err(error) => Err(error),
            };
            let Err(error) = done else { return };
            if let Some(failing) = outage.failed(Instant::now()) {
                let failures = failing.failures;
                tracing::debug!(socket = %self.socket.display(), %error, failures, "Docker cannot be watched; retrying");
            }
            let trouble = Some(Trouble::of(&error, &self.socket));
            self.seen
                .send_if_modified(|seen| std::mem::replace(&mut seen.trouble, trouble.clone()) != trouble);
            tokio::time::sleep(AWAY).await;
        }
    }

    /// Follows an engine until it goes, or nobody looks any more.
    async fn follow(&self, engine: &Engine, outage: &mut Outage) -> Result<(), EngineError> {
        let mut events = pin!(engine.events());
        let mut live = Live { version: engine.version().await?, ..Live::default() };
        let (mut stale, mut next) = (Stale::everything(), SECOND_LOOK);
        let mut whole = Instant::now();
        loop {
            let began = Instant::now();
            look(engine, &mut live, &stale).await?;
            let rest = (began.elapsed() * REST).max(SETTLE);
            let _recovered = outage.works(Instant::now());
            self.tell(&live);
            stale = tokio::select! {
                event = events.next() => collect(event, &mut events, rest).await?,
                () = tokio::time::sleep_until(whole + next) => {
                    (whole, next) = (Instant::now(), RESYNC);
                    Stale::everything()
                }
                () = self.seen.closed() => return Ok(()),
            };
        }
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

/// Collects the events that come within a time.
async fn collect(
    first: Option<Event>,
    events: &mut (impl Stream<Item = Event> + Unpin),
    within: Duration,
) -> Result<Stale, EngineError> {
    let mut stale = Stale::default();
    stale.note(first.ok_or_else(ended)?);
    tokio::time::sleep(within).await;
    while let Some(event) = events.next().now_or_never() {
        stale.note(event.ok_or_else(ended)?);
    }
    Ok(stale)
}

fn ended() -> EngineError {
    EngineError::Away("the engine has closed the stream of its events".into())
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
