use std::time::Duration;

use sextant_proto::{Control, NodeState, PeerClaim};

use super::*;

fn name(n: u8) -> NodeName {
    format!("host{n}").parse().unwrap()
}

fn peer(n: u8) -> Peer {
    Peer {
        name: name(n),
        claims: vec![PeerClaim::current(
            format!("2001:db8:{n:x}::/64").parse().unwrap(),
            "main".parse().unwrap(),
            Revision(n.into()),
            NodeState::Ready,
        )],
        next_hops: vec![],
        session: true,
        drain_timeout: Duration::ZERO,
    }
}

fn joining(n: u8) -> Peer {
    peer(n).in_state(NodeState::Joining)
}

struct Store(Incarnation);

impl Store {
    fn new() -> Self {
        Self(Incarnation::random())
    }

    fn snapshot(&self, revision: u64, peers: &[u8]) -> Snapshot {
        Snapshot {
            mark: None,
            incarnation: self.0,
            revision: Revision(revision),
            linearizable: true,
            recovering: false,
            control: Control::default(),
            pools: vec![],
            peers: peers.iter().map(|&n| peer(n)).collect(),
        }
    }
}

fn delta(since: u64, revision: u64, changes: Vec<Change>) -> Delta {
    Delta { since: Revision(since), revision: Revision(revision), mark: None, changes }
}

fn names(view: &View) -> Vec<String> {
    view.peers().map(|peer| peer.name.to_string()).collect()
}

#[test]
fn a_current_snapshot_deletes_by_absence() {
    let (store, mut view) = (Store::new(), View::default());
    view.apply_snapshot(store.snapshot(5, &[1, 2]));
    view.apply_snapshot(store.snapshot(9, &[2, 3]));
    assert_eq!(names(&view), ["host2", "host3"]);
    assert!(view.is_complete());
}

#[test]
fn a_stale_controller_deletes_nothing() {
    let (store, mut view) = (Store::new(), View::default());
    view.apply_snapshot(store.snapshot(5, &[1, 2]));
    view.apply_snapshot(Snapshot { linearizable: false, ..store.snapshot(9, &[3]) });
    assert_eq!(names(&view), ["host1", "host2", "host3"], "not linearizable");
    assert!(!view.is_complete());
    assert_eq!(view.resumes_at(), None);

    let mut view = View::default();
    view.apply_snapshot(store.snapshot(5, &[1, 2]));
    view.apply_snapshot(store.snapshot(4, &[3]));
    assert_eq!(names(&view), ["host1", "host2", "host3"], "older than what is applied");
    assert_eq!(view.revision(), Revision(5));
}

#[test]
fn a_stale_controller_that_catches_up_tells_nothing_twice() {
    let (store, mut view) = (Store::new(), View::default());
    view.apply_snapshot(store.snapshot(5, &[1]));
    view.apply_delta(delta(5, 6, vec![Change::PeerRemoved(name(1))])).unwrap();
    view.apply_snapshot(store.snapshot(4, &[]));
    view.apply_delta(delta(4, 5, vec![Change::Peer(peer(1))])).unwrap();
    assert!(names(&view).is_empty(), "revision 5 is before revision 6, which removed it");
    view.apply_delta(delta(5, 7, vec![Change::Peer(peer(2))])).unwrap();
    assert_eq!(names(&view), ["host2"]);
}

#[test]
fn an_explicit_delete_counts_in_an_unbroken_chain_only() {
    let (store, mut view) = (Store::new(), View::default());
    view.apply_snapshot(store.snapshot(5, &[1, 2]));
    assert!(view.apply_delta(delta(6, 7, vec![Change::PeerRemoved(name(1))])).is_err());
    assert_eq!(names(&view), ["host1", "host2"]);
    view.apply_delta(delta(5, 7, vec![Change::PeerRemoved(name(1))])).unwrap();
    assert_eq!(names(&view), ["host2"]);
}

