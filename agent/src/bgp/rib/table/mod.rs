//! What routers have said, and which of it counts. Pure.
//!
//! A path whose router is gone stays only where no router that is there has another one for the prefix (DESIGN I5): it
//! goes when such a one comes, when its router is back and withdraws it, or does not name it any more ([`SETTLE`]).

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use sextant_proto::Prefix;
use tokio::time::Instant;

use crate::routes::ReceivedPath;

/// So long after its End-of-RIB a router that is back has to name what it named before: it may first have to hear of that
/// itself.
pub const SETTLE: Duration = Duration::from_secs(120);

/// More prefixes than a router may announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    router: usize,
    path: Arc<ReceivedPath>,
    /// Its router is gone, or has not named it since it is back.
    stale: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Router {
    live: bool,
    /// How many prefixes it names.
    named: usize,
    /// When what it does not name is gone.
    settled_at: Option<Instant>,
    /// It has named all that it has, once.
    complete: bool,
}

/// All paths of all routers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rib {
    prefixes: BTreeMap<Prefix, Vec<Known>>,
    routers: Vec<Router>,
}

impl Rib {
    /// Of so many routers, of which none has said anything.
    pub fn new(routers: usize) -> Self {
        Self { prefixes: BTreeMap::new(), routers: vec![Router::default(); routers] }
    }

    /// How many prefixes a router names.
    pub fn named(&self, router: usize) -> usize {
        self.routers[router].named
    }

    /// The session with a router is established.
    pub fn up(&mut self, router: usize) {
        self.down(router);
        self.routers[router].live = true;
    }

    /// The session with a router is over.
    pub fn down(&mut self, router: usize) {
        if !self.routers[router].live {
            return;
        }
        self.routers[router] = Router { complete: self.routers[router].complete, ..Router::default() };
        self.prefixes.retain(|_, known| {
            let others = known.iter().any(|it| it.router != router && !it.stale);
            known.retain_mut(|it| {
                it.stale |= it.router == router;
                it.router != router || !others
            });
            !known.is_empty()
        });
    }

    /// A router announces prefixes.
    ///
    /// # Errors
    /// If these are more than `max` with those that it announces already; the rest of them is not taken in.
    pub fn announce(
        &mut self,
        router: usize,
        prefixes: &[Prefix],
        path: &Arc<ReceivedPath>,
        max: usize,
    ) -> Result<(), TooMany> {
        for prefix in prefixes {
            let known = self.prefixes.entry(*prefix).or_default();
            let renewed = known.iter().any(|it| it.router == router && !it.stale);
            if !renewed && self.routers[router].named >= max {
                if known.is_empty() {
                    self.prefixes.remove(prefix);
                }
                return Err(TooMany);
            }
            self.routers[router].named += usize::from(!renewed);
            known.retain(|it| it.router != router && !it.stale);
            known.push(Known { router, path: path.clone(), stale: false });
        }
        Ok(())
    }

    /// A router takes back what it has announced: what it says in a live session counts, also of what was its last path.
    pub fn withdraw(&mut self, router: usize, prefixes: &[Prefix]) {
        for prefix in prefixes {
            if let Entry::Occupied(mut entry) = self.prefixes.entry(*prefix) {
                let named = |it: &Known| it.router == router && !it.stale;
                self.routers[router].named -= entry.get().iter().filter(|it| named(it)).count();
                entry.get_mut().retain(|it| it.router != router);
                if entry.get().is_empty() {
                    entry.remove();
                }
            }
        }
    }

    /// A router has named all that it has.
    pub fn end_of_rib(&mut self, router: usize, now: Instant) {
        let it = &mut self.routers[router];
        if it.live && it.settled_at.is_none() {
            it.settled_at = Some(now + SETTLE);
        }
    }

    /// When [`Rib::settle`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        self.routers.iter().filter_map(|router| router.settled_at).min()
    }

    /// Drops what routers that are back for long enough do not name any more.
    pub fn settle(&mut self, now: Instant) {
        for (nth, router) in self.routers.iter_mut().enumerate() {
            if router.settled_at.is_none_or(|settled_at| settled_at > now) {
                continue;
            }
            (router.settled_at, router.complete) = (None, true);
            self.prefixes.retain(|_, known| {
                known.retain(|it| it.router != nth || !it.stale);
                !known.is_empty()
            });
        }
    }

    /// Whether all routers have named all that they have: what is in the kernel and not here is left over.
    pub fn is_complete(&self) -> bool {
        self.routers.iter().all(|router| router.complete)
    }

    /// The best path to each prefix.
    pub fn best(&self) -> BTreeMap<Prefix, Arc<ReceivedPath>> {
        let best = |known: &Vec<Known>| {
            let best = known.iter().min_by_key(|it| (it.path.rank(), it.router));
            best.map(|it| it.path.clone())
        };
        self.prefixes.iter().filter_map(|(prefix, known)| Some((*prefix, best(known)?))).collect()
    }
}

#[cfg(test)]
mod tests;
