//! Decides which messages the agent sends to its controller, and when it drains or claims again, by its view and the engine's
//! reports. Pure.

use std::time::Duration;

use sextant_proto::{Ack, BgpNeighbour, Claim, Epoch, Incarnation, NodeName, NodeState, Problem, Revision};

use crate::{
    cluster::View,
    engine::{Announcement, Report},
};

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
    /// The claim's epoch; a router has none.
    epoch: Option<Epoch>,
    /// The store of this stream.
    incarnation: Option<Incarnation>,
    own: Option<NodeState>,
    /// The revision since which this node is in its state, as far as this stream has reported.
    own_since: Revision,
    announced: Option<Announcement>,
    acked: Option<Ack>,
    drain: Drain,
}

/// The progress of a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Drain {
    None,
    Settling,
    /// The peers have withdrawn, except these in time.
    Settled(Vec<String>),
    Reported,
}

impl Protocol {
    /// A router has no claim: it only acknowledges.
    pub(super) fn new(node: NodeName, claim: Option<&Claim>) -> Self {
        let epoch = claim.map(|claim| claim.epoch);
        Self {
            node,
            epoch,
            incarnation: epoch.map(|epoch| epoch.incarnation),
            own: None,
            own_since: Revision::ZERO,
            announced: None,
            acked: None,
            drain: Drain::None,
        }
    }

    /// Whether this node should have no routes to peers.
    pub(super) fn withdrawn(&self) -> bool {
        self.own == Some(NodeState::Drained) || matches!(self.drain, Drain::Settled(_) | Drain::Reported)
    }

    /// The peers have withdrawn their routes to this node, or the timeout has passed.
    pub(super) fn settled(&mut self, laggards: Vec<String>) {
        if self.drain == Drain::Settling {
            self.drain = Drain::Settled(laggards);
        }
    }

    /// The view has changed.
    pub(super) fn on_view(&mut self, view: &View) -> Vec<Effect> {
        let Some(epoch) = self.epoch else {
            self.incarnation = view.incarnation();
            return Vec::new();
        };
        if let Some(lost) = self.lost(epoch, view) {
            return vec![Effect::Reclaim(lost)];
        }
        let own = view.peer(&self.node).filter(|_| view.reaches(epoch));
        let Some(own) = own.filter(|own| self.own != Some(own.state)) else {
            return Vec::new();
        };
        self.own = Some(own.state);
        self.own_since = view.revision();
        match own.state {
            NodeState::Joining => {
                self.announced = None;
                self.drain = Drain::None;
                Vec::new()
            }
            NodeState::Draining => {
                self.drain = Drain::Settling;
                vec![Effect::Settle(view.revision(), own.drain_timeout)]
            }
            NodeState::Ready | NodeState::Drained => {
                self.drain = Drain::None;
                Vec::new()
            }
        }
    }