#[test]
fn a_new_store_only_adds_until_its_window_closes() {
    let (old, new, mut view) = (Store::new(), Store::new(), View::default());
    view.apply_snapshot(old.snapshot(50, &[1, 2]));
    view.apply_snapshot(Snapshot { recovering: true, ..new.snapshot(3, &[2]) });
    assert_eq!(names(&view), ["host1", "host2"]);
    assert!(!view.is_complete());
    assert_eq!(view.revision(), Revision(3), "revisions of another store do not compare");
    view.apply_delta(delta(3, 4, vec![Change::PeerRemoved(name(2))])).unwrap();
    assert_eq!(names(&view), ["host1"], "an explicit delete counts");
    view.apply_delta(delta(4, 8, vec![Change::Recovering(false)])).unwrap();
    assert!(names(&view).is_empty());
    assert!(view.is_complete());
}

#[test]
fn a_node_that_was_sent_and_is_gone_goes_even_while_recovering() {
    let (old, new, mut view) = (Store::new(), Store::new(), View::default());
    view.apply_snapshot(old.snapshot(50, &[1, 2, 3]));
    view.apply_snapshot(Snapshot { recovering: true, ..new.snapshot(3, &[2, 3]) });
    view.apply_snapshot(Snapshot { recovering: true, ..new.snapshot(6, &[3]) });
    assert_eq!(names(&view), ["host1", "host3"]);
}

#[test]
fn a_prefix_given_to_another_by_the_new_store_is_no_longer_the_olds() {
    let (old, new, mut view) = (Store::new(), Store::new(), View::default());
    view.apply_snapshot(old.snapshot(50, &[1, 2]));
    let taken = Peer { claims: peer(1).claims, ..peer(9) };
    let snapshot = Snapshot { recovering: true, peers: vec![taken], ..new.snapshot(3, &[]) };
    view.apply_snapshot(snapshot);
    assert_eq!(names(&view), ["host2", "host9"]);
}

#[test]
fn it_resumes_where_it_is() {
    let (store, mut view) = (Store::new(), View::default());
    assert_eq!(view.resumes_at(), None);
    view.apply_snapshot(store.snapshot(5, &[1]));
    view.apply_delta(delta(5, 8, vec![])).unwrap();
    assert_eq!(view.resumes_at(), Some((store.0, Revision(8))));
}

#[test]
fn a_node_that_registers_again_is_routed_as_before_until_it_is_announced() {
    let (old, new, mut view) = (Store::new(), Store::new(), View::default());
    view.apply_snapshot(old.snapshot(50, &[1]));
    let joining = joining(1).with_each_claim(|claim| claim.claimed = Revision(3));
    view.apply_snapshot(Snapshot { recovering: true, peers: vec![joining], ..new.snapshot(3, &[]) });
    let known = view.peer(&name(1)).unwrap();
    assert_eq!(
        (known.state(), known.claims[0].claimed),
        (NodeState::Ready, Revision(3)),
        "of the new claim, routed as before"
    );
    view.apply_delta(delta(3, 4, vec![Change::Peer(peer(1))])).unwrap();
    view.apply_delta(delta(4, 5, vec![Change::Recovering(false)])).unwrap();
    assert_eq!(names(&view), ["host1"], "announced: it stays");
}

#[test]
fn a_node_that_registers_again_unannounced_is_joining_once_the_window_closes() {
    let (old, new, mut view) = (Store::new(), Store::new(), View::default());
    view.apply_snapshot(old.snapshot(50, &[1]));
    let joining = joining(1);
    view.apply_snapshot(Snapshot { recovering: true, peers: vec![joining], ..new.snapshot(3, &[]) });
    view.apply_delta(delta(3, 5, vec![Change::Recovering(false)])).unwrap();
    assert_eq!(view.peer(&name(1)).map(Peer::state), Some(NodeState::Joining), "not routed, not gone");
}

