use std::{sync::Arc, time::Duration};

use sextant_proto::{Incarnation, NodeId, Pool, Revision};

use super::*;
use crate::{
    audit::{self, Actor},
    backup,
    claims::Holder,
    index::{Index, IndexTask},
    keys::Keys,
    records::{Record, ReservationRecord, SessionRecord},
    registry::{Op, SharedRegistry, Txn, embedded::EmbeddedStore},
    reservations::Reservations,
    unregistered::{self, RefusedClaims, Unregistered},
};

/// A new, empty store, as it stands after the old one was lost, and the services on it.
struct Fixture {
    _dir: tempfile::TempDir,
    claims: Claims,
    registry: SharedRegistry,
    keys: Keys,
    index: Index,
    lost: Incarnation,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry: SharedRegistry = Arc::new(EmbeddedStore::open(&dir.path().join("store")).unwrap());
        let keys = Keys::new(&"test".parse().unwrap());
        let meta = store::open(&registry, &keys).await.unwrap();
        let (task, index) = IndexTask::start(registry.clone(), keys.clone(), meta).await.unwrap();
        tokio::spawn(task.run());
        let claims = Claims::new(registry.clone(), keys.clone(), index.clone(), Duration::from_secs(3600));
        Self { _dir: dir, claims, registry, keys, index, lost: Incarnation::random() }
    }

    /// Node `n`, which held the prefix number `nth` of the lost store since `revision`.
    fn back(&self, n: u16, nth: u128, revision: u64) -> ClaimRequest {
        self.back_in(["main", "2001:db8::/32"], n, nth, revision)
    }

    /// The same for its claim in the second pool.
    fn back_beside(&self, n: u16, nth: u128, revision: u64) -> ClaimRequest {
        ClaimRequest { beside: true, ..self.back_in(["ula", "fd00:1::/48"], n, nth, revision) }
    }

    fn back_in(&self, [pool, prefix]: [&str; 2], n: u16, nth: u128, revision: u64) -> ClaimRequest {
        let pool = Pool::new(pool.parse().unwrap(), prefix.parse().unwrap(), 64, 64).unwrap();
        let epoch = Epoch { incarnation: self.lost, revision: Revision(revision) };
        let prefix = pool.prefix.nth(64, nth).unwrap();
        ClaimRequest { held: Some(Claim { prefix, epoch, pool }), ..fresh(n) }
    }

    /// The claim, which an agent asks for again while others are at it.
    async fn claim(&self, request: &ClaimRequest) -> Claim {
        for _ in 0..500 {
            match self.claims.claim(request).await {
                Ok(Granted::Claim(claim)) => return claim,
                Ok(Granted::Fenced(why)) => panic!("fenced: {why}"),
                Err(ClaimError::Contended) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => panic!("{error}"),
            }
        }
        panic!("contended for ever");
    }

    async fn finish(&self) {
        let finished =
            store::finish(&self.registry, &self.keys, &self.index, &Actor::controller(), &[]).await;
        let finished = finished.unwrap();
        assert!(finished.was_open);
        assert!(self.index.reaches(finished.revision, std::time::Duration::from_secs(5)).await);
    }
}

fn fresh(n: u16) -> ClaimRequest {
    let node_id = NodeId::try_from(&u128::from(n).to_be_bytes()[..]).unwrap();
    ClaimRequest {
        node: format!("h{n}").parse().unwrap(),
        node_id,
        pool: None,
        host_len: None,
        held: None,
        beside: false,
        infrastructure: Vec::new(),
        pool_order: Vec::new(),
    }
}

fn held(request: &ClaimRequest) -> Prefix {
    request.held.as_ref().unwrap().prefix
}

