//! The brake: too many peers that are gone within a window wait for an operator (DESIGN I6). Pure.

mod kept;

use std::collections::{BTreeMap, BTreeSet};

use sextant_proto::{
    Incarnation, NodeState, Prefix, Revision,
    brake::{WINDOW, limit},
};
use tokio::time::Instant;

use super::{Actual, Desired, Known, Wanted, decide::may_go};
use crate::{cluster::View, kernel::RouteKey, settings::RouteSettings};

/// A peer whose route was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Departure {
    at: Instant,
    /// Not of a decision that an operator confirmed.
    counted: bool,
}

/// Whether routes to peers that are gone may go.
///
/// It counts the peers that went within [`WINDOW`] and are absent still. A drained peer does not count, nor one that was
/// forgotten by a command that an operator confirmed: the controllers count those ([`confirmed_removals`]), and the agent
/// takes as many off.
///
/// [`confirmed_removals`]: sextant_proto::Control::confirmed_removals
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Brake {
    /// The store that the revisions and counters below are of.
    incarnation: Option<Incarnation>,
    /// The last resume that it has taken in.
    resumed: Revision,
    /// How many confirmed removals it has taken in.
    confirmed: u64,
    held: BTreeSet<Prefix>,
    departed: BTreeMap<Prefix, Departure>,
}

impl Brake {
    /// Judges the routes to peers that would be deleted, and holds them if they are too many within the window. A later resume
    /// releases held routes and empties the window. Held routes are also released once enough peers are back, or once enough
    /// earlier deletions have left the window. On a drained host, which routes to no peer, nothing is judged.
    pub fn judge(
        &mut self,
        known: &Known<'_>,
        desired: &Desired,
        actual: &Actual,
        wanted: &Wanted,
        now: Instant,
    ) {
        let confirmed = self.take_in(known.view, now);
        if known.withdrawn {
            return;
        }
        self.forget_ended(known, desired, now);
        let mut gone = gone(known, desired, actual, wanted);
        gone.retain(|prefix| !self.departed.contains_key(prefix));
        if gone.is_empty() {
            self.held.clear();
            return;
        }
        let excused = self.excuse(&mut gone, confirmed, now);
        let recent = self.recent();
        if recent + gone.len() - excused > limit(routed(known, actual) + recent) {
            self.held = gone;
            return;
        }
        self.held.clear();
        for (n, prefix) in gone.into_iter().enumerate() {
            self.departed.insert(prefix, Departure { at: now, counted: n >= excused });
        }
    }

    /// Whether the route must stay.
    pub fn holds(&self, key: &RouteKey) -> bool {
        self.held.contains(&key.destination)
    }

    /// How many routes it keeps.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The time at which the first deletion leaves the window, so that held routes may be few enough.
    pub fn next_due(&self) -> Option<Instant> {
        let counted = self.departed.values().filter(|departure| departure.counted);
        counted.map(|departure| departure.at + WINDOW).min().filter(|_| !self.held.is_empty())
    }

    /// Takes a resume in; how many removals were confirmed since the last time.
    fn take_in(&mut self, view: &View, now: Instant) -> usize {
        let control = view.control();
        if view.incarnation().is_none() {
            return 0;
        }
        if self.incarnation != view.incarnation() {
            // Revisions and counters of two stores do not compare: nothing is confirmed or resumed yet.
            self.incarnation = view.incarnation();
            (self.resumed, self.confirmed) = (control.resumed, control.confirmed_removals);
            return 0;
        }
        if control.resumed > self.resumed {
            self.resumed = control.resumed;
            self.departed.retain(|_, departure| !departure.counted);
            let released = std::mem::take(&mut self.held).into_iter();
            self.departed.extend(released.map(|prefix| (prefix, Departure { at: now, counted: false })));
        }
        let more = control.confirmed_removals.saturating_sub(self.confirmed);
        // An older controller counts none.
        self.confirmed += more;
        usize::try_from(more).unwrap_or(usize::MAX)
    }

    /// A peer that is back, or went long ago, is no departure any more.
    fn forget_ended(&mut self, known: &Known<'_>, desired: &Desired, now: Instant) {
        let RouteSettings { table, metric, .. } = *known.settings;
        let is_back =
            |destination: Prefix| desired.routes.contains_key(&RouteKey { table, destination, metric });
        self.departed.retain(|prefix, departure| departure.at + WINDOW > now && !is_back(*prefix));
    }

    /// Excuses confirmed removals; returns how many of `gone` do not count. If more routes are newly gone than removals were
    /// confirmed, confirmed ones cannot be distinguished from others.
    fn excuse(&mut self, gone: &mut BTreeSet<Prefix>, confirmed: usize, now: Instant) -> usize {
        let new: Vec<Prefix> = gone.difference(&self.held).copied().collect();
        if confirmed < new.len() {
            return confirmed;
        }
        gone.retain(|prefix| self.held.contains(prefix));
        let excused = new.into_iter().map(|prefix| (prefix, Departure { at: now, counted: false }));
        self.departed.append(&mut excused.collect());
        0
    }

    /// How many count in the window.
    fn recent(&self) -> usize {
        self.departed.values().filter(|departure| departure.counted).count()
    }
}

/// Where routes to peers lead that no announced node has any more. A host that only moved, or that this host reaches
/// by another path by now, is not gone; nor is one that was drained, which is an operator's command for this one node.
fn gone(known: &Known<'_>, desired: &Desired, actual: &Actual, wanted: &Wanted) -> BTreeSet<Prefix> {
    // A desired route leads to an announced node; in most cases there are no other routes.
    let left = actual.ours.without(&desired.routes).map(|(key, _)| key);
    let going = left.filter(|key| leads_to_peer(key, known.settings) && may_go(known, desired, wanted, key));
    let mut gone: BTreeSet<Prefix> = going.map(|key| key.destination).collect();
    if !gone.is_empty() {
        let others = known.view.peers().filter(|peer| peer.name != *known.node);
        let there = others.flat_map(|peer| &peer.claims).filter(|claim| claim.state != NodeState::Joining);
        for claim in there {
            gone.remove(&claim.prefix);
        }
    }
    gone
}

/// How many routes to peers there are.
fn routed(known: &Known<'_>, actual: &Actual) -> usize {
    actual.ours.keys().filter(|key| leads_to_peer(key, known.settings)).count()
}

fn leads_to_peer(key: &RouteKey, settings: &RouteSettings) -> bool {
    (key.table, key.metric) == (settings.table, settings.metric)
}

#[cfg(test)]
mod tests;
