//! Decides which messages the agent sends to its controller, and when it drains or claims again, by its view and the engine's
//! reports. Pure.

mod claim;

use std::time::Duration;

use sextant_proto::{Ack, BgpNeighbour, Claim, Incarnation, NodeName, NodeState, Problem, Revision};

use crate::{
    cluster::View,
    engine::{Announcement, Report},
};

use claim::OwnClaim;

/// A message to the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// The host is set up.
    Announce(Announcement),
    /// The state of the kernel and the host.
    Ack(Ack),
    /// The drain has ended: the host has removed its routes; these peers had not in time.
    Drained(Vec<String>),
}

/// An effect on the agent itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Wait until all peers have applied this revision, since which this node drains.
    Settle(Revision, Duration),
    /// Claim again, as the claim has ended.
    Reclaim(Lost),
}

/// The reason why a claim has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lost {
    #[error("the store was replaced")]
    StoreReplaced,
    #[error("the node has a newer claim")]
    NewerClaim,
    /// In one history, a view that has reached a claim's revision has no older claim of the node.
    #[error("the view is of another history of the store")]
    OtherHistory,
    #[error("the node is not in the store")]
    NotInStore,
}

/// The reports of the components whose state is acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Reports {
    pub(super) engine: Report,
    pub(super) bgp: Vec<BgpNeighbour>,
    pub(super) problems: Vec<Problem>,
}

/// The state of one stream.
#[derive(Debug)]
pub(super) struct Protocol {
    node: NodeName,
    /// A router has none.
    claim: Option<OwnClaim>,
    /// The store of this stream.
    incarnation: Option<Incarnation>,
    announced: Option<Announcement>,
    acked: Option<Ack>,
}

impl Protocol {
    /// A router has no claim: it only acknowledges.
    pub(super) fn new(node: NodeName, claim: Option<&Claim>) -> Self {
        let claim = claim.map(|claim| OwnClaim::new(claim.epoch));
        let incarnation = claim.as_ref().map(|claim| claim.epoch.incarnation);
        Self { node, claim, incarnation, announced: None, acked: None }
    }

    /// Whether this node should have no routes to peers.
    pub(super) fn withdrawn(&self) -> bool {
        self.claim.as_ref().is_some_and(OwnClaim::withdrawn)
    }

    /// The peers have withdrawn their routes to this node, or the timeout has passed.
    pub(super) fn settled(&mut self, laggards: Vec<String>) {
        if let Some(claim) = &mut self.claim {
            claim.settled(laggards);
        }
    }

    /// The view has changed.
    pub(super) fn on_view(&mut self, view: &View) -> Option<Effect> {
        let Some(claim) = &mut self.claim else {
            self.incarnation = view.incarnation();
            return None;
        };
        if let Some(lost) = claim.lost(&self.node, view) {
            return Some(Effect::Reclaim(lost));
        }
        let own = claim.enter(&self.node, view)?;
        match own.state() {
            NodeState::Joining => {
                self.announced = None;
                None
            }
            NodeState::Draining => Some(Effect::Settle(view.revision(), own.drain_timeout)),
            NodeState::Ready | NodeState::Drained => None,
        }
    }

    /// A component has reported.
    pub(super) fn on_reports(&mut self, reports: &Reports) -> Vec<Message> {
        let report = &reports.engine;
        let Some((incarnation, revision)) = report.applied else {
            return Vec::new();
        };
        if Some(incarnation) != self.incarnation {
            return Vec::new();
        }
        let announce = self.announce(report, revision).map(Message::Announce);
        let ack = self.ack(reports, revision).map(Message::Ack);
        let claim = self.claim.as_mut().filter(|_| report.withdrawn);
        let drained = claim.and_then(OwnClaim::report_drain).map(Message::Drained);
        announce.into_iter().chain(ack).chain(drained).collect()
    }

    /// Announces the host once its kernel has all routes up to that revision (DESIGN I7).
    fn announce(&mut self, report: &Report, applied: Revision) -> Option<Announcement> {
        let claim = self.claim.as_ref()?;
        let ours = report.holding == Some(claim.epoch) && claim.entered_by(applied);
        let announcement = report.announcement.as_ref().filter(|_| ours)?;
        unless_sent(&mut self.announced, announcement.clone())
    }

    fn ack(&mut self, reports: &Reports, revision: Revision) -> Option<Ack> {
        let report = &reports.engine;
        // Held routes are not applied: their revision is not acknowledged.
        let acked = self.acked.as_ref().map_or(Revision::ZERO, |acked| acked.revision);
        let ack = Ack {
            revision: if report.held > 0 { acked } else { revision },
            failed: report.failed.iter().chain(&report.flapping).cloned().collect(),
            conflicts: report.conflicts.clone(),
            held: report.held,
            verdicts: report.verdicts.clone(),
            bgp: reports.bgp.clone(),
            problems: reports.problems.clone(),
        };
        unless_sent(&mut self.acked, ack)
    }
}

/// The next message, unless it was `sent` last.
fn unless_sent<T: Clone + PartialEq>(sent: &mut Option<T>, next: T) -> Option<T> {
    if sent.as_ref() == Some(&next) {
        return None;
    }
    *sent = Some(next.clone());
    Some(next)
}

#[cfg(test)]
mod tests;
