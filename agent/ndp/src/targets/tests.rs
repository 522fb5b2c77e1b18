use super::{asking::*, *};
use crate::limits::Urgency;

const MAC: Mac = [2, 0, 0, 0, 0, 9];
const SEAT: Seat = (7, MAC);

fn addr(n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xc000, n)
}

fn waiting() -> Waiting {
    Waiting { link: 2, source: "fe80::1".parse().unwrap(), mac: [2, 0, 0, 0, 0, 1], form: Form::Multicast }
}

fn alive(targets: &Targets) -> Vec<Ipv6Addr> {
    let mut all: Vec<_> = targets.alive().iter().collect();
    all.sort();
    all
}

/// All solicitations up to that time, each with its time.
fn asked(targets: &mut Targets, from: Instant, until: Instant) -> Vec<(u128, Option<Seat>)> {
    let mut all = Vec::new();
    while let Some(now) = targets.next_due().filter(|due| *due <= until) {
        let asks = targets.ask(now, 100, |_| true, |_| true);
        all.extend(asks.into_iter().map(|ask| (now.duration_since(from).as_millis(), ask.seat)));
    }
    all
}

#[test]
fn an_unknown_address_is_asked_for_and_then_forgotten() {
    let (now, mut targets) = (Instant::now(), Targets::default());
    assert!(targets.wait(addr(1), waiting(), now) && targets.wait(addr(1), waiting(), now));
    let asks = asked(&mut targets, now, now + Duration::from_secs(9));
    assert_eq!(asks, [(0, None), (100, None), (300, None)]);
    assert_eq!((targets.all.len(), targets.next_due(), targets.alive().revision()), (0, None, 0));
}

#[test]
fn an_answer_ends_the_wait() {
    let (now, mut targets) = (Instant::now(), Targets::default());
    targets.wait(addr(1), waiting(), now);
    assert_eq!(targets.ask(now, 9, |_| true, |_| true).len(), 1);
    assert_eq!(targets.heard(addr(1), SEAT, now), Some(vec![waiting()]));
    assert_eq!(targets.heard(addr(1), SEAT, now), None, "it is known by now");
    assert_eq!((alive(&targets), targets.alive().revision()), (vec![addr(1)], 1));
}

#[test]
fn a_silent_address_is_asked_where_it_was_and_then_everywhere() {
    let (now, mut targets) = (Instant::now(), Targets::default());
    targets.heard(addr(1), SEAT, now);
    let asks = asked(&mut targets, now, now + Duration::from_secs(31));
    assert_eq!(asks, [(30_000, Some(SEAT)), (30_100, Some(SEAT)), (30_300, None)]);
    assert!(!targets.is_alive(addr(1)) && targets.alive().revision() == 2);
}

#[test]
fn silence_that_could_not_be_heard_ends_no_use() {
    let (now, mut targets) = (Instant::now(), Targets::default());
    targets.adopt(addr(1), now);
    targets.heard(addr(2), SEAT, now);
    let due = now + SILENT;
    let minute = (0..300).map(|n| due + Duration::from_millis(200) * n);
    minute.for_each(|at| assert_eq!(targets.ask(at, 9, |_| false, |_| true), []));
    assert_eq!((alive(&targets).len(), targets.alive().revision()), (2, 2));
    // It begins again once it would be heard, and not where it was interrupted.
    let later = due + Duration::from_secs(70);
    assert_eq!(targets.ask(later, 9, |_| true, |_| true).len(), 2);
    let deaf = later + WAITS[0];
    assert_eq!(targets.ask(deaf, 9, |target| target == addr(2), |_| true).len(), 1);
    let asks = asked(&mut targets, deaf, deaf + Duration::from_secs(9));
    assert_eq!(asks.iter().filter(|(at, _)| *at >= 1000).count(), 3, "{asks:?}");
    assert_eq!(targets.all.len(), 0);
    assert!(targets.wait(addr(3), waiting(), now));
    (0..4).for_each(|n| drop(targets.ask(later + Duration::from_secs(n), 9, |_| false, |_| true)));
    assert_eq!(targets.all.len(), 0, "one that is not known to be in use is not remembered");
}

