//! An invalid history for each rule, beside the most similar valid one.

use sextant_proto::PoolName;

use super::*;
use crate::history::{Moment, StoredNode};

/// An operation of node `node` with its own id.
fn operation(node: u8, asked: Asked, [from, to]: [u64; 2], answer: Answer) -> Operation {
    Operation { node: name(node), node_id: id(node), asked, from: Moment(from), to: Moment(to), answer }
}

fn name(node: u8) -> NodeName {
    format!("n{node}").parse().unwrap()
}

fn id(node: u8) -> sextant_proto::NodeId {
    (&[node; 16][..]).try_into().unwrap()
}

/// The pool of a prefix.
fn pool(prefix: &str) -> PoolName {
    if prefix.starts_with("fd") { "ula" } else { "main" }.parse().unwrap()
}

fn claim_in(pool: &str) -> Asked {
    Asked::Claim { pool: pool.parse().unwrap(), held: None }
}

fn granted(node: u8, time: [u64; 2], prefix: &str, epoch: u64) -> Operation {
    let (prefix, pool) = (prefix.parse().unwrap(), pool(prefix));
    let asked = Asked::Claim { pool: pool.clone(), held: None };
    operation(node, asked, time, Answer::Granted { prefix, pool, epoch: Revision(epoch) })
}

fn unknown(node: u8, asked: Asked, time: [u64; 2]) -> Operation {
    operation(node, asked, time, Answer::Unknown("no answer".into()))
}

fn forgotten(node: u8, time: [u64; 2], revision: u64) -> Operation {
    operation(node, Asked::Forget(None), time, Answer::Ended(Some(Revision(revision))))
}

fn fenced(node: u8, time: [u64; 2], held: u64) -> Operation {
    operation(node, Asked::Claim { pool: pool(A), held: Some(Revision(held)) }, time, Answer::Fenced)
}

fn stored(claims: &[(u8, &str, u64)]) -> Stored {
    let claim = |(node, prefix, epoch): &(u8, &str, u64)| StoredClaim {
        prefix: prefix.parse().unwrap(),
        pool: pool(prefix),
        node: name(*node),
        node_id: id(*node),
        epoch: Revision(*epoch),
    };
    let node = |(node, prefix, _): &(u8, &str, u64)| StoredNode {
        node: name(*node),
        node_id: id(*node),
        prefix: prefix.parse().unwrap(),
        pool: pool(prefix),
    };
    Stored { claims: claims.iter().map(claim).collect(), nodes: claims.iter().map(node).collect() }
}

const A: &str = "2001:db8:0:a::/64";
const B: &str = "2001:db8:0:b::/64";
/// From another pool.
const U: &str = "fd00:0:0:a::/64";
const WITHIN_A: &str = "2001:db8:0:a:1::/80";