#[tokio::test]
async fn nothing_new_is_handed_out_until_the_window_is_closed() {
    let it = Fixture::new().await;
    let first = it.back(1, 7, 10);
    assert_eq!(it.claim(&first).await.prefix, held(&first), "its pool comes back with it");
    let error = it.claims.claim(&fresh(2)).await.unwrap_err().to_string();
    assert!(error.contains("sextant recover --finish"), "{error}");
    let second = it.back(3, 8, 11);
    assert_eq!(it.claim(&second).await.prefix, held(&second));
    it.finish().await;
    let new = it.claim(&fresh(2)).await.prefix;
    assert!(new != held(&first) && new != held(&second));
}

#[tokio::test]
async fn a_store_that_is_just_new_hands_out_at_once() {
    let it = Fixture::new().await;
    let pools = crate::pools::Pools::new(it.registry.clone(), it.keys.clone(), it.index.clone());
    pools.add(&it.back(1, 1, 1).held.unwrap().pool).await.unwrap();
    it.claim(&fresh(1)).await;
}

/// In whatever order the two come back.
#[tokio::test]
async fn i2_of_two_that_held_a_prefix_the_later_one_gets_it() {
    for later_first in [true, false] {
        let it = Fixture::new().await;
        let (earlier, later) = (it.back(1, 7, 10), it.back(2, 7, 20));
        if later_first {
            it.claim(&later).await;
            let fenced = it.claims.claim(&earlier).await.unwrap();
            assert!(matches!(&fenced, Granted::Fenced(why) if why.contains("is h2's")), "{fenced:?}");
        } else {
            let lost = it.claim(&earlier).await;
            assert_eq!(it.claim(&later).await.prefix, held(&later));
            let holder = Holder { node: earlier.node.clone(), node_id: earlier.node_id, epoch: lost.epoch };
            let error = it.claims.verify(&holder).await.unwrap_err();
            assert!(matches!(error, HolderError::Fenced(_)), "I3: {error}");
            let returning = ClaimRequest { held: Some(lost), ..earlier.clone() };
            assert!(matches!(it.claims.claim(&returning).await.unwrap(), Granted::Fenced(_)));
        }
        it.finish().await;
        let anew = it.claim(&ClaimRequest { held: None, ..earlier }).await;
        assert_ne!(anew.prefix, held(&later));
    }
}

/// Two nodes with two claims each; the second claim of the one is the other's later.
#[tokio::test]
async fn i2_each_claim_of_a_node_comes_back_and_is_superseded_by_itself() {
    for later_first in [true, false] {
        let it = Fixture::new().await;
        let beside = |request: ClaimRequest| ClaimRequest { beside: true, ..request };
        let mains = [beside(it.back(1, 7, 10)), beside(it.back(2, 8, 11))];
        let mut ulas = [it.back_beside(1, 5, 12), it.back_beside(2, 5, 20)];
        for request in &mains {
            assert_eq!(it.claim(request).await.prefix, held(request));
        }
        if later_first {
            ulas.reverse();
        }
        let first = it.claim(&ulas[0]).await;
        let second = it.claims.claim(&ulas[1]).await.unwrap();
        assert_eq!(first.pool, ulas[0].held.as_ref().unwrap().pool, "its pool comes back with it");
        match second {
            Granted::Claim(claim) => {
                assert!(!later_first && claim.prefix == first.prefix, "{claim:?}");
                assert!(it.index.reaches(claim.epoch.revision, std::time::Duration::from_secs(5)).await);
            }
            Granted::Fenced(why) => assert!(later_first && why.contains("is h2's"), "{why}"),
        }
        it.index.read(|state| {
            let prefixes = |n: &str| state.nodes()[&n.parse().unwrap()].record.prefixes();
            assert_eq!(prefixes("h1"), [held(&mains[0])], "the first claim stays");
            assert_eq!(prefixes("h2"), [held(&mains[1]), first.prefix]);
            assert_eq!(state.claims().len(), 3);
        });
        for request in &mains {
            assert_eq!(it.claim(request).await.prefix, held(request));
        }
    }
}