#[test]
fn a_doubt_is_settled_at_once() {
    let (now, mut targets) = (Instant::now(), Targets::default());
    for (target, seat) in [(addr(1), SEAT), (addr(2), SEAT), (addr(3), (8, MAC)), (addr(4), (7, [3; 6]))] {
        targets.heard(target, seat, now);
    }
    targets.doubt_those(7, Some(MAC), now);
    let doubted: Vec<_> = targets.ask(now, 9, |_| true, |_| true).into_iter().map(|ask| ask.target).collect();
    assert_eq!(doubted, [addr(1), addr(2)]);
    targets.heard(addr(1), SEAT, now);
    targets.doubt(addr(2), now + WAITS[0]);
    asked(&mut targets, now, now + Duration::from_secs(2));
    assert_eq!(alive(&targets), [addr(1), addr(3), addr(4)], "a second doubt restarts nothing");
    targets.doubt_those(7, None, now);
    assert_eq!(targets.ask(now, 9, |_| true, |_| true).len(), 2);
}

#[test]
fn an_address_under_detection_is_asked_for_once_it_may_be_used() {
    let (now, mut targets) = (Instant::now(), Targets::default());
    targets.detected(addr(1), SEAT, now);
    let asks = asked(&mut targets, now, now + Duration::from_millis(1500));
    assert_eq!(asks, [(1000, Some(SEAT)), (1200, Some(SEAT)), (1400, None)], "first who detects, then all");
    assert_eq!(targets.seats.len(), 0, "it is nobody's yet");
    assert_eq!(asked(&mut targets, now, now + Duration::from_secs(60)).len(), 12);
    assert_eq!(targets.all.len(), 0, "somebody objected");
}

/// A container with a shorter retransmission timer, or with an optimistic address (RFC 4429), has it before that.
#[test]
fn an_address_under_detection_is_asked_for_at_once_if_a_neighbour_waits() {
    let (now, mut targets) = (Instant::now(), Targets::default());
    targets.detected(addr(1), SEAT, now);
    let soon = now + Duration::from_millis(50);
    assert!(targets.wait(addr(1), waiting(), soon));
    assert_eq!(targets.ask(soon, 9, |_| true, |_| true), [Ask { target: addr(1), seat: Some(SEAT) }]);
    assert!(targets.wait(addr(1), Waiting { link: 3, ..waiting() }, soon));
    assert_eq!(targets.next_due(), Some(soon + DETECTION_STEP), "once");
    assert_eq!(targets.heard(addr(1), SEAT, soon).map(|all| all.len()), Some(2));
}

/// Many neighbours ask for addresses that no container has, and one container invents addresses.
#[test]
fn a_scan_and_inventions_keep_no_container_from_being_found() {
    let (now, mut targets) = (Instant::now(), Targets::default());
    let invented = (0..1000).filter(|n| {
        targets.detected(addr(*n), SEAT, now);
        targets.all.contains_key(&addr(*n))
    });
    assert!(invented.count() < 100);
    assert!((1000..5000).filter(|n| targets.wait(addr(*n), waiting(), now)).count() >= 500);
    let other = (7, [2, 0, 0, 0, 0, 8]);
    targets.detected(addr(6000), other, now);
    assert!(targets.expect(addr(6001), now), "the engine has a container with it");
    targets.heard(addr(6002), other, now);
    targets.doubt(addr(6002), now);
    // What neighbours ask for is asked for as far as nothing else is.
    let asks = targets.ask(now, 9999, |_| true, |urgency| urgency == Urgency::High);
    let asked: Vec<_> = asks.iter().map(|ask| ask.target).collect();
    assert_eq!(asked, [addr(6001), addr(6002)]);
    let asks = targets.ask(now + DETECTION, 9999, |_| true, |urgency| urgency == Urgency::High);
    assert!(asks.contains(&Ask { target: addr(6000), seat: Some(other) }), "{asks:?}");
    for target in [6000, 6001, 6002] {
        targets.heard(addr(target), other, now + DETECTION);
    }
    assert_eq!(alive(&targets).len(), 3);
    // All places are given back.
    targets.keep(|_| false);
    assert!(targets.sizes().iter().all(|(_, size, _)| *size == 0), "{:?}", targets.sizes());
}

