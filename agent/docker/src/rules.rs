//! Keeps the firewall's rules, in every mode in which the agent has some, and lets an [`Observer`] look at the engine after each of its
//! events, of which the [`watch`](crate::watch) tells. The one reader of published ports.

use std::{path::PathBuf, time::Duration};

use tokio::{sync::watch, time::Instant};

use crate::{
    engine::{Engine, EngineError},
    firewall::{keeper::FirewallKeeper, notices::Notices, policy::Passes},
    pace::rest_after,
    trouble::Trouble,
    watch::Following,
};

/// How soon an engine that does not answer is tried again.
const AWAY: Duration = Duration::from_millis(500);
/// How long events are collected; longer where a look takes long.
const SETTLE: Duration = Duration::from_millis(250);
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

/// What the keeper of the rules follows.
#[derive(Debug, Clone)]
pub struct Followed {
    /// The socket of the engine, for messages.
    pub socket: PathBuf,
    /// The engine.
    pub engine: watch::Receiver<Following>,
    /// Changes of the firewall.
    pub notices: Notices,
}

/// Keeps the rules of a host.
#[derive(Debug)]
pub struct RulesKeeper {
    socket: PathBuf,
    following: watch::Receiver<Following>,
    /// The policy; none before the first claim. Then the present rules stay. Each send is a reason to look.
    passes: watch::Receiver<Option<Passes>>,
    /// What prevents it.
    troubles: watch::Sender<Vec<Trouble>>,
    firewall: FirewallKeeper,
}

impl RulesKeeper {
    /// Beside the firewall of this engine.
    pub fn new(
        followed: Followed,
        passes: watch::Receiver<Option<Passes>>,
        troubles: watch::Sender<Vec<Trouble>>,
    ) -> Self {
        let Followed { socket, engine, notices } = followed;
        Self { socket, following: engine, passes, troubles, firewall: FirewallKeeper::new(notices) }
    }

    /// Keeps them; ends with the sender of the policy, or with the watch.
    pub async fn run(mut self, mut observer: impl Observer) {
        let mut ends = 0;
        loop {
            let seen = self.following.borrow_and_update().clone();
            if seen.ends > ends {
                ends = seen.ends;
                observer.ended().await;
            }
            let trouble = match seen.engine {
                Some(Ok(engine)) => match self.follow(&engine, seen.connections, &mut observer).await {
                    Ok(()) => return,
                    Err(error) => Some(Trouble::of(&error, &self.socket)),
                },
                Some(Err(trouble)) => Some(trouble),
                None => None,
            };
            // It must find the rules when it comes back: it starts its containers before it answers.
            let passes = self.passes.borrow_and_update().clone();
            if let Some(passes) = &passes {
                let _tried_again = self.firewall.keep(passes, None).await;
            }
            self.tell(trouble.into_iter().collect());
            tokio::select! {
                () = rest(&mut self.firewall, AWAY) => {}
                changed = self.passes.changed() => if changed.is_err() { return },
                changed = self.following.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Follows an engine until this connection goes, or nobody wants rules any more.
    async fn follow(
        &mut self,
        engine: &Engine,
        connection: u64,
        observer: &mut impl Observer,
    ) -> Result<(), EngineError> {
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
            let refused = troubles.iter().any(Trouble::is_tried_again_soon);
            let next = if refused { next_whole.min(Instant::now() + REFUSED) } else { next_whole };
            self.tell(troubles);
            let pause = rest_after(began.elapsed(), SETTLE);
            whole = false;
            tokio::select! {
                changed = self.following.changed() => match changed {
                    Ok(()) => rest(&mut self.firewall, pause).await,
                    Err(_) => return Ok(()),
                },
                changed = self.passes.changed() => if changed.is_err() { return Ok(()) },
                () = self.firewall.look() => {}
                () = tokio::time::sleep_until(next) => (whole, next_whole) = (true, Instant::now() + RESYNC),
            }
            let now = self.following.borrow_and_update();
            if now.connections != connection || !matches!(now.engine, Some(Ok(_))) {
                return Err(EngineError::Closed);
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

/// Lets some time pass; the rules are looked after meanwhile.
async fn rest(firewall: &mut FirewallKeeper, time: Duration) {
    let end = Instant::now() + time;
    // It ends early only if the rules cannot be kept.
    let _ended = tokio::time::timeout_at(end, firewall.look()).await;
    tokio::time::sleep_until(end).await;
}
