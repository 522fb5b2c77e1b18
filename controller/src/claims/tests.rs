use std::{collections::BTreeSet, sync::Arc};

use sextant_proto::NodeState;

use super::*;
use crate::pools::Pools;
use crate::{
    index::IndexTask,
    pools::PoolsError,
    records::{Observers, ReservationRecord, VerdictRecord},
    registry::embedded::EmbeddedStore,
    reservations::Reservations,
    store,
};

/// A real store in a directory of its own, and the services on it.
pub(super) struct Fixture {
    _dir: tempfile::TempDir,
    pub(super) claims: Claims,
    pub(super) pools: Pools,
    pub(super) registry: SharedRegistry,
    pub(super) keys: Keys,
}

impl Fixture {
    pub(super) async fn new(pool: Option<(&str, u32)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry: SharedRegistry = Arc::new(EmbeddedStore::open(&dir.path().join("store")).unwrap());
        let keys = Keys::new(&"test".parse().unwrap());
        let meta = store::open(&registry, &keys).await.unwrap();
        let (task, index) = IndexTask::start(registry.clone(), keys.clone(), meta).await.unwrap();
        tokio::spawn(task.run());
        let claims = Claims::new(registry.clone(), keys.clone(), index.clone(), Duration::from_secs(3600));
        let pools = Pools::new(registry.clone(), keys.clone(), index);
        if let Some((prefix, host_len)) = pool {
            pools.add(&self::pool("main", prefix, host_len)).await.unwrap();
        }
        Self { _dir: dir, claims, pools, registry, keys }
    }

    /// A node that has claimed, and was not announced yet.
    pub(super) async fn joining(&self, n: usize) -> (Holder, Claim) {
        let request = request(n);
        let claim = self.claim(&request).await;
        (holder(&request, &claim), claim)
    }

    /// A node that is announced, and has no session.
    pub(super) async fn announced(&self, n: usize) -> (Holder, Claim) {
        let (holder, claim) = self.joining(n).await;
        self.claims.announce(&holder, &set_up(&holder), None).await.unwrap();
        (holder, claim)
    }

    /// The claims of another controller on the same store.
    pub(super) async fn another_controller(&self) -> Claims {
        let meta = store::open(&self.registry, &self.keys).await.unwrap();
        let (task, index) = IndexTask::start(self.registry.clone(), self.keys.clone(), meta).await.unwrap();
        tokio::spawn(task.run());
        Claims::new(self.registry.clone(), self.keys.clone(), index, Duration::from_secs(3600))
    }

    /// How many nodes the store has.
    pub(super) async fn nodes(&self) -> usize {
        let entries = self.registry.list(&self.keys.all()).await.unwrap().entries;
        entries.iter().filter(|entry| entry.key.contains("/nodes/")).count()
    }

    /// The window of nodes that were forgotten.
    pub(super) async fn removals(&self) -> crate::records::RemovalsRecord {
        let entry = self
            .registry
            .list(&crate::registry::KeyRange::key(&self.keys.removals()))
            .await
            .unwrap()
            .entries
            .pop();
        entry.map(|entry| Record::decode(&entry.value).unwrap()).unwrap_or_default()
    }

    pub(super) async fn claim(&self, request: &ClaimRequest) -> Claim {
        match self.claims.claim(request).await.unwrap() {
            Granted::Claim(claim) => claim,
            Granted::Fenced(why) => panic!("fenced: {why}"),
        }
    }
}

pub(super) fn pool(name: &str, prefix: &str, host_len: u32) -> Pool {
    Pool::new(name.parse().unwrap(), prefix.parse().unwrap(), host_len, host_len).unwrap()
}

