mod counted;

use std::{ops::Range, time::Duration};

use proptest::prelude::*;
use sextant_proto::{Control, Incarnation, Peer, PeerClaim};

use super::*;
use crate::{
    cluster::{Snapshot, View},
    kernel::RouteTarget,
    routes::fixture::known,
    state::Uptime,
};

const MINUTE: Duration = Duration::from_secs(60);

fn uptime(boot: &str, uptime: Duration) -> Uptime {
    Uptime { boot_id: boot.into(), millis: u64::try_from(uptime.as_millis()).unwrap() }
}

fn prefix(n: u32) -> Prefix {
    format!("2001:db8:1:{n:x}::/64").parse().unwrap()
}

fn peer(n: u32, state: NodeState) -> Peer {
    Peer {
        name: format!("h{n}").parse().unwrap(),
        claims: vec![PeerClaim::current(prefix(n), "main".parse().unwrap(), Revision(1), state)],
        next_hops: vec![],
        session: true,
        drain_timeout: Duration::ZERO,
    }
}

/// An agent's kernel and view, as far as the brake goes.
#[derive(Debug, Clone)]
struct Bed {
    brake: Brake,
    incarnation: Incarnation,
    revision: u64,
    control: Control,
    peers: BTreeMap<u32, NodeState>,
    kernel: BTreeSet<u32>,
    now: Instant,
}

impl Bed {
    fn with(peers: u32) -> Self {
        let mut bed = Self {
            brake: Brake::default(),
            incarnation: Incarnation::random(),
            revision: 10,
            control: Control::default(),
            peers: (0..peers).map(|n| (n, NodeState::Ready)).collect(),
            kernel: (0..peers).collect(),
            now: Instant::now(),
        };
        assert_eq!(bed.pass(), 0);
        bed
    }

    fn routes(numbers: impl Iterator<Item = u32>) -> Desired {
        let key = |n| RouteKey { table: 254, destination: prefix(n), metric: 512 };
        let routes = numbers.map(|n| (key(n), RouteTarget::Unreachable)).collect();
        Desired { routes, ..Desired::default() }
    }

    /// One pass of the engine; how many routes are held.
    fn pass(&mut self) -> usize {
        let mut view = View::default();
        view.apply_snapshot(Snapshot {
            mark: None,
            incarnation: self.incarnation,
            revision: Revision(self.revision),
            linearizable: true,
            recovering: false,
            control: self.control,
            pools: vec![],
            peers: self.peers.iter().map(|(n, state)| peer(*n, *state)).collect(),
        });
        let ready = |(n, state): (&u32, &NodeState)| (*state == NodeState::Ready).then_some(*n);
        let desired = Self::routes(self.peers.iter().filter_map(ready));
        let actual = Actual { ours: Self::routes(self.kernel.iter().copied()).routes, ..Actual::default() };
        self.brake.judge(&known(&view), &desired, &actual, &Wanted::default(), self.now);
        let held = |n: &u32| self.brake.held.contains(&prefix(*n));
        self.kernel.retain(|n| self.peers.get(n) == Some(&NodeState::Ready) || held(n));
        self.kernel.extend(self.peers.iter().filter_map(ready));
        self.brake.held()
    }

    fn forget(&mut self, numbers: Range<u32>) -> &mut Self {
        self.revision += 1;
        self.peers.retain(|n, _| !numbers.contains(n));
        self
    }

    fn confirmed(&mut self, numbers: Range<u32>) -> &mut Self {
        self.control.confirmed_removals += u64::from(numbers.end - numbers.start);
        self.forget(numbers)
    }

    fn enter(&mut self, numbers: Range<u32>, state: NodeState) -> &mut Self {
        self.revision += 1;
        self.peers.extend(numbers.map(|n| (n, state)));
        self
    }

    fn resume(&mut self) -> &mut Self {
        self.revision += 1;
        self.control.resumed = Revision(self.revision);
        self
    }

    fn restart(&mut self) -> &mut Self {
        self.restart_after(Duration::ZERO, &uptime("a", Duration::ZERO))
    }

    /// The agent is down for so long; afterwards, the host's clock since its boot says `then`. It was at zero of boot "a".
    fn restart_after(&mut self, down: Duration, then: &Uptime) -> &mut Self {
        let kept = self.brake.keep(self.now, uptime("a", Duration::ZERO));
        let read = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
        self.now += down;
        self.brake = Brake::restore(&read, self.now, then).unwrap();
        self
    }

