//! Keeps the networks that are wanted: makes them, makes them anew where they differ, and removes those that are wanted no more. The owner
//! of the parts of host prefixes that they have. [`RulesKeeper`](crate::rules::RulesKeeper) calls it after each event.

use std::{collections::BTreeSet, fmt};

use sextant_proto::Prefix;
use tokio::sync::watch;

use crate::{
    engine::{Engine, EngineError},
    former::Former,
    network::Network,
    parts::Parts,
    plan::Wishes,
    rules::{Looked, Observer},
    trouble::Trouble,
    waiting::{self, Waiting},
    wanted::{Step, Wanted, is_ours},
};

/// Where the parts are stored.
pub trait Store: fmt::Debug + Send + 'static {
    /// Stores them for good.
    ///
    /// # Errors
    /// If they are not stored, with the reason and the fix.
    fn keep(&self, parts: &Parts) -> Result<(), String>;

    /// Stores the prefixes that networks had before.
    ///
    /// # Errors
    /// If they are not stored, with the reason and the fix.
    fn keep_former(&self, former: &BTreeSet<Prefix>) -> Result<(), String>;

    /// Stores the containers that are to be connected again.
    ///
    /// # Errors
    /// If they are not stored, with the reason and the fix.
    fn keep_waiting(&self, waiting: &[Waiting]) -> Result<(), String>;
}

/// What an earlier process has stored.
#[derive(Debug, Default)]
pub struct Earlier {
    /// The prefixes that networks had before.
    pub former: BTreeSet<Prefix>,
    /// The containers that are to be connected again.
    pub waiting: Vec<Waiting>,
}

/// Keeps the networks of a host.
#[derive(Debug)]
pub struct Keeper {
    wishes: watch::Receiver<Option<Wishes>>,
    parts: watch::Sender<Parts>,
    store: Box<dyn Store>,
    former: Former,
    /// Containers that were taken off a network. Stored before that, so that no end of this process or of the engine leaves them out.
    waiting: Vec<Waiting>,
    left: watch::Sender<BTreeSet<Prefix>>,
    version: String,
}

impl Keeper {
    /// Keeps the networks of the `wishes`; none before the first claim: then present ones stay as they are. `parts` has the stored parts,
    /// and gets the new ones once they are stored. The prefixes that a network had before, and that no network has any more, are added to
    /// `left`: an engine may have left routes of them. `earlier` has what an earlier process has stored.
    pub fn new(
        wishes: watch::Receiver<Option<Wishes>>,
        parts: watch::Sender<Parts>,
        store: Box<dyn Store>,
        left: watch::Sender<BTreeSet<Prefix>>,
        earlier: Earlier,
    ) -> Self {
        let Earlier { former, waiting } = earlier;
        Self { wishes, parts, store, former: Former::restored(former), waiting, left, version: String::new() }
    }

    /// Notes which prefixes the networks have had. That is stored before they get other ones.
    fn note(&mut self, wanted: &[Wanted], networks: &[Network]) {
        let before = self.former.remembered();
        let left = self.former.left(wanted, networks);
        let former = self.former.remembered();
        if former != before
            && let Err(error) = self.store.keep_former(&former)
        {
            tracing::warn!(%error, "former prefixes of Docker networks cannot be stored");
        }
        if !left.is_empty() {
            self.left.send_modify(|all| all.extend(left));
        }
    }

    /// One pass over all networks. One that cannot be made is reported, and stops no other.
    async fn keep(&mut self, engine: &Engine, wishes: &Wishes, major: u32) -> Result<Looked, EngineError> {
        let mut looked = Looked::default();
        let mut networks = engine.networks().await?;
        for network in wishes.retired(&networks) {
            let what = || format!("remove network {}", network.name);
            took(&mut looked, remove_unused(engine, network).await, what)?;
        }
        if looked.changed {
            networks = engine.networks().await?;
        }
        let plan = wishes.plan(&self.parts.borrow(), &networks);
        looked.troubles.extend(plan.troubles);
        self.note(&plan.wanted, &networks);
        if let Err(error) = self.keep_parts(plan.parts) {
            looked.troubles.push(Trouble::NotStored { error });
            return Ok(looked);
        }
        for wanted in &plan.wanted {
            let what = || format!("make network {} with {}", wanted.name, wanted.prefix);
            took(&mut looked, self.keep_one(engine, wanted, &networks, major).await, what)?;
        }
        looked.troubles.extend(self.connect_waiting(engine, &plan.wanted).await?);
        if looked.changed {
            self.note(&plan.wanted, &engine.networks().await?);
        }
        Ok(looked)
    }

