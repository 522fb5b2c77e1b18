mod not_back;
mod pools;

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

    /// An operator adds these pools, each of /64s.
    async fn add_pools(&self, all: [(&str, &str); 2]) {
        let pools = Pools::new(self.registry.clone(), self.keys.clone(), self.index.clone());
        for (name, prefix) in all {
            let pool = Pool::new(name.parse().unwrap(), prefix.parse().unwrap(), 64, 64).unwrap();
            pools.add(&pool).await.unwrap();
        }
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
        ancestors: Vec::new(),
        unproven: None,
        beside: false,
        infrastructure: Vec::new(),
        pool_order: Vec::new(),
        accept_pools: Vec::new(),
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