    fn after(&mut self, passed: Duration) -> &mut Self {
        self.now += passed;
        self
    }
}

#[test]
fn few_or_a_small_part_may_go_at_once() {
    let table = [(30, 20, 0), (12, 2, 0), (60, 48, 0), (30, 19, 11), (60, 47, 13)];
    for (peers, left, held) in table {
        assert_eq!(Bed::with(peers).forget(left..peers).pass(), held, "{peers} to {left}");
    }
}

#[test]
fn removals_one_by_one_count_together() {
    let mut bed = Bed::with(62);
    let held: Vec<_> =
        (0..60).map(|n| bed.after(Duration::from_millis(15)).forget(n..n + 1).pass()).collect();
    assert_eq!(held[..12], [0; 12]);
    assert_eq!(held[12..], (1..=48).collect::<Vec<_>>());
    assert_eq!(bed.kernel.len(), 50);
    assert_eq!(bed.restart().pass(), 48, "a restart is no way around it");
    assert_eq!(bed.resume().pass(), 0);
    assert_eq!(bed.kernel.len(), 2);
}

#[test]
fn removals_outside_the_window_do_not_count() {
    let mut bed = Bed::with(60);
    assert_eq!(bed.forget(0..12).pass(), 0);
    assert_eq!(bed.after(WINDOW - MINUTE).forget(12..14).pass(), 2);
    let due = bed.brake.next_due().unwrap();
    assert_eq!(due, bed.now + MINUTE);
    assert_eq!(bed.after(MINUTE).pass(), 0, "the first ones are no longer in the window");
    assert_eq!(bed.brake.next_due(), None);
}

#[test]
fn a_peer_that_is_back_does_not_count() {
    let mut bed = Bed::with(30);
    for n in 0..30 {
        assert_eq!(bed.after(MINUTE / 4).forget(n..n + 1).pass(), 0, "{n}");
        assert_eq!(bed.enter(n..n + 1, NodeState::Ready).pass(), 0);
    }
    assert_eq!(bed.forget(0..30).pass(), 30);
    assert_eq!(bed.enter(0..29, NodeState::Ready).pass(), 0, "one of thirty may go by itself");
}

#[test]
fn drained_peers_do_not_count() {
    let mut bed = Bed::with(40);
    assert_eq!(bed.enter(0..15, NodeState::Draining).pass(), 0);
    assert_eq!(bed.enter(15..30, NodeState::Drained).restart().pass(), 0);
    assert_eq!(bed.forget(0..30).pass(), 0);
    assert_eq!(bed.kernel.len(), 10);
    assert_eq!(bed.forget(30..40).pass(), 0, "the drained ones have not been counted");
}

#[test]
fn a_resume_covers_what_was_held_when_it_was_given() {
    let mut bed = Bed::with(60);
    assert_eq!(bed.forget(0..20).pass(), 20);
    assert_eq!(bed.forget(20..21).pass(), 21, "what comes after waits too");
    assert_eq!(bed.resume().forget(21..40).pass(), 19, "what came in with the resume was not held by then");
    assert_eq!(bed.kernel.len(), 39);
    assert_eq!(bed.resume().pass(), 0);
    assert_eq!(bed.forget(40..50).pass(), 0, "the window is empty");
    assert_eq!(bed.forget(50..51).pass(), 1);
}

#[test]
fn a_resume_empties_the_window_of_an_agent_that_holds_nothing() {
    let mut bed = Bed::with(60);
    assert_eq!(bed.forget(0..12).pass(), 0);
    assert_eq!(bed.resume().forget(12..22).pass(), 0);
}

#[test]
fn confirmed_removals_do_not_count() {
    let mut bed = Bed::with(60);
    assert_eq!(bed.forget(0..12).pass(), 0);
    assert_eq!(bed.confirmed(12..50).pass(), 0);
    assert_eq!(bed.kernel.len(), 10);
    let mut bed = Bed::with(60);
    assert_eq!(bed.forget(0..20).pass(), 20);
    assert_eq!(bed.confirmed(20..40).pass(), 20, "none of the held removals was confirmed");
    // An agent that receives both at once.
    let mut bed = Bed::with(60);
    assert_eq!(bed.confirmed(0..30).restart().forget(30..42).pass(), 0, "12 that count");
    let mut bed = Bed::with(60);
    assert_eq!(bed.confirmed(0..30).forget(30..43).pass(), 43, "13 that count");
}