/// The first words of the violations.
fn found(history: &[Operation], stored: &Stored) -> Vec<String> {
    let violations = check(history, stored).err().unwrap_or_default();
    violations
        .iter()
        .map(|it| it.to_string().split([':', ' ']).next().unwrap_or_default().to_owned())
        .collect()
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_good_history_is_summed_up() {
    let history = [
        granted(1, [1, 2], A, 10),
        granted(2, [1, 3], B, 11),
        granted(1, [4, 5], A, 10),
        forgotten(2, [6, 7], 12),
        fenced(2, [8, 9], 11),
        granted(3, [8, 9], B, 13),
        unknown(4, claim_in("main"), [8, 9]),
    ];
    let end = stored(&[(1, A, 10), (3, B, 13), (4, "2001:db8:0:c::/64", 14)]);
    let summary =
        Summary { claims: 3, again: 1, ends: 1, refused: 1, unknown: 1, stored: 3, unacknowledged: 1 };
    assert_eq!(check(&history, &end), Ok(summary));
}

#[test]
fn two_in_the_store_that_overlap() {
    let history = [granted(1, [1, 2], A, 10), granted(2, [3, 4], WITHIN_A, 11)];
    assert_eq!(found(&history, &stored(&[(1, A, 10), (2, WITHIN_A, 11)])), ["two"]);
    let asked = [granted(1, [1, 2], A, 10), unknown(2, claim_in("main"), [3, 4])];
    assert_eq!(found(&asked, &stored(&[(1, A, 10), (2, WITHIN_A, 11)])), ["two"], "one is not acknowledged");
}

#[test]
fn two_overlapping_claims_held_at_the_same_time_and_ended_later() {
    let both = [granted(1, [1, 2], A, 10), granted(2, [3, 4], WITHIN_A, 11)];
    let ends = [unknown(1, Asked::Forget(None), [5, 6]), unknown(2, Asked::Forget(None), [5, 6])];
    assert_eq!(found(&[&both[..], &ends].concat(), &stored(&[])), ["two"]);
    let ends = [unknown(1, Asked::Forget(None), [1, 6]), unknown(2, Asked::Forget(None), [5, 6])];
    assert_eq!(found(&[&both[..], &ends].concat(), &stored(&[])), NOTHING, "the first may have ended before");
}

#[test]
fn two_at_once_by_the_revisions_alone() {
    // Claims, ends and answers cross in time; the revisions tell.
    let history = |end| {
        let [claimed, other] = [granted(1, [1, 9], A, 10), granted(2, [1, 9], A, 12)];
        [claimed, other, forgotten(1, [2, 9], end), forgotten(2, [2, 9], 20)]
    };
    assert_eq!(found(&history(13), &stored(&[])), ["two"]);
    assert_eq!(found(&history(11), &stored(&[])), NOTHING);
}

#[test]
fn a_node_with_two() {
    let history =
        [granted(1, [1, 2], A, 10), granted(1, [3, 4], B, 11), unknown(1, Asked::Forget(None), [5, 6])];
    assert_eq!(found(&history, &stored(&[])), ["a"]);
    let between =
        [granted(1, [1, 2], A, 10), unknown(1, Asked::Forget(None), [2, 3]), granted(1, [3, 4], B, 11)];
    assert_eq!(found(&between, &stored(&[(1, B, 11)])), NOTHING);
    let left = [granted(1, [1, 2], A, 10), granted(1, [3, 4], B, 11)];
    assert_eq!(found(&left, &stored(&[(1, A, 10), (1, B, 11)])), ["a"]);
}

#[test]
fn a_node_with_claims_in_two_pools() {
    let both = [granted(1, [1, 2], A, 10), granted(1, [3, 4], U, 11)];
    assert_eq!(found(&both, &stored(&[(1, A, 10), (1, U, 11)])), NOTHING);
    let with = |end| [&both[..], &[end]].concat();
    let of_pool = |pool: &str, revision| {
        let answer = Answer::Ended(Some(Revision(revision)));
        operation(1, Asked::Forget(Some(pool.parse().unwrap())), [5, 6], answer)
    };
    assert_eq!(found(&with(of_pool("ula", 12)), &stored(&[(1, A, 10)])), NOTHING);
    assert_eq!(found(&with(of_pool("ula", 12)), &stored(&[])), ["lost"], "the end of the other claim");
    assert_eq!(found(&with(of_pool("main", 12)), &stored(&[(1, A, 10), (1, U, 11)])), ["revived"]);
    for all in [forgotten(1, [5, 6], 12), unknown(1, Asked::Release(Revision(10)), [5, 6])] {
        assert_eq!(found(&with(all), &stored(&[])), NOTHING, "both have ended");
    }
    let released = operation(1, Asked::Release(Revision(11)), [5, 6], Answer::Ended(Some(Revision(12))));
    assert_eq!(found(&with(released), &stored(&[(1, A, 10)])), ["revived"], "a release is of all claims");
    let mut without = stored(&[(1, A, 10), (1, U, 11)]);
    without.nodes.pop();
    assert_eq!(found(&both, &without), ["node"]);
    let asked = [granted(1, [1, 2], A, 10), unknown(1, claim_in("main"), [3, 4])];
    assert_eq!(
        found(&asked, &stored(&[(1, A, 10), (1, U, 11)])),
        ["unrequested"],
        "asked for in another pool"
    );
}

#[test]
fn an_acknowledged_claim_that_is_gone() {
    let claimed = granted(1, [3, 4], A, 10);
    assert_eq!(found(std::slice::from_ref(&claimed), &stored(&[])), ["lost"]);
    assert_eq!(found(&[forgotten(1, [1, 2], 9), claimed.clone()], &stored(&[])), ["lost"]);
    assert_eq!(found(&[claimed.clone(), forgotten(2, [5, 6], 11)], &stored(&[])), ["lost"], "another's end");
    let another = unknown(1, Asked::Release(Revision(8)), [5, 6]);
    assert_eq!(found(&[claimed.clone(), another], &stored(&[])), ["lost"], "the end of an older claim");
    let seen = [claimed.clone(), forgotten(1, [5, 6], 11), granted(1, [7, 8], A, 10)];
    assert_eq!(found(&seen, &stored(&[])), ["revived"]);
    for end in [forgotten(1, [5, 6], 11), unknown(1, Asked::Forget(None), [1, 2])] {
        assert_eq!(found(&[claimed.clone(), end], &stored(&[])), NOTHING);
    }
}

#[test]
fn a_claim_that_another_took_over() {
    let history = [granted(1, [1, 2], A, 10), granted(2, [3, 4], A, 11)];
    assert_eq!(found(&history, &stored(&[(2, A, 11)])), ["two", "lost"]);
    let ended = [&history[..], &[forgotten(1, [5, 6], 12)]].concat();
    assert_eq!(found(&ended, &stored(&[(2, A, 11)])), ["two"]);
}

#[test]
fn an_ended_claim_that_exists_again() {
    let history = [granted(1, [1, 2], A, 10), forgotten(1, [3, 4], 11)];
    assert_eq!(found(&history, &stored(&[(1, A, 10)])), ["revived"]);
    assert_eq!(found(&history, &stored(&[(1, A, 12)])), NOTHING, "an older attempt that came late");
    let crossing = [granted(1, [1, 4], A, 10), forgotten(1, [2, 3], 9)];
    assert_eq!(found(&crossing, &stored(&[(1, A, 10)])), NOTHING, "the end was of something before");
}

#[test]
fn a_holder_is_wrongly_fenced() {
    let history = [granted(1, [1, 2], A, 10), fenced(1, [3, 4], 10)];
    assert_eq!(found(&history, &stored(&[(1, A, 10)])), ["denied"]);
    let ended = [granted(1, [1, 2], A, 10), fenced(1, [3, 6], 10), forgotten(1, [5, 7], 11)];
    assert_eq!(found(&ended, &stored(&[])), NOTHING, "the end may have been sooner than the answer");
}

#[test]
fn one_epoch_acknowledged_as_two_claims() {
    let history = [granted(1, [1, 2], A, 10), granted(1, [3, 4], B, 10)];
    assert_eq!(found(&history, &stored(&[(1, A, 10)])), ["ambiguous"]);
    assert_eq!(found(&[granted(1, [1, 2], A, 10)], &stored(&[(1, B, 10)])), ["ambiguous"]);
}

#[test]
fn a_stored_claim_without_a_request() {
    assert_eq!(found(&[], &stored(&[(1, A, 10)])), ["unrequested"]);
    let mut other_id = unknown(1, claim_in("main"), [1, 2]);
    other_id.node_id = id(9);
    assert_eq!(found(&[other_id], &stored(&[(1, A, 10)])), ["unrequested"]);
    let asked = unknown(1, claim_in("main"), [1, 2]);
    assert_eq!(found(&[asked], &stored(&[(1, A, 10)])), NOTHING);
}

#[test]
fn nodes_and_claims_that_do_not_match() {
    let history = [granted(1, [1, 2], A, 10)];
    let mut without = stored(&[(1, A, 10)]);
    without.nodes.clear();
    assert_eq!(found(&history, &without), ["node"]);
    let mut elsewhere = stored(&[(1, A, 10)]);
    elsewhere.nodes[0].prefix = B.parse().unwrap();
    assert_eq!(found(&history, &elsewhere), ["node"]);
    let mut alone = stored(&[]);
    alone.nodes = stored(&[(1, A, 10)]).nodes;
    assert_eq!(found(&[], &alone), ["node"]);
}