/// After the backup the node was forgotten, and claimed in another pool. Its agent knows of one claim.
#[tokio::test]
async fn the_claim_of_a_backup_is_superseded_by_a_later_one_in_another_pool() {
    let it = Fixture::new().await;
    it.claim(&it.back(1, 1, 10)).await;
    it.finish().await;
    let backup = backup::take(&it.registry, &it.keys, "test").await.unwrap();
    for beside in [false, true] {
        let new = Fixture { lost: backup.incarnation, ..Fixture::new().await };
        let done = backup::restore(&new.registry, &new.keys, &backup, &Actor::controller()).await.unwrap();
        assert!(new.index.reaches(done.revision, std::time::Duration::from_secs(5)).await);
        let later = ClaimRequest { beside, ..new.back_beside(1, 9, 1000) };
        let claim = new.claim(&later).await;
        assert_eq!(claim.prefix, held(&later), "beside: {beside}");
        assert!(new.index.reaches(claim.epoch.revision, std::time::Duration::from_secs(5)).await);
        let claims = new.index.read(|state| state.claims().len());
        assert_eq!(claims, if beside { 2 } else { 1 }, "beside: {beside}");
    }
}

#[tokio::test]
async fn epochs_of_two_lost_stores_are_not_compared() {
    let mut it = Fixture::new().await;
    let first = it.back(1, 7, 10);
    it.claim(&first).await;
    it.lost = Incarnation::random();
    let fenced = it.claims.claim(&it.back(2, 7, 20)).await.unwrap();
    assert!(matches!(fenced, Granted::Fenced(_)), "{fenced:?}");
}

/// A backup is older than what has happened since: what agents hold since then counts.
#[tokio::test]
async fn a_claim_made_after_the_backup_is_kept() {
    let it = Fixture::new().await;
    for n in 1..=3 {
        it.claim(&it.back(n, n.into(), 10)).await;
    }
    it.finish().await;
    let backup = backup::take(&it.registry, &it.keys, "test").await.unwrap();
    // h1 is forgotten, and h4 gets its prefix; h2 is forgotten, and gets another one.
    let new = Fixture { lost: backup.incarnation, ..Fixture::new().await };
    let done = backup::restore(&new.registry, &new.keys, &backup, &Actor::controller()).await.unwrap();
    assert!(new.index.reaches(done.revision, std::time::Duration::from_secs(5)).await);
    let (h4, h2) = (new.back(4, 1, 1000), new.back(2, 9, 1001));
    assert_eq!(new.claim(&h4).await.prefix, held(&h4));
    assert_eq!(new.claim(&h2).await.prefix, held(&h2));
    let h3 = new.back(3, 3, 1);
    assert_eq!(new.claim(&h3).await.prefix, held(&h3));
    let fenced = new.claims.claim(&new.back(1, 1, 10)).await.unwrap();
    assert!(matches!(fenced, Granted::Fenced(_)), "{fenced:?}");
    let old = Holder { node: h3.node, node_id: h3.node_id, epoch: h3.held.unwrap().epoch };
    let error = new.claims.verify(&old).await.unwrap_err();
    assert!(matches!(error, HolderError::Registry(_)), "to claim anew, not to take down: {error}");
}

/// One has held since before the pool grew, and does not know that it did.
#[tokio::test]
async fn i2_a_pool_that_had_grown_is_as_large_again_whoever_comes_first() {
    for small_first in [true, false] {
        let it = Fixture::new().await;
        let small = it.back(1, 7, 10);
        let mut large = it.back(2, 1, 20);
        let held = large.held.as_mut().unwrap();
        held.pool.prefix = "2001:db0::/28".parse().unwrap();
        held.prefix = held.pool.prefix.nth(64, 1 << 33).unwrap();
        assert!(!small.held.as_ref().unwrap().pool.prefix.covers(held.prefix));
        let mut order = [small, large];
        if !small_first {
            order.reverse();
        }
        for request in &order {
            assert_eq!(it.claim(request).await.prefix, super::tests::held(request), "{small_first}");
        }
        let prefix = it.index.read(|state| state.pools()[&"main".parse().unwrap()].record.prefix);
        assert_eq!(prefix.to_string(), "2001:db0::/28");
    }
}

