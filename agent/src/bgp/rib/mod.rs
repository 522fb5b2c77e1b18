//! Routes that routers announce to this host, and the best one to each prefix.
//!
//! ```text
//! a neighbour's task ─► Learner ─► rib (pure) ─► Importer, which gathers ─► Imports ─► the engine
//! ```
//!
//! The engine puts them into the kernel with all its other routes, under a metric of their own; which of them this host can
//! use at all is decided there ([`crate::routes`]).

mod table;

use std::{
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sextant_proto::Prefix;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout_at},
};

use crate::routes::{Imports, ReceivedPath};

pub use table::{Rib, TooMany};

/// Once nothing has come for so long, what has come is passed on,
const QUIET: Duration = Duration::from_millis(20);
/// or after so long at most: the engine would else begin anew with each message of a router that has much to say.
const PATIENCE: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Shared {
    rib: Mutex<Rib>,
    news: Notify,
}

impl Shared {
    fn rib(&self) -> MutexGuard<'_, Rib> {
        // No panic leaves it half-changed in a way that matters more than going on.
        self.rib.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes in what one router says.
#[derive(Debug, Clone)]
pub struct Learner {
    shared: Arc<Shared>,
    router: usize,
    max: usize,
}

impl Learner {
    /// The session is established.
    pub fn up(&self) {
        self.change(|rib| rib.up(self.router));
    }

    /// The session is over.
    pub fn down(&self) {
        self.change(|rib| rib.down(self.router));
    }

    /// It announces prefixes.
    ///
    /// # Errors
    /// If these are more than it may.
    pub fn announce(&self, prefixes: &[Prefix], path: ReceivedPath) -> Result<(), TooMany> {
        self.change(|rib| rib.announce(self.router, prefixes, &Arc::new(path), self.max))
    }

    /// It withdraws prefixes.
    pub fn withdraw(&self, prefixes: &[Prefix]) {
        self.change(|rib| rib.withdraw(self.router, prefixes));
    }

    /// It has announced all that it has.
    pub fn end_of_rib(&self) {
        self.change(|rib| rib.end_of_rib(self.router, Instant::now()));
    }

    /// How many prefixes it announces.
    pub fn named(&self) -> usize {
        self.shared.rib().named(self.router)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Rib) -> T) -> T {
        let changed = change(&mut self.shared.rib());
        self.shared.news.notify_one();
        changed
    }
}

/// Passes on what was learnt.
#[derive(Debug)]
pub struct Importer {
    shared: Arc<Shared>,
    metric: u32,
    imports: watch::Sender<Arc<Imports>>,
}

impl Importer {
    /// For so many routers, each with the most prefixes that it may announce.
    pub fn new(metric: u32, max: &[usize], imports: watch::Sender<Arc<Imports>>) -> (Self, Vec<Learner>) {
        let shared = Arc::new(Shared { rib: Mutex::new(Rib::new(max.len())), news: Notify::new() });
        let learner = |(router, max): (usize, &usize)| Learner { shared: shared.clone(), router, max: *max };
        let learners = max.iter().enumerate().map(learner).collect();
        (Self { shared, metric, imports }, learners)
    }

    /// Passes on what is learnt, for ever.
    pub async fn run(self) -> Infallible {
        loop {
            let due = self.shared.rib().due();
            tokio::select! {
                () = self.shared.news.notified() => self.gather().await,
                () = until(due) => {}
            }
            let (routes, complete) = {
                let mut rib = self.shared.rib();
                rib.settle(Instant::now());
                (rib.best(), rib.is_complete())
            };
            let imports = Imports { routes, metric: self.metric, complete };
            self.imports.send_if_modified(|before| {
                let changed = **before != imports;
                *before = Arc::new(imports);
                changed
            });
        }
    }

    async fn gather(&self) {
        let end = Instant::now() + PATIENCE;
        while timeout_at(end.min(Instant::now() + QUIET), self.shared.news.notified()).await.is_ok()
            && Instant::now() < end
        {}
    }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}
