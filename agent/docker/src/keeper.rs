//! Keeps the network that is wanted: makes it, and makes it anew where it differs. [`RulesKeeper`](crate::rules::RulesKeeper) calls it after
//! each event.

use std::collections::BTreeSet;

use sextant_proto::Prefix;
use tokio::sync::watch;

use crate::{
    engine::{Engine, EngineError},
    former::Former,
    network::Network,
    rules::{Looked, Observer},
    trouble::Trouble,
    wanted::{Step, Wanted},
};

/// Keeps the network of a host.
#[derive(Debug)]
pub struct Keeper {
    wanted: watch::Receiver<Option<Wanted>>,
    former: Former,
    left: watch::Sender<BTreeSet<Prefix>>,
    version: String,
}

impl Keeper {
    /// Keeps the network that is `wanted`; none before the first claim: then a present one stays as it is. The prefixes that the
    /// network had before, and that no network has any more, are added to `left`: an engine may have left routes of them.
    pub fn new(wanted: watch::Receiver<Option<Wanted>>, left: watch::Sender<BTreeSet<Prefix>>) -> Self {
        Self { wanted, former: Former::default(), left, version: String::new() }
    }

    /// Notes which prefixes the network has had.
    fn note(&mut self, wanted: &Wanted, networks: &[Network]) {
        let left = self.former.left(wanted, networks);
        if !left.is_empty() {
            self.left.send_modify(|all| all.extend(left));
        }
    }

    /// One pass over the wanted network.
    async fn keep(&mut self, engine: &Engine, wanted: &Wanted, major: u32) -> Result<Looked, EngineError> {
        let networks = engine.networks().await?;
        let users = match wanted.find(&networks) {
            Some(present) => engine.containers_on(present).await?,
            None => Vec::new(),
        };
        self.note(wanted, &networks);
        match wanted.step(major, &networks, &users) {
            Step::Nothing => return Ok(Looked::default()),
            Step::Blocked(trouble) => return Ok(Looked { changed: false, trouble: Some(trouble) }),
            Step::Create => {
                engine.create(wanted, major).await?;
                let Wanted { name, prefix, bridge, .. } = wanted;
                tracing::info!(network = name, %prefix, bridge, "Docker network made");
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
            }
        }
        self.note(wanted, &engine.networks().await?);
        Ok(Looked { changed: true, trouble: None })
    }

    /// The engine's version, which is asked for once in a connection.
    async fn major(&mut self, engine: &Engine, whole: bool) -> Result<u32, EngineError> {
        if whole || self.version.is_empty() {
            let version = engine.version().await?;
            if version != self.version {
                tracing::info!(version, "Docker answers");
            }
            self.version = version;
        }
        Ok(major(&self.version))
    }
}

impl Observer for Keeper {
    async fn look(&mut self, engine: &Engine, whole: bool) -> Result<Looked, EngineError> {
        let wanted = self.wanted.borrow_and_update().clone();
        let major = self.major(engine, whole).await?;
        let Some(wanted) = &wanted else { return Ok(Looked::default()) };
        match self.keep(engine, wanted, major).await {
            Err(EngineError::Refused(error)) => {
                let what = format!("make network {} with {}", wanted.name, wanted.prefix);
                Ok(Looked { changed: false, trouble: Some(Trouble::Refused { what, error }) })
            }
            looked => looked,
        }
    }

    async fn ended(&mut self) {}
}

/// The 20 of `20.10.24+dfsg1`; 0 if there is none.
pub fn major(version: &str) -> u32 {
    version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default()
}