#[test]
fn a_node_that_registers_again_after_the_window_is_joining() {
    let (old, new, mut view) = (Store::new(), Store::new(), View::default());
    view.apply_snapshot(old.snapshot(50, &[1, 2]));
    let joining = joining(1);
    view.apply_snapshot(Snapshot { peers: vec![joining], ..new.snapshot(3, &[]) });
    assert_eq!(names(&view), ["host1"]);
    assert_eq!(view.peer(&name(1)).map(Peer::state), Some(NodeState::Joining));
}

#[test]
fn a_view_of_a_lost_history_is_replaced_by_a_snapshot_of_an_earlier_revision() {
    let (store, mut view) = (Store::new(), View::default());
    let mark = Some(Mark { incarnation: store.0, id: 1, revision: Revision(39) });
    view.apply_snapshot(Snapshot { mark, ..store.snapshot(40, &[1, 2]) });
    view.disown();
    assert_eq!((view.resumes_at(), view.mark()), (None, None));
    assert_eq!(names(&view), ["host1", "host2"], "nothing goes before there is another word");
    let mut stale = view.clone();
    stale.apply_snapshot(Snapshot { linearizable: false, ..store.snapshot(7, &[2]) });
    assert_eq!(names(&stale), ["host1", "host2"]);
    view.apply_snapshot(store.snapshot(7, &[2]));
    assert_eq!((names(&view), view.revision()), (vec!["host2".to_owned()], Revision(7)));
    assert!(view.is_complete());
}

/// Nodes with claims in two pools, of which each has its own place in a recovery.
fn with_ula(peer: Peer, state: NodeState) -> Peer {
    let n = peer.name.as_str().trim_start_matches("host").parse::<u8>().unwrap();
    let prefix = format!("fd00:0:0:{n:x}::/64").parse().unwrap();
    let mut peer = peer;
    peer.claims.push(PeerClaim::current(prefix, "ula".parse().unwrap(), Revision(n.into()), state));
    peer
}

fn states(view: &View, n: u8) -> Vec<(String, NodeState)> {
    let claims = view.peer(&name(n)).map(|peer| peer.claims.clone()).unwrap_or_default();
    claims.into_iter().map(|claim| (claim.pool.to_string(), claim.state)).collect()
}

#[test]
fn a_claim_that_is_not_registered_yet_is_routed_as_before() {
    let (old, new, mut view) = (Store::new(), Store::new(), View::default());
    let both = with_ula(peer(1), NodeState::Ready);
    view.apply_snapshot(Snapshot { peers: vec![both.clone()], ..old.snapshot(50, &[]) });
    let (main, ula) = ("main".to_owned(), "ula".to_owned());
    let ready = [(main.clone(), NodeState::Ready), (ula.clone(), NodeState::Ready)];

    // The node registers one claim after the other.
    view.apply_snapshot(Snapshot { recovering: true, peers: vec![joining(1)], ..new.snapshot(3, &[]) });
    assert_eq!(states(&view, 1), ready);
    let second = with_ula(joining(1), NodeState::Joining);
    view.apply_delta(delta(3, 4, vec![Change::Peer(second)])).unwrap();
    assert_eq!(states(&view, 1), ready);
    // It announces one of them; the other one is never announced.
    let announced = with_ula(peer(1), NodeState::Joining);
    view.apply_delta(delta(4, 5, vec![Change::Peer(announced)])).unwrap();
    assert_eq!(states(&view, 1), ready);
    view.apply_delta(delta(5, 6, vec![Change::Recovering(false)])).unwrap();
    assert_eq!(states(&view, 1), [(main, NodeState::Ready), (ula, NodeState::Joining)]);
}

#[test]
fn a_claim_that_is_never_registered_goes_with_the_window_and_takes_no_other_along() {
    let (old, new, mut view) = (Store::new(), Store::new(), View::default());
    let both = with_ula(peer(1), NodeState::Ready);
    view.apply_snapshot(Snapshot { peers: vec![both], ..old.snapshot(50, &[]) });
    view.apply_snapshot(Snapshot { recovering: true, ..new.snapshot(3, &[1]) });
    assert_eq!(states(&view, 1).len(), 2);
    view.apply_delta(delta(3, 4, vec![Change::Recovering(false)])).unwrap();
    assert_eq!(states(&view, 1), [("main".to_owned(), NodeState::Ready)]);
}

