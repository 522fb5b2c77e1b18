//! The other tasks' channels that decide which routes this host should have.

use std::{collections::BTreeSet, sync::Arc};

use sextant_proto::{NodeName, Prefix};
use tokio::sync::watch;

use crate::{
    cluster::{Input, Verdict, Verdicts},
    containers::{Bridges, OtherPrefixes},
    routes::Imports,
};

/// The session has ended: there is nothing more to learn, and nothing to change.
#[derive(Debug)]
pub(super) struct SessionEnded;

/// The channels.
pub(super) struct Inputs {
    input: watch::Receiver<Input>,
    verdicts: watch::Receiver<Arc<Verdicts>>,
    imports: watch::Receiver<Arc<Imports>>,
    networks: watch::Receiver<OtherPrefixes>,
    bridges: watch::Receiver<Bridges>,
    left: watch::Receiver<BTreeSet<Prefix>>,
    /// Its changes are no news.
    engine_away: watch::Receiver<bool>,
}

/// The latest value of each channel.
#[derive(Debug, Clone)]
pub(super) struct Latest {
    pub(super) input: Input,
    pub(super) verdicts: Arc<Verdicts>,
    pub(super) imports: Arc<Imports>,
    /// Container prefixes besides those of the bridge.
    pub(super) networks: OtherPrefixes,
    /// The bridges of the engine's networks.
    pub(super) bridges: Bridges,
    /// Prefixes of former networks, of which the engine may have left routes.
    pub(super) left: BTreeSet<Prefix>,
    /// The container engine does not answer.
    pub(super) engine_away: bool,
}

impl Inputs {
    /// Without routes that routers announce.
    pub(super) fn new(input: watch::Receiver<Input>, verdicts: watch::Receiver<Arc<Verdicts>>) -> Self {
        let (imports, networks) =
            (watch::Sender::default().subscribe(), watch::Sender::default().subscribe());
        let (bridges, left) = (watch::Sender::default().subscribe(), watch::Sender::default().subscribe());
        let engine_away = watch::Sender::default().subscribe();
        Self { input, verdicts, imports, networks, bridges, left, engine_away }
    }

    /// Receives the routes that routers announce from here.
    pub(super) fn import_from(&mut self, imports: watch::Receiver<Arc<Imports>>) {
        self.imports = imports;
    }

    /// Receives the container prefixes of an engine's networks from here.
    pub(super) fn announce_too(&mut self, networks: watch::Receiver<OtherPrefixes>) {
        self.networks = networks;
    }

    /// Receives the bridges of an engine's networks from here, and whether it is away.
    pub(super) fn engine_from(&mut self, bridges: watch::Receiver<Bridges>, away: watch::Receiver<bool>) {
        (self.bridges, self.engine_away) = (bridges, away);
    }

    /// Receives the prefixes of former networks from here.
    pub(super) fn left_from(&mut self, left: watch::Receiver<BTreeSet<Prefix>>) {
        self.left = left;
    }

    /// Waits until a value has changed since [`Self::take`]. Cancel safe. Only the session's end is an end: there may be no
    /// sender of verdicts, imports or networks.
    pub(super) async fn changed(&mut self) -> Result<(), SessionEnded> {
        tokio::select! {
            changed = self.input.changed() => changed.map_err(|_| SessionEnded),
            Ok(()) = self.verdicts.changed() => Ok(()),
            Ok(()) = self.imports.changed() => Ok(()),
            Ok(()) = self.networks.changed() => Ok(()),
            Ok(()) = self.bridges.changed() => Ok(()),
            Ok(()) = self.left.changed() => Ok(()),
        }
    }

    /// The latest values, which count as received.
    pub(super) fn take(&mut self) -> Latest {
        Latest {
            input: self.input.borrow_and_update().clone(),
            verdicts: self.verdicts.borrow_and_update().clone(),
            imports: self.imports.borrow_and_update().clone(),
            networks: self.networks.borrow_and_update().clone(),
            bridges: self.bridges.borrow_and_update().clone(),
            left: self.left.borrow_and_update().clone(),
            engine_away: *self.engine_away.borrow_and_update(),
        }
    }

    /// The latest values, for a look.
    pub(super) fn peek(&self) -> Latest {
        Latest {
            input: self.input.borrow().clone(),
            verdicts: self.verdicts.borrow().clone(),
            imports: self.imports.borrow().clone(),
            networks: self.networks.borrow().clone(),
            bridges: self.bridges.borrow().clone(),
            left: self.left.borrow().clone(),
            engine_away: *self.engine_away.borrow(),
        }
    }
}

impl Latest {
    /// Whether an operator has paused all changes.
    pub(super) fn is_paused(&self) -> bool {
        self.input.view.control().paused
    }

    /// The verdicts that still count: those on nodes without a session.
    pub(super) fn verdicts_on_lost_agents(&self) -> Vec<sextant_proto::Verdict> {
        self.verdicts.iter().filter_map(|(node, _)| self.verdict_on(node)).collect()
    }

    fn verdict_on(&self, node: &NodeName) -> Option<sextant_proto::Verdict> {
        let verdict = self.verdicts.on(self.input.view.peer(node)?)?;
        Some(sextant_proto::Verdict { node: node.clone(), forwarding: verdict == Verdict::Forwarding })
    }
}
