//! Tables of transitions, and two sessions that speak with each other over a line that loses packets.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);
const FAST: Timing = Timing { interval: Duration::from_millis(100), multiplier: 3 };

fn from(state: State) -> Packet {
    Packet {
        diagnostic: 0,
        state,
        poll: false,
        finished: false,
        demand: false,
        multiplier: 3,
        mine: 7,
        yours: 1,
        min_tx: 100 * MS,
        min_rx: 100 * MS,
    }
}

fn session(state: State, now: Instant) -> Session {
    Session { state, ..Session::new(FAST, 1, now) }
}

fn changes(effects: &[Effect]) -> Vec<(State, bool)> {
    let change = |effect: &Effect| match effect {
        Effect::Changed { to, failed } => Some((*to, *failed)),
        Effect::Send(_) => None,
    };
    effects.iter().filter_map(change).collect()
}

fn sent(effects: &[Effect]) -> Vec<Packet> {
    let sent = |effect: &Effect| if let Effect::Send(packet) = effect { Some(*packet) } else { None };
    effects.iter().filter_map(sent).collect()
}

#[test]
fn received_states_change_the_session_as_in_rfc_5880() {
    use State::{AdminDown, Down, Init, Up};
    // RFC 5880 §6.8.6: our state, the neighbour's, and ours after that, if it is another; and whether the way has failed.
    let table = [
        (Down, AdminDown, None),
        (Down, Down, Some((Init, false))),
        (Down, Init, Some((Up, false))),
        (Down, Up, None),
        (Init, AdminDown, Some((Down, false))),
        (Init, Down, None),
        (Init, Init, Some((Up, false))),
        (Init, Up, Some((Up, false))),
        (Up, AdminDown, Some((Down, false))),
        (Up, Down, Some((Down, true))),
        (Up, Init, None),
        (Up, Up, None),
        (AdminDown, Down, None),
        (AdminDown, Up, None),
    ];
    let now = Instant::now();
    for (ours, theirs, expected) in table {
        let (_, effects) = session(ours, now).step(Event::Received(from(theirs)), now, 1.0);
        assert_eq!(changes(&effects), expected.into_iter().collect::<Vec<_>>(), "{ours:?} hears {theirs:?}");
        let at_once = sent(&effects).len();
        assert_eq!(at_once, usize::from(expected.is_some()), "a change is sent at once: {effects:?}");
    }
}

#[test]
fn silence_for_the_detection_time_is_the_end() {
    let now = Instant::now();
    for (state, failed) in [(State::Up, true), (State::Init, false)] {
        let (heard, _) = session(state, now).step(Event::Received(from(State::Up)), now, 1.0);
        let mut it = Session { state, send_at: now + Duration::from_secs(60), ..heard };
        let (still, effects) = it.step(Event::Due, now + 299 * MS, 1.0);
        assert_eq!(effects, [], "{state:?}");
        it = still;
        assert_eq!(it.due(), now + 300 * MS);
        let (gone, effects) = it.step(Event::Due, now + 300 * MS, 1.0);
        assert_eq!(changes(&effects), [(State::Down, failed)]);
        let packet = sent(&effects)[0];
        assert_eq!((packet.diagnostic, packet.yours, packet.min_tx), (1, 0, SLOW), "{packet:?}");
        assert_eq!(changes(&gone.step(Event::Due, now + Duration::from_secs(9), 1.0).1), []);
    }
}

#[test]
fn the_detection_time_is_the_slower_ends_interval_times_the_neighbours_multiplier() {
    let now = Instant::now();
    for (min_tx, multiplier, expected) in [(50, 3, 300), (100, 5, 500), (400, 2, 800)] {
        let packet = Packet { min_tx: min_tx * MS, multiplier, ..from(State::Up) };
        let (it, _) = session(State::Up, now).step(Event::Received(packet), now, 1.0);
        assert_eq!(it.gone_at, Some(now + expected * MS));
    }
}

#[test]
fn a_poll_is_answered_at_once_and_an_answer_ends_ours() {
    let now = Instant::now();
    let (it, effects) = session(State::Init, now).step(Event::Received(from(State::Init)), now, 1.0);
    let packet = sent(&effects)[0];
    assert!(packet.poll && !packet.finished && packet.min_tx == 100 * MS, "our interval is new: {packet:?}");
    let (it, effects) =
        it.step(Event::Received(Packet { poll: true, ..from(State::Up) }), now + 10 * MS, 1.0);
    let answer = sent(&effects)[0];
    assert!(answer.finished && !answer.poll, "never both: {answer:?}");
    let (it, effects) = it.step(Event::Due, now + 100 * MS, 1.0);
    assert!(sent(&effects)[0].poll, "until it is answered");
    let (it, _) = it.step(Event::Received(Packet { finished: true, ..from(State::Up) }), now + 110 * MS, 1.0);
    let (_, effects) = it.step(Event::Due, now + 200 * MS, 1.0);
    assert!(!sent(&effects)[0].poll, "{effects:?}");
}