#[test]
fn one_claim_given_to_another_node_leaves_the_rest() {
    let (old, new, mut view) = (Store::new(), Store::new(), View::default());
    let both = with_ula(peer(1), NodeState::Ready);
    let ula = both.claims[1].clone();
    view.apply_snapshot(Snapshot { peers: vec![both], ..old.snapshot(50, &[]) });
    let heir = Peer { claims: vec![ula], ..peer(9) };
    view.apply_snapshot(Snapshot { recovering: true, peers: vec![heir], ..new.snapshot(3, &[]) });
    assert_eq!(states(&view, 1), [("main".to_owned(), NodeState::Ready)]);
}

#[test]
fn the_end_of_one_claim_touches_no_other() {
    let (store, mut view) = (Store::new(), View::default());
    let both = with_ula(peer(1), NodeState::Ready);
    view.apply_snapshot(Snapshot { peers: vec![both], ..store.snapshot(5, &[]) });
    view.apply_delta(delta(5, 6, vec![Change::Peer(peer(1))])).unwrap();
    assert_eq!(states(&view, 1), [("main".to_owned(), NodeState::Ready)]);
}

/// A peer with another prefix in its pool.
fn with_prefix(peer: Peer, prefix: &str) -> Peer {
    peer.with_each_claim(|claim| claim.prefix = prefix.parse().unwrap())
}

fn prefixes(view: &View, n: u8) -> Vec<String> {
    let claims = view.peer(&name(n)).map(|peer| peer.claims.clone()).unwrap_or_default();
    claims.into_iter().map(|claim| claim.prefix.to_string()).collect()
}

/// The store is taken back to when the node had another prefix of the pool. Its agent registers the present one, or is stopped.
#[test]
fn i6_a_store_taken_back_to_another_claim_of_a_node_takes_no_live_one_away() {
    let (old, new, mut view) = (Store::new(), Store::new(), View::default());
    let (before, now) = ("fd00:0:0:a::/64", "fd00:0:0:b::/64");
    let live = with_prefix(peer(1), now);
    view.apply_snapshot(Snapshot { peers: vec![live.clone()], ..old.snapshot(50, &[]) });
    let back = with_prefix(peer(1), before);
    let snapshot = Snapshot { recovering: true, peers: vec![back.clone()], ..new.snapshot(3, &[]) };
    view.apply_snapshot(snapshot.clone());
    assert_eq!(prefixes(&view, 1), [before, now]);
    // Again, as after a reconnection; and another change of the node.
    view.apply_snapshot(Snapshot { revision: Revision(4), ..snapshot });
    view.apply_delta(delta(4, 5, vec![Change::Peer(Peer { session: false, ..back })])).unwrap();
    assert_eq!(prefixes(&view, 1), [before, now]);
    let mut stopped = view.clone();

    // The earlier claim ends; then the present one is registered, and announced.
    view.apply_delta(delta(5, 6, vec![Change::PeerRemoved(name(1))])).unwrap();
    assert_eq!(prefixes(&view, 1), [now]);
    view.apply_delta(delta(6, 7, vec![Change::Peer(with_prefix(joining(1), now))])).unwrap();
    assert_eq!((prefixes(&view, 1), states(&view, 1)[0].1), (vec![now.to_owned()], NodeState::Ready));
    // What the new store has had is ended by it.
    let mut forgotten = view.clone();
    forgotten.apply_delta(delta(7, 8, vec![Change::PeerRemoved(name(1))])).unwrap();
    assert!(names(&forgotten).is_empty());
    view.apply_delta(delta(7, 8, vec![Change::Peer(live)])).unwrap();
    view.apply_delta(delta(8, 9, vec![Change::Recovering(false)])).unwrap();
    assert_eq!(prefixes(&view, 1), [now]);

    stopped.apply_delta(delta(5, 6, vec![Change::Recovering(false)])).unwrap();
    assert_eq!(prefixes(&stopped, 1), [before], "the window has closed without it");
}

