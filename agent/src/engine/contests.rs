//! Somebody who keeps undoing our routes is met with patience, not with a fight: a route is put back at once some times
//! (DESIGN I9), then less and less often, and a person is told once. Pure.

use std::{collections::BTreeMap, time::Duration};

use sextant_proto::FailedRoute;
use tokio::time::Instant;

use crate::kernel::{Change, RouteKey, RouteProtocol};

/// So often a route is put back at once.
const FREE: u32 = 10;
/// Then after this long, doubled each time up to the most.
const FIRST_HOLD: Duration = Duration::from_secs(1);
const MAX_HOLD: Duration = Duration::from_secs(30);
/// Whoever has left a route alone for so long has ended.
const FORGOTTEN: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Contest {
    undone: u32,
    last: Instant,
    hold: Duration,
    until: Instant,
    /// Of the route that was put into the place of ours, if one was.
    by: Option<RouteProtocol>,
}

/// What was undone lately, by route.
#[derive(Debug, Default)]
pub(super) struct Contests {
    by_key: BTreeMap<RouteKey, Contest>,
    told: bool,
}

/// Something to tell a person.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) key: RouteKey,
    pub(super) by: String,
    pub(super) times: u32,
}

impl Contests {
    /// Somebody has changed or taken away what stood at `key`, by a route of the protocol `by` if it was replaced. The first
    /// time that this is too often, it is news.
    pub(super) fn undone(&mut self, key: RouteKey, by: Option<RouteProtocol>, now: Instant) -> Option<News> {
        self.forget(now);
        let contest = self.by_key.entry(key).or_insert(Contest {
            undone: 0,
            last: now,
            hold: FIRST_HOLD,
            until: now,
            by: None,
        });
        contest.by = by.or(contest.by);
        contest.last = now;
        contest.undone += 1;
        // What is undone in one go counts once for the hold.
        if contest.undone <= FREE || contest.until > now {
            return None;
        }
        contest.until = now + contest.hold;
        contest.hold = (contest.hold * 2).min(MAX_HOLD);
        if std::mem::replace(&mut self.told, true) {
            return None;
        }
        Some(News { key, by: name(contest.by), times: contest.undone })
    }

    /// The uplinks have changed: what the kernel took away with them was nobody's doing.
    pub(super) fn calm(&mut self) {
        self.by_key.clear();
        self.told = false;
    }

    /// `changes` without those that somebody would undo at once.
    pub(super) fn due(&self, mut changes: Vec<Change>, now: Instant) -> Vec<Change> {
        let held =
            |change: &Change| self.by_key.get(&change.route().key).is_some_and(|contest| contest.until > now);
        if !self.by_key.is_empty() {
            changes.retain(|change| !held(change));
        }
        changes
    }

    /// Until when a route is not put back, if it is not at once.
    pub(super) fn until(&self, key: &RouteKey, now: Instant) -> Option<Instant> {
        self.by_key.get(key).map(|contest| contest.until).filter(|until| *until > now)
    }

    /// When a route is put back, or a contest is over.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let next = |contest: &Contest| match contest.until {
            until if until > now => until,
            _ => contest.last + FORGOTTEN,
        };
        self.by_key.values().map(next).min()
    }

    /// Those contests that go on.
    pub(super) fn routes(&mut self, now: Instant) -> Vec<FailedRoute> {
        self.forget(now);
        let lasting = self.by_key.iter().filter(|(_, contest)| contest.undone > FREE);
        let told = |(key, contest): (&RouteKey, &Contest)| FailedRoute {
            destination: key.destination,
            error: format!("{} keeps undoing it; it is put back only now and then", name(contest.by)),
        };
        lasting.map(told).collect()
    }

    fn forget(&mut self, now: Instant) {
        self.by_key.retain(|_, contest| contest.last + FORGOTTEN > now);
        self.told &= !self.by_key.is_empty();
    }
}

fn name(by: Option<RouteProtocol>) -> String {
    match by {
        Some(protocol) => format!("proto {protocol}"),
        None => "somebody who only deletes".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{OwnRoute, RouteTarget};

    fn key(n: u8) -> RouteKey {
        let destination = format!("2001:db8:{n:x}::/64").parse().unwrap();
        RouteKey { table: 254, destination, metric: 512 }
    }

    fn change(n: u8) -> Change {
        Change::Add(OwnRoute { key: key(n), target: RouteTarget::Unreachable })
    }

    const STATIC: Option<RouteProtocol> = Some(RouteProtocol(4));

    #[test]
    fn a_route_is_put_back_at_once_some_times_and_then_less_often() {
        let (mut contests, start) = (Contests::default(), Instant::now());
        let mut now = start;
        let (mut put_back, mut news) = (0, 0);
        while now < start + Duration::from_secs(300) {
            if !contests.due(vec![change(1)], now).is_empty() {
                put_back += 1;
                news += usize::from(contests.undone(key(1), STATIC, now).is_some());
            }
            assert_eq!(contests.due(vec![change(2)], now), [change(2)], "others are not held");
            now += Duration::from_millis(50);
        }
        assert!((FREE + 10..FREE + 20).contains(&put_back), "{put_back}");
        assert_eq!(news, 1);
        let told = contests.routes(now);
        assert!(told[0].error.starts_with("proto static keeps undoing it"), "{told:?}");
    }

    #[test]
    fn one_warning_for_one_who_undoes_much() {
        let (mut contests, now) = (Contests::default(), Instant::now());
        let news: Vec<_> = (0..50u8)
            .flat_map(|round| (0..100).map(move |n| (round, n)))
            .filter_map(|(round, n)| {
                contests.undone(key(n), None, now + Duration::from_millis(100) * round.into())
            })
            .collect();
        let by = "somebody who only deletes".to_owned();
        assert_eq!(news, [News { key: key(0), by, times: FREE + 1 }]);
    }

    #[test]
    fn who_has_ended_is_forgotten() {
        let (mut contests, start) = (Contests::default(), Instant::now());
        (0..20).for_each(|_| drop(contests.undone(key(1), None, start)));
        assert_eq!(contests.next_due(start), Some(start + FIRST_HOLD));
        let back = start + FIRST_HOLD;
        assert_eq!(contests.due(vec![change(1)], back), [change(1)]);
        assert_eq!(contests.next_due(back), Some(start + FORGOTTEN));
        assert_eq!(contests.routes(start + FORGOTTEN), []);
        assert_eq!(contests.next_due(start + FORGOTTEN), None);
        (0..20).for_each(|_| drop(contests.undone(key(1), None, start)));
        contests.calm();
        assert_eq!(contests.due(vec![change(1)], start), [change(1)]);
    }
}
