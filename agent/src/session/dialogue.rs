//! What the agent has to say to its controller, by what it knows and what its host reports. Pure.

use std::time::Duration;

use sextant_proto::{
    BgpNeighbour, Claim, Conflict, Epoch, FailedRoute, Incarnation, NodeName, NodeState, Problem, Revision,
    Verdict,
};

use crate::{
    cluster::View,
    engine::{Announcement, Report},
};

/// Something to say, or to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Say {
    /// The host is set up.
    Announce(Announcement),
    /// What is in the kernel.
    Ack(Applied),
    /// Wait until all peers have applied this revision, in which this node drains.
    Settle(Revision, Duration),
    /// The host has taken its routes down; these peers had not.
    Drained(Vec<String>),
    /// The claim has ended: claim anew.
    Reclaim(Lost),
}

/// Why a claim is no longer this node's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lost {
    #[error("the store was replaced by another one")]
    OtherStore,
    #[error("the node was claimed anew")]
    ClaimedAnew,
    #[error("the node is no longer in the store")]
    Gone,
}

/// What is in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Applied {
    pub(super) revision: Revision,
    pub(super) failed: Vec<FailedRoute>,
    pub(super) conflicts: Vec<Conflict>,
    pub(super) held: u32,
    pub(super) verdicts: Vec<Verdict>,
    pub(super) bgp: Vec<BgpNeighbour>,
    pub(super) problems: Vec<Problem>,
}

/// The state of one stream.
#[derive(Debug)]
pub(super) struct Dialogue {
    node: NodeName,
    /// A router has none.
    epoch: Option<Epoch>,
    /// The store that this stream tells of.
    incarnation: Option<Incarnation>,
    own: Option<NodeState>,
    /// The revision since when this node is in its state, as far as this stream has told.
    own_since: Revision,
    announced: Option<Announcement>,
    acked: Option<Applied>,
    drain: Drain,
}

/// How far a drain is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Drain {
    None,
    Settling,
    /// The peers have withdrawn, or these have not in time.
    Settled(Vec<String>),
    Said,
}

impl Dialogue {
    /// A router has no claim: it follows, and acknowledges.
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

    /// Whether this node should route to nobody.
    pub(super) fn withdrawn(&self) -> bool {
        self.own == Some(NodeState::Drained) || matches!(self.drain, Drain::Settled(_) | Drain::Said)
    }

    /// The peers have withdrawn this node's routes, or the time is over.
    pub(super) fn settled(&mut self, laggards: Vec<String>) {
        if self.drain == Drain::Settling {
            self.drain = Drain::Settled(laggards);
        }
    }