#[test]
fn packets_are_as_often_as_both_ends_want() {
    let now = Instant::now();
    let next = |min_rx: Duration, draw| {
        let packet = Packet { min_rx, ..from(State::Up) };
        let (it, _) = session(State::Up, now).step(Event::Received(packet), now, draw);
        let (it, effects) = Session { send_at: now, ..it }.step(Event::Due, now, draw);
        (it.send_at - now, sent(&effects).len())
    };
    assert_eq!(next(50 * MS, 1.0), (100 * MS, 1), "ours is the slower one");
    assert_eq!(next(400 * MS, 1.0), (400 * MS, 1), "the neighbour's is");
    assert_eq!(next(100 * MS, 0.0), (75 * MS, 1), "jitter");
    assert_eq!(next(Duration::ZERO, 1.0).1, 0, "it wants none");
}

#[test]
fn a_neighbour_that_comes_faster_is_answered_faster_at_once() {
    let now = Instant::now();
    let slow = Packet { min_rx: Duration::from_secs(1), ..from(State::Up) };
    let (it, _) = session(State::Up, now).step(Event::Received(slow), now, 1.0);
    let (it, _) = it.step(Event::Due, now, 1.0);
    assert_eq!(it.send_at, now + Duration::from_secs(1));
    let (it, _) = it.step(Event::Received(from(State::Up)), now + 50 * MS, 1.0);
    assert_eq!(it.send_at, now + 150 * MS);
}

#[test]
fn a_stop_is_sent_and_is_final() {
    let now = Instant::now();
    let (it, effects) = session(State::Up, now).step(Event::Stop, now, 1.0);
    let packet = sent(&effects)[0];
    assert_eq!((packet.state, packet.diagnostic), (State::AdminDown, 7));
    assert_eq!(changes(&effects), [(State::AdminDown, false)]);
    assert_eq!(it.step(Event::Received(from(State::Down)), now, 1.0).1, []);
}

#[test]
fn a_neighbour_on_demand_is_left_in_peace_once_all_is_well() {
    let now = Instant::now();
    let packet = Packet { demand: true, ..from(State::Up) };
    let (it, _) = session(State::Up, now).step(Event::Received(packet), now, 1.0);
    assert_eq!(sent(&it.step(Event::Due, now + 100 * MS, 1.0).1), []);
}

/// Two sessions, and what is under way between them.
struct Pair {
    ends: [Session; 2],
    now: Instant,
    failures: usize,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        Self { ends: [Session::new(FAST, 1, now), Session::new(FAST, 2, now)], now, failures: 0 }
    }

    /// Lets `time` pass; `lost` says whether the packet of an end is lost.
    fn run(&mut self, time: Duration, mut lost: impl FnMut(usize) -> bool, draw: f64) {
        let end = self.now + time;
        while let Some(due) = self.ends.iter().map(Session::due).min().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            for nth in 0..2 {
                self.step(nth, Event::Due, &mut lost, draw);
            }
        }
        self.now = end;
    }

    fn step(&mut self, nth: usize, event: Event, lost: &mut impl FnMut(usize) -> bool, draw: f64) {
        let (after, effects) = self.ends[nth].step(event, self.now, draw);
        self.ends[nth] = after;
        for effect in effects {
            match effect {
                Effect::Send(packet) if !lost(nth) => {
                    let arrived = Packet::decode(&packet.encode()).unwrap();
                    self.step(1 - nth, Event::Received(arrived), lost, draw);
                }
                Effect::Changed { failed: true, .. } => self.failures += 1,
                _ => {}
            }
        }
    }

    fn states(&self) -> [State; 2] {
        self.ends.map(|end| end.state)
    }
}

#[test]
fn two_ends_find_each_other_and_notice_a_cut_within_the_detection_time() {
    let mut pair = Pair::new();
    pair.run(Duration::from_secs(3), |_| false, 0.5);
    assert_eq!(pair.states(), [State::Up; 2]);
    assert!(pair.ends.iter().all(|end| !end.polling), "each has confirmed the other's interval");
    pair.run(301 * MS, |_| true, 0.5);
    assert_eq!((pair.states(), pair.failures), ([State::Down; 2], 2));
    pair.run(Duration::from_secs(3), |_| false, 0.5);
    assert_eq!(pair.states(), [State::Up; 2]);
}

#[test]
fn a_cut_in_one_direction_takes_both_ends_down() {
    let mut pair = Pair::new();
    pair.run(Duration::from_secs(3), |_| false, 0.5);
    pair.run(Duration::from_secs(1), |from| from == 0, 0.5);
    assert!(pair.states().iter().all(|state| *state != State::Up), "{:?}", pair.states());
    assert_eq!(pair.failures, 2, "the silent direction is reported by the other end");
}

proptest! {
    #[test]
    fn one_lost_packet_of_three_harms_nobody(draw in 0.0..1.0f64, first in 0..3u32) {
        let mut pair = Pair::new();
        pair.run(Duration::from_secs(3), |_| false, draw);
        let mut sent = [first, first];
        pair.run(Duration::from_secs(20), |from| { sent[from] += 1; sent[from] % 3 == 0 }, draw);
        prop_assert_eq!((pair.states(), pair.failures), ([State::Up; 2], 0));
    }

    #[test]
    fn whatever_was_lost_two_ends_find_each_other_again(losses in proptest::collection::vec(any::<bool>(), 0..200)) {
        let mut pair = Pair::new();
        let mut losses = losses.into_iter();
        pair.run(Duration::from_secs(10), |_| losses.next().unwrap_or(false), 0.3);
        pair.run(Duration::from_secs(10), |_| false, 0.3);
        prop_assert_eq!(pair.states(), [State::Up; 2]);
    }
}
