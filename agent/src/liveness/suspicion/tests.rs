//! Suspicion with a simulated clock and kernel.

use sextant_proto::NodeName;

use super::*;

const LINK: u32 = 2;

/// A simulated kernel, with reachable and unreachable neighbours.
struct World {
    suspicion: Suspicion<NodeName>,
    observed: Observed,
    reachable: BTreeSet<Target>,
    open: BTreeMap<Target, Instant>,
    others: Vec<Target>,
    start: Instant,
    now: Instant,
    /// All probes: the time since the start, and the target.
    probes: Vec<(Duration, Target)>,
}

fn target(n: u16) -> Target {
    Target { link: LINK, addr: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n) }
}

fn name(n: u16) -> NodeName {
    format!("h{n}").parse().unwrap()
}

impl World {
    /// The suspects are `numbers`. They are reachable, and so is `other`, which is no suspect.
    fn new(numbers: impl IntoIterator<Item = u16>, other: Option<u16>) -> Self {
        let now = Instant::now();
        let mut world = Self {
            suspicion: Suspicion::new(|| 1.0),
            observed: Observed { usable: [LINK].into(), ..Observed::default() },
            reachable: BTreeSet::new(),
            open: BTreeMap::new(),
            others: other.map(target).into_iter().collect(),
            start: now,
            now,
            probes: Vec::new(),
        };
        world.reachable.extend(world.others.clone());
        let suspects: BTreeMap<_, _> = numbers.into_iter().map(|n| (name(n), target(n))).collect();
        world.reachable.extend(suspects.values());
        world.suspicion.set_suspects(&suspects, now);
        world
    }