    /// The reason why the claim has ended, if the view shows that. A view that is older than the claim shows nothing: it has
    /// an earlier claim of the node, which ended while the agent was disconnected.
    fn lost(&self, epoch: Epoch, view: &View) -> Option<Lost> {
        if view.incarnation()? != epoch.incarnation {
            return Some(Lost::StoreReplaced);
        }
        if !view.reaches(epoch) {
            return None;
        }
        match view.peer(&self.node) {
            Some(own) if own.claimed < epoch.revision => Some(Lost::OtherHistory),
            Some(own) if own.claimed > epoch.revision => Some(Lost::NewerClaim),
            None if view.is_complete() || self.own.is_some() => Some(Lost::NotInStore),
            _ => None,
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
        let announce = self.announce(report, revision);
        let ack = self.ack(reports, revision);
        announce.into_iter().chain(ack).chain(self.drained(report)).collect()
    }

    /// Announces the host once its kernel has all routes up to that revision (DESIGN I7).
    fn announce(&mut self, report: &Report, applied: Revision) -> Option<Message> {
        let ours = self.epoch.is_some()
            && report.holding == self.epoch
            && self.own.is_some()
            && applied >= self.own_since;
        let announcement = report.announcement.clone().filter(|_| ours)?;
        if self.announced.as_ref() == Some(&announcement) {
            return None;
        }
        self.announced = Some(announcement.clone());
        Some(Message::Announce(announcement))
    }

    fn ack(&mut self, reports: &Reports, revision: Revision) -> Option<Message> {
        let report = &reports.engine;
        // Held routes are not applied: their revision is not acknowledged.
        let acked = self.acked.as_ref().map_or(Revision::ZERO, |acked| acked.revision);
        let revision = if report.held > 0 { acked } else { revision };
        let ack = Ack {
            revision,
            failed: report.failed.iter().chain(&report.flapping).cloned().collect(),
            conflicts: report.conflicts.clone(),
            held: report.held,
            verdicts: report.verdicts.clone(),
            bgp: reports.bgp.clone(),
            problems: reports.problems.clone(),
        };
        if self.acked.as_ref() == Some(&ack) {
            return None;
        }
        self.acked = Some(ack.clone());
        Some(Message::Ack(ack))
    }

    fn drained(&mut self, report: &Report) -> Option<Message> {
        match &self.drain {
            Drain::Settled(laggards) if report.withdrawn => {
                let message = Message::Drained(laggards.clone());
                self.drain = Drain::Reported;
                Some(message)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use sextant_proto::{Control, Epoch, Incarnation, Peer, Pool};

    use super::*;
    use crate::cluster::{Change, Delta, Snapshot};

    struct Fixture {
        view: View,
        protocol: Protocol,
        incarnation: Incarnation,
        revision: u64,
    }

    fn peer(state: NodeState) -> Peer {
        Peer {
            name: "host1".parse().unwrap(),
            prefix: "2001:db8:1::/64".parse().unwrap(),
            claimed: Revision(4),
            pool: "main".parse().unwrap(),
            state,
            next_hops: vec![],
            session: true,
            drain_timeout: Duration::from_secs(7),
        }
    }

    fn engine_only(engine: &Report) -> Reports {
        Reports { engine: engine.clone(), bgp: vec![], problems: vec![] }
    }

    fn announcement() -> Announcement {
        Announcement { uplinks: vec![], container_prefix: "2001:db8:1::/64".parse().unwrap() }
    }

    impl Fixture {
        fn new() -> Self {
            let incarnation = Incarnation::random();
            let pool = Pool::new("main".parse().unwrap(), "2001:db8::/32".parse().unwrap(), 64, 64).unwrap();
            let epoch = Epoch { incarnation, revision: Revision(4) };
            let claim = Claim { prefix: "2001:db8:1::/64".parse().unwrap(), epoch, pool };
            let mut view = View::default();
            view.apply_snapshot(Snapshot {
                mark: None,
                incarnation,
                revision: Revision(10),
                linearizable: true,
                recovering: false,
                control: Control::default(),
                pools: vec![],
                peers: vec![peer(NodeState::Joining)],
            });
            let mut protocol = Protocol::new("host1".parse().unwrap(), Some(&claim));
            assert!(protocol.on_view(&view).is_empty());
            Self { view, protocol, incarnation, revision: 10 }
        }

        fn change(&mut self, change: Change) -> Vec<Effect> {
            let since = Revision(self.revision);
            self.revision += 1;
            let delta = Delta { since, revision: Revision(self.revision), mark: None, changes: vec![change] };
            self.view.apply_delta(delta).unwrap();
            self.protocol.on_view(&self.view)
        }

        fn report(&mut self, revision: u64, withdrawn: bool) -> Vec<Message> {
            let report = Report {
                holding: self.protocol.epoch,
                applied: Some((self.incarnation, Revision(revision))),
                announcement: Some(announcement()),
                withdrawn,
                ..Report::default()
            };
            self.protocol.on_reports(&engine_only(&report))
        }
    }

    fn up_to(revision: u64) -> Ack {
        Ack { revision: Revision(revision), ..Ack::default() }
    }

    fn ack(revision: u64) -> Message {
        Message::Ack(up_to(revision))
    }

    #[test]
    fn a_host_is_announced_once_its_routes_are_in_the_kernel() {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.report(9, false), [ack(9)]);
        assert_eq!(fixture.report(10, false), [Message::Announce(announcement()), ack(10)]);
        assert!(fixture.report(10, false).is_empty(), "no message is repeated");
    }

    #[test]
    fn held_routes_are_reported_and_not_acknowledged() {
        let mut fixture = Fixture::new();
        fixture.report(10, false);
        let report =
            Report { applied: Some((fixture.incarnation, Revision(12))), held: 20, ..Report::default() };
        let held = Ack { held: 20, ..up_to(10) };
        assert_eq!(fixture.protocol.on_reports(&engine_only(&report)), [Message::Ack(held)]);
    }

    #[test]
    fn a_change_of_problems_alone_is_acknowledged() {
        let mut fixture = Fixture::new();
        fixture.report(10, false);
        let problem = Problem {
            what: "bridge-missing".into(),
            saw: "bridge \"docker0\" does not exist".into(),
            fix: String::new(),
            since_unix_ms: 1,
        };
        let at = Some((fixture.incarnation, Revision(10)));
        let report = Report { applied: at, ..Report::default() };
        let reports = Reports { problems: vec![problem.clone()], ..engine_only(&report) };
        let with_problem = Ack { problems: vec![problem], ..up_to(10) };
        assert_eq!(fixture.protocol.on_reports(&reports), [Message::Ack(with_problem)]);
        assert!(fixture.protocol.on_reports(&reports).is_empty(), "no message is repeated");
        assert_eq!(fixture.protocol.on_reports(&engine_only(&report)), [ack(10)]);
    }

    #[test]
    fn a_drain_waits_for_peers_then_removes_routes_then_reports() {
        let mut fixture = Fixture::new();
        fixture.change(Change::Peer(peer(NodeState::Ready)));
        fixture.report(11, false);
        let effects = fixture.change(Change::Peer(peer(NodeState::Draining)));
        assert_eq!(effects, [Effect::Settle(Revision(12), Duration::from_secs(7))]);
        assert!(!fixture.protocol.withdrawn(), "peers first");
        fixture.protocol.settled(vec!["host3".into()]);
        assert!(fixture.protocol.withdrawn());
        assert_eq!(fixture.report(12, false), [ack(12)], "routes not removed yet");
        assert_eq!(fixture.report(12, true), [Message::Drained(vec!["host3".into()])]);
        fixture.change(Change::Peer(peer(NodeState::Drained)));
        assert!(fixture.protocol.withdrawn());
    }

    #[test]
    fn an_undrained_host_is_announced_again() {
        let mut fixture = Fixture::new();
        fixture.report(10, false);
        fixture.change(Change::Peer(peer(NodeState::Drained)));
        fixture.report(11, true);
        assert!(fixture.change(Change::Peer(peer(NodeState::Joining))).is_empty());
        assert!(!fixture.protocol.withdrawn());
        assert_eq!(fixture.report(12, false), [Message::Announce(announcement()), ack(12)]);
    }

    #[test]
    fn a_router_only_acknowledges() {
        let mut fixture = Fixture::new();
        fixture.protocol = Protocol::new("r1".parse().unwrap(), None);
        let report = Report { applied: Some((fixture.incarnation, Revision(10))), ..Report::default() };
        assert!(
            fixture.protocol.on_reports(&engine_only(&report)).is_empty(),
            "nothing was received on this stream yet"
        );
        assert!(fixture.protocol.on_view(&fixture.view).is_empty());
        assert_eq!(fixture.protocol.on_reports(&engine_only(&report)), [ack(10)]);
        assert!(fixture.change(Change::Peer(peer(NodeState::Draining))).is_empty());
        assert!(!fixture.protocol.withdrawn());
    }

    /// The agent was disconnected while its claim of revision 4 ended, and has a newer one now.
    #[test]
    fn a_view_that_is_older_than_the_claim_does_not_end_it() {
        let claim_at = |fixture: &Fixture, revision| Claim {
            prefix: "2001:db8:1::/64".parse().unwrap(),
            epoch: Epoch { incarnation: fixture.incarnation, revision: Revision(revision) },
            pool: Pool::new("main".parse().unwrap(), "2001:db8::/32".parse().unwrap(), 64, 64).unwrap(),
        };
        let states = [NodeState::Joining, NodeState::Ready, NodeState::Draining, NodeState::Drained];
        let known = states.map(|state| Change::Peer(peer(state)));
        for before in known.into_iter().chain([Change::PeerRemoved("host1".parse().unwrap())]) {
            let mut fixture = Fixture::new();
            fixture.change(before.clone());
            let claim = claim_at(&fixture, 13);
            fixture.protocol = Protocol::new("host1".parse().unwrap(), Some(&claim));
            assert!(
                fixture.protocol.on_view(&fixture.view).is_empty(),
                "the retained view, at 11: {before:?}"
            );
            assert!(!fixture.protocol.withdrawn(), "{before:?}");
            assert!(fixture.change(Change::Recovering(false)).is_empty(), "12: {before:?}");
            assert!(!matches!(fixture.report(12, false)[..], [Message::Announce(_), ..]), "{before:?}");
            let newer = Peer { claimed: Revision(13), ..peer(NodeState::Joining) };
            assert!(fixture.change(Change::Peer(newer)).is_empty(), "13: {before:?}");
            assert_eq!(fixture.report(13, false), [Message::Announce(announcement()), ack(13)], "{before:?}");
        }
        // A resumed stream without a delta: the retained view is newer than the claim, and is of another history.
        let mut fixture = Fixture::new();
        fixture.change(Change::Peer(peer(NodeState::Ready)));
        let mut of = |revision, node: &str| {
            let claim = claim_at(&fixture, revision);
            fixture.protocol = Protocol::new(node.parse().unwrap(), Some(&claim));
            fixture.protocol.on_view(&fixture.view)
        };
        assert!(of(4, "host1").is_empty(), "the claim of the view");
        assert_eq!(of(9, "host1"), [Effect::Reclaim(Lost::OtherHistory)]);
        assert_eq!(of(11, "host2"), [Effect::Reclaim(Lost::NotInStore)]);
    }

    #[test]
    fn a_lost_claim_is_claimed_again() {
        let mut fixture = Fixture::new();
        let effects = fixture.change(Change::PeerRemoved("host1".parse().unwrap()));
        assert!(matches!(&effects[..], [Effect::Reclaim(_)]), "{effects:?}");
        let mut fixture = Fixture::new();
        let newer = Peer { claimed: Revision(11), ..peer(NodeState::Joining) };
        assert!(matches!(&fixture.change(Change::Peer(newer))[..], [Effect::Reclaim(_)]));
    }
}
