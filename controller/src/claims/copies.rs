//! Hosts that show the claims of other nodes, or claims that nobody had (I1, I14): the store is not taken for a lost one.

use sextant_proto::Incarnation;

use super::{tests::*, *};
use crate::{doubts::Knows, records::SessionRecord, store};

/// A store with a history of its own, in which the node `original` is connected.
async fn healthy(original: &ClaimRequest) -> (Fixture, Claim) {
    let it = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
    store::finish(&it.registry, &it.keys, &it.claims.index, &Actor::controller(), &[]).await.unwrap();
    let claim = it.claim(original).await;
    connect(&it, original).await;
    (it, claim)
}

async fn connect(it: &Fixture, request: &ClaimRequest) {
    let session = SessionRecord { controller: "c1".into(), instance: None, serial: String::new() };
    let ops = vec![Op::put(it.keys.session(&request.node), session.encode())];
    let Outcome::Committed(revision) = it.registry.commit(Txn { guards: vec![], ops }).await.unwrap() else {
        panic!("refused");
    };
    assert!(it.claims.index.reaches(revision, CATCH_UP).await);
}

fn shows(n: usize, claim: &Claim) -> ClaimRequest {
    ClaimRequest { held: Some(claim.clone()), ..request(n) }
}

/// A claim of `n` that this store never made, of `incarnation`.
fn invented(n: usize, claim: &Claim, incarnation: Incarnation) -> ClaimRequest {
    let revision = Revision(claim.epoch.revision.0 + 1000 + n as u64);
    let prefix = claim.pool.prefix.nth(64, 0x100 + n as u128).unwrap();
    let epoch = Epoch { incarnation, revision };
    shows(n, &Claim { prefix, epoch, pool: claim.pool.clone() })
}

/// The store is what it was, without a recovery window, and grants new prefixes.
async fn expect_healthy(it: &Fixture, before: Incarnation) {
    let meta = store::read(&it.registry, &it.keys).await.unwrap().meta;
    assert!(meta.incarnation == before && !meta.recovering, "{meta:?}");
    let new_node = rand::random_range(1000..usize::MAX);
    it.claim(&request(new_node)).await;
}

#[tokio::test]
async fn i14_copies_of_a_disk_are_refused_and_do_not_make_a_healthy_store_a_lost_one() {
    let original = request(1);
    let (it, claim) = healthy(&original).await;
    for copy in [shows(2, &claim), shows(3, &claim), shows(4, &claim)] {
        for in_pool in [false, true] {
            let pool = in_pool.then(|| claim.pool.name.clone());
            let copy = ClaimRequest { pool, beside: in_pool, ..copy.clone() };
            let refused = it.claims.claim(&copy).await.unwrap_err();
            let text = refused.to_string();
            assert!(matches!(refused, ClaimError::Copied(_)) && refused.is_refusal(), "{text}");
            let named = [copy.node.as_str(), original.node.as_str(), sextant_proto::CLEAR_COPY];
            assert!(named.iter().all(|it| text.contains(it)), "{text}");
            for id in [copy.node_id, original.node_id] {
                assert!(text.contains(&id.to_string()), "{text}");
            }
        }
        let verified = it.claims.verify(&holder(&copy, &claim)).await;
        assert!(matches!(verified, Err(HolderError::Copied(_))), "{verified:?}");
    }
    assert_eq!(it.claim(&ClaimRequest { held: Some(claim.clone()), ..original }).await, claim, "I2");
    expect_healthy(&it, claim.epoch.incarnation).await;
}

#[tokio::test]
async fn i14_nodes_with_claims_of_their_own_that_show_a_copied_one_are_refused_too() {
    let original = request(1);
    let (it, claim) = healthy(&original).await;
    for n in [2, 3] {
        let own = request(n);
        it.claim(&own).await;
        let refused = it.claims.claim(&ClaimRequest { held: Some(claim.clone()), ..own }).await;
        assert!(matches!(refused, Err(ClaimError::Copied(_))), "{refused:?}");
    }
    expect_healthy(&it, claim.epoch.incarnation).await;
}

/// The original is forgotten meanwhile, and another node has its prefix: the copies show one claim.
#[tokio::test]
async fn i14_copies_of_a_claim_that_has_ended_count_as_one_doubt() {
    let original = request(1);
    let (it, claim) = healthy(&original).await;
    it.claims.forget(&original.node, true).await.unwrap();
    it.claim(&ClaimRequest { pool: None, ..shows(9, &claim) }).await;
    for n in [2, 3, 2, 3] {
        let own = request(n);
        let refused = it.claims.claim(&ClaimRequest { held: Some(claim.clone()), ..own }).await;
        assert!(refused.is_err(), "{refused:?}");
    }
    expect_healthy(&it, claim.epoch.incarnation).await;
}

/// Hosts of another cluster, or one hostile host with many names, while a node confirms the store's history.
#[tokio::test]
async fn i14_unknown_nodes_do_not_open_a_window_while_a_known_one_confirms_the_history() {
    let original = request(1);
    let (it, claim) = healthy(&original).await;
    let here = claim.epoch.incarnation;
    for (incarnation, first) in [(here, 20), (Incarnation::random(), 30)] {
        for n in first..first + 4 {
            let _waits_or_granted = it.claims.claim(&invented(n, &claim, incarnation)).await;
        }
        expect_healthy(&it, here).await;
    }
    // Nor with the help of one known node.
    let known = request(7);
    it.claim(&known).await;
    let lie = Knows { view: Some((here, Revision(u64::MAX))), mark: None };
    let revision = it.claims.index.seen();
    assert!(!it.claims.lineage().heard(&known.node, Some(known.node_id), &lie, revision).await);
    let _waits = it.claims.claim(&invented(8, &claim, here)).await;
    expect_healthy(&it, here).await;
    // Two known ones that know a later state of the store are believed, whoever else is connected.
    let another = request(10);
    it.claim(&another).await;
    assert!(!it.claims.lineage().heard(&another.node, Some(another.node_id), &lie, revision).await);
    let meta = store::read(&it.registry, &it.keys).await.unwrap().meta;
    assert!(meta.forked && meta.stands_in(), "{meta:?}");
}

/// The store is taken back to before all nodes: it knows none of them, and none confirms its history.
#[tokio::test]
async fn i2_two_unknown_nodes_are_believed_where_nobody_confirms_the_history() {
    let it = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
    store::finish(&it.registry, &it.keys, &it.claims.index, &Actor::controller(), &[]).await.unwrap();
    let here = it.claims.index.read(|state| state.meta().incarnation);
    let pool = pool("main", "2001:db8:1::/48", 64);
    let epoch = Epoch { incarnation: here, revision: Revision(1) };
    let claim = Claim { prefix: pool.prefix.nth(64, 1).unwrap(), epoch, pool };
    for n in [2, 3] {
        let _waits_or_granted = it.claims.claim(&invented(n, &claim, here)).await;
    }
    let meta = store::read(&it.registry, &it.keys).await.unwrap().meta;
    assert!(meta.forked && meta.replaces == Some(here), "{meta:?}");
}