    /// Advances the time, and evaluates whenever due.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.suspicion.due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.evaluate();
            self.now += super::super::SPACING;
        }
        self.now = self.now.max(end);
    }

    fn evaluate(&mut self) {
        for (target, since) in self.open.clone() {
            if self.reachable.contains(&target) {
                self.set_state(target, NeighbourState::Reachable);
            } else if self.now - since >= Duration::from_secs(3) {
                self.set_state(target, NeighbourState::Failed);
            }
        }
        for target in self.suspicion.evaluate(&self.observed, &self.others, self.now) {
            self.probes.push((self.now - self.start, target));
            self.observed.neighbours.insert(target, NeighbourState::Probing);
            self.open.entry(target).or_insert(self.now);
        }
    }

    fn set_state(&mut self, target: Target, state: NeighbourState) {
        self.observed.neighbours.insert(target, state);
        self.open.remove(&target);
    }

    fn seen(&self, n: u16) -> Option<Verdict> {
        self.suspicion.verdicts().get(&name(n)).copied()
    }

    /// The times of the probes of suspect `n`, in milliseconds after the start.
    fn probed(&self, n: u16) -> Vec<u128> {
        self.probes.iter().filter(|(_, it)| *it == target(n)).map(|(at, _)| at.as_millis()).collect()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_suspect_that_answers_is_alive_and_probed_at_growing_intervals() {
    let mut world = World::new([2], None);
    assert_eq!(world.seen(2), None, "no verdict before the first probe");
    world.pass(SECOND);
    assert_eq!(world.seen(2), Some(Verdict::Forwarding));
    world.pass(SECOND * 60);
    let probed = world.probed(2);
    let gaps: Vec<_> = probed.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((1000..1500).contains(&gaps[0]), "{gaps:?}");
    assert!(gaps.is_sorted() && (5000..5500).contains(gaps.last().unwrap()), "{gaps:?}");
    assert_eq!(world.probes.len(), probed.len(), "no witness is needed");
}

#[test]
fn a_suspect_that_fails_three_times_is_dead_if_a_witness_answers() {
    let mut world = World::new([2], Some(9));
    world.reachable.remove(&target(2));
    world.pass(SECOND * 9);
    assert_eq!((world.seen(2), world.probed(2).len(), world.probed(9).len()), (None, 3, 0));
    world.pass(SECOND);
    assert_eq!(world.seen(2), Some(Verdict::Dead));
    assert_eq!(world.probed(9).len(), 1, "the witness is probed once");
    world.pass(SECOND * 60);
    assert_eq!((world.seen(2), world.probed(9).len()), (Some(Verdict::Dead), 1));
    let gaps: Vec<_> = world.probed(2).windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(*gaps.last().unwrap() <= 9000, "probes continue: {gaps:?}");
    world.reachable.insert(target(2));
    world.pass(SECOND * 6);
    assert_eq!(world.seen(2), Some(Verdict::Forwarding), "one answer is enough");
}

#[test]
fn verdicts_do_not_change_while_no_neighbour_answers() {
    let mut world = World::new([2, 3], Some(9));
    world.pass(SECOND);
    world.reachable.clear();
    world.pass(SECOND * 120);
    assert_eq!((world.seen(2), world.seen(3)), (Some(Verdict::Forwarding), Some(Verdict::Forwarding)));
    assert!(world.probed(9).len() > 10, "witnesses are probed repeatedly");
    world.reachable.insert(target(3));
    world.pass(SECOND * 20);
    let seen = (world.seen(2), world.seen(3));
    assert_eq!(
        seen,
        (Some(Verdict::Dead), Some(Verdict::Forwarding)),
        "one suspect is the witness for the other"
    );
}

#[test]
fn an_answer_before_the_failure_is_no_evidence() {
    let mut world = World::new([2], Some(9));
    world.observed.neighbours.insert(target(9), NeighbourState::Reachable);
    world.reachable.clear();
    world.pass(SECOND * 60);
    assert_eq!(world.seen(2), None, "the entry is still reachable, but from an older probe");
}

#[test]
fn two_failures_and_an_answer_change_no_verdict() {
    let mut world = World::new([2], Some(9));
    for _ in 0..5 {
        world.reachable.remove(&target(2));
        let probed = world.probed(2).len();
        while world.probed(2).len() < probed + 3 {
            world.pass(SECOND / 10);
        }
        world.reachable.insert(target(2));
        world.pass(SECOND);
        assert_eq!(world.seen(2), Some(Verdict::Forwarding));
    }
}

#[test]
fn a_neighbour_that_packets_keep_resolving_fails_too() {
    let mut world = World::new([2], Some(9));
    world.reachable.remove(&target(2));
    for _ in 0..140 {
        // Each packet to it restarts the kernel's resolution.
        if world.open.contains_key(&target(2)) {
            world.open.insert(target(2), world.now);
        }
        world.pass(SECOND / 10);
    }
    assert_eq!(world.seen(2), Some(Verdict::Dead));
}

#[test]
fn an_uplink_without_carrier_changes_no_verdict() {
    let mut world = World::new([2, 3], Some(9));
    world.reachable.remove(&target(2));
    world.pass(SECOND * 15);
    assert_eq!((world.seen(2), world.seen(3)), (Some(Verdict::Dead), Some(Verdict::Forwarding)));
    world.observed.usable.clear();
    world.observed.neighbours.clear();
    world.reachable.clear();
    let probes = world.probes.len();
    world.pass(SECOND * 60);
    assert_eq!(world.probes.len(), probes, "nothing is probed");
    assert_eq!((world.seen(2), world.seen(3)), (Some(Verdict::Dead), Some(Verdict::Forwarding)));
}

#[test]
fn static_entries_are_not_probed() {
    let mut world = World::new([2], Some(9));
    world.observed.neighbours.insert(target(2), NeighbourState::Fixed);
    world.observed.neighbours.insert(target(8), NeighbourState::Permanent);
    world.pass(SECOND * 60);
    assert_eq!((world.probes.len(), world.seen(2)), (0, None));
}

#[test]
fn the_rate_of_probes_is_limited() {
    let mut world = World::new(1..1000, Some(2000));
    world.pass(SECOND * 120);
    for second in 0..120 {
        let of_second = world.probes.iter().filter(|(at, _)| at.as_secs() == second).count();
        assert!(of_second <= 100, "{of_second} probes in second {second}");
    }
    assert!((1..1000).all(|n| world.seen(n) == Some(Verdict::Forwarding)));
}

#[test]
fn all_dead_suspects_are_detected_by_one_witness() {
    let mut world = World::new(1..300, Some(2000));
    (1..300).for_each(|n| {
        world.reachable.remove(&target(n));
    });
    world.pass(SECOND * 60);
    let alive: Vec<_> = (1..300).filter(|&n| world.seen(n) != Some(Verdict::Dead)).collect();
    assert!(alive.is_empty(), "{alive:?}");
}

#[test]
fn a_suspect_with_a_new_target_is_a_new_suspect() {
    let mut world = World::new([2], Some(9));
    world.reachable.remove(&target(2));
    world.pass(SECOND * 15);
    assert_eq!(world.seen(2), Some(Verdict::Dead));
    world.suspicion.set_suspects(&[(name(2), target(7))].into(), world.now);
    assert_eq!(world.seen(2), None);
    world.suspicion.set_suspects(&BTreeMap::new(), world.now);
    assert_eq!(world.suspicion.due(), None, "nothing to do");
}

#[test]
fn probes_that_cannot_be_sent_prove_nothing() {
    let mut world = World::new([2], Some(9));
    world.reachable.remove(&target(2));
    for _ in 0..100 {
        for target in world.suspicion.evaluate(&world.observed, &world.others, world.now) {
            world.suspicion.probe_failed(target, world.now);
        }
        world.now += SECOND;
    }
    assert_eq!(world.seen(2), None);
}