    /// The view has changed.
    pub(super) fn on_view(&mut self, view: &View) -> Vec<Say> {
        let Some(epoch) = self.epoch else {
            self.incarnation = view.incarnation();
            return Vec::new();
        };
        if let Some(lost) = self.lost(epoch, view) {
            return vec![Say::Reclaim(lost)];
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
                vec![Say::Settle(view.revision(), own.drain_timeout)]
            }
            NodeState::Ready | NodeState::Drained => {
                self.drain = Drain::None;
                Vec::new()
            }
        }
    }

    /// Why the claim is no longer this node's, if the view says so. One from before the claim says nothing of it: the agent was
    /// silent while an earlier claim of the node ended, and knows that one only.
    fn lost(&self, epoch: Epoch, view: &View) -> Option<Lost> {
        if view.incarnation()? != epoch.incarnation {
            return Some(Lost::OtherStore);
        }
        if !view.reaches(epoch) {
            return None;
        }
        match view.peer(&self.node) {
            Some(own) if own.claimed != epoch.revision => Some(Lost::ClaimedAnew),
            None if view.is_complete() || self.own.is_some() => Some(Lost::Gone),
            _ => None,
        }
    }

    /// The engine has reported.
    pub(super) fn on_report(&mut self, report: &Report) -> Vec<Say> {
        let Some((incarnation, revision)) = report.applied else {
            return Vec::new();
        };
        if Some(incarnation) != self.incarnation {
            return Vec::new();
        }
        let announce = self.announce(report, revision);
        let ack = self.ack(report, revision);
        announce.into_iter().chain(ack).chain(self.drained(report)).collect()
    }

    /// The host is announced once all that it should route by then is in its kernel (DESIGN I7).
    fn announce(&mut self, report: &Report, applied: Revision) -> Option<Say> {
        let ours = self.epoch.is_some()
            && report.holding == self.epoch
            && self.own.is_some()
            && applied >= self.own_since;
        let announcement = report.announcement.clone().filter(|_| ours)?;
        if self.announced.as_ref() == Some(&announcement) {
            return None;
        }
        self.announced = Some(announcement.clone());
        Some(Say::Announce(announcement))
    }

    fn ack(&mut self, report: &Report, revision: Revision) -> Option<Say> {
        // What is held is not applied: whoever waits for it waits on.
        let acked = self.acked.as_ref().map_or(Revision::ZERO, |acked| acked.revision);
        let revision = if report.held > 0 { acked } else { revision };
        let failed = report.failed.iter().chain(&report.flapping).cloned().collect();
        let conflicts = report.conflicts.clone();
        let verdicts = report.verdicts.clone();
        let (held, bgp, problems) = (report.held, report.bgp.clone(), report.problems.clone());
        let applied = Applied { revision, failed, conflicts, held, verdicts, bgp, problems };
        if self.acked.as_ref() == Some(&applied) {
            return None;
        }
        self.acked = Some(applied.clone());
        Some(Say::Ack(applied))
    }

    fn drained(&mut self, report: &Report) -> Option<Say> {
        match &self.drain {
            Drain::Settled(laggards) if report.withdrawn => {
                let say = Say::Drained(laggards.clone());
                self.drain = Drain::Said;
                Some(say)
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
        dialogue: Dialogue,
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
            let mut dialogue = Dialogue::new("host1".parse().unwrap(), Some(&claim));
            assert!(dialogue.on_view(&view).is_empty());
            Self { view, dialogue, incarnation, revision: 10 }
        }

        fn change(&mut self, change: Change) -> Vec<Say> {
            let since = Revision(self.revision);
            self.revision += 1;
            let delta = Delta { since, revision: Revision(self.revision), mark: None, changes: vec![change] };
            self.view.apply_delta(delta).unwrap();
            self.dialogue.on_view(&self.view)
        }

        fn report(&mut self, revision: u64, withdrawn: bool) -> Vec<Say> {
            let report = Report {
                holding: self.dialogue.epoch,
                applied: Some((self.incarnation, Revision(revision))),
                announcement: Some(announcement()),
                withdrawn,
                ..Report::default()
            };
            self.dialogue.on_report(&report)
        }
    }

    fn applied(revision: u64) -> Applied {
        let revision = Revision(revision);
        Applied {
            revision,
            failed: vec![],
            conflicts: vec![],
            held: 0,
            verdicts: vec![],
            bgp: vec![],
            problems: vec![],
        }
    }

    fn ack(revision: u64) -> Say {
        Say::Ack(applied(revision))
    }

    #[test]
    fn a_host_is_announced_once_its_routes_are_in_the_kernel() {
        let mut it = Fixture::new();
        assert_eq!(it.report(9, false), [ack(9)]);
        assert_eq!(it.report(10, false), [Say::Announce(announcement()), ack(10)]);
        assert!(it.report(10, false).is_empty(), "nothing is said twice");
    }

    #[test]
    fn what_is_held_is_told_and_not_acknowledged() {
        let mut it = Fixture::new();
        it.report(10, false);
        let report = Report { applied: Some((it.incarnation, Revision(12))), held: 20, ..Report::default() };
        let held = Applied { held: 20, ..applied(10) };
        assert_eq!(it.dialogue.on_report(&report), [Say::Ack(held)]);
    }

    #[test]
    fn a_change_of_problems_alone_is_acknowledged() {
        let mut it = Fixture::new();
        it.report(10, false);
        let problem = Problem {
            what: "bridge-missing".into(),
            saw: "bridge \"docker0\" does not exist".into(),
            fix: String::new(),
            since_unix_ms: 1,
        };
        let at = Some((it.incarnation, Revision(10)));
        let report = Report { applied: at, problems: vec![problem.clone()], ..Report::default() };
        let with_problem = Applied { problems: vec![problem], ..applied(10) };
        assert_eq!(it.dialogue.on_report(&report), [Say::Ack(with_problem)]);
        assert!(it.dialogue.on_report(&report).is_empty(), "nothing is said twice");
        assert_eq!(it.dialogue.on_report(&Report { applied: at, ..Report::default() }), [ack(10)]);
    }

    #[test]
    fn a_drain_waits_for_peers_then_takes_down_then_says_so() {
        let mut it = Fixture::new();
        it.change(Change::Peer(peer(NodeState::Ready)));
        it.report(11, false);
        let said = it.change(Change::Peer(peer(NodeState::Draining)));
        assert_eq!(said, [Say::Settle(Revision(12), Duration::from_secs(7))]);
        assert!(!it.dialogue.withdrawn(), "peers first");
        it.dialogue.settled(vec!["host3".into()]);
        assert!(it.dialogue.withdrawn());
        assert_eq!(it.report(12, false), [ack(12)], "not taken down yet");
        assert_eq!(it.report(12, true), [Say::Drained(vec!["host3".into()])]);
        it.change(Change::Peer(peer(NodeState::Drained)));
        assert!(it.dialogue.withdrawn());
    }

    #[test]
    fn an_undrained_host_is_announced_anew() {
        let mut it = Fixture::new();
        it.report(10, false);
        it.change(Change::Peer(peer(NodeState::Drained)));
        it.report(11, true);
        assert!(it.change(Change::Peer(peer(NodeState::Joining))).is_empty());
        assert!(!it.dialogue.withdrawn());
        assert_eq!(it.report(12, false), [Say::Announce(announcement()), ack(12)]);
    }

    #[test]
    fn a_router_acknowledges_and_says_nothing_else() {
        let mut it = Fixture::new();
        it.dialogue = Dialogue::new("r1".parse().unwrap(), None);
        let report = Report { applied: Some((it.incarnation, Revision(10))), ..Report::default() };
        assert!(it.dialogue.on_report(&report).is_empty(), "nothing was told on this stream yet");
        assert!(it.dialogue.on_view(&it.view).is_empty());
        assert_eq!(it.dialogue.on_report(&report), [ack(10)]);
        assert!(it.change(Change::Peer(peer(NodeState::Draining))).is_empty());
        assert!(!it.dialogue.withdrawn());
    }

    /// The agent slept while its claim of revision 4 ended, and holds another one now.
    #[test]
    fn a_view_from_before_the_claim_says_nothing_of_it() {
        let claim_at = |it: &Fixture, revision| Claim {
            prefix: "2001:db8:1::/64".parse().unwrap(),
            epoch: Epoch { incarnation: it.incarnation, revision: Revision(revision) },
            pool: Pool::new("main".parse().unwrap(), "2001:db8::/32".parse().unwrap(), 64, 64).unwrap(),
        };
        let states = [NodeState::Joining, NodeState::Ready, NodeState::Draining, NodeState::Drained];
        let known = states.map(|state| Change::Peer(peer(state)));
        for before in known.into_iter().chain([Change::PeerRemoved("host1".parse().unwrap())]) {
            let mut it = Fixture::new();
            it.change(before.clone());
            let claim = claim_at(&it, 13);
            it.dialogue = Dialogue::new("host1".parse().unwrap(), Some(&claim));
            assert!(it.dialogue.on_view(&it.view).is_empty(), "the retained view, at 11: {before:?}");
            assert!(!it.dialogue.withdrawn(), "{before:?}");
            assert!(it.change(Change::Recovering(false)).is_empty(), "12: {before:?}");
            assert!(!matches!(it.report(12, false)[..], [Say::Announce(_), ..]), "{before:?}");
            let anew = Peer { claimed: Revision(13), ..peer(NodeState::Joining) };
            assert!(it.change(Change::Peer(anew)).is_empty(), "13: {before:?}");
            assert_eq!(it.report(13, false), [Say::Announce(announcement()), ack(13)], "{before:?}");
        }
        // A stream that is resumed without a delta: the retained view is past the claim, and counts.
        let mut it = Fixture::new();
        it.change(Change::Peer(peer(NodeState::Ready)));
        let mut of = |revision, node: &str| {
            let claim = claim_at(&it, revision);
            it.dialogue = Dialogue::new(node.parse().unwrap(), Some(&claim));
            it.dialogue.on_view(&it.view)
        };
        assert!(of(4, "host1").is_empty(), "the claim that it knows");
        assert_eq!(of(9, "host1"), [Say::Reclaim(Lost::ClaimedAnew)]);
        assert_eq!(of(11, "host2"), [Say::Reclaim(Lost::Gone)]);
    }

    #[test]
    fn a_lost_claim_is_claimed_anew() {
        let mut it = Fixture::new();
        let said = it.change(Change::PeerRemoved("host1".parse().unwrap()));
        assert!(matches!(&said[..], [Say::Reclaim(_)]), "{said:?}");
        let mut it = Fixture::new();
        let anew = Peer { claimed: Revision(11), ..peer(NodeState::Joining) };
        assert!(matches!(&it.change(Change::Peer(anew))[..], [Say::Reclaim(_)]));
    }
}