#[test]
fn a_solicitation_to_all_containers_waits_and_those_to_one_do_not() {
    let (now, mut targets) = (Instant::now(), Targets::default());
    targets.heard(addr(1), SEAT, now);
    targets.doubt(addr(1), now);
    targets.expect(addr(2), now);
    let asks = targets.ask(now, 9, |_| true, |_| false);
    assert_eq!(asks, [Ask { target: addr(1), seat: Some(SEAT) }]);
    assert_eq!(targets.next_due(), Some(now + LATER));
    let asks = targets.ask(now + LATER, 9, |_| true, |_| true);
    assert_eq!(asks, [Ask { target: addr(2), seat: None }]);
    // The last question goes to all: while it must wait, the address is not gone.
    let mut later = now + LATER;
    for _ in 0..100 {
        later += LATER;
        targets.ask(later, 9, |_| true, |_| false);
    }
    assert!(targets.is_alive(addr(1)));
    assert_eq!(asked(&mut targets, now, later + Duration::from_secs(1)).last().unwrap().1, None);
    assert!(!targets.is_alive(addr(1)));
}

#[test]
fn a_scan_is_not_remembered() {
    let (now, mut targets) = (Instant::now(), Targets::default());
    targets.heard(addr(0), SEAT, now);
    let taken = (1..5000).filter(|n| targets.wait(addr(*n), waiting(), now)).count();
    assert_eq!((taken, targets.all.len()), (512, 513));
    assert_eq!(targets.ask(now, 100, |_| true, |_| true).len(), 100, "as many at once as are asked for");
    assert!(targets.wait(addr(1), Waiting { link: 3, ..waiting() }, now));
    for link in 0..100 {
        targets.wait(addr(1), Waiting { link, ..waiting() }, now);
    }
    assert_eq!(targets.all[&addr(1)].waiting.len(), MOST_WAITING);
    targets.keep(|target| target == addr(0));
    assert_eq!((targets.all.len(), targets.due.len()), (1, 1));
}

#[test]
fn a_container_has_so_many_addresses_and_no_more() {
    let (now, mut targets) = (Instant::now(), Targets::default());
    let taken = (0..5000).filter(|n| targets.heard(addr(*n), SEAT, now).is_some()).count();
    assert_eq!((taken, targets.alive().len()), (MOST_OF_ONE, MOST_OF_ONE));
    assert!(targets.heard(addr(5000), (7, [3; 6]), now).is_some(), "another one");
    assert!(targets.heard(addr(0), SEAT, now).is_none() && targets.is_alive(addr(0)));
    // One that moves makes room.
    targets.heard(addr(0), (7, [3; 6]), now);
    assert!(targets.heard(addr(4000), SEAT, now).is_some());
    targets.keep(|_| false);
    assert_eq!(targets.seats.len(), 0);
}

#[test]
fn what_was_known_before_is_alive_until_it_does_not_answer() {
    let (now, mut targets) = (Instant::now(), Targets::default());
    targets.adopt(addr(1), now + Duration::from_millis(5));
    assert!(targets.is_alive(addr(1)));
    assert_eq!(asked(&mut targets, now, now + Duration::from_secs(1)).len(), 3);
    assert!(!targets.is_alive(addr(1)));
}
