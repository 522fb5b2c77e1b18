//! What is to be done about one route. Pure.
//!
//! [`plan`](super::plan()) is the sum of these decisions over all keys, in the order of their [`Step`]s.

use tokio::time::Instant;

use super::{
    Actual, Desired, Known, Memory, Owner, Reason, Subjects, Wanted,
    covers::{Covers, covers, leads_on},
    imported,
    reason::{owner, reason},
};
use crate::kernel::{Change, OwnRoute, RouteKey, RouteProtocol, RouteTarget};

/// The input of decisions.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The state of the cluster and of this host.
    pub known: &'a Known<'a>,
    /// The routes that should exist in that state.
    pub desired: &'a Desired,
    /// The routes in the kernel.
    pub actual: &'a Actual,
    /// The memory of earlier passes.
    pub memory: &'a Memory,
    /// The time of the decision.
    pub now: Instant,
}

/// The decision on one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision<'a> {
    /// The purpose of the route. The state of a peer is the reason why it has a direct route or none.
    pub owner: Owner<'a>,
    /// The desired target; `None` if the route should not exist.
    pub target: Option<&'a RouteTarget>,
    /// The change that leads there, with its reason; `None` if the route is in sync.
    pub change: Option<(Planned, Reason<'a>)>,
}

/// A change, and the reason why it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The change.
    pub change: Change,
    /// The reason why it waits; `None` if it is made now.
    pub hold: Option<Hold>,
    /// Its place in the order of changes.
    pub step: Step,
}

/// The reason why a change waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// A route of another protocol has the same key, and stays (DESIGN I4).
    Blocked(RouteProtocol),
    /// An unreachable route would cover a route in another table, and it is not known yet whether it should.
    Premature,
    /// It is not confirmed yet that the route is no longer needed (DESIGN I6).
    Unconfirmed,
    /// The brake: too many peers are absent at once.
    Braked,
    /// The kernel has refused it; the next try is at this time.
    Failed(Instant),
    /// Flap damping, until this time.
    Damped(Instant),
    /// Too many unreachable routes are restored at once; this one is restored at this time.
    Limited(Instant),
    /// An operator has paused all agents.
    Paused,
}

/// The order of changes (DESIGN I7).
///
/// A destination may have several routes of different metrics, of which the kernel uses the lowest. So within a step, routes
/// are added from the lowest metric up, and deleted from the highest down. At any point of the order, a destination that is
/// forwarded before and after all changes is forwarded.
///
/// Rules may make the kernel search any table first. So an unreachable route is added to a table only after the routes that it
/// covers there and that another table forwards; where a table is left, its unreachable routes are deleted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Unreachable routes at unused keys that cover no other route.
    Refuse,
    /// Forwarding routes are added or replaced.
    Lead,
    /// Other unreachable routes.
    Cover,
    /// Unreachable routes are deleted.
    RemoveRefusal,
    /// Routes that lead on go.
    RemoveLead,
    /// Changes that cannot be made.
    Blocked,
}

/// Decides on the route of one key.
pub fn decide<'a>(facts: &Facts<'a>, subjects: &Subjects<'a>, key: &RouteKey) -> Decision<'a> {
    let with_reason = |planned: Planned| {
        let reason = reason(facts, subjects, &planned);
        (planned, reason)
    };
    Decision {
        owner: owner(facts.known, subjects, key),
        target: facts.desired.routes.get(key),
        change: change(facts, key).map(with_reason),
    }
}

/// The change to the route of one key, if it is not as it should be.
pub(super) fn change(facts: &Facts<'_>, key: &RouteKey) -> Option<Planned> {
    match (facts.desired.routes.get(key), facts.actual.ours.get(key)) {
        (Some(target), standing) if standing != Some(target) => {
            Some(put(facts, key, target, standing.is_some()))
        }
        (None, Some(standing)) => Some(remove(facts, key, standing)),
        _ => None,
    }
}

/// The route should be there, and is not, or otherwise.
pub(super) fn put(facts: &Facts<'_>, key: &RouteKey, target: &RouteTarget, stands: bool) -> Planned {
    let route = OwnRoute { key: *key, target: target.clone() };
    let change = if stands { Change::Replace(route) } else { Change::Add(route) };
    let occupant = facts.actual.foreign.get(key).and_then(|known| known.first());
    if let Some((protocol, _)) = occupant {
        return Planned { change, hold: Some(Hold::Blocked(*protocol)), step: Step::Blocked };
    }
    let (step, premature) = match target {
        target if leads_on(target) => (Step::Lead, false),
        _ if stands => (Step::Cover, false),
        _ => refuse(facts, key),
    };
    let hold = if premature { Some(Hold::Premature) } else { facts.delay(&change) };
    Planned { change, hold, step }
}

/// The step of a new unreachable route, and whether it is premature.
fn refuse(facts: &Facts<'_>, key: &RouteKey) -> (Step, bool) {
    let (desired, actual) = (facts.desired, facts.actual);
    let decides = || desired.routes.deciding(key).is_some_and(|(first, _)| first == key);
    match covers(key, desired, actual, |key| facts.may_go(key)) {
        Covers::WhatIsNot => (Step::Cover, true),
        Covers::Nothing if !actual.stands(key) && decides() => (Step::Refuse, false),
        _ => (Step::Cover, false),
    }
}

/// The route should not be there, and is.
pub(super) fn remove(facts: &Facts<'_>, key: &RouteKey, standing: &RouteTarget) -> Planned {
    let step = if leads_on(standing) { Step::RemoveLead } else { Step::RemoveRefusal };
    let change = Change::Delete(OwnRoute { key: *key, target: standing.clone() });
    let hold = if !facts.may_go(key) {
        Some(Hold::Unconfirmed)
    } else if facts.memory.brake.holds(key) {
        Some(Hold::Braked)
    } else {
        facts.delay(&change)
    };
    Planned { change, hold, step }
}

/// Whether a route that is not desired may go (DESIGN I6): this process has wanted it and does no longer, or all is known
/// and it is no router's.
pub(super) fn may_go(known: &Known<'_>, desired: &Desired, wanted: &Wanted, key: &RouteKey) -> bool {
    wanted.knows(key) || (known.view.is_complete() && imported::is_none(key, known, desired))
}

impl Facts<'_> {
    fn may_go(&self, key: &RouteKey) -> bool {
        may_go(self.known, self.desired, &self.memory.wanted, key)
    }

    /// What delays a change that may be made.
    fn delay(&self, change: &Change) -> Option<Hold> {
        let failed = self.memory.failures.of(change).map(|(_, due)| due).filter(|due| *due > self.now);
        let damped = || self.memory.damping.until(&change.route().key, self.now).map(Hold::Damped);
        let paused = || self.known.view.control().paused.then_some(Hold::Paused);
        failed.map(Hold::Failed).or_else(damped).or_else(paused)
    }
}

impl Hold {
    /// Whether the change would be made, but for its turn: it is tried again by itself.
    pub fn is_delay(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Damped(_) | Self::Limited(_) | Self::Paused)
    }
}
