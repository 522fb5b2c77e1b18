//! The messages and effects of views and reports.

use sextant_proto::{Control, Epoch, Incarnation, Peer, PeerClaim, Pool};

use super::*;
use crate::{
    cluster::{Change, Delta, Snapshot},
    engine::AnnouncedClaim,
};

struct Fixture {
    view: View,
    protocol: Protocol,
    incarnation: Incarnation,
    revision: u64,
}

fn peer(state: NodeState) -> Peer {
    Peer {
        name: "host1".parse().unwrap(),
        claims: vec![PeerClaim::current(
            "2001:db8:1::/64".parse().unwrap(),
            "main".parse().unwrap(),
            Revision(4),
            state,
        )],
        next_hops: vec![],
        session: true,
        drain_timeout: Duration::from_secs(7),
    }
}

fn engine_only(engine: &Report) -> Reports {
    Reports { engine: engine.clone(), bgp: vec![], problems: vec![], ndp_proxy: false }
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
        let mut protocol = Protocol::new("host1".parse().unwrap(), &[claim]);
        assert_eq!(protocol.on_view(&view), None);
        Self { view, protocol, incarnation, revision: 10 }
    }

    fn change(&mut self, change: Change) -> Option<Effect> {
        let since = Revision(self.revision);
        self.revision += 1;
        let delta = Delta { since, revision: Revision(self.revision), mark: None, changes: vec![change] };
        self.view.apply_delta(delta).unwrap();
        self.protocol.on_view(&self.view)
    }

    /// All claims that are held.
    fn announcement(&self) -> Announcement {
        let announced = |claim: &OwnClaim| AnnouncedClaim { epoch: claim.epoch, container_prefixes: vec![] };
        Announcement { uplinks: vec![], claims: self.protocol.claims.iter().map(announced).collect() }
    }

    /// The announcement of the first `n` claims.
    fn announces(&self, n: usize) -> Message {
        let mut announcement = self.announcement();
        announcement.claims.truncate(n);
        Message::Announce(announcement)
    }

    fn report(&mut self, revision: u64, withdrawn: bool) -> Vec<Message> {
        let report = Report {
            holding: self.protocol.claims.iter().map(|claim| claim.epoch).collect(),
            applied: Some((self.incarnation, Revision(revision))),
            announcement: Some(self.announcement()),
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
    assert_eq!(fixture.report(10, false), [fixture.announces(1), ack(10)]);
    assert!(fixture.report(10, false).is_empty(), "no message is repeated");
}

#[test]
fn held_routes_are_reported_and_not_acknowledged() {
    let mut fixture = Fixture::new();
    fixture.report(10, false);
    let report = Report { applied: Some((fixture.incarnation, Revision(12))), held: 20, ..Report::default() };
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
    let effect = fixture.change(Change::Peer(peer(NodeState::Draining)));
    assert_eq!(effect, Some(Effect::Settle(Revision(12), Duration::from_secs(7))));
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
    assert!(fixture.change(Change::Peer(peer(NodeState::Joining))).is_none());
    assert!(!fixture.protocol.withdrawn());
    assert_eq!(fixture.report(12, false), [fixture.announces(1), ack(12)]);
}

#[test]
fn a_router_only_acknowledges() {
    let mut fixture = Fixture::new();
    fixture.protocol = Protocol::new("r1".parse().unwrap(), &[]);
    let report = Report { applied: Some((fixture.incarnation, Revision(10))), ..Report::default() };
    assert!(
        fixture.protocol.on_reports(&engine_only(&report)).is_empty(),
        "nothing was received on this stream yet"
    );
    assert!(fixture.protocol.on_view(&fixture.view).is_none());
    assert_eq!(fixture.protocol.on_reports(&engine_only(&report)), [ack(10)]);
    assert!(fixture.change(Change::Peer(peer(NodeState::Draining))).is_none());
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
        fixture.protocol = Protocol::new("host1".parse().unwrap(), &[claim]);
        assert!(fixture.protocol.on_view(&fixture.view).is_none(), "the retained view, at 11: {before:?}");
        assert!(!fixture.protocol.withdrawn(), "{before:?}");
        assert!(fixture.change(Change::Recovering(false)).is_none(), "12: {before:?}");
        assert!(!matches!(fixture.report(12, false)[..], [Message::Announce(_), ..]), "{before:?}");
        let newer = peer(NodeState::Joining).with_each_claim(|claim| claim.claimed = Revision(13));
        assert!(fixture.change(Change::Peer(newer)).is_none(), "13: {before:?}");
        assert_eq!(fixture.report(13, false), [fixture.announces(1), ack(13)], "{before:?}");
    }
    // A resumed stream without a delta: the retained view is newer than the claim, and is of another history.
    let mut fixture = Fixture::new();
    fixture.change(Change::Peer(peer(NodeState::Ready)));
    let mut of = |revision, node: &str| {
        let claim = claim_at(&fixture, revision);
        fixture.protocol = Protocol::new(node.parse().unwrap(), &[claim]);
        why(fixture.protocol.on_view(&fixture.view))
    };
    assert!(of(4, "host1").is_none(), "the claim of the view");
    assert_eq!(of(9, "host1"), Some(Lost::OtherHistory));
    assert_eq!(of(11, "host2"), Some(Lost::NotInStore));
}

