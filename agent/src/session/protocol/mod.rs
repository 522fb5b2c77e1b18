//! Decides which messages the agent sends to its controller, and when it drains or claims again, by its view and the engine's
//! reports. Pure.

mod claim;
mod drain;

use std::time::Duration;

use sextant_proto::{
    Ack, BgpNeighbour, Claim, Epoch, Incarnation, NodeName, NodeState, PoolName, Prefix, Problem, Revision,
};

use crate::{
    cluster::View,
    engine::{Announcement, Report},
};

use claim::OwnClaim;
use drain::Drain;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Wait until all peers have applied this revision, since which this node drains.
    Settle(Revision, Duration),
    /// Claim again, as the claim has ended.
    Reclaim(LostClaim),
}

/// A claim that has ended by the view.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("claim of {prefix} in pool {pool} ended: {why}")]
pub(super) struct LostClaim {
    pub(super) prefix: Prefix,
    pub(super) pool: PoolName,
    pub(super) epoch: Epoch,
    pub(super) why: Lost,
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
    #[error("it is not in the store")]
    NotInStore,
}

/// The reports of the components whose state is acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Reports {
    pub(super) engine: Report,
    pub(super) bgp: Vec<BgpNeighbour>,
    pub(super) problems: Vec<Problem>,
    /// The host answers neighbour solicitations for its containers.
    pub(super) ndp_proxy: bool,
}

/// The state of one stream.
#[derive(Debug)]
pub(super) struct Protocol {
    node: NodeName,
    /// A router has none.
    claims: Vec<OwnClaim>,
    /// The state of the node, as far as this stream has reported.
    state: Option<NodeState>,
    drain: Drain,
    /// The store of this stream.
    incarnation: Option<Incarnation>,
    announced: Option<Announcement>,
    acked: Option<Ack>,
}

impl Protocol {
    /// A router has no claim: it only acknowledges.
    pub(super) fn new(node: NodeName, claims: &[Claim]) -> Self {
        Self {
            node,
            claims: claims.iter().map(OwnClaim::new).collect(),
            state: None,
            drain: Drain::None,
            incarnation: claims.first().map(|claim| claim.epoch.incarnation),
            announced: None,
            acked: None,
        }
    }

    /// A controller has granted another claim meanwhile.
    pub(super) fn granted(&mut self, claim: &Claim) {
        self.claims.push(OwnClaim::new(claim));
    }

    /// Whether this node should have no routes to peers.
    pub(super) fn withdrawn(&self) -> bool {
        self.state == Some(NodeState::Drained) || self.drain.is_settled()
    }

    /// The peers have withdrawn their routes to this node, or the timeout has passed.
    pub(super) fn settled(&mut self, laggards: Vec<String>) {
        self.drain.settled(laggards);
    }

    /// The view has changed.
    pub(super) fn on_view(&mut self, view: &View) -> Option<Effect> {
        if self.claims.is_empty() {
            self.incarnation = view.incarnation();
            return None;
        }
        if let Some(lost) = self.claims.iter().find_map(|claim| claim.lost(&self.node, view)) {
            return Some(Effect::Reclaim(lost));
        }
        for claim in &mut self.claims {
            // A claim that is joining again is announced again.
            let joins = claim.enter(&self.node, view) == Some(NodeState::Joining);
            self.announced.take_if(|it| joins && it.claims.iter().any(|it| it.epoch == claim.epoch));
        }
        let state = self.claims.iter().filter_map(OwnClaim::state).max()?;
        if self.state.replace(state) == Some(state) || !self.drain.enter(state) {
            return None;
        }
        let timeout = view.peer(&self.node).map_or(Duration::ZERO, |own| own.drain_timeout);
        Some(Effect::Settle(view.revision(), timeout))
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
        let drained = if report.withdrawn { self.drain.report().map(Message::Drained) } else { None };
        announce.into_iter().chain(ack).chain(drained).collect()
    }

    /// Announces the claims that the host is set up for. What is left out is no longer routed by peers.
    fn announce(&mut self, report: &Report, applied: Revision) -> Option<Announcement> {
        let mut announcement = report.announcement.clone()?;
        announcement
            .claims
            .retain(|claim| report.holding.contains(&claim.epoch) && self.may_announce(claim.epoch, applied));
        if announcement.claims.is_empty() {
            return None;
        }
        unless_sent(&mut self.announced, announcement)
    }

    /// A claim is announced once the kernel has all routes up to the revision at which it joined (DESIGN I7), and stays so. One that
    /// the controller has not confirmed on this stream was announced before, if it is of this store: it stays so too.
    fn may_announce(&self, epoch: Epoch, applied: Revision) -> bool {
        let was_announced = || self.announced.iter().flat_map(|it| &it.claims).any(|it| it.epoch == epoch);
        match self.claims.iter().find(|claim| claim.epoch == epoch) {
            Some(claim) => claim.entered_by(applied) || was_announced(),
            None => Some(epoch.incarnation) == self.incarnation,
        }
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
            refused_pools: report.refused_pools.clone(),
            ndp_proxy: reports.ndp_proxy,
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