/// The operator has added the pools of the lost store again before the nodes came, under other names.
#[tokio::test]
async fn i2_pools_with_other_names_give_each_node_all_its_prefixes() {
    for beside in [false, true] {
        let it = Fixture::new().await;
        let pools = crate::pools::Pools::new(it.registry.clone(), it.keys.clone(), it.index.clone());
        for (name, prefix) in [("xmain", "2001:db8::/32"), ("xula", "fd00:1::/48")] {
            let pool = Pool::new(name.parse().unwrap(), prefix.parse().unwrap(), 64, 64).unwrap();
            pools.add(&pool).await.unwrap();
        }
        let named = |request: ClaimRequest| {
            let pool = request.held.as_ref().map(|held| held.pool.name.clone());
            ClaimRequest { pool, beside, ..request }
        };
        let mut requests = vec![named(it.back(1, 7, 10))];
        if beside {
            requests.push(named(it.back_beside(1, 5, 12)));
        }
        for request in &requests {
            let claim = it.claim(request).await;
            assert_eq!(claim.prefix, held(request), "beside: {beside}");
            assert!(claim.pool.name.as_str().starts_with('x'), "{claim:?}");
            // The answer was lost: it asks again with the claim of the lost store, while the window is open and after.
            assert_eq!(it.claim(request).await, claim, "beside: {beside}");
        }
        it.finish().await;
        for request in &requests {
            assert_eq!(it.claim(request).await.prefix, held(request), "beside: {beside}");
        }
        assert_eq!(it.index.read(|state| state.claims().len()), requests.len());
    }
}

/// The same with each other's names: a claim does not end because the pool of another one has its pool's name now.
#[tokio::test]
async fn i2_pools_with_exchanged_names_give_each_node_all_its_prefixes() {
    for ula_first in [false, true] {
        let it = Fixture::new().await;
        let pools = crate::pools::Pools::new(it.registry.clone(), it.keys.clone(), it.index.clone());
        for (name, prefix) in [("ula", "2001:db8::/32"), ("main", "fd00:1::/48")] {
            let pool = Pool::new(name.parse().unwrap(), prefix.parse().unwrap(), 64, 64).unwrap();
            pools.add(&pool).await.unwrap();
        }
        let named = |request: ClaimRequest| {
            let pool = request.held.as_ref().map(|held| held.pool.name.clone());
            ClaimRequest { pool, beside: true, ..request }
        };
        let of = |n: u16| [named(it.back(n, n.into(), 10)), named(it.back_beside(n, n.into(), 12))];
        let mut requests: Vec<_> = (1..=2).flat_map(of).collect();
        if ula_first {
            requests.reverse();
        }
        for request in requests.iter().chain(&requests) {
            assert_eq!(it.claim(request).await.prefix, held(request), "ula first: {ula_first}");
        }
        it.finish().await;
        for request in &requests {
            assert_eq!(it.claim(request).await.prefix, held(request), "ula first: {ula_first}");
        }
        assert_eq!(it.index.read(|state| state.claims().len()), requests.len());
    }
}

/// The answer for the second claim was lost with the window: its pool's name is another pool's, in which the node has a claim.
#[tokio::test]
async fn after_the_window_a_held_prefix_is_granted_from_the_pool_that_contains_it() {
    let it = Fixture::new().await;
    let pools = crate::pools::Pools::new(it.registry.clone(), it.keys.clone(), it.index.clone());
    for (name, prefix) in [("ula", "2001:db8::/32"), ("main", "fd00:1::/48")] {
        let pool = Pool::new(name.parse().unwrap(), prefix.parse().unwrap(), 64, 64).unwrap();
        pools.add(&pool).await.unwrap();
    }
    let first = ClaimRequest { beside: true, ..it.back(1, 7, 10) };
    it.claim(&first).await;
    it.finish().await;
    let second = it.back_beside(1, 5, 12);
    assert_eq!(it.claim(&second).await.prefix, held(&second));
    assert_eq!(it.claim(&first).await.prefix, held(&first));
}