    /// One pass over a wanted network.
    async fn keep_one(
        &mut self,
        engine: &Engine,
        wanted: &Wanted,
        networks: &[Network],
        major: u32,
    ) -> Result<Looked, EngineError> {
        let users = match wanted.find(networks) {
            Some(present) => engine.containers_on(present).await?,
            None => Vec::new(),
        };
        let Wanted { name, prefix, bridge, .. } = wanted;
        match wanted.step(major, networks, &users) {
            Step::Nothing => Ok(Looked::default()),
            Step::Blocked(trouble) => Ok(Looked::blocked(trouble)),
            Step::Create => {
                engine.create(wanted, major).await?;
                tracing::info!(network = name, %prefix, bridge, "Docker network made");
                Ok(Looked::changed())
            }
            Step::Replace { id, differs, users } => {
                let mut waiting = Vec::new();
                for container in &users {
                    let endpoint = engine.endpoint(&container.id, name).await?;
                    waiting.push(Waiting { network: name.clone(), container: container.clone(), endpoint });
                }
                if let Err(error) = self.keep_waiting(waiting::with(&self.waiting, waiting)) {
                    return Ok(Looked::blocked(Trouble::NotStored { error }));
                }
                for container in &users {
                    engine.disconnect(&id, &container.id).await?;
                }
                engine.remove(&id).await?;
                engine.create(wanted, major).await?;
                let containers = users.len();
                tracing::info!(network = name, %prefix, differs, containers, "Docker network made anew");
                Ok(Looked::changed())
            }
        }
    }

    /// Connects the containers that were taken off a network, once that is there. One that cannot be connected is reported and tried
    /// again, and stops no other.
    async fn connect_waiting(
        &mut self,
        engine: &Engine,
        wanted: &[Wanted],
    ) -> Result<Vec<Trouble>, EngineError> {
        if self.waiting.is_empty() {
            return Ok(Vec::new());
        }
        let (networks, mut troubles, mut left) = (engine.networks().await?, Vec::new(), Vec::new());
        for one in &self.waiting {
            let Some(wanted) = wanted.iter().find(|wanted| wanted.name == one.network) else { continue };
            let Some(present) = wanted.find(&networks).filter(|network| is_ours(network)) else {
                left.push(one.clone());
                continue;
            };
            let Waiting { container, endpoint, .. } = one;
            if engine.containers_on(present).await?.iter().any(|it| it.id == container.id) {
                continue;
            }
            match engine.connect_container(&present.id, &container.id, endpoint).await {
                Err(EngineError::Refused(error)) => {
                    let (name, container) = (wanted.name.clone(), container.name.clone());
                    troubles.push(Trouble::NotConnected { name, container, error });
                    left.push(one.clone());
                }
                connected => connected?,
            }
        }
        if let Err(error) = self.keep_waiting(left) {
            troubles.push(Trouble::NotStored { error });
        }
        Ok(troubles)
    }

    /// Stores the containers that are to be connected, if they have changed.
    fn keep_waiting(&mut self, waiting: Vec<Waiting>) -> Result<(), String> {
        if self.waiting != waiting {
            self.store.keep_waiting(&waiting)?;
            self.waiting = waiting;
        }
        Ok(())
    }

    /// Stores the parts if they have changed.
    fn keep_parts(&self, parts: Parts) -> Result<(), String> {
        if *self.parts.borrow() == parts {
            return Ok(());
        }
        self.store.keep(&parts)?;
        self.parts.send_replace(parts);
        Ok(())
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

/// Adds what has become of one network. A refusal of the engine is a trouble with it.
fn took(
    looked: &mut Looked,
    one: Result<Looked, EngineError>,
    what: impl Fn() -> String,
) -> Result<(), EngineError> {
    let one = match one {
        Err(EngineError::Refused(error)) => Looked::blocked(Trouble::Refused { what: what(), error }),
        one => one?,
    };
    looked.changed |= one.changed;
    looked.troubles.extend(one.troubles);
    Ok(())
}

/// Removes a network that no container is on, running or not.
async fn remove_unused(engine: &Engine, network: &Network) -> Result<Looked, EngineError> {
    let users = engine.containers_on(network).await?;
    let name = network.name.clone();
    if !users.is_empty() {
        let containers = users.into_iter().map(|container| container.name).collect();
        return Ok(Looked::blocked(Trouble::Retired { name, containers }));
    }
    engine.remove(&network.id).await?;
    tracing::info!(network = name, "Docker network removed that the settings do not name any more");
    Ok(Looked::changed())
}

impl Observer for Keeper {
    async fn look(&mut self, engine: &Engine, whole: bool) -> Result<Looked, EngineError> {
        let wishes = self.wishes.borrow_and_update().clone();
        let major = self.major(engine, whole).await?;
        match &wishes {
            Some(wishes) => self.keep(engine, wishes, major).await,
            None => Ok(Looked::default()),
        }
    }

    async fn ended(&mut self) {}
}

/// The 20 of `20.10.24+dfsg1`; 0 if there is none.
pub fn major(version: &str) -> u32 {
    version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default()
}