#[test]
fn a_confirmation_is_used_once() {
    let mut bed = Bed::with(60);
    bed.control.confirmed_removals += 40;
    assert_eq!(bed.pass(), 0, "of nodes that this agent had no routes to");
    assert_eq!(bed.forget(0..20).pass(), 20);
    // A stream to an older controller, which counts none, and back.
    let mut bed = Bed::with(60);
    let known = bed.confirmed(0..30).control;
    bed.pass();
    bed.control.confirmed_removals = 0;
    bed.pass();
    bed.control = known;
    assert_eq!(bed.forget(30..50).pass(), 20);
}

#[test]
fn an_agent_without_a_record_trusts_no_count() {
    let mut bed = Bed::with(60);
    bed.brake = Brake::default();
    bed.control.resumed = Revision(9);
    assert_eq!(bed.confirmed(0..20).pass(), 20);
    let mut bed = Bed::with(60);
    bed.incarnation = Incarnation::random();
    assert_eq!(bed.confirmed(0..20).pass(), 20, "another store counts anew");
}

#[test]
fn departures_age_by_the_time_since_the_boot_while_the_agent_is_down() {
    for (down, held) in [(0, 1), (5, 1), (9, 0)] {
        let mut bed = Bed::with(60);
        bed.forget(0..12).pass();
        bed.after(MINUTE).restart_after(down * MINUTE, &uptime("a", down * MINUTE));
        assert_eq!(bed.forget(12..13).pass(), held, "{down} minutes");
    }
    let mut bed = Bed::with(60);
    bed.forget(0..12).pass();
    bed.restart_after(1000 * MINUTE, &uptime("b", 900 * MINUTE));
    assert_eq!(bed.forget(12..13).pass(), 1, "another boot: how long the host was down is not known");
}

#[derive(Debug, Clone)]
enum Step {
    Forget(u32),
    Back(u32),
    Drain(u32),
    Restart,
    Pass,
    After(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0u32..40;
    prop_oneof![
        6 => node.clone().prop_map(Step::Forget),
        2 => node.clone().prop_map(Step::Back),
        1 => node.prop_map(Step::Drain),
        1 => Just(Step::Restart),
        4 => Just(Step::Pass),
        2 => (0u64..300).prop_map(Step::After),
    ]
}

proptest! {
    /// Whatever comes in whatever order: of the peers that were forgotten and are absent, no more than the limit have lost
    /// their routes within any window, and nobody who is announced is without one.
    #[test]
    fn no_more_than_the_limit_goes_within_a_window(steps in proptest::collection::vec(step(), 0..120)) {
        let mut bed = Bed::with(40);
        let mut went: BTreeMap<u32, Instant> = BTreeMap::new();
        let mut drained: BTreeSet<u32> = BTreeSet::new();
        for step in steps {
            match step {
                Step::Forget(n) => { bed.forget(n..n + 1); }
                Step::Back(n) => { bed.enter(n..n + 1, NodeState::Ready); drained.remove(&n); }
                Step::Drain(n) if bed.peers.contains_key(&n) => { bed.enter(n..n + 1, NodeState::Drained); drained.insert(n); }
                Step::Drain(_) | Step::Pass => {}
                Step::Restart => { bed.restart(); }
                Step::After(secs) => { bed.after(Duration::from_secs(secs)); }
            }
            let before = bed.kernel.clone();
            bed.pass();
            let lost = before.difference(&bed.kernel).filter(|n| !drained.contains(n));
            went.extend(lost.map(|n| (*n, bed.now)));
            let kernel = &bed.kernel;
            went.retain(|n, at| *at + WINDOW > bed.now && !kernel.contains(n));
            prop_assert!(went.len() <= limit(40), "{went:?}");
            let ready = bed.peers.iter().filter(|(_, state)| **state == NodeState::Ready);
            prop_assert!(ready.map(|(n, _)| n).all(|n| bed.kernel.contains(n)));
        }
    }
}
