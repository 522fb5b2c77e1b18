//! The store under a running controller is wiped, or taken back to a snapshot (I1, I2, I3).

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use async_trait::async_trait;

use super::{tests::*, *};
use crate::{
    doubts::Knows,
    index::IndexTask,
    pools::Pools,
    records::Meta,
    registry::{KeyRange, LeaseId, Listing, Reading, Registry, Watch, embedded::EmbeddedStore},
    store,
};

/// A registry whose store can be another one from one call to the next.
struct Changing(RwLock<SharedRegistry>);

impl Changing {
    fn now(&self) -> SharedRegistry {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Registry for Changing {
    fn describe(&self) -> String {
        self.now().describe()
    }
    async fn list(&self, range: &KeyRange) -> Result<Listing, RegistryError> {
        self.now().list(range).await
    }
    async fn read(&self, ranges: &[KeyRange]) -> Result<Reading, RegistryError> {
        self.now().read(ranges).await
    }
    async fn commit(&self, txn: Txn) -> Result<Outcome, RegistryError> {
        self.now().commit(txn).await
    }
    fn watch(&self, range: KeyRange, after: Revision) -> Watch {
        self.now().watch(range, after)
    }
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, RegistryError> {
        self.now().grant(ttl).await
    }
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.now().keep_alive(lease).await
    }
    async fn revoke(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.now().revoke(lease).await
    }
}

/// The services of a controller, on a store that is replaced.
struct Fixture {
    dir: tempfile::TempDir,
    store: Arc<Changing>,
    registry: SharedRegistry,
    keys: Keys,
    stores: usize,
}

struct Controller {
    claims: Claims,
    task: tokio::task::JoinHandle<Result<(), crate::index::StoreReplaced>>,
}

impl Fixture {
    async fn new() -> (Self, Controller) {
        let dir = tempfile::tempdir().unwrap();
        let first: SharedRegistry = Arc::new(EmbeddedStore::open(&dir.path().join("0")).unwrap());
        let store = Arc::new(Changing(RwLock::new(first)));
        let (registry, keys): (SharedRegistry, _) = (store.clone(), Keys::new(&"test".parse().unwrap()));
        let it = Self { dir, store, registry, keys, stores: 0 };
        let controller = it.controller().await;
        let pools = Pools::new(it.registry.clone(), it.keys.clone(), controller.claims.index.clone());
        pools.add(&pool("main", "2001:db8:1::/62", 64)).await.unwrap();
        store::finish(&it.registry, &it.keys, &controller.claims.index, &Actor::controller(), &[])
            .await
            .unwrap();
        (it, controller)
    }

    async fn controller(&self) -> Controller {
        let meta = store::open(&self.registry, &self.keys).await.unwrap();
        let (task, index) = IndexTask::start(self.registry.clone(), self.keys.clone(), meta).await.unwrap();
        let task = tokio::spawn(task.run());
        let claims = Claims::new(self.registry.clone(), self.keys.clone(), index, Duration::ZERO);
        Controller { claims, task }
    }

    /// The present store's content, as a snapshot has it.
    fn snapshot(&mut self) -> PathBuf {
        let copy = self.dir.path().join(format!("snapshot {}", self.stores));
        std::fs::copy(self.dir.path().join(self.stores.to_string()), &copy).unwrap();
        copy
    }

    /// Puts another store under all that run: a snapshot of an earlier one, or an empty one.
    fn replace(&mut self, by: Option<&Path>) {
        self.stores += 1;
        let path = self.dir.path().join(self.stores.to_string());
        if let Some(snapshot) = by {
            std::fs::copy(snapshot, &path).unwrap();
        }
        let next: SharedRegistry = Arc::new(EmbeddedStore::open(&path).unwrap());
        *self.store.0.write().unwrap() = next;
    }

    async fn meta(&self) -> Meta {
        store::read(&self.registry, &self.keys).await.unwrap().meta
    }

    /// How many nodes have said that they know what the store does not have.
    async fn doubts(&self) -> usize {
        self.registry.list(&self.keys.doubts()).await.unwrap().entries.len()
    }

