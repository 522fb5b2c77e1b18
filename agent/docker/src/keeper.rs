//! Keeps the network: a pass after each event of the engine, each change of what is wanted, and each half minute.

use std::{path::PathBuf, time::Duration};

use futures::StreamExt;
use sextant_daemon::{Failing, Outage};
use tokio::{sync::watch, time::Instant};

use crate::{
    engine::{Engine, EngineError},
    firewall::keeper::FirewallKeeper,
    trouble::Trouble,
    wanted::{Step, Wanted},
};

/// How soon an engine that is away is tried again: containers come back with it.
const AWAY: Duration = Duration::from_millis(500);
/// How soon a refused change is tried again.
const REFUSED: Duration = Duration::from_secs(5);
/// A pass without an event.
const RESYNC: Duration = Duration::from_secs(30);
/// How long events are collected: containers may come and go by the hundred.
const SETTLE: Duration = Duration::from_millis(250);

/// What is seen of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Its version; empty until it has answered.
    pub version: String,
    /// What keeps containers from the prefix.
    pub trouble: Option<Trouble>,
}

/// Keeps the network of a host.
#[derive(Debug)]
pub struct Keeper {
    /// The engine's socket.
    pub socket: PathBuf,
    /// The network that is wanted; none before the first claim. Then a present one stays as it is.
    pub wanted: watch::Receiver<Option<Wanted>>,
    /// What is seen.
    pub seen: watch::Sender<Seen>,
    firewall: FirewallKeeper,
}

impl Keeper {
    /// Of the engine behind this socket.
    pub fn new(socket: PathBuf, wanted: watch::Receiver<Option<Wanted>>, seen: watch::Sender<Seen>) -> Self {
        Self { socket, wanted, seen, firewall: FirewallKeeper::default() }
    }

    /// Keeps it; ends with the sender of what is wanted.
    pub async fn run(mut self) {
        let mut outage = Outage::default();
        loop {
            let error = match Engine::connect(&self.socket).await {
                Ok(engine) => self.follow(&engine, &mut outage).await,
                Err(error) => Err(error),
            };
            let error = match error {
                Ok(()) => return,
                Err(error) => error,
            };
            if let Some(Failing { failures, for_secs }) = outage.failed(Instant::now()) {
                tracing::warn!(socket = %self.socket.display(), %error, failures, for_secs, "Docker does not answer; retrying");
            }
            self.tell_away(&error);
            // It must find the rules when it comes back: it starts its containers before it answers.
            let wanted = self.wanted.borrow().clone();
            if let Some(wanted) = &wanted {
                let _tried_again = self.firewall.keep(&wanted.passes, None).await;
            }
            tokio::time::sleep(AWAY).await;
        }
    }

    /// Follows an engine until it goes, or nobody wants a network any more.
    async fn follow(&mut self, engine: &Engine, outage: &mut Outage) -> Result<(), EngineError> {
        let version = engine.version().await?;
        if self.seen.borrow().version != version {
            tracing::info!(version, "Docker answers");
        }
        let mut changes = Box::pin(engine.changes());
        loop {
            let next = match self.pass(engine, &version).await? {
                Some(Trouble::Refused { .. } | Trouble::Firewall { .. }) => REFUSED,
                _ => RESYNC,
            };
            let _recovered = outage.works(Instant::now());
            tokio::select! {
                change = changes.next() => match change {
                    Some(()) => tokio::time::sleep(SETTLE).await,
                    None => return Err(EngineError::Away("the engine has closed the stream of its events".into())),
                },
                changed = self.wanted.changed() => if changed.is_err() { return Ok(()) },
                () = self.firewall.look() => {}
                () = tokio::time::sleep(next) => {}
            }
            while let Some(Some(())) = futures::FutureExt::now_or_never(changes.next()) {}
        }
    }

    /// Looks, and does what is to be done. Returns the trouble.
    async fn pass(&mut self, engine: &Engine, version: &str) -> Result<Option<Trouble>, EngineError> {
        let wanted = self.wanted.borrow_and_update().clone();
        let mut trouble = None;
        if let Some(wanted) = &wanted {
            // The rules come first, and again after a change: an engine puts those of a new network before all others.
            trouble = self.keep_rules(engine, wanted).await?;
            let (changed, prevented) = match keep(engine, wanted, major(version)).await {
                Err(EngineError::Refused(error)) => {
                    let what = format!("make network {} with {}", wanted.name, wanted.prefix);
                    (false, Some(Trouble::Refused { what, error }))
                }
                other => other?,
            };
            if changed {
                trouble = self.keep_rules(engine, wanted).await?;
            }
            trouble = prevented.or(trouble);
        }
        self.tell(Seen { version: version.to_owned(), trouble: trouble.clone() });
        Ok(trouble)
    }

    async fn keep_rules(&mut self, engine: &Engine, wanted: &Wanted) -> Result<Option<Trouble>, EngineError> {
        let published = match wanted.passes.needs_published() {
            true => engine.published(&wanted.name).await?,
            false => Vec::new(),
        };
        Ok(self.firewall.keep(&wanted.passes, Some(published)).await)
    }

    fn tell_away(&self, error: &EngineError) {
        let trouble = Trouble::of(error, &self.socket);
        let before = self.seen.borrow().clone();
        self.tell(Seen { trouble: Some(trouble), ..before });
    }

    fn tell(&self, seen: Seen) {
        self.seen.send_if_modified(|before| {
            let changed = *before != seen;
            *before = seen;
            changed
        });
    }
}

/// The 20 of `20.10.24+dfsg1`; 0 if there is none.
pub fn major(version: &str) -> u32 {
    version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default()
}

/// One pass over the wanted network. Returns whether it was changed, and what prevents that.
async fn keep(engine: &Engine, wanted: &Wanted, major: u32) -> Result<(bool, Option<Trouble>), EngineError> {
    let networks = engine.networks().await?;
    let users = match wanted.find(&networks) {
        Some(present) => engine.containers_on(present).await?,
        None => Vec::new(),
    };
    match wanted.step(major, &networks, &users) {
        Step::Nothing => Ok((false, None)),
        Step::Blocked(trouble) => Ok((false, Some(trouble))),
        Step::Create => {
            engine.create(wanted, major).await?;
            let Wanted { name, prefix, bridge, .. } = wanted;
            tracing::info!(network = name, %prefix, bridge, "Docker network made");
            Ok((true, None))
        }
        Step::Replace { id, differs, users } => {
            for container in &users {
                engine.disconnect(&id, container).await?;
            }
            engine.remove(&id).await?;
            engine.create(wanted, major).await?;
            for container in &users {
                engine.connect_container(&wanted.name, container).await?;
            }
            let (network, prefix, containers) = (&wanted.name, wanted.prefix, users.len());
            tracing::info!(network, %prefix, differs, containers, "Docker network made anew");
            Ok((true, None))
        }
    }
}