/// Another node claims the prefix, or a longer one out of it.
#[test]
fn a_claim_that_the_next_store_gives_to_another_node_goes_also_beside_another_one() {
    for taken in ["fd00:0:0:b::/64", "fd00:0:0:b::/80"] {
        let (old, new, mut view) = (Store::new(), Store::new(), View::default());
        let live = with_prefix(peer(1), "fd00:0:0:b::/64");
        view.apply_snapshot(Snapshot { peers: vec![live], ..old.snapshot(50, &[]) });
        let back = with_prefix(peer(1), "fd00:0:0:a::/64");
        view.apply_snapshot(Snapshot { recovering: true, peers: vec![back], ..new.snapshot(3, &[]) });
        view.apply_delta(delta(3, 4, vec![Change::Peer(with_prefix(peer(2), taken))])).unwrap();
        assert_eq!(prefixes(&view, 1), ["fd00:0:0:a::/64"]);
    }
}

#[test]
fn nothing_outside_the_fence_is_taken_in_and_it_is_named_until_it_is_gone() {
    let pool =
        |name: &str, prefix: &str| Pool::new(name.parse().unwrap(), prefix.parse().unwrap(), 64, 80).unwrap();
    let pools = |view: &View| view.pools().map(|pool| pool.name.to_string()).collect::<Vec<_>>();
    let found = |view: &View| view.left_out().map(|it| it.saw);
    let (store, fence) = (Store::new(), Fence::around(&["2001:db8::/32".parse().unwrap()]));
    let mut view = View::within(fence);
    let stranger = peer(2).with_each_claim(|claim| claim.prefix = "2606:4700:0:2::/64".parse().unwrap());
    view.apply_snapshot(Snapshot {
        pools: vec![pool("main", "2001:db8::/32"), pool("rogue", "2606:4700::/32")],
        peers: vec![peer(1), stranger.clone()],
        ..store.snapshot(5, &[])
    });
    assert_eq!(pools(&view), ["main"]);
    assert!(view.peer(&name(2)).is_none_or(|peer| peer.claims.is_empty()));
    assert_eq!(view.peer(&name(1)).unwrap().claims.len(), 1);
    let expected =
        "the controllers sent pool rogue 2606:4700::/32, outside accept-pools (2001:db8::/32): not routed";
    assert_eq!(found(&view).unwrap(), expected, "its claims are not named one by one");

    // A pool grows over the edge: its former definition counts no more, and the claims inside stay.
    let grown = Change::Pool(pool("main", "2001:d00::/24"));
    view.apply_delta(delta(5, 6, vec![grown, Change::PoolRemoved("rogue".parse().unwrap())])).unwrap();
    assert!(pools(&view).is_empty());
    assert_eq!(view.peer(&name(1)).unwrap().claims.len(), 1);
    assert!(found(&view).unwrap().contains("pool main 2001:d00::/24 and 1 others"), "{:?}", found(&view));
    let back = vec![Change::Pool(pool("main", "2001:db8::/32")), Change::Peer(peer(2))];
    view.apply_delta(delta(6, 7, back)).unwrap();
    assert_eq!((pools(&view), found(&view)), (vec!["main".to_owned()], None));
    // What a snapshot has no longer is named no longer, and neither is a node that is removed.
    view.apply_delta(delta(7, 8, vec![Change::Peer(stranger)])).unwrap();
    assert!(found(&view).unwrap().contains("prefix 2606:4700:0:2::/64 of node host2"), "{:?}", found(&view));
    let mut stale = view.clone();
    stale.apply_snapshot(store.snapshot(5, &[1, 2]));
    assert_eq!(found(&stale), found(&view), "an older record changes nothing");
    let mut gone = view.clone();
    gone.apply_delta(delta(8, 9, vec![Change::PeerRemoved(name(2))])).unwrap();
    assert_eq!(found(&gone), None);
    view.apply_snapshot(store.snapshot(9, &[1]));
    assert_eq!(found(&view), None);
}
