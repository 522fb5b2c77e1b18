//! Suspicion, with a clock and a kernel that do as they are told.

use sextant_proto::NodeName;

use super::*;

const LINK: u32 = 2;

/// A kernel with neighbours that are there or not, and answer as the real one does.
struct World {
    suspicion: Suspicion<NodeName>,
    sight: Sight,
    there: BTreeSet<Target>,
    open: BTreeMap<Target, Instant>,
    others: Vec<Target>,
    start: Instant,
    now: Instant,
    /// All asks: how long after the start, and who.
    asks: Vec<(Duration, Target)>,
}

fn target(n: u16) -> Target {
    Target { link: LINK, addr: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n) }
}

fn name(n: u16) -> NodeName {
    format!("h{n}").parse().unwrap()
}

impl World {
    /// The suspects are `numbers`, all of them there, and so is `other`, who is none.
    fn new(numbers: impl IntoIterator<Item = u16>, other: Option<u16>) -> Self {
        let now = Instant::now();
        let mut world = Self {
            suspicion: Suspicion::new(|| 1.0),
            sight: Sight { usable: [LINK].into(), ..Sight::default() },
            there: BTreeSet::new(),
            open: BTreeMap::new(),
            others: other.map(target).into_iter().collect(),
            start: now,
            now,
            asks: Vec::new(),
        };
        world.there.extend(world.others.clone());
        let suspects: BTreeMap<_, _> = numbers.into_iter().map(|n| (name(n), target(n))).collect();
        world.there.extend(suspects.values());
        world.suspicion.suspect(&suspects, now);
        world
    }

