//! What is known of the networks and containers of the host's Docker engine: which prefixes they use, and what is wrong with these.
//!
//! One task, [`ContainerWatch::run`], follows the engine ([`sextant_docker::watch`]) and the claims. It changes nothing.
//! [`prefixes`] decides which networks are the host prefix's, and which are reported.

mod answer;
pub(crate) mod checks;
mod looks;
mod prefixes;

use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};

use sextant_docker::{
    firewall::notices::Notices,
    live::Live,
    rules::Followed,
    trouble::Trouble,
    watch::{Following, Fresh, Watch, Watched},
};
use sextant_proto::Prefix;
use tokio::{sync::watch, time::Instant};

use crate::{
    cluster::Input,
    deadline, docker,
    problems::{Component, Finding, Problems},
    settings::{DockerSettings, Settings},
};

pub use answer::Filter;
pub(crate) use answer::answer;
pub use looks::ContainerLooks;
pub(crate) use looks::place;
pub(crate) use prefixes::{bridge_of, of_networks};

/// How rarely the announcement follows networks: each change of it is one of the store.
const ANNOUNCED_EVERY: Duration = Duration::from_secs(2);

/// The container prefixes besides that of the bridge, sorted.
pub type OtherPrefixes = Arc<[Prefix]>;
/// The names of the bridges of the engine's networks.
pub type Bridges = Arc<BTreeSet<String>>;

/// Watches the engine of this host.
#[derive(Debug)]
pub struct ContainerWatch {
    settings: DockerSettings,
    bridge: String,
    input: watch::Receiver<Input>,
    problems: Problems,
    live: watch::Sender<Option<Arc<Live>>>,
    others: watch::Sender<OtherPrefixes>,
    bridges: watch::Sender<Bridges>,
    away: watch::Sender<bool>,
    /// When the announcement may follow the networks again.
    not_before: Option<Instant>,
    /// Until it runs.
    watching: Option<(Watch, watch::Receiver<Watched>)>,
    following: watch::Receiver<Following>,
    fresh: Fresh,
}

/// Answers what the engine has at this moment.
#[derive(Debug, Clone)]
pub struct Asked {
    known: Known,
    fresh: Fresh,
}

impl Asked {
    /// What it has now, or else what was known last.
    pub(crate) async fn now(&self) -> Option<Arc<Live>> {
        match self.fresh.look().await {
            Some(live) => Some(live),
            None => self.known.borrow().clone(),
        }
    }
}

/// What the watch knows, for others. `None`: the engine is not watched, or has not answered yet.
pub type Known = watch::Receiver<Option<Arc<Live>>>;

impl ContainerWatch {
    /// By the agent's settings; none if Docker is left alone.
    pub fn by(settings: &Settings, input: watch::Receiver<Input>, problems: Problems) -> Option<Self> {
        let (bridge, docker) = (settings.bridge.name.clone(), settings.docker.clone()?);
        let (live, others, bridges) =
            (watch::Sender::default(), watch::Sender::default(), watch::Sender::default());
        let away = watch::Sender::new(true);
        let (seen_tx, seen) = watch::channel(Watched::default());
        let (watch, fresh) = Watch::new(docker.socket.clone(), seen_tx);
        Some(Self {
            settings: docker,
            bridge,
            input,
            problems,
            live,
            others,
            bridges,
            away,
            not_before: None,
            following: watch.following(),
            watching: Some((watch, seen)),
            fresh,
        })
    }

    /// What it knows.
    pub fn known(&self) -> Known {
        self.live.subscribe()
    }

    /// The connection to the engine, and its events.
    pub fn following(&self) -> watch::Receiver<Following> {
        self.following.clone()
    }

    /// For those who act on the engine.
    pub fn followed(&self, notices: Notices) -> Followed {
        Followed { socket: self.settings.socket.clone(), engine: self.following.clone(), notices }
    }

    /// For questions: what the engine has at this moment.
    pub fn asked(&self) -> Asked {
        Asked { known: self.known(), fresh: self.fresh.clone() }
    }

    /// The container prefixes of the networks.
    pub fn others(&self) -> watch::Receiver<OtherPrefixes> {
        self.others.subscribe()
    }

    /// The bridges of the networks.
    pub fn bridges(&self) -> watch::Receiver<Bridges> {
        self.bridges.subscribe()
    }

    /// Whether the engine does not answer: it may be stopped, or starting.
    pub fn away(&self) -> watch::Receiver<bool> {
        self.away.subscribe()
    }

    /// Watches. Ends with the session, whose claims it follows.
    ///
    /// # Errors
    /// If the session has ended.
    pub async fn run(mut self) -> Result<(), watch::error::RecvError> {
        let Some((watch, mut seen)) = self.watching.take() else { return Ok(()) };
        let mut watching = pin!(watch.run());
        loop {
            let watched = seen.borrow_and_update().clone();
            let due = self.take(&watched);
            tokio::select! {
                changed = self.input.changed() => changed?,
                changed = seen.changed() => changed?,
                () = &mut watching => return Ok(()),
                () = deadline::reached(due) => {}
            }
        }
    }

    /// Returns when the announcement is due that has to wait.
    fn take(&mut self, watched: &Watched) -> Option<Instant> {
        let mut due = None;
        let input = self.input.borrow_and_update().clone();
        let mut findings = self.trouble(watched);
        self.away.send_replace(match &watched.trouble {
            Some(trouble) => matches!(trouble, Trouble::Away { .. }),
            None => watched.live.version.is_empty(),
        });
        if !watched.live.version.is_empty() {
            let (bridge, mode, kept) = (&self.bridge, self.settings.mode, &self.settings.kept());
            let place = prefixes::Place { input: &input, bridge, mode, kept };
            findings.extend(prefixes::findings(&watched.live, &place));
            due = self.announce(prefixes::others(&watched.live, &place), Instant::now());
            self.tell_bridges(&watched.live);
            self.live.send_if_modified(|before| {
                let same = before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &watched.live));
                *before = Some(watched.live.clone());
                !same
            });
        }
        self.problems.report(Component::Containers, findings);
        due
    }

    fn tell_bridges(&self, live: &Live) {
        let now: BTreeSet<_> = live.networks.iter().map(bridge_of).collect();
        self.bridges.send_if_modified(|before| {
            let changed = **before != now;
            if changed {
                *before = Arc::new(now);
            }
            changed
        });
    }

    /// Why the engine cannot be asked; where the agent keeps a network or rules, their keeper reports it.
    fn trouble(&self, watched: &Watched) -> Vec<Finding> {
        let reported = !self.settings.mode.keeps_rules();
        let trouble = watched.trouble.iter().filter(|_| reported);
        trouble.map(|it| Finding { unready: false, ..docker::finding(it) }).collect()
    }

    /// Announces these prefixes, or returns when that is due.
    fn announce(&mut self, prefixes: Vec<Prefix>, now: Instant) -> Option<Instant> {
        if self.others.borrow()[..] == prefixes[..] {
            return None;
        }
        if let Some(until) = self.not_before.filter(|until| *until > now) {
            return Some(until);
        }
        self.not_before = Some(now + ANNOUNCED_EVERY);
        self.others.send_replace(prefixes.into());
        None
    }
}