/// One pool has the prefixes of two lost ones: a node has one claim in it, and gets the reason why it does not get the other.
#[tokio::test]
async fn two_prefixes_of_a_node_in_one_pool_are_one_claim_and_a_reason() {
    let it = Fixture::new().await;
    let pools = crate::pools::Pools::new(it.registry.clone(), it.keys.clone(), it.index.clone());
    pools
        .add(&Pool::new("all".parse().unwrap(), "fd00::/16".parse().unwrap(), 64, 64).unwrap())
        .await
        .unwrap();
    let of = |prefix, pool: &str| {
        let request = it.back_in([pool, prefix], 1, 7, 10);
        ClaimRequest { pool: Some(pool.parse().unwrap()), beside: true, ..request }
    };
    let (first, mut second) = (of("fd00:1::/48", "main"), of("fd00:2::/48", "ula"));
    second.held.as_mut().unwrap().epoch.revision = Revision(20);
    assert_eq!(it.claim(&first).await.prefix, held(&first));
    let refused = it.claims.claim(&second).await.unwrap_err();
    assert!(refused.to_string().contains("sextant pool remove all"), "{refused}");
    assert_eq!(it.claim(&first).await.prefix, held(&first));
}

/// A pool of the new store has a part of the lost pool, or its name.
#[tokio::test]
async fn a_held_prefix_that_no_pool_has_a_place_for_is_refused_with_a_fix_that_works() {
    for (name, prefix, fix) in [
        ("x", "fd00:1:0:8000::/49", "sextant pool remove x"),
        ("ula", "fd99::/48", "sextant pool add NAME fd00:1::/48"),
    ] {
        let it = Fixture::new().await;
        let pools = crate::pools::Pools::new(it.registry.clone(), it.keys.clone(), it.index.clone());
        let pool = |name: &str, prefix: &str| {
            Pool::new(name.parse().unwrap(), prefix.parse().unwrap(), 64, 64).unwrap()
        };
        pools.add(&pool(name, prefix)).await.unwrap();
        it.claim(&ClaimRequest { beside: true, ..it.back(1, 7, 10) }).await;
        let second = it.back_beside(1, 5, 12);
        let refused = it.claims.claim(&second).await.unwrap_err();
        assert!(refused.is_refusal() && refused.to_string().contains(fix), "{refused}");
        if name == "x" {
            pools.remove(&name.parse().unwrap()).await.unwrap();
        } else {
            pools.add(&pool("another", "fd00:1::/48")).await.unwrap();
        }
        assert_eq!(it.claim(&second).await.prefix, held(&second));
    }
}

#[tokio::test]
async fn a_held_prefix_that_is_reserved_here_is_refused_with_a_fix_that_works() {
    let it = Fixture::new().await;
    let request = it.back(1, 7, 10);
    let prefix = held(&request);
    it.claim(&it.back(2, 2, 10)).await;
    let reservations = Reservations::new(it.registry.clone(), it.keys.clone(), it.index.clone());
    let record = ReservationRecord { node: None, reason: String::new(), created_unix_ms: 1 };
    let reserved = reservations.reserve(prefix, &record).await.unwrap();
    assert!(it.index.reaches(reserved, std::time::Duration::from_secs(5)).await);
    let refused = it.claims.claim(&request).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("`sextant unreserve {prefix}`")), "{refused}");
    reservations.unreserve(prefix).await.unwrap();
    assert_eq!(it.claim(&request).await.prefix, prefix);
}

