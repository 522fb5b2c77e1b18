//! Routes that another process repeatedly deletes or changes.
//!
//! A route is put back by the rule of [`crate::damping`], and an operator is warned once. An
//! unreachable that is deleted, or changed while it stays ours, is never damped: without it packets leak to the default
//! route (DESIGN I11). Only a limit on all such writes together holds it back. Pure.

mod token_bucket;

use std::collections::BTreeMap;

use sextant_proto::FailedRoute;
use tokio::time::Instant;

use self::token_bucket::TokenBucket;
use super::{Hold, Planned};
use crate::{
    damping::{Change, Flap, REPORTED},
    kernel::{RouteKey, RouteProtocol, RouteTarget},
};

/// So many repeatedly deleted unreachables are written at once, and so many a second afterwards.
const UNREACHABLES_PER_SECOND: u32 = 200;

/// The changes of one route.
#[derive(Debug, Clone)]
struct RouteFlap {
    flap: Flap,
    /// The protocol of the route that was put into the place of ours, if one was.
    by: Option<RouteProtocol>,
}

/// The changes by other processes that count, by route.
#[derive(Debug, Clone)]
pub struct Damping {
    by_key: BTreeMap<RouteKey, RouteFlap>,
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
        let new = || RouteFlap { flap: Flap::new(now), by: None };
        let route = self.by_key.entry(key).or_insert_with(new);
        route.flap.note(change(unreachable, by), now);
        route.by = by.or(route.by);
        let times = route.flap.times();
        if times <= REPORTED || std::mem::replace(&mut self.warned, true) {
            return None;
        }
        Some(FlapWarning { key, by: name(route.by), times })
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
        self.by_key.get(key)?.flap.until(now)
    }

    /// When a route is put back, or its damping is over.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        self.by_key.values().map(|route| route.flap.next_due(now)).chain(self.unreachables.next()).min()
    }

    /// Those routes that are changed again and again.
    pub fn routes(&mut self, now: Instant) -> Vec<FailedRoute> {
        self.forget(now);
        let lasting = self.by_key.iter().filter(|(_, route)| route.flap.times() > REPORTED);
        let reported = |(key, route): (&RouteKey, &RouteFlap)| {
            let answer = if route.flap.is_damped() { "backing off" } else { "restored each time" };
            let by = name(route.by);
            FailedRoute {
                destination: key.destination,
                error: format!("route repeatedly changed by {by}; {answer}; find and stop that process"),
            }
        };
        lasting.map(reported).collect()
    }

    fn forget(&mut self, now: Instant) {
        self.by_key.retain(|_, route| !route.flap.is_over(now));
        self.warned &= !self.by_key.is_empty();
    }
}

fn change(unreachable: bool, by: Option<RouteProtocol>) -> Change {
    match by {
        Some(protocol) if protocol != RouteProtocol::OURS => Change::Occupied,
        _ if unreachable => Change::Protecting,
        _ => Change::Forwarding,
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
