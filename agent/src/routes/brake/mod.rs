//! The brake: too many peers that are gone within a window wait for an operator (DESIGN I6). Pure.

mod kept;

use std::collections::{BTreeMap, BTreeSet};

use sextant_proto::{
    Incarnation, NodeName, NodeState, Prefix, Revision,
    brake::{WINDOW, limit},
};
use tokio::time::Instant;

use super::{Actual, Desired};
use crate::{cluster::View, kernel::RouteKey, settings::RouteSettings};

/// A peer whose route was let go.
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

/// What it judges by.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// This node.
    pub node: &'a NodeName,
    /// What is known of the cluster.
    pub view: &'a View,
    /// The kernel's routes.
    pub actual: &'a Actual,
    /// What they should be.
    pub desired: &'a Desired,
    /// Where routes to peers are.
    pub settings: &'a RouteSettings,
}

impl Brake {
    /// Looks at what the view takes away from the kernel, of what `may_go` at all, and holds it if it is too much within the
    /// window. What is held is let go by a later resume, which also empties the window, and once so many of the peers are
    /// back, or have been gone for so long, that the rest is no longer too much.
    pub fn judge(&mut self, sight: Sight<'_>, may_go: impl Fn(&RouteKey) -> bool, now: Instant) {
        let confirmed = self.take_in(sight.view, now);
        self.forget_ended(&sight, now);
        let mut gone = gone(&sight, may_go);
        gone.retain(|prefix| !self.departed.contains_key(prefix));
        if gone.is_empty() {
            self.held.clear();
            return;
        }
        let excused = self.excuse(&mut gone, confirmed, now);
        let recent = self.recent();
        let routed = sight.actual.ours.keys().filter(|key| leads_to_peer(key, sight.settings)).count();
        if recent + gone.len() - excused > limit(routed + recent) {
            self.held = gone;
            return;
        }
        self.held.clear();
        for (n, prefix) in gone.into_iter().enumerate() {
            self.departed.insert(prefix, Departure { at: now, counted: n >= excused });
        }
    }

    /// Takes in what holds for all agents without judging anything: this host routes to nobody.
    pub fn pass_over(&mut self, view: &View, now: Instant) {
        self.take_in(view, now);
    }

    /// Whether the route must stay.
    pub fn holds(&self, key: &RouteKey) -> bool {
        self.held.contains(&key.destination)
    }

    /// How many routes it keeps.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// When what is held may be few enough, as the first departures are no longer in the window.
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
    fn forget_ended(&mut self, sight: &Sight<'_>, now: Instant) {
        let RouteSettings { table, metric, .. } = *sight.settings;
        let is_back =
            |destination: Prefix| sight.desired.routes.contains_key(&RouteKey { table, destination, metric });
        self.departed.retain(|prefix, departure| departure.at + WINDOW > now && !is_back(*prefix));
    }

    /// Lets what was confirmed go. If more is newly gone than that, it cannot be told apart: how many of `gone` do not
    /// count.
    fn excuse(&mut self, gone: &mut BTreeSet<Prefix>, confirmed: usize, now: Instant) -> usize {
        let new: BTreeSet<Prefix> = gone.difference(&self.held).copied().collect();
        if confirmed < new.len() {
            return confirmed;
        }
        gone.retain(|prefix| !new.contains(prefix));
        self.departed.extend(new.into_iter().map(|prefix| (prefix, Departure { at: now, counted: false })));
        0
    }

    /// How many count in the window.
    fn recent(&self) -> usize {
        self.departed.values().filter(|departure| departure.counted).count()
    }
}

/// Where routes to peers lead that no announced node has any more. A host that only moved, or that this host reaches
/// another way by now, is not gone; nor is one that was drained, which is an operator's command for this one node.
fn gone(sight: &Sight<'_>, may_go: impl Fn(&RouteKey) -> bool) -> BTreeSet<Prefix> {
    // What is wanted leads to a node that is announced; mostly that is all.
    let left = sight.actual.ours.without(&sight.desired.routes);
    let going = left.map(|(key, _)| key).filter(|key| leads_to_peer(key, sight.settings) && may_go(key));
    let mut gone: BTreeSet<Prefix> = going.map(|key| key.destination).collect();
    if !gone.is_empty() {
        let known = sight.view.peers().filter(|peer| peer.name != *sight.node);
        for peer in known.filter(|peer| peer.state != NodeState::Joining) {
            gone.remove(&peer.prefix);
        }
    }
    gone
}

fn leads_to_peer(key: &RouteKey, settings: &RouteSettings) -> bool {
    (key.table, key.metric) == (settings.table, settings.metric)
}

#[cfg(test)]
mod tests;
