use std::time::Duration;

use super::*;
use crate::{
    damping::FORGOTTEN,
    kernel::{Change, NextHop, OwnRoute},
    routes::Step,
};

fn key(n: u8) -> RouteKey {
    let destination = format!("2001:db8:{n:x}::/64").parse().unwrap();
    RouteKey { table: 254, destination, metric: 512 }
}

fn unreachable(n: u8) -> Change {
    Change::Add(OwnRoute { key: key(n), target: RouteTarget::Unreachable })
}

fn forwarding(n: u8) -> Change {
    let hop = NextHop { gateway: Some("2001:db8::9".parse().unwrap()), link: 2, onlink: false };
    Change::Add(OwnRoute { key: key(n), target: RouteTarget::Via([hop].into_iter().collect()) })
}

/// Those of `changes` that are not held back.
fn due(damping: &mut Damping, changes: Vec<Change>, now: Instant) -> Vec<Change> {
    let hold = |change: &Change| damping.until(&change.route().key, now).map(Hold::Damped);
    let planned = |change: Change| Planned { hold: hold(&change), change, step: Step::Lead };
    let mut planned: Vec<_> = changes.into_iter().map(planned).collect();
    damping.limit(&mut planned, now);
    planned.into_iter().filter(|it| it.hold.is_none()).map(|it| it.change).collect()
}

const STATIC: Option<RouteProtocol> = Some(RouteProtocol(4));
const OURS: Option<RouteProtocol> = Some(RouteProtocol::OURS);
const MINUTE: Duration = Duration::from_secs(60);

/// How often a route that is changed as soon as it is back, but at most every 50 ms, is put back within five minutes.
fn put_back(change: &Change, unreachable: bool, by: Option<RouteProtocol>) -> (u32, u32, String) {
    let start = Instant::now();
    let mut damping = Damping::new(start);
    let (mut now, mut put_back, mut news) = (start, 0, 0);
    while now < start + 5 * MINUTE {
        if !due(&mut damping, vec![change.clone()], now).is_empty() {
            put_back += 1;
            news += u32::from(damping.undone(change.route().key, unreachable, by, now).is_some());
        }
        let other = forwarding(2);
        assert_eq!(due(&mut damping, vec![other.clone()], now), [other], "others are not held");
        now += Duration::from_millis(50);
    }
    (put_back, news, damping.routes(now)[0].error.clone())
}

#[test]
fn a_route_is_put_back_at_once_some_times_and_then_less_often() {
    let (occupied, news, text) = put_back(&forwarding(1), false, STATIC);
    assert!((20..30).contains(&occupied) && news == 1, "{occupied} {news}");
    assert_eq!(
        text,
        "route repeatedly changed by another process (proto static); backing off; find and stop that process"
    );
    let (deleted, news, text) = put_back(&forwarding(1), false, None);
    assert!((80..110).contains(&deleted) && news == 1, "{deleted} {news}");
    assert_eq!(
        text,
        "route repeatedly changed by another process that deletes it; backing off; find and stop that process"
    );
}

#[test]
fn i11_an_unreachable_is_put_back_each_time() {
    for by in [None, OURS] {
        let (times, news, text) = put_back(&unreachable(1), true, by);
        assert_eq!((times, news), (6000, 1));
        assert!(text.ends_with("restored each time; find and stop that process"), "{text}");
    }
    let (occupied, ..) = put_back(&unreachable(1), true, STATIC);
    assert!((20..30).contains(&occupied), "another protocol's route keeps its back-off: {occupied}");
}

#[test]
fn an_occupant_does_not_damp_what_is_deleted_afterwards() {
    let now = Instant::now();
    let mut damping = Damping::new(now);
    (0..12).for_each(|_| drop(damping.undone(key(1), true, STATIC, now)));
    let later = now + Duration::from_secs(1);
    assert_eq!(due(&mut damping, vec![unreachable(1)], later), [unreachable(1)]);
    damping.undone(key(1), true, None, later);
    assert_eq!(due(&mut damping, vec![unreachable(1)], later), [unreachable(1)]);
}

#[test]
fn all_unreachables_together_are_written_some_hundred_times_a_second() {
    let start = Instant::now();
    let mut damping = Damping::new(start);
    let mut written = 0;
    for millisecond in 0..10_000 {
        let now = start + Duration::from_millis(millisecond);
        let changes: Vec<_> = (0..10).map(unreachable).collect();
        changes.iter().for_each(|change| drop(damping.undone(change.route().key, true, None, now)));
        written += due(&mut damping, changes, now).len();
    }
    let most = UNREACHABLES_PER_SECOND as usize * 11;
    assert!((most - 200..=most).contains(&written), "{written}");
    let now = start + Duration::from_secs(10);
    assert!(
        damping.next_due(now).is_some_and(|due| due <= now + Duration::from_millis(20)),
        "tried again soon"
    );
}

#[test]
fn one_warning_for_one_who_changes_much() {
    let now = Instant::now();
    let mut damping = Damping::new(now);
    let news: Vec<_> = (0..50u8)
        .flat_map(|round| (0..100).map(move |n| (round, n)))
        .filter_map(|(round, n)| {
            damping.undone(key(n), false, None, now + Duration::from_millis(100) * round.into())
        })
        .collect();
    assert_eq!(news, [FlapWarning { key: key(0), by: name(None), times: REPORTED + 1 }]);
}

#[test]
fn a_route_that_is_left_alone_is_no_longer_damped() {
    let start = Instant::now();
    let mut damping = Damping::new(start);
    let flap = |damping: &mut Damping, now| {
        (0..11).for_each(|_| drop(damping.undone(key(1), false, STATIC, now)));
    };
    flap(&mut damping, start);
    let back = start + Duration::from_secs(1);
    assert_eq!(damping.next_due(start), Some(back));
    assert_eq!(due(&mut damping, vec![forwarding(1)], back), [forwarding(1)]);
    assert_eq!(damping.next_due(back), Some(start + FORGOTTEN));
    assert_eq!(damping.routes(start + FORGOTTEN), []);
    assert_eq!(damping.next_due(start + FORGOTTEN), None);
    flap(&mut damping, start);
    damping.forget_all();
    assert_eq!(due(&mut damping, vec![forwarding(1)], start), [forwarding(1)]);
}
