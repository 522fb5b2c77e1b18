//! Tables, and what must hold whatever routers do.

use std::{collections::BTreeSet, net::Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::routes::Hop;

fn prefix(n: u8) -> Prefix {
    format!("2001:db8:{n:x}::/48").parse().unwrap()
}

fn path(hop: u8) -> Arc<ReceivedPath> {
    let hop: Ipv6Addr = format!("2001:db8::{hop:x}").parse().unwrap();
    Arc::new(ReceivedPath {
        hop: Hop { global: Some(hop), link_local: None, router: hop, interface: None },
        local_pref: 100,
        as_path_len: 2,
        origin: 0,
        external: true,
        neighbour_as: 65000,
        med: 0,
    })
}

/// Each prefix that has a path, with the last group of its next hop.
fn text(rib: &Rib) -> String {
    let line = |(prefix, path): (Prefix, Arc<ReceivedPath>)| {
        let hop = path.hop.global.unwrap().segments()[7];
        format!("{:x}>{hop:x}", prefix.addr().segments()[2])
    };
    rib.best().into_iter().map(line).collect::<Vec<_>>().join(" ")
}

#[derive(Debug, Clone, Copy)]
enum Said {
    Up(usize),
    Down(usize),
    Announce(usize, u8),
    Withdraw(usize, u8),
    End(usize),
    /// So many seconds pass.
    Wait(u64),
}

fn hear(rib: &mut Rib, said: Said, now: &mut Instant) {
    match said {
        Said::Up(router) => rib.up(router),
        Said::Down(router) => rib.down(router),
        Said::Announce(router, n) => {
            let hop = u8::try_from(router).unwrap() + 1;
            rib.announce(router, &[prefix(n)], &path(hop), 10).unwrap();
        }
        Said::Withdraw(router, n) => rib.withdraw(router, &[prefix(n)]),
        Said::End(router) => rib.end_of_rib(router, *now),
        Said::Wait(secs) => {
            *now += Duration::from_secs(secs);
            rib.settle(*now);
        }
    }
}

fn check(script: &[(Said, &str)]) {
    let (mut rib, mut now) = (Rib::new(2), Instant::now());
    for (nth, (said, expected)) in script.iter().enumerate() {
        hear(&mut rib, *said, &mut now);
        assert_eq!(text(&rib), *expected, "after {said:?}, number {nth}");
    }
}

use Said::{Announce, Down, End, Up, Wait, Withdraw};

#[test]
fn i5_the_last_path_stays_when_its_router_is_gone_and_goes_when_it_says_so() {
    check(&[
        (Up(0), ""),
        (Announce(0, 1), "1>1"),
        (Announce(0, 2), "1>1 2>1"),
        (Down(0), "1>1 2>1"),
        (Wait(10_000), "1>1 2>1"),
        (Up(0), "1>1 2>1"),
        (Announce(0, 1), "1>1 2>1"),
        (Withdraw(0, 2), "1>1"),
        (Withdraw(0, 1), ""),
    ]);
}

#[test]
fn a_stale_path_is_removed_while_another_router_has_one() {
    check(&[
        (Up(0), ""),
        (Up(1), ""),
        (Announce(0, 1), "1>1"),
        (Announce(1, 1), "1>1"),
        (Announce(1, 2), "1>1 2>2"),
        (Down(0), "1>2 2>2"),
        (Down(1), "1>2 2>2"),
        (Up(0), "1>2 2>2"),
        (Announce(0, 1), "1>1 2>2"),
        (Withdraw(0, 1), "2>2"),
    ]);
}

#[test]
fn a_router_that_is_back_has_time_to_name_what_it_named_before() {
    check(&[
        (Up(0), ""),
        (Announce(0, 1), "1>1"),
        (Announce(0, 2), "1>1 2>1"),
        (Down(0), "1>1 2>1"),
        (Up(0), "1>1 2>1"),
        (End(0), "1>1 2>1"),
        (Wait(119), "1>1 2>1"),
        (Announce(0, 2), "1>1 2>1"),
        (Wait(1), "2>1"),
    ]);
    check(&[
        (Up(0), ""),
        (Announce(0, 1), "1>1"),
        (Down(0), "1>1"),
        (Up(0), "1>1"),
        (End(0), "1>1"),
        (Down(0), "1>1"),
        (Wait(1_000), "1>1"),
    ]);
}

#[test]
fn routes_left_in_the_kernel_may_go_once_all_routers_have_sent_end_of_rib() {
    let (mut rib, mut now) = (Rib::new(2), Instant::now());
    for (said, expected) in [
        (Up(0), false),
        (Up(1), false),
        (End(0), false),
        (Wait(120), false),
        (End(1), false),
        (Wait(120), true),
        (Down(0), true),
    ] {
        hear(&mut rib, said, &mut now);
        assert_eq!(rib.is_complete(), expected, "after {said:?}");
    }
}

#[test]
fn the_best_path_is_the_rfcs() {
    let best = |change: &dyn Fn(&mut ReceivedPath)| {
        let (mut rib, mut better) = (Rib::new(2), ReceivedPath::clone(&path(2)));
        change(&mut better);
        rib.announce(0, &[prefix(1)], &path(1), 10).unwrap();
        rib.announce(1, &[prefix(1)], &Arc::new(better), 10).unwrap();
        text(&rib)
    };
    assert_eq!(best(&|_| {}), "1>1", "else the first router");
    assert_eq!(best(&|path| path.local_pref = 101), "1>2");
    assert_eq!(best(&|path| path.as_path_len = 1), "1>2");
    assert_eq!(best(&|path| (path.local_pref, path.as_path_len) = (99, 1)), "1>1");
    assert_eq!(best(&|path| path.origin = 1), "1>1");
    assert_eq!(best(&|path| path.external = false), "1>1");
    assert_eq!(best(&|path| path.med = 1), "1>1");
    assert_eq!(best(&|path| (path.neighbour_as, path.med) = (64999, 1)), "1>2", "MEDs of two ASes");
}

#[test]
fn more_than_the_most_is_not_taken_and_what_is_renewed_does_not_count_twice() {
    let mut rib = Rib::new(1);
    let many: Vec<_> = (0..5).map(prefix).collect();
    assert_eq!(rib.announce(0, &many[..3], &path(1), 3), Ok(()));
    assert_eq!(rib.announce(0, &many[..3], &path(2), 3), Ok(()));
    assert_eq!(rib.announce(0, &many, &path(3), 3), Err(TooMany));
    assert_eq!((rib.named(0), rib.best().len()), (3, 3));
    rib.withdraw(0, &many[..1]);
    assert_eq!(rib.announce(0, &many[4..], &path(1), 3), Ok(()));
}

fn said() -> impl Strategy<Value = Said> {
    let router = 0..2usize;
    prop_oneof![
        router.clone().prop_map(Up),
        router.clone().prop_map(Down),
        (router.clone(), 0..3u8).prop_map(|(router, n)| Announce(router, n)),
        (router.clone(), 0..3u8).prop_map(|(router, n)| Withdraw(router, n)),
        router.prop_map(End),
        (1..200u64).prop_map(Wait),
    ]
}

proptest! {
    #[test]
    fn nothing_goes_but_by_a_live_routers_word(script in proptest::collection::vec(said(), 0..60)) {
        let (mut rib, mut now) = (Rib::new(2), Instant::now());
        let mut live = [false; 2];
        for said in script {
            // Only a router that is there says anything.
            let speaks = |router: usize| live[router];
            match said {
                Announce(router, _) | Withdraw(router, _) | End(router) if !speaks(router) => continue,
                Up(router) => live[router] = true,
                Down(router) => live[router] = false,
                _ => {}
            }
            let before: BTreeSet<_> = rib.best().into_keys().collect();
            hear(&mut rib, said, &mut now);
            let after: BTreeSet<_> = rib.best().into_keys().collect();
            let gone: Vec<_> = before.difference(&after).copied().collect();
            match said {
                Withdraw(_, n) => prop_assert!(gone.iter().all(|it| *it == prefix(n))),
                Wait(_) => {}
                _ => prop_assert!(gone.is_empty(), "{said:?} took {gone:?} away"),
            }
            for (router, its) in rib.routers.iter().enumerate() {
                let named = rib.prefixes.values().flatten().filter(|it| it.router == router && !it.stale);
                prop_assert_eq!(its.named, named.count());
            }
            // What is stale stands alone.
            for known in rib.prefixes.values() {
                prop_assert!(known.iter().all(|it| it.stale) || known.iter().all(|it| !it.stale));
                prop_assert!(!known.is_empty());
            }
        }
    }
}