/// Why the claim that is to be claimed again has ended.
fn why(effect: Option<Effect>) -> Option<Lost> {
    match effect? {
        Effect::Reclaim(lost) => Some(lost.why),
        Effect::Settle(..) => None,
    }
}

#[test]
fn a_lost_claim_is_claimed_again() {
    let mut fixture = Fixture::new();
    let effect = fixture.change(Change::PeerRemoved("host1".parse().unwrap()));
    assert!(matches!(effect, Some(Effect::Reclaim(_))), "{effect:?}");
    let mut fixture = Fixture::new();
    let newer = peer(NodeState::Joining).with_each_claim(|claim| claim.claimed = Revision(11));
    assert!(matches!(fixture.change(Change::Peer(newer)), Some(Effect::Reclaim(_))));
}

fn ula(state: NodeState) -> PeerClaim {
    PeerClaim::current("fd00:1::/64".parse().unwrap(), "ula".parse().unwrap(), Revision(12), state)
}

/// The node has been granted a second claim, at revision 12.
fn with_second_claim() -> Fixture {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.report(10, false), [fixture.announces(1), ack(10)]);
    fixture.change(Change::Peer(peer(NodeState::Ready)));
    let pool = Pool::new("ula".parse().unwrap(), "fd00::/32".parse().unwrap(), 64, 64).unwrap();
    let epoch = Epoch { incarnation: fixture.incarnation, revision: Revision(12) };
    fixture.protocol.granted(&Claim { prefix: "fd00:1::/64".parse().unwrap(), epoch, pool });
    fixture
}

fn both(state: NodeState, of_ula: NodeState) -> Change {
    let mut peer = peer(state);
    peer.claims.push(ula(of_ula));
    Change::Peer(peer)
}

#[test]
fn a_second_claim_is_announced_beside_the_first_once_its_routes_are_in_the_kernel() {
    let mut fixture = with_second_claim();
    assert_eq!(fixture.report(11, false), [ack(11)], "the view does not have it yet");
    assert!(fixture.change(both(NodeState::Ready, NodeState::Joining)).is_none());
    assert!(fixture.report(11, false).is_empty());
    assert_eq!(fixture.report(12, false), [fixture.announces(2), ack(12)]);
}

#[test]
fn what_is_announced_stays_announced_while_its_state_changes() {
    let mut fixture = with_second_claim();
    fixture.change(both(NodeState::Ready, NodeState::Joining));
    assert_eq!(fixture.report(12, false)[0], fixture.announces(2));
    // The announcement makes it ready, at a revision that the kernel has not applied yet.
    fixture.change(both(NodeState::Ready, NodeState::Ready));
    assert!(fixture.report(12, false).is_empty(), "neither less nor the same again");
    assert_eq!(fixture.report(13, false), [ack(13)]);
}

#[test]
fn a_claim_that_this_controller_has_not_confirmed_stays_announced() {
    let mut fixture = with_second_claim();
    fixture.change(both(NodeState::Ready, NodeState::Ready));
    fixture.report(12, false);
    let both_claims = fixture.announcement();
    let first = Protocol { claims: vec![], ..Protocol::new("host1".parse().unwrap(), &[]) };
    let claims: Vec<_> = fixture.protocol.claims.drain(..1).collect();
    fixture.protocol = Protocol { claims, incarnation: Some(fixture.incarnation), ..first };
    fixture.protocol.on_view(&fixture.view);
    let report = Report {
        holding: both_claims.claims.iter().map(|claim| claim.epoch).collect(),
        applied: Some((fixture.incarnation, Revision(12))),
        announcement: Some(both_claims.clone()),
        ..Report::default()
    };
    let messages = fixture.protocol.on_reports(&engine_only(&report));
    assert_eq!(messages[0], Message::Announce(both_claims));
}

#[test]
fn the_end_of_one_claim_is_noticed_while_the_other_lasts() {
    let mut fixture = with_second_claim();
    fixture.change(both(NodeState::Ready, NodeState::Ready));
    assert_eq!(why(fixture.change(Change::Peer(peer(NodeState::Ready)))), Some(Lost::NotInStore));
}

#[test]
fn a_drain_covers_all_claims() {
    let mut fixture = with_second_claim();
    fixture.change(both(NodeState::Ready, NodeState::Ready));
    let effect = fixture.change(both(NodeState::Draining, NodeState::Draining));
    assert_eq!(effect, Some(Effect::Settle(Revision(13), Duration::from_secs(7))));
    fixture.protocol.settled(vec![]);
    assert!(fixture.report(13, true).contains(&Message::Drained(vec![])));
}