    /// Lets time pass, looking whenever a look is due.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.suspicion.due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.look();
            self.now += super::super::SPACING;
        }
        self.now = self.now.max(end);
    }

    fn look(&mut self) {
        for (target, since) in self.open.clone() {
            if self.there.contains(&target) {
                self.become_state(target, NeighbourState::Reachable);
            } else if self.now - since >= Duration::from_secs(3) {
                self.become_state(target, NeighbourState::Failed);
            }
        }
        for target in self.suspicion.look(&self.sight, &self.others, self.now) {
            self.asks.push((self.now - self.start, target));
            self.sight.neighbours.insert(target, NeighbourState::Probing);
            self.open.entry(target).or_insert(self.now);
        }
    }

    fn become_state(&mut self, target: Target, state: NeighbourState) {
        self.sight.neighbours.insert(target, state);
        self.open.remove(&target);
    }

    fn seen(&self, n: u16) -> Option<Verdict> {
        self.suspicion.verdicts().get(&name(n)).copied()
    }

    /// When suspect `n` was asked, in milliseconds after the start.
    fn asked(&self, n: u16) -> Vec<u128> {
        self.asks.iter().filter(|(_, it)| *it == target(n)).map(|(at, _)| at.as_millis()).collect()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn one_that_answers_forwards_and_is_asked_less_and_less_often() {
    let mut world = World::new([2], None);
    assert_eq!(world.seen(2), None, "nothing is known before it was asked");
    world.pass(SECOND);
    assert_eq!(world.seen(2), Some(Verdict::Forwarding));
    world.pass(SECOND * 60);
    let asked = world.asked(2);
    let gaps: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!((1000..1500).contains(&gaps[0]), "{gaps:?}");
    assert!(gaps.is_sorted() && (5000..5500).contains(gaps.last().unwrap()), "{gaps:?}");
    assert_eq!(world.asks.len(), asked.len(), "no witness is needed");
}

#[test]
fn one_that_fails_three_times_is_dead_if_another_answers() {
    let mut world = World::new([2], Some(9));
    world.there.remove(&target(2));
    world.pass(SECOND * 9);
    assert_eq!((world.seen(2), world.asked(2).len(), world.asked(9).len()), (None, 3, 0));
    world.pass(SECOND);
    assert_eq!(world.seen(2), Some(Verdict::Dead));
    assert_eq!(world.asked(9).len(), 1, "the witness is asked once");
    world.pass(SECOND * 60);
    assert_eq!((world.seen(2), world.asked(9).len()), (Some(Verdict::Dead), 1));
    let gaps: Vec<_> = world.asked(2).windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(*gaps.last().unwrap() <= 9000, "it goes on asking: {gaps:?}");
    world.there.insert(target(2));
    world.pass(SECOND * 6);
    assert_eq!(world.seen(2), Some(Verdict::Forwarding), "one answer is enough");
}

#[test]
fn where_nobody_answers_what_was_stays() {
    let mut world = World::new([2, 3], Some(9));
    world.pass(SECOND);
    world.there.clear();
    world.pass(SECOND * 120);
    assert_eq!((world.seen(2), world.seen(3)), (Some(Verdict::Forwarding), Some(Verdict::Forwarding)));
    assert!(world.asked(9).len() > 10, "witnesses are asked for again and again");
    world.there.insert(target(3));
    world.pass(SECOND * 20);
    let seen = (world.seen(2), world.seen(3));
    assert_eq!(
        seen,
        (Some(Verdict::Dead), Some(Verdict::Forwarding)),
        "one suspect testifies against the other"
    );
}

#[test]
fn an_answer_from_before_the_failure_is_no_testimony() {
    let mut world = World::new([2], Some(9));
    world.sight.neighbours.insert(target(9), NeighbourState::Reachable);
    world.there.clear();
    world.pass(SECOND * 60);
    assert_eq!(world.seen(2), None, "the entry still says reachable, and nobody has asked since");
}

#[test]
fn two_failures_and_an_answer_are_nothing() {
    let mut world = World::new([2], Some(9));
    for _ in 0..5 {
        world.there.remove(&target(2));
        let asked = world.asked(2).len();
        while world.asked(2).len() < asked + 3 {
            world.pass(SECOND / 10);
        }
        world.there.insert(target(2));
        world.pass(SECOND);
        assert_eq!(world.seen(2), Some(Verdict::Forwarding));
    }
}

#[test]
fn a_neighbour_that_others_keep_asking_fails_too() {
    let mut world = World::new([2], Some(9));
    world.there.remove(&target(2));
    for _ in 0..140 {
        // Each packet to it begins the kernel's own resolution anew.
        if world.open.contains_key(&target(2)) {
            world.open.insert(target(2), world.now);
        }
        world.pass(SECOND / 10);
    }
    assert_eq!(world.seen(2), Some(Verdict::Dead));
}

#[test]
fn an_uplink_without_carrier_says_nothing() {
    let mut world = World::new([2, 3], Some(9));
    world.there.remove(&target(2));
    world.pass(SECOND * 15);
    assert_eq!((world.seen(2), world.seen(3)), (Some(Verdict::Dead), Some(Verdict::Forwarding)));
    world.sight.usable.clear();
    world.sight.neighbours.clear();
    world.there.clear();
    let asks = world.asks.len();
    world.pass(SECOND * 60);
    assert_eq!(world.asks.len(), asks, "nobody is asked");
    assert_eq!((world.seen(2), world.seen(3)), (Some(Verdict::Dead), Some(Verdict::Forwarding)));
}

#[test]
fn an_entry_set_by_hand_is_left_alone() {
    let mut world = World::new([2], Some(9));
    world.sight.neighbours.insert(target(2), NeighbourState::Fixed);
    world.sight.neighbours.insert(target(8), NeighbourState::Fixed);
    world.pass(SECOND * 60);
    assert_eq!((world.asks.len(), world.seen(2)), (0, None));
}

#[test]
fn many_suspects_make_no_storm() {
    let mut world = World::new(1..1000, Some(2000));
    world.pass(SECOND * 120);
    for second in 0..120 {
        let of_second = world.asks.iter().filter(|(at, _)| at.as_secs() == second).count();
        assert!(of_second <= 100, "{of_second} asks in second {second}");
    }
    assert!((1..1000).all(|n| world.seen(n) == Some(Verdict::Forwarding)));
}

#[test]
fn all_dead_but_a_witness_are_found_dead() {
    let mut world = World::new(1..300, Some(2000));
    (1..300).for_each(|n| {
        world.there.remove(&target(n));
    });
    world.pass(SECOND * 60);
    let alive: Vec<_> = (1..300).filter(|&n| world.seen(n) != Some(Verdict::Dead)).collect();
    assert!(alive.is_empty(), "{alive:?}");
}

#[test]
fn a_suspect_that_is_elsewhere_is_another_one() {
    let mut world = World::new([2], Some(9));
    world.there.remove(&target(2));
    world.pass(SECOND * 15);
    assert_eq!(world.seen(2), Some(Verdict::Dead));
    world.suspicion.suspect(&[(name(2), target(7))].into(), world.now);
    assert_eq!(world.seen(2), None);
    world.suspicion.suspect(&BTreeMap::new(), world.now);
    assert_eq!(world.suspicion.due(), None, "nothing to do");
}

#[test]
fn what_could_not_be_asked_proves_nothing() {
    let mut world = World::new([2], Some(9));
    world.there.remove(&target(2));
    for _ in 0..100 {
        for target in world.suspicion.look(&world.sight, &world.others, world.now) {
            world.suspicion.not_asked(target, world.now);
        }
        world.now += SECOND;
    }
    assert_eq!(world.seen(2), None);
}