pub(super) fn request(n: usize) -> ClaimRequest {
    ClaimRequest {
        node: format!("host{n}").parse().unwrap(),
        node_id: NodeId::random(),
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

/// What the host of `holder` announces.
pub(super) fn set_up(holder: &Holder) -> Announcement {
    let claim = AnnouncedClaim { epoch: holder.epoch, container_prefixes: vec![] };
    Announcement { uplinks: vec![], claims: vec![claim], pool_order: vec![] }
}

pub(super) fn holder(request: &ClaimRequest, claim: &Claim) -> Holder {
    Holder { node: request.node.clone(), node_id: request.node_id, epoch: claim.epoch }
}

#[tokio::test]
async fn i2_a_node_keeps_its_prefix() {
    let it = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
    let request = request(1);
    let first = it.claim(&request).await;
    let before = it.registry.list(&it.keys.all()).await.unwrap().revision;
    let again = ClaimRequest { held: Some(first.clone()), ..request };
    assert_eq!(it.claim(&again).await, first);
    let after = it.registry.list(&it.keys.all()).await.unwrap().revision;
    assert_eq!(before, after, "I8: a claim that is held writes nothing");
}

#[tokio::test]
async fn i1_concurrent_claims_never_overlap() {
    let it = Arc::new(Fixture::new(Some(("2001:db8:1::/58", 64))).await);
    let claims = (0..64).map(|n| {
        let it = it.clone();
        tokio::spawn(async move {
            let request = request(n);
            loop {
                match it.claims.claim(&request).await {
                    Ok(Granted::Claim(claim)) => return claim.prefix,
                    Err(ClaimError::Contended) => {}
                    other => panic!("{other:?}"),
                }
            }
        })
    });
    let prefixes = futures::future::join_all(claims).await.into_iter().map(Result::unwrap);
    assert_eq!(prefixes.collect::<BTreeSet<_>>().len(), 64, "the whole pool, each prefix once");
    let error = it.claims.claim(&request(64)).await.unwrap_err().to_string();
    assert!(
        error.contains("pool main 2001:db8:1::/58 is exhausted: no /64 is free beside 64 claims"),
        "{error}"
    );
}

#[tokio::test]
async fn i3_a_node_name_belongs_to_one_id() {
    let it = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
    let (first, second) = (request(1), request(1));
    let claim = it.claim(&first).await;
    let error = it.claims.claim(&second).await.unwrap_err().to_string();
    assert!(error.contains("node name \"host1\" belongs to node id"), "{error}");
    assert!(error.contains("sextant node forget host1"), "{error}");
    assert!(
        it.claims.announce(&holder(&second, &claim), &set_up(&holder(&second, &claim)), None).await.is_err()
    );
}

#[tokio::test]
async fn i3_a_forgotten_node_is_fenced_and_then_claims_anew() {
    let it = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
    let request = request(1);
    let claim = it.claim(&request).await;
    it.claims.forget(&request.node, false).await.unwrap();
    let returning = ClaimRequest { held: Some(claim.clone()), ..request.clone() };
    assert!(matches!(it.claims.claim(&returning).await.unwrap(), Granted::Fenced(_)));
    let anew = it.claim(&request).await;
    assert_ne!(anew.epoch, claim.epoch);
    let fenced = it
        .claims
        .announce(&holder(&request, &claim), &set_up(&holder(&request, &claim)), None)
        .await
        .unwrap_err();
    assert!(matches!(fenced, HolderError::Fenced(_)), "{fenced}");
    assert!(
        matches!(it.claims.claim(&returning).await.unwrap(), Granted::Fenced(_)),
        "the old epoch stays fenced"
    );
}

#[tokio::test]
async fn i2_a_lost_store_gives_back_what_was_held() {
    let old = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
    let request = request(1);
    let held = old.claim(&request).await;
    let new = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
    let returning = ClaimRequest { held: Some(held.clone()), ..request };
    let claim = new.claim(&returning).await;
    assert_eq!(claim.prefix, held.prefix);
    assert_ne!(claim.epoch.incarnation, held.epoch.incarnation);
}

#[tokio::test]
async fn a_nodes_life() {
    let it = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
    let request = request(1);
    let claim = it.claim(&request).await;
    let holder = holder(&request, &claim);
    let state = async || it.claims.verify(&holder).await.unwrap().record.state;
    let error = it.claims.drain(&request.node, Duration::from_secs(1)).await.unwrap_err().to_string();
    assert!(error.contains("host1 is joining"), "{error}");
    it.claims.announce(&holder, &set_up(&holder), None).await.unwrap();
    assert_eq!(state().await, NodeState::Ready);
    let before = it.registry.list(&it.keys.all()).await.unwrap().revision;
    it.claims.announce(&holder, &set_up(&holder), None).await.unwrap();
    assert_eq!(
        it.registry.list(&it.keys.all()).await.unwrap().revision,
        before,
        "I8: nothing new, nothing written"
    );
    it.claims.drain(&request.node, Duration::from_secs(1)).await.unwrap();
    assert_eq!(state().await, NodeState::Draining);
    assert!(it.claims.release(&holder).await.is_err(), "not drained yet");
    it.claims.drained(&holder, vec!["host2".parse().unwrap()]).await.unwrap();
    it.claims.announce(&holder, &set_up(&holder), None).await.unwrap();
    assert_eq!(state().await, NodeState::Drained, "an announcement does not undo a drain");
    it.claims.undrain(&request.node).await.unwrap();
    assert_eq!(state().await, NodeState::Joining);
    it.claims.announce(&holder, &set_up(&holder), None).await.unwrap();
    it.claims.drain(&request.node, Duration::from_secs(1)).await.unwrap();
    it.claims.drained(&holder, vec![]).await.unwrap();
    it.claims.release(&holder).await.unwrap();
    assert!(matches!(it.claims.forget(&request.node, false).await, Err(ForgetError::Unknown(_))));
}

#[tokio::test]
async fn the_pool_is_named_or_obvious() {
    let it = Fixture::new(None).await;
    assert!(matches!(it.claims.claim(&request(1)).await, Err(ClaimError::NoPool)));
    it.pools.add(&pool("a", "2001:db8:a::/48", 64)).await.unwrap();
    assert_eq!(it.claim(&request(1)).await.pool.name.as_str(), "a");
    it.pools.add(&pool("b", "2001:db8:b::/48", 64)).await.unwrap();
    assert!(matches!(it.claims.claim(&request(2)).await, Err(ClaimError::Ambiguous(_))));
    let named = ClaimRequest { pool: Some("b".parse().unwrap()), ..request(2) };
    assert_eq!(it.claim(&named).await.pool.name.as_str(), "b");
    it.pools.add(&pool("default", "2001:db8:d::/48", 64)).await.unwrap();
    assert_eq!(it.claim(&request(3)).await.pool.name.as_str(), "default");
    let unknown = ClaimRequest { pool: Some("c".parse().unwrap()), ..request(4) };
    let error = it.claims.claim(&unknown).await.unwrap_err().to_string();
    assert!(error.contains("pools: a, b, default"), "{error}");
}

#[tokio::test]
async fn pools_are_apart_and_removed_only_when_empty() {
    let it = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
    for prefix in ["2001:db8:1:8000::/56", "2001:db8::/32", "2001:db8:1::/48"] {
        let error = it.pools.add(&pool("other", prefix, 64)).await.unwrap_err();
        assert!(matches!(error, PoolsError::Overlaps { .. }), "{prefix}: {error}");
    }
    it.pools.add(&pool("main", "2001:db8:1::/48", 64)).await.expect("the same again is no mistake");
    assert!(matches!(
        it.pools.add(&pool("main", "2001:db8:2::/48", 64)).await,
        Err(PoolsError::NameTaken(_))
    ));
    it.claim(&request(1)).await;
    let error = it.pools.remove(&"main".parse().unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("pool main is in use: 1 node holds a prefix"), "{error}");
    it.claims.forget(&request(1).node, false).await.unwrap();
    it.pools.remove(&"main".parse().unwrap()).await.unwrap();
    assert!(matches!(it.pools.remove(&"main".parse().unwrap()).await, Err(PoolsError::Unknown(_))));
}

#[tokio::test]
async fn i1_pools_added_at_once_never_overlap() {
    let it = Arc::new(Fixture::new(None).await);
    let adds = (0..16).map(|n| {
        let it = it.clone();
        tokio::spawn(
            async move { it.pools.add(&pool(&format!("p{n}"), "2001:db8:1::/48", 64)).await.is_ok() },
        )
    });
    let added =
        futures::future::join_all(adds).await.into_iter().filter(|added| *added.as_ref().unwrap()).count();
    assert_eq!(added, 1);
}

#[tokio::test]
async fn i2_a_lost_store_gets_its_pools_back_from_who_holds_of_them() {
    let (old, new) = (Fixture::new(Some(("2001:db8:1::/48", 64))).await, Fixture::new(None).await);
    for n in 0..3 {
        let request = request(n);
        let held = old.claim(&request).await;
        let returning = ClaimRequest { held: Some(held.clone()), ..request };
        let claim = new.claim(&returning).await;
        assert_eq!((claim.prefix, claim.pool), (held.prefix, held.pool));
    }
}

#[tokio::test]
async fn a_reservation_is_its_nodes_alone() {
    let it = Fixture::new(Some(("2001:db8:1::/62", 64))).await;
    let claims = &it.claims;
    let reservations = Reservations::new(it.registry.clone(), it.keys.clone(), claims.index.clone());
    let for_node = |node: Option<&str>| ReservationRecord {
        node: node.map(|node| node.parse().unwrap()),
        reason: "test".into(),
        created_unix_ms: 1,
    };
    let (kept, hers) = ("2001:db8:1::/64".parse().unwrap(), "2001:db8:1:2::/63".parse().unwrap());
    reservations.reserve(kept, &for_node(None)).await.unwrap();
    reservations.reserve(hers, &for_node(Some("host7"))).await.unwrap();
    let error =
        reservations.reserve("2001:db8:1:3::/64".parse().unwrap(), &for_node(None)).await.unwrap_err();
    assert!(error.to_string().contains("overlaps the reservation of 2001:db8:1:2::/63"), "{error}");
    let only = it.claim(&request(1)).await.prefix;
    assert_eq!(only.to_string(), "2001:db8:1:1::/64", "all that is neither kept out nor another's");
    let error = it.claims.claim(&request(2)).await.unwrap_err().to_string();
    assert!(
        error.contains("beside 1 claim and 2 reservations") && error.contains("sextant pool grow"),
        "{error}"
    );
    let error = reservations.reserve(only, &for_node(None)).await.unwrap_err().to_string();
    assert!(error.contains("which node host1 holds"), "{error}");
    assert_eq!(it.claim(&request(7)).await.prefix, hers, "just that, however long it is");
    let error = it.pools.remove(&"main".parse().unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("2 nodes hold prefixes, 2 prefixes of it are reserved"), "{error}");
    reservations.unreserve(kept).await.unwrap();
    assert_eq!(it.claim(&request(2)).await.prefix, kept);
}

#[tokio::test]
async fn a_pool_of_one_and_its_end() {
    let it = Fixture::new(Some(("2001:db8:1::/64", 64))).await;
    it.claim(&request(1)).await;
    let before = it.registry.list(&it.keys.all()).await.unwrap().revision;
    let error = it.claims.claim(&request(2)).await.unwrap_err().to_string();
    for word in
        ["exhausted", "1 of the claims belongs to a node without an agent", "sextant node forget NAME"]
    {
        assert!(error.contains(word), "{error}");
    }
    assert_eq!(it.registry.list(&it.keys.all()).await.unwrap().revision, before, "nothing partial");
    let main = "main".parse().unwrap();
    let error = it.pools.grow(&main, "2001:db9::/48".parse().unwrap()).await.unwrap_err().to_string();
    assert!(
        error.contains("give it a shorter prefix that contains its own, e.g. 2001:db8:1::/63"),
        "{error}"
    );
    it.pools.grow(&main, "2001:db8:1::/63".parse().unwrap()).await.unwrap();
    assert_eq!(it.claim(&request(2)).await.prefix.to_string(), "2001:db8:1:1::/64");
    it.pools.drain(&main, true).await.unwrap();
    let error = it.claims.claim(&request(3)).await.unwrap_err().to_string();
    assert!(error.contains("pool main is closed to new claims"), "{error}");
}

#[tokio::test]
async fn a_host_that_still_forwards_is_forgotten_only_by_force() {
    let it = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
    let request = request(1);
    let claim = it.claim(&request).await;
    let verdict = VerdictRecord::of(Observers { forwarding: 1, dead: 0 }, 1);
    let ops = vec![Op::put(it.keys.verdict(&request.node, "c1"), verdict.encode())];
    it.registry.commit(Txn { guards: vec![], ops }).await.unwrap();
    let error = it.claims.forget(&request.node, false).await.unwrap_err().to_string();
    assert!(error.contains("still forwards") && error.contains("With --force all peers withdraw"), "{error}");
    assert_eq!(it.claims.forget(&request.node, true).await.unwrap().0, [claim.prefix]);
}

#[tokio::test]
async fn a_requested_prefix_is_not_too_short_unless_it_is_reserved() {
    let it = Fixture::new(Some(("2001:db8::/40", 64))).await;
    let claims = it.claims.clone().with_shorter_host_len(8);
    let asks = |n, host_len| ClaimRequest { host_len: Some(host_len), ..request(n) };
    assert!(claims.claim(&asks(1, 56)).await.is_ok());
    let error = claims.claim(&asks(2, 41)).await.unwrap_err();
    assert!(matches!(error, ClaimError::TooShort { shortest: 56, .. }), "{error}");
    let error = error.to_string();
    assert!(
        error.contains("--host-len 41 is shorter") && error.contains("sextant reserve PREFIX"),
        "{error}"
    );
    assert!(it.claims.claim(&asks(2, 41)).await.is_ok(), "without a limit");
}

#[tokio::test]
async fn a_node_has_claims_of_sixteen_pools_at_most() {
    let it = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
    let asking = ClaimRequest { beside: true, ..request(1) };
    let in_pool = |n: usize| ClaimRequest { pool: Some(format!("p{n}").parse().unwrap()), ..asking.clone() };
    for n in 0..=16 {
        it.pools.add(&pool(&format!("p{n}"), &format!("fd00:{n:x}::/48"), 64)).await.unwrap();
    }
    let mut last = None;
    for n in 0..16 {
        last = Some(it.claim(&in_pool(n)).await);
    }
    let error = it.claims.claim(&in_pool(16)).await.unwrap_err().to_string();
    assert!(error.contains("has claims of 16 pools") && error.contains("--pool POOL"), "{error}");
    // Those that it has stay.
    let again = ClaimRequest { held: last.clone(), ..in_pool(15) };
    assert_eq!(Granted::Claim(last.unwrap()), it.claims.claim(&again).await.unwrap());
}

#[tokio::test]
async fn the_end_of_the_claim_in_one_pool_fences_that_claim_only_and_says_which() {
    let it = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
    it.pools.add(&pool("ula", "fd00:1::/48", 64)).await.unwrap();
    let [main, ula]: [PoolName; 2] = ["main", "ula"].map(|name| name.parse().unwrap());
    let asking = ClaimRequest { beside: true, ..request(1) };
    let in_pool = |of: &PoolName| ClaimRequest { pool: Some(of.clone()), ..asking.clone() };
    let first = it.claim(&in_pool(&main)).await;
    let second = it.claim(&in_pool(&ula)).await;
    it.claims.forget_all(std::slice::from_ref(&asking.node), Scope::Pool(&ula), true, None).await.unwrap();

    let again = |held: &Claim| ClaimRequest { held: Some(held.clone()), ..in_pool(&held.pool.name) };
    assert_eq!(it.claims.claim(&again(&first)).await.unwrap(), Granted::Claim(first));
    let ended = format!("its claim of revision {} has ended", second.epoch.revision);
    assert_eq!(it.claims.claim(&again(&second)).await.unwrap(), Granted::Fenced(ended));
    let back = it.claim(&in_pool(&ula)).await;
    assert_eq!(back.prefix, second.prefix, "the quarantined one comes first");
}