    /// Changes that are no grants: the store's revision grows.
    async fn burn(&self, revisions: usize) {
        for n in 0..revisions {
            let ops = vec![Op::put(self.keys.pool_set(), n.to_string())];
            self.registry.commit(Txn { guards: Vec::new(), ops }).await.unwrap();
        }
    }
}

async fn claim(claims: &Claims, request: &ClaimRequest) -> Claim {
    match claims.claim(request).await.unwrap() {
        Granted::Claim(claim) => {
            assert!(claims.index.reaches(claim.epoch.revision, CATCH_UP).await);
            claim
        }
        Granted::Fenced(why) => panic!("fenced: {why}"),
    }
}

/// Claims as an agent does: retries until it is granted or fenced.
async fn agent(claims: &Claims, request: &ClaimRequest) -> Granted {
    for _ in 0..100 {
        match claims.claim(request).await {
            Err(ClaimError::Registry(_) | ClaimError::Contended | ClaimError::Recovering) => {}
            other => return other.unwrap(),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("node {} is neither granted nor fenced", request.node);
}

fn holding(request: &ClaimRequest, claim: &Claim) -> ClaimRequest {
    ClaimRequest { held: Some(claim.clone()), ..request.clone() }
}

#[tokio::test]
async fn i3_no_node_is_fenced_by_a_wiped_store() {
    let (mut it, old) = Fixture::new().await;
    let host = request(1);
    let held = claim(&old.claims, &host).await;
    // Wiped: empty; then another controller has made its own record there, at the same revision.
    it.replace(None);
    for filled in [false, true] {
        if filled {
            store::open(&it.registry, &it.keys).await.unwrap();
        }
        let answer = old.claims.claim(&holding(&host, &held)).await;
        assert!(matches!(answer, Err(ClaimError::Registry(RegistryError::Unavailable(_)))), "{answer:?}");
        let answer = old.claims.verify(&holder(&host, &held)).await;
        assert!(matches!(answer, Err(HolderError::Registry(_))), "{answer:?}");
        let answer = old.claims.forget(&host.node, true).await;
        assert!(answer.is_err(), "{answer:?}");
    }
    assert!(old.claims.claim(&request(2)).await.is_err(), "nothing is granted by an index of another store");
    let ended = tokio::time::timeout(Duration::from_secs(10), old.task).await.expect("the old index ends");
    assert!(ended.unwrap().is_err());
    let new = it.controller().await;
    assert_eq!(claim(&new.claims, &holding(&host, &held)).await.prefix, held.prefix, "I2");
}

#[tokio::test]
async fn i1_a_store_that_was_taken_back_grants_no_prefix_twice() {
    for overtaken in [false, true] {
        let (mut it, old) = Fixture::new().await;
        let (one, two, three) = (request(1), request(2), request(3));
        let first = claim(&old.claims, &one).await;
        let snapshot = it.snapshot();
        it.burn(5).await;
        let second = claim(&old.claims, &two).await;
        let before = it.meta().await.incarnation;
        it.replace(Some(&snapshot));
        if overtaken {
            it.burn(20).await;
        }
        // The pool has four prefixes, and the store believes three of them to be free.
        for n in 3..20 {
            let granted = old.claims.claim(&request(n)).await;
            assert!(granted.is_err(), "overtaken {overtaken}: granted {granted:?}");
        }
        let Granted::Claim(again) = agent(&old.claims, &holding(&two, &second)).await else {
            panic!("fenced, though the store's history is not the one of its claim");
        };
        assert_eq!(again.prefix, second.prefix, "overtaken {overtaken}");
        let meta = it.meta().await;
        assert!(meta.incarnation != before && meta.replaces == Some(before) && meta.stands_in(), "{meta:?}");
        let Granted::Claim(kept) = agent(&old.claims, &holding(&one, &first)).await else { panic!("fenced") };
        assert_eq!(kept.prefix, first.prefix);
        let index = &old.claims.index;
        store::finish(&it.registry, &it.keys, index, &Actor::controller(), &[]).await.unwrap();
        let Granted::Claim(third) = agent(&old.claims, &three).await else { panic!("fenced") };
        assert!(![first.prefix, second.prefix].contains(&third.prefix));
    }
}

#[tokio::test]
async fn a_controller_that_starts_on_a_snapshot_believes_two_nodes_and_not_one() {
    let (mut it, old) = Fixture::new().await;
    let (one, two) = (request(1), request(2));
    claim(&old.claims, &one).await;
    let snapshot = it.snapshot();
    let held = claim(&old.claims, &two).await;
    let mark = old.claims.index.read(|state| state.mark());
    let before = it.meta().await.incarnation;
    // The controllers were stopped first.
    old.task.abort();
    it.replace(Some(&snapshot));
    it.burn(50).await;
    let new = it.controller().await;
    let revision = new.claims.index.seen();

    // Alone, it has back what is free, and nothing else comes of its word, whatever it says.
    let alone = claim(&new.claims, &holding(&two, &held)).await;
    assert_eq!(alone.prefix, held.prefix);
    let lie = Knows { view: Some((before, Revision(u64::MAX))), mark: None };
    for _ in 0..3 {
        assert!(!new.claims.lineage().heard(&two.node, Some(two.node_id), &lie, revision).await);
    }
    assert_eq!(it.meta().await.incarnation, before);
    assert_eq!(it.doubts().await, 1);
    claim(&new.claims, &request(5)).await;

    let known = Knows { view: Some((before, Revision(3))), mark };
    assert!(!new.claims.lineage().heard(&one.node, Some(one.node_id), &known, revision).await);
    let meta = it.meta().await;
    assert!(meta.forked && meta.replaces == Some(before), "{meta:?}");
    let Granted::Claim(kept) = agent(&new.claims, &holding(&two, &alone)).await else { panic!("fenced") };
    assert_eq!(kept.prefix, held.prefix);
    let doubts = new.claims.index.read(|state| state.doubts().count());
    assert_eq!(doubts, 0, "those were of the incarnation before");
}

#[tokio::test]
async fn i3_the_later_holder_of_a_prefix_has_it_after_a_snapshot() {
    let (mut it, old) = Fixture::new().await;
    let (gone, heir) = (request(1), request(2));
    let first = claim(&old.claims, &gone).await;
    let snapshot = it.snapshot();
    old.claims.forget(&gone.node, true).await.unwrap();
    let takes = ClaimRequest { held: Some(first.clone()), ..heir.clone() };
    let mut later = old.claims.claim(&takes).await;
    if matches!(later, Ok(Granted::Fenced(_))) {
        // All four prefixes until the freed one comes.
        later = old.claims.claim(&heir).await;
        for n in 3..8 {
            let Ok(Granted::Claim(claim)) = &later else { break };
            if claim.prefix == first.prefix {
                break;
            }
            later = old.claims.claim(&request(n)).await;
        }
    }
    let Ok(Granted::Claim(later)) = later else { panic!("{later:?}") };
    assert_eq!(later.prefix, first.prefix);
    assert!(old.claims.index.reaches(later.epoch.revision, CATCH_UP).await);
    let holder = old.claims.index.read(|state| state.claims()[&first.prefix].record.clone());
    it.replace(Some(&snapshot));
    let back = ClaimRequest {
        node: holder.node,
        node_id: holder.node_id,
        held: Some(later.clone()),
        pool: None,
        host_len: None,
        ancestors: Vec::new(),
        unproven: None,
        beside: false,
        infrastructure: Vec::new(),
        pool_order: Vec::new(),
        accept_pools: Vec::new(),
    };
    let Granted::Claim(kept) = agent(&old.claims, &back).await else { panic!("the later holder is fenced") };
    assert_eq!(kept.prefix, first.prefix);
    let answer = agent(&old.claims, &holding(&gone, &first)).await;
    assert!(matches!(answer, Granted::Fenced(_)), "the earlier one held it before: {answer:?}");
}

#[tokio::test]
async fn i3_a_node_that_was_forgotten_is_fenced_by_the_mark_of_its_grant() {
    let (it, old) = Fixture::new().await;
    let host = request(1);
    let held = claim(&old.claims, &host).await;
    old.claims.forget(&host.node, true).await.unwrap();
    let answer = old.claims.claim(&holding(&host, &held)).await.unwrap();
    assert!(matches!(answer, Granted::Fenced(_)), "{answer:?}");
    assert_eq!(it.doubts().await, 0);
}

/// The store was wiped, agents registered in the next one, and then the old snapshot was restored after all.
#[tokio::test]
async fn i2_a_snapshot_of_the_incarnation_before_the_present_one_takes_nothing_away() {
    let (mut it, first) = Fixture::new().await;
    let (one, two, later) = (request(1), request(2), request(3));
    let (held_one, held_two) = (claim(&first.claims, &one).await, claim(&first.claims, &two).await);
    let snapshot = it.snapshot();
    let before = it.meta().await.incarnation;
    first.task.abort();
    it.replace(None);
    let second = it.controller().await;
    let held_one = claim(&second.claims, &holding(&one, &held_one)).await;
    // Node 2 did not come; the window is closed, and node 3 has the prefix that was node 2's.
    store::finish(&it.registry, &it.keys, &second.claims.index, &Actor::controller(), &[]).await.unwrap();
    let heir =
        ClaimRequest { held: Some(Claim { prefix: held_two.prefix, ..held_one.clone() }), ..later.clone() };
    let heir = match second.claims.claim(&heir).await.unwrap() {
        Granted::Claim(claim) => claim,
        Granted::Fenced(_) => claim(&second.claims, &later).await,
    };
    second.task.abort();
    it.replace(Some(&snapshot));
    let third = it.controller().await;
    let alone = third.claims.claim(&holding(&one, &held_one)).await;
    assert!(alone.is_err(), "it waits for a second node: {alone:?}");
    let Granted::Claim(kept) = agent(&third.claims, &holding(&later, &heir)).await else { panic!("fenced") };
    assert_eq!(kept.prefix, heir.prefix);
    let Granted::Claim(kept) = agent(&third.claims, &holding(&one, &held_one)).await else {
        panic!("fenced")
    };
    assert_eq!(kept.prefix, held_one.prefix);
    let meta = it.meta().await;
    assert!(meta.forked && meta.descends_from(before) && meta.stands_in(), "{meta:?}");
    if heir.prefix == held_two.prefix {
        let answer = agent(&third.claims, &holding(&two, &held_two)).await;
        assert!(matches!(answer, Granted::Fenced(_)), "the later holder has it: {answer:?}");
    }
}

/// The store is taken back to between the first and the second claim of a node.
#[tokio::test]
async fn i1_i2_a_second_claim_that_a_snapshot_does_not_have_is_granted_again() {
    let (mut it, old) = Fixture::new().await;
    let pools = Pools::new(it.registry.clone(), it.keys.clone(), old.claims.index.clone());
    pools.add(&pool("ula", "fd00:1::/62", 64)).await.unwrap();
    let ask = |request: &ClaimRequest, pool: &str| ClaimRequest {
        pool: Some(pool.parse().unwrap()),
        beside: true,
        ..request.clone()
    };
    let (one, two) = (request(1), request(2));
    let main = claim(&old.claims, &ask(&one, "main")).await;
    let snapshot = it.snapshot();
    it.burn(5).await;
    let ula = claim(&old.claims, &ask(&one, "ula")).await;
    let before = it.meta().await;
    assert!(before.has_several_claims());
    it.replace(Some(&snapshot));
    assert!(old.claims.claim(&ask(&two, "ula")).await.is_err(), "I1: what looks free may be held");
    for held in [&ula, &main] {
        let request = ask(&one, held.pool.name.as_str());
        let Granted::Claim(again) = agent(&old.claims, &holding(&request, held)).await else {
            panic!("fenced, though the store's history is not the one of its claim");
        };
        assert_eq!(again.prefix, held.prefix);
    }
    let meta = it.meta().await;
    assert!(meta.replaces == Some(before.incarnation) && meta.has_several_claims(), "{meta:?}");
    store::finish(&it.registry, &it.keys, &old.claims.index, &Actor::controller(), &[]).await.unwrap();
    let Granted::Claim(other) = agent(&old.claims, &ask(&two, "ula")).await else { panic!("fenced") };
    assert_ne!(other.prefix, ula.prefix);
    let record = old.claims.index.read(|state| state.nodes()[&one.node].record.clone());
    assert_eq!(record.prefixes(), [main.prefix, ula.prefix]);
}
