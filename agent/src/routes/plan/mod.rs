//! From what is to what should be.

use super::{
    Actual, Desired, Entry,
    covers::{Covers, covers, leads_on},
};
use crate::kernel::{Change, OwnRoute, RouteKey, RouteProtocol, RouteTarget};

/// What to tell the kernel, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Unreachables where nothing stands first, then what is added or replaced, then what goes (DESIGN I7).
    pub changes: Vec<Change>,
    /// Routes that cannot be: another's route has their place, and stays (DESIGN I4).
    pub blocked: Vec<(RouteKey, RouteProtocol)>,
    /// Unreachables that wait: they would cover what another table leads on, and nobody has told yet whether it should be.
    pub premature: Vec<RouteKey>,
}

/// What leads from `actual` to `desired`. A route of ours that is not desired goes only if `may_delete` (DESIGN I6).
///
/// A destination may have several routes of different metrics, of which the kernel uses the lowest. So what is made is made
/// from the lowest metric up, and what goes goes from the highest down: whatever of the order has been done, packets to a
/// destination that was led on before and is after are led on.
///
/// Rules may have the kernel look into any table first. So an unreachable comes into a table only after the routes to what
/// it covers there and another table leads on, and where a table is left, its unreachables go first.
pub fn plan(desired: &Desired, actual: &Actual, may_delete: impl Fn(&RouteKey) -> bool) -> Plan {
    let mut plan = Plan::default();
    let (mut leading, mut covering) = (Vec::new(), Vec::new());
    for ((key, target), standing) in desired.routes.unlike(&actual.ours) {
        if let Some(protocol) = actual.foreign.get(key).and_then(|protocols| protocols.first()) {
            plan.blocked.push((*key, *protocol));
            continue;
        }
        let route = own((key, target));
        let change = if standing.is_some() { Change::Replace(route) } else { Change::Add(route) };
        if leads_on(target) {
            leading.push(change);
            continue;
        }
        let refuses_anew = !actual.stands(key) && decides(desired, key);
        match covers(key, desired, actual, &may_delete) {
            _ if standing.is_some() => covering.push(change),
            Covers::WhatIsNot => plan.premature.push(*key),
            Covers::Nothing if refuses_anew => plan.changes.push(change),
            _ => covering.push(change),
        }
    }
    plan.changes.append(&mut leading);
    plan.changes.append(&mut covering);
    plan.changes.extend(going(desired, actual, may_delete));
    plan
}

/// What goes, in its order.
fn going<'a>(
    desired: &'a Desired,
    actual: &'a Actual,
    may_delete: impl Fn(&RouteKey) -> bool,
) -> impl Iterator<Item = Change> {
    let gone = actual.ours.without(&desired.routes).filter(|(key, _)| may_delete(key));
    let (led, refused): (Vec<&Entry>, Vec<&Entry>) = gone.partition(|(_, target)| leads_on(target));
    let all = refused.into_iter().rev().chain(led.into_iter().rev());
    all.map(|(key, target)| Change::Delete(own((key, target))))
}

fn own((key, target): (&RouteKey, &RouteTarget)) -> OwnRoute {
    OwnRoute { key: *key, target: target.clone() }
}

/// Whether no other route is to stand before it.
fn decides(desired: &Desired, key: &RouteKey) -> bool {
    desired.routes.deciding(key).is_some_and(|(first, _)| first == key)
}

#[cfg(test)]
mod tests;
