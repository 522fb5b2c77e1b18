//! Follows the engine, in every mode in which the agent keeps rules of the firewall: keeps these, and lets an [`Observer`] look at the
//! engine after each of its events. The one loop that reconnects, and the one reader of published ports.

use std::{path::PathBuf, time::Duration};

use futures::{FutureExt, StreamExt};
use sextant_daemon::{Failing, Outage};
use tokio::{sync::watch, time::Instant};

use crate::{
    engine::{Engine, EngineError, listens},
    firewall::{keeper::FirewallKeeper, policy::Passes},
    trouble::Trouble,
};

/// How soon an engine that is away is tried again.
const AWAY: Duration = Duration::from_millis(500);
/// How long events are collected; longer where a look takes long, so that the engine is busy a fifth of the time at most.
const SETTLE: Duration = Duration::from_millis(250);
/// How many times as long as the last look.
const REST: u32 = 4;
/// When everything is looked at again.
const RESYNC: Duration = Duration::from_secs(20);
/// How soon a refused change is tried again.
const REFUSED: Duration = Duration::from_secs(5);

/// What a look at the engine comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Looked {
    /// A network was changed: the engine may have put its rules before those of the agent.
    pub changed: bool,
    /// What keeps containers from their prefixes.
    pub troubles: Vec<Trouble>,
}

impl Looked {
    /// A network was changed.
    pub(crate) fn changed() -> Self {
        Self { changed: true, troubles: Vec::new() }
    }

    /// Nothing was done, because of this.
    pub(crate) fn blocked(trouble: Trouble) -> Self {
        Self { changed: false, troubles: vec![trouble] }
    }
}

/// Looks at the engine.
pub trait Observer: Send {
    /// After an event; with `whole`, everything may have changed: after a connection, and from time to time.
    fn look(
        &mut self,
        engine: &Engine,
        whole: bool,
    ) -> impl Future<Output = Result<Looked, EngineError>> + Send;
    /// The engine has ended: nothing listens at its socket.
    fn ended(&mut self) -> impl Future<Output = ()> + Send;
}

/// Keeps the rules of a host.
#[derive(Debug)]
pub struct RulesKeeper {
    socket: PathBuf,
    /// The policy; none before the first claim. Then the present rules stay. Each send is a reason to look.
    passes: watch::Receiver<Option<Passes>>,
    /// What prevents it.
    troubles: watch::Sender<Vec<Trouble>>,
    firewall: FirewallKeeper,
}

impl RulesKeeper {
    /// With the engine behind this socket.
    pub fn new(
        socket: PathBuf,
        passes: watch::Receiver<Option<Passes>>,
        troubles: watch::Sender<Vec<Trouble>>,
    ) -> Self {
        Self { socket, passes, troubles, firewall: FirewallKeeper::default() }
    }

    /// Keeps them; ends with the sender of the policy.
    pub async fn run(mut self, mut observer: impl Observer) {
        let (mut outage, mut followed) = (Outage::default(), false);
        loop {
            let done = match Engine::connect(&self.socket).await {
                Ok(engine) => {
                    followed = true;
                    self.follow(&engine, &mut observer, &mut outage).await
                }
                Err(error) => Err(error),
            };
            let Err(error) = done else { return };
            if followed && !listens(&self.socket).await {
                followed = false;
                observer.ended().await;
            }
            if let Some(Failing { failures, for_secs }) = outage.failed(Instant::now()) {
                tracing::warn!(socket = %self.socket.display(), %error, failures, for_secs, "Docker does not answer; retrying");
            }
            // It must find the rules when it comes back: it starts its containers before it answers.
            let passes = self.passes.borrow_and_update().clone();
            if let Some(passes) = &passes {
                let _tried_again = self.firewall.keep(passes, None).await;
            }
            self.tell(vec![Trouble::of(&error, &self.socket)]);
            tokio::select! {
                () = tokio::time::sleep(AWAY) => {}
                changed = self.passes.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Follows an engine until it goes, or nobody wants rules any more.
    async fn follow(
        &mut self,
        engine: &Engine,
        observer: &mut impl Observer,
        outage: &mut Outage,
    ) -> Result<(), EngineError> {
        let mut changes = Box::pin(engine.changes());
        // The engine is asked for its events with the first poll.
        let _none_yet = changes.next().now_or_never();
        let (mut whole, mut next_whole) = (true, Instant::now() + RESYNC);
        loop {
            let began = Instant::now();
            // The rules come first, and again after a change: an engine puts those of a new network before all others.
            let mut of_rules = self.keep_rules(engine).await?;
            let looked = observer.look(engine, whole).await?;
            if looked.changed {
                of_rules = self.keep_rules(engine).await?;
            }
            let troubles: Vec<_> = looked.troubles.into_iter().chain(of_rules).collect();
            let _recovered = outage.works(Instant::now());
            let refused = troubles.iter().any(Trouble::is_tried_again_soon);
            let next = if refused { next_whole.min(Instant::now() + REFUSED) } else { next_whole };
            self.tell(troubles);
            let rest = (began.elapsed() * REST).max(SETTLE);
            whole = false;
            tokio::select! {
                change = changes.next() => match change {
                    Some(()) => tokio::time::sleep(rest).await,
                    None => return Err(ended()),
                },
                changed = self.passes.changed() => if changed.is_err() { return Ok(()) },
                () = self.firewall.look() => {}
                () = tokio::time::sleep_until(next) => (whole, next_whole) = (true, Instant::now() + RESYNC),
            }
            while let Some(change) = changes.next().now_or_never() {
                change.ok_or_else(ended)?;
            }
        }
    }

    async fn keep_rules(&mut self, engine: &Engine) -> Result<Option<Trouble>, EngineError> {
        let passes = self.passes.borrow_and_update().clone();
        let Some(passes) = passes else { return Ok(None) };
        let published = match passes.needs_published() {
            true => engine.published_inside(&passes.own).await?,
            false => Vec::new(),
        };
        Ok(self.firewall.keep(&passes, Some(published)).await)
    }

    fn tell(&self, troubles: Vec<Trouble>) {
        self.troubles.send_if_modified(|before| {
            let changed = *before != troubles;
            *before = troubles;
            changed
        });
    }
}

fn ended() -> EngineError {
    EngineError::Away("the engine has closed the stream of its events".into())
}