#[tokio::test]
async fn a_refused_claim_is_unregistered_until_it_is_registered_or_the_window_closes() {
    for registers in [true, false] {
        let it = Fixture::new().await;
        let refused = RefusedClaims::new(it.index.clone());
        it.claim(&it.back(2, 2, 10)).await;
        let request = it.back(1, 7, 10);
        let (node, prefix) = (request.node.clone(), held(&request));
        let claim = Unregistered { node, prefix, pool: "main".parse().unwrap(), why: "x".into() };
        refused.note(request.node_id, claim.clone());
        refused.note(request.node_id, claim.clone());
        assert_eq!(refused.list(), [claim]);
        if registers {
            let granted = it.claim(&request).await;
            assert!(it.index.reaches(granted.epoch.revision, std::time::Duration::from_secs(5)).await);
        } else {
            it.finish().await;
        }
        assert_eq!(refused.list(), []);
    }
}

#[tokio::test]
async fn the_end_of_the_window_names_the_claims_that_end_with_it() {
    let it = Fixture::new().await;
    it.claim(&it.back(2, 2, 10)).await;
    let lost = it.back(1, 7, 10);
    let (node, prefix) = (lost.node.clone(), held(&lost));
    let ending = [Unregistered { node, prefix, pool: "main".parse().unwrap(), why: "x".into() }];
    store::finish(&it.registry, &it.keys, &it.index, &Actor::controller(), &ending).await.unwrap();
    let (_, all) = audit::list(&it.registry, &it.keys).await.unwrap();
    let detail = &all.iter().find(|noted| noted.record.what == "recovery finished").unwrap().record.detail;
    assert!(detail.contains(&format!("not registered: h1 {prefix}")), "{detail}");
}

/// The backup has a prefix of h3 that h2 holds now; h3 has another one, which only its own agent knows of.
#[tokio::test]
async fn a_node_with_a_superseded_claim_is_unregistered_until_it_is_back() {
    let it = Fixture::new().await;
    for n in 2..=3 {
        it.claim(&it.back(n, n.into(), 10)).await;
    }
    it.finish().await;
    let backup = backup::take(&it.registry, &it.keys, "test").await.unwrap();
    let new = Fixture { lost: backup.incarnation, ..Fixture::new().await };
    let done = backup::restore(&new.registry, &new.keys, &backup, &Actor::controller()).await.unwrap();
    assert!(new.index.reaches(done.revision, std::time::Duration::from_secs(5)).await);
    let missing = async || -> Vec<(String, Prefix)> {
        let all = unregistered::superseded(&new.registry, &new.keys, &new.index).await.unwrap();
        all.into_iter().map(|it| (it.node.to_string(), it.prefix)).collect()
    };
    let in_index = async |claim: &Claim| {
        assert!(new.index.reaches(claim.epoch.revision, std::time::Duration::from_secs(5)).await);
    };
    assert_eq!(missing().await, []);
    let h2 = new.back(2, 3, 1000);
    in_index(&new.claim(&h2).await).await;
    assert_eq!(missing().await, [("h3".to_owned(), held(&h2))], "its own former claim is none");
    in_index(&new.claim(&new.back(3, 9, 1001)).await).await;
    assert_eq!(missing().await, []);
}

/// A snapshot of the store has the session of an agent that has not connected since.
#[tokio::test]
async fn a_node_with_a_session_that_no_controller_has_heard_is_silent() {
    let it = Fixture::new().await;
    let h1 = it.back(1, 7, 10);
    it.claim(&h1).await;
    let session = SessionRecord { controller: "c1".into(), instance: None }.encode();
    let txn = Txn { guards: vec![], ops: vec![Op::put(it.keys.session(&h1.node), session)] };
    let revision = it.index.commit(&it.registry, txn).await.unwrap().unwrap();
    assert!(it.index.reaches(revision, std::time::Duration::from_secs(5)).await);
    let silent = |heard: bool| it.index.read(|state| store::silent(state, |_| heard));
    assert_eq!((silent(true), silent(false)), (vec![], vec![h1.node]));
}
