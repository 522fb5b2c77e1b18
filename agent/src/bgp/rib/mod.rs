//! Routes that routers announce to this host, and the best path to each prefix.
//!
//! ```text
//! a neighbour's task ─► AdjRibIn ─► inbox (bounded) ─► RibTask, which owns the table ─► Imports ─► the engine
//! ```
//!
//! [`RibTask`] waits for its inbox and for the table's next deadline, never for a neighbour or the engine: the answer to an
//! UPDATE may find no receiver, and the engine reads the latest [`Imports`]. A neighbour's task waits for room in the inbox and for
//! the answer to each UPDATE, and reads nothing from its router meanwhile. So a neighbour has one change in the inbox at a time,
//! and waits for the work on one change of each other neighbour at most; its keepalives are late by no more than that. When a
//! neighbour's task ends, its routes stay as those of a router that is gone. When the RIB's task ends, the speaker ends, and
//! with it the agent.
//!
//! The engine puts the routes into the kernel with all its other routes, under a metric of their own; which of them this host
//! can use is decided there ([`crate::routes`]).

mod table;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::wire::routes::RouteUpdate;
use crate::{deadline, routes::Imports};

pub use table::TooMany;

use table::Rib;

/// Changes are published once no further one has come for this long,
const QUIET: Duration = Duration::from_millis(20);
/// or after this long at most: the engine would otherwise start anew with each message of a router that sends many.
const PATIENCE: Duration = Duration::from_millis(500);
/// How many messages of all routers may wait. A neighbour that finds no room waits.
const INBOX: usize = 64;

/// What a router announces after an UPDATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// How many prefixes it announces.
    pub prefixes: usize,
    /// Whether that is as many as it may at most.
    pub limit: Result<(), TooMany>,
}

#[derive(Debug)]
enum Change {
    Up,
    Down,
    Update { update: RouteUpdate, max: usize, answer: oneshot::Sender<Accepted> },
}

/// One router's part of the RIB (Adj-RIB-In, RFC 4271 §3.2).
#[derive(Debug, Clone)]
pub struct AdjRibIn {
    inbox: mpsc::Sender<(usize, Change)>,
    router: usize,
    max: usize,
}

impl AdjRibIn {
    /// The session is established. Cancel safe.
    pub async fn up(&self) {
        self.send(Change::Up).await;
    }

    /// The session has ended. Cancel safe.
    pub async fn down(&self) {
        self.send(Change::Down).await;
    }

    /// The router has sent an UPDATE. `None` if the RIB's task has ended. Not cancel safe: the update may or may not count.
    pub async fn update(&self, update: RouteUpdate) -> Option<Accepted> {
        let (answer, accepted) = oneshot::channel();
        self.send(Change::Update { update, max: self.max, answer }).await;
        accepted.await.ok()
    }

    async fn send(&self, change: Change) {
        // It fails only where the RIB's task has ended, which ends the speaker.
        let _ended = self.inbox.send((self.router, change)).await;
    }
}

/// Owns the routes of all routers, and publishes the best ones.
#[derive(Debug)]
pub struct RibTask {
    inbox: mpsc::Receiver<(usize, Change)>,
    table: Rib,
    metric: u32,
    imports: watch::Sender<Arc<Imports>>,
}

/// Since when changes are not published, and when the latest of them came.
#[derive(Debug, Clone, Copy)]
struct Unpublished {
    first: Instant,
    latest: Instant,
}

impl RibTask {
    /// For one router for each limit of prefixes. `metric` is that of the routes in the kernel.
    pub fn new(metric: u32, limits: &[usize], imports: watch::Sender<Arc<Imports>>) -> (Self, Vec<AdjRibIn>) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let router = |(router, &max): (usize, &usize)| AdjRibIn { inbox: sender.clone(), router, max };
        let routers = limits.iter().enumerate().map(router).collect();
        (Self { inbox, table: Rib::new(limits.len()), metric, imports }, routers)
    }

    /// Takes changes in and publishes the result, for ever.
    pub async fn run(mut self) -> Infallible {
        let mut unpublished: Option<Unpublished> = None;
        loop {
            let due = unpublished.map(Unpublished::due).into_iter().chain(self.table.due()).min();
            tokio::select! {
                Some((router, change)) = self.inbox.recv() => {
                    self.take_in(router, change);
                    let latest = Instant::now();
                    let first = unpublished.map_or(latest, |it| it.first);
                    unpublished = Some(Unpublished { first, latest });
                }
                () = deadline::reached(due) => {
                    unpublished = None;
                    self.publish();
                }
            }
        }
    }

    fn take_in(&mut self, router: usize, change: Change) {
        match change {
            Change::Up => self.table.up(router),
            Change::Down => self.table.down(router),
            Change::Update { update, max, answer } => {
                let accepted = self.update(router, update, max);
                // The neighbour's task may have ended meanwhile.
                let _gone = answer.send(accepted);
            }
        }
    }

    fn update(&mut self, router: usize, update: RouteUpdate, max: usize) -> Accepted {
        self.table.withdraw(router, &update.withdrawn);
        let limit = update
            .announced
            .map_or(Ok(()), |(prefixes, path)| self.table.announce(router, &prefixes, &Arc::new(path), max));
        if update.end_of_rib {
            self.table.end_of_rib(router, Instant::now());
        }
        Accepted { prefixes: self.table.named(router), limit }
    }

    fn publish(&mut self) {
        self.table.settle(Instant::now());
        let (routes, complete) = (self.table.best(), self.table.is_complete());
        let imports = Imports { routes, metric: self.metric, complete };
        self.imports.send_if_modified(|before| {
            let changed = **before != imports;
            *before = Arc::new(imports);
            changed
        });
    }
}

impl Unpublished {
    fn due(self) -> Instant {
        (self.latest + QUIET).min(self.first + PATIENCE)
    }
}
