//! Flap damping: routes that another process repeatedly deletes or changes.
//!
//! A route is put back at once some times (DESIGN I9), then less and less often, and an operator is warned once. An
//! unreachable that is deleted, or changed while it stays ours, is never damped: without it packets leak to the default
//! route (DESIGN I11). Only a limit on all such writes together holds it back. Pure.

mod token_bucket;

use std::{collections::BTreeMap, time::Duration};

use sextant_proto::FailedRoute;
use tokio::time::Instant;

use self::token_bucket::TokenBucket;
use super::{Hold, Planned};
use crate::kernel::{RouteKey, RouteProtocol, RouteTarget};

/// A route that has been left alone for this long is no longer damped.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// From so many changes on, a route is reported.
const REPORTED: u32 = 10;
/// So many repeatedly deleted unreachables are written at once, and so many a second afterwards.
const UNREACHABLES_PER_SECOND: u32 = 200;

/// How a change by another process is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A route of another protocol was put in the place of ours (DESIGN I4).
    Occupied,
    /// A route that forwards was deleted, or changed while it stays ours.
    Forwarding,
    /// An unreachable was deleted, or changed while it stays ours.
    Unreachable,
}

/// How long a route stays away after it was changed `times` times.
fn hold(kind: Kind, times: u32) -> Duration {
    let (free, first, most) = match kind {
        Kind::Occupied => (10, Duration::from_secs(1), Duration::from_secs(30)),
        Kind::Forwarding => (30, Duration::from_millis(250), Duration::from_secs(5)),
        Kind::Unreachable => return Duration::ZERO,
    };
    let Some(doublings) = times.checked_sub(free + 1) else {
        return Duration::ZERO;
    };
    (first * 2u32.saturating_pow(doublings.min(16))).min(most)
}

#[derive(Debug, Clone)]
struct Flap {
    /// Changes in all, for reports.
    undone: u32,
    /// Changes of each kind that count for the hold.
    occupied: u32,
    deleted: u32,
    last: Instant,
    until: Instant,
    damped: bool,
    /// The protocol of the route that was put into the place of ours, if one was.
    by: Option<RouteProtocol>,
}

/// The changes by other processes that count, by route.
#[derive(Debug, Clone)]
pub struct Damping {
    by_key: BTreeMap<RouteKey, Flap>,
    warned: bool,
    unreachables: TokenBucket,
}

/// Something to warn an operator of.
#[derive(Debug, PartialEq, Eq)]
pub struct FlapWarning {
    /// The route.
    pub key: RouteKey,
    /// The process that changes it, by the protocol of its route.
    pub by: String,
    /// How often it has been changed.
    pub times: u32,
}

impl Damping {
    /// Nothing was changed yet.
    pub fn new(now: Instant) -> Self {
        let unreachables = TokenBucket::new(UNREACHABLES_PER_SECOND, UNREACHABLES_PER_SECOND, now);
        Self { by_key: BTreeMap::new(), warned: false, unreachables }
    }

    /// Another process has changed or deleted the route at `key`, by a route of the protocol `by` if it was replaced. Ours
    /// is `unreachable`, or it forwards. The first time that this is too often, it is news.
    pub fn undone(
        &mut self,
        key: RouteKey,
        unreachable: bool,
        by: Option<RouteProtocol>,
        now: Instant,
    ) -> Option<FlapWarning> {
        self.forget(now);
        let flap = self.by_key.entry(key).or_insert_with(|| Flap::new(now));
        flap.note(kind(unreachable, by), by, now);
        if flap.undone <= REPORTED || std::mem::replace(&mut self.warned, true) {
            return None;
        }
        Some(FlapWarning { key, by: name(flap.by), times: flap.undone })
    }

    /// The uplinks have changed: the kernel deleted routes with them, no other process did.
    pub fn forget_all(&mut self) {
        self.by_key.clear();
        self.warned = false;
    }

    /// Holds back unreachable routes that are put back, where there are too many of them. What is damped is held already.
    pub fn limit(&mut self, changes: &mut [Planned], now: Instant) {
        if self.by_key.is_empty() {
            return;
        }
        for planned in changes.iter_mut().filter(|planned| planned.hold.is_none()) {
            let route = planned.change.route();
            let counts = route.target == RouteTarget::Unreachable && self.by_key.contains_key(&route.key);
            if counts && !self.unreachables.take(now) {
                planned.hold = self.unreachables.next().map(Hold::Limited);
            }
        }
    }

    /// So many unreachable routes have been put back.
    #[cfg(test)]
    pub(crate) fn spend(&mut self, times: u32, now: Instant) {
        (0..times).for_each(|_| {
            self.unreachables.take(now);
        });
    }

    /// Until when a route is not put back, if it is not at once.
    pub fn until(&self, key: &RouteKey, now: Instant) -> Option<Instant> {
        self.by_key.get(key).map(|flap| flap.until).filter(|until| *until > now)
    }

    /// When a route is put back, or its damping is over.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let next = |flap: &Flap| match flap.until {
            until if until > now => until,
            _ => flap.last + FORGOTTEN,
        };
        self.by_key.values().map(next).chain(self.unreachables.next()).min()
    }

    /// Those routes that are changed again and again.
    pub fn routes(&mut self, now: Instant) -> Vec<FailedRoute> {
        self.forget(now);
        let lasting = self.by_key.iter().filter(|(_, flap)| flap.undone > REPORTED);
        let reported = |(key, flap): (&RouteKey, &Flap)| {
            let answer = if flap.damped { "backing off" } else { "restored each time" };
            let by = name(flap.by);
            FailedRoute {
                destination: key.destination,
                error: format!("route repeatedly changed by {by}; {answer}"),
            }
        };
        lasting.map(reported).collect()
    }

    fn forget(&mut self, now: Instant) {
        self.by_key.retain(|_, flap| flap.last + FORGOTTEN > now);
        self.warned &= !self.by_key.is_empty();
    }
}

impl Flap {
    fn new(now: Instant) -> Self {
        Self { undone: 0, occupied: 0, deleted: 0, last: now, until: now, damped: false, by: None }
    }

    fn note(&mut self, kind: Kind, by: Option<RouteProtocol>, now: Instant) {
        self.by = by.or(self.by);
        self.last = now;
        self.undone += 1;
        // What is changed while it is held counts once.
        if self.until > now {
            return;
        }
        let times = if kind == Kind::Occupied { &mut self.occupied } else { &mut self.deleted };
        *times += 1;
        self.until = now + hold(kind, *times);
        self.damped |= self.until > now;
    }
}

fn kind(unreachable: bool, by: Option<RouteProtocol>) -> Kind {
    match by {
        Some(protocol) if protocol != RouteProtocol::OURS => Kind::Occupied,
        _ if unreachable => Kind::Unreachable,
        _ => Kind::Forwarding,
    }
}

fn name(by: Option<RouteProtocol>) -> String {
    match by {
        Some(protocol) => format!("another process (proto {protocol})"),
        None => "another process that deletes it".to_owned(),
    }
}

#[cfg(test)]
mod tests;
