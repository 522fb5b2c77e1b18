//! What counts as a peer that is gone, and what does not.

use super::*;
use crate::routes::fixture::SETTINGS;

/// A snapshot of these peers.
fn snapshot(bed: &Bed, peers: Vec<Peer>) -> Snapshot {
    Snapshot {
        mark: None,
        incarnation: bed.incarnation,
        revision: Revision(bed.revision),
        linearizable: true,
        recovering: false,
        control: bed.control,
        pools: vec![],
        peers,
    }
}

fn view(snapshot: Snapshot) -> View {
    let mut view = View::default();
    view.apply_snapshot(snapshot);
    view
}

/// A pass in which no route is desired, and all are in the kernel; how many are held.
fn without_any(bed: &mut Bed, known: &Known<'_>) -> usize {
    let actual = Actual { ours: Bed::routes(bed.kernel.iter().copied()).routes, ..Actual::default() };
    bed.brake.judge(known, &Desired::default(), &actual, &Wanted::default(), bed.now);
    bed.brake.held()
}

#[test]
fn a_peer_that_is_not_announced_any_more_is_gone() {
    assert_eq!(Bed::with(30).enter(0..20, NodeState::Joining).pass(), 20);
}

#[test]
fn a_prefix_that_this_host_holds_now_is_that_of_no_peer() {
    let mut bed = Bed::with(30);
    let claims: Vec<_> = (0..20).flat_map(|n| peer(n, NodeState::Ready).claims).collect();
    let others = (20..30).map(|n| peer(n, NodeState::Ready));
    let of = |name: &str| Peer {
        name: name.parse().unwrap(),
        claims: claims.clone(),
        ..peer(0, NodeState::Ready)
    };
    let (own, other) = (of("host1"), of("host2"));
    let moved = view(snapshot(&bed, others.clone().chain([other]).collect()));
    assert_eq!(without_any(&mut bed.clone(), &known(&moved)), 0, "another host holds them");
    let moved = view(snapshot(&bed, others.chain([own]).collect()));
    assert_eq!(without_any(&mut bed, &known(&moved)), 20);
}

#[test]
fn on_a_drained_host_nothing_is_judged() {
    let mut bed = Bed::with(30);
    let empty = view(snapshot(&bed, vec![]));
    let drained = Known { withdrawn: true, ..known(&empty) };
    assert_eq!(without_any(&mut bed, &drained), 0);
    assert_eq!(bed.forget(0..10).pass(), 0, "nothing has counted");
}

#[test]
fn routes_that_may_not_go_yet_are_not_judged() {
    let mut bed = Bed::with(30);
    let recovering = view(Snapshot { recovering: true, ..snapshot(&bed, vec![]) });
    assert_eq!(without_any(&mut bed, &known(&recovering)), 0);
}

#[test]
fn a_route_that_leads_to_no_peer_does_not_count() {
    let mut bed = Bed::with(30);
    let empty = view(snapshot(&bed, vec![]));
    for (table, metric) in [(254, SETTINGS.unreachable_metric), (77, SETTINGS.metric)] {
        let key = |n| RouteKey { table, destination: prefix(n), metric };
        let ours = (0..30).map(|n| (key(n), RouteTarget::Unreachable)).collect();
        let actual = Actual { ours, ..Actual::default() };
        bed.brake.judge(&known(&empty), &Desired::default(), &actual, &Wanted::default(), bed.now);
        assert_eq!(bed.brake.held(), 0, "table {table}, metric {metric}");
    }
}

#[test]
fn a_view_that_is_empty_yet_ends_no_count() {
    let mut bed = Bed::with(30);
    assert_eq!(without_any(&mut bed, &known(&View::default())), 0);
    assert_eq!(bed.confirmed(0..20).pass(), 0, "the same store as before");
}

#[test]
fn of_removals_at_once_as_many_as_were_confirmed_do_not_count() {
    let mut bed = Bed::with(30);
    assert_eq!(bed.confirmed(0..5).forget(5..10).pass(), 0);
    assert_eq!(bed.forget(10..15).pass(), 0, "five and five");
    assert_eq!(bed.forget(15..16).pass(), 1);
}
