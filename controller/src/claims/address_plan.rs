//! Changes of pools and reservations beside claims, and at the same time as others (I1).

use async_trait::async_trait;
use futures::future::BoxFuture;
use sextant_proto::{InterfaceAddress, Uplink};

use super::{tests::*, *};
use crate::{
    pools::{Pools, PoolsError},
    records::ReservationRecord,
    registry::{KeyRange, LeaseId, Listing, Reading, Registry, Watch},
    reservations::{ReservationError, Reservations},
};

/// A registry that makes another change just before its first commit.
pub(super) struct Meanwhile {
    store: SharedRegistry,
    change: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl Meanwhile {
    pub(super) fn once(it: &Fixture, change: impl Future<Output = ()> + Send + 'static) -> SharedRegistry {
        let change = Mutex::new(Some(Box::pin(change) as BoxFuture<'static, ()>));
        Arc::new(Self { store: it.registry.clone(), change })
    }
}

#[async_trait]
impl Registry for Meanwhile {
    fn describe(&self) -> String {
        self.store.describe()
    }
    async fn list(&self, range: &KeyRange) -> Result<Listing, RegistryError> {
        self.store.list(range).await
    }
    async fn read(&self, ranges: &[KeyRange]) -> Result<Reading, RegistryError> {
        self.store.read(ranges).await
    }
    async fn commit(&self, txn: Txn) -> Result<Outcome, RegistryError> {
        let change = self.change.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(change) = change {
            change.await;
        }
        self.store.commit(txn).await
    }
    fn watch(&self, range: KeyRange, after: Revision) -> Watch {
        self.store.watch(range, after)
    }
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, RegistryError> {
        self.store.grant(ttl).await
    }
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.store.keep_alive(lease).await
    }
    async fn revoke(&self, lease: LeaseId) -> Result<(), RegistryError> {
        self.store.revoke(lease).await
    }
}

/// The pool `main`, with room for 65,536 hosts.
async fn plan() -> Fixture {
    Fixture::new(Some(("2001:db8:1::/48", 64))).await
}

/// The pools and reservations of another controller; `change` is made just before its first commit.
fn other(it: &Fixture, change: impl Future<Output = ()> + Send + 'static) -> (Pools, Reservations) {
    let registry = Meanwhile::once(it, change);
    let (keys, index) = (it.keys.clone(), it.claims.index.clone());
    (Pools::new(registry.clone(), keys.clone(), index.clone()), Reservations::new(registry, keys, index))
}

fn reservations(it: &Fixture) -> Reservations {
    Reservations::new(it.registry.clone(), it.keys.clone(), it.claims.index.clone())
}

fn reserved_for(node: Option<usize>) -> ReservationRecord {
    let node = node.map(|n| format!("host{n}").parse().unwrap());
    ReservationRecord { node, reason: "test".into(), created_unix_ms: 1 }
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn main() -> PoolName {
    "main".parse().unwrap()
}

/// A claim of a pool that is not there.
fn stray(it: &Fixture, at: &str) -> impl Future<Output = ()> + Send + 'static {
    let (node, node_id) = ("stray".parse().unwrap(), NodeId::random());
    let record = ClaimRecord { node, node_id, pool: main(), claimed_unix_ms: 0, prior: None };
    let put = Op::put(it.keys.claim(prefix(at)), record.encode());
    let registry = it.registry.clone();
    async move {
        registry.commit(Txn { guards: Vec::new(), ops: vec![put] }).await.unwrap();
    }
}

#[tokio::test]
async fn pools_stay_apart() {
    let it = plan().await;
    for overlapping in ["2001:db8:1::/48", "2001:db8::/32", "2001:db8:1:8000::/49"] {
        let error = it.pools.add(&pool("other", overlapping, 64)).await.unwrap_err();
        assert!(matches!(error, PoolsError::Overlaps { .. }), "{overlapping}: {error}");
    }
    let error = it.pools.add(&pool("main", "2001:db8:9::/48", 64)).await.unwrap_err();
    assert!(matches!(error, PoolsError::NameTaken(_)), "{error}");
    it.pools.add(&pool("other", "2001:db8:2::/48", 64)).await.unwrap();
    let error = it.pools.grow(&main(), prefix("2001:db8::/46")).await.unwrap_err();
    assert!(matches!(error, PoolsError::Overlaps { .. }), "{error}");
    it.pools.grow(&main(), prefix("2001:db8::/47")).await.unwrap();
}

#[tokio::test]
async fn a_pool_that_was_closed_is_closed_after_it_has_grown() {
    let it = plan().await;
    it.pools.drain(&main(), true).await.unwrap();
    let (grown, _) = it.pools.grow(&main(), prefix("2001:db8::/47")).await.unwrap();
    assert!(grown.draining);
    let error = it.claims.claim(&request(1)).await.unwrap_err();
    assert!(matches!(error, ClaimError::Closed(_)), "{error}");
}

#[tokio::test]
async fn a_pool_is_removed_only_without_claims_and_reservations() {
    let it = plan().await;
    let reserved = prefix("2001:db8:1:7::/64");
    reservations(&it).reserve(reserved, &reserved_for(None)).await.unwrap();
    let error = it.pools.remove(&main()).await.unwrap_err().to_string();
    assert!(error.contains("in use: 1 prefix of it is reserved;"), "{error}");
    reservations(&it).unreserve(reserved).await.unwrap();
    let asking = request(1);
    it.claim(&asking).await;
    let error = it.pools.remove(&main()).await.unwrap_err().to_string();
    assert!(error.contains("in use: 1 node holds a prefix;"), "{error}");
    it.claims.forget(&asking.node, true).await.unwrap();
    it.pools.remove(&main()).await.unwrap();
}

#[tokio::test]
async fn i1_a_pool_that_is_used_meanwhile_is_not_removed() {
    let it = plan().await;
    let claims = it.claims.clone();
    let (pools, _) = other(&it, async move { drop(claims.claim(&request(1)).await.unwrap()) });
    let error = pools.remove(&main()).await.unwrap_err().to_string();
    assert!(error.contains("1 node holds a prefix"), "{error}");

    let it = plan().await;
    let reservations = reservations(&it);
    let (pools, _) = other(&it, async move {
        reservations.reserve(prefix("2001:db8:1:7::/64"), &reserved_for(None)).await.unwrap();
    });
    let error = pools.remove(&main()).await.unwrap_err().to_string();
    assert!(error.contains("1 prefix of it is reserved"), "{error}");
}

#[tokio::test]
async fn i1_pools_that_are_added_or_grown_at_the_same_time_stay_apart() {
    let it = plan().await;
    let first = it.pools.clone();
    let (pools, _) = other(&it, async move {
        first.add(&pool("first", "2001:db8:2::/48", 64)).await.unwrap();
    });
    let error = pools.add(&pool("second", "2001:db8:2::/47", 64)).await.unwrap_err();
    assert!(matches!(error, PoolsError::Overlaps { .. }), "{error}");
    let first = it.pools.clone();
    let (pools, _) = other(&it, async move {
        first.add(&pool("third", "2001:db8::/48", 64)).await.unwrap();
    });
    let error = pools.grow(&main(), prefix("2001:db8::/47")).await.unwrap_err();
    assert!(matches!(error, PoolsError::Overlaps { .. }), "{error}");
}

#[tokio::test]
async fn i1_no_pool_grows_over_a_claim_of_no_pool() {
    let it = plan().await;
    let (pools, _) = other(&it, stray(&it, "2001:db8:0:3::/64"));
    let error = pools.grow(&main(), prefix("2001:db8::/47")).await.unwrap_err();
    assert!(matches!(error, PoolsError::Stray(..)), "it was put meanwhile: {error}");
    let error = it.pools.grow(&main(), prefix("2001:db8::/47")).await.unwrap_err();
    assert!(matches!(error, PoolsError::Stray(..)), "{error}");
}

#[tokio::test]
async fn a_refused_growth_proposes_only_a_prefix_that_contains_the_pool() {
    let it = Fixture::new(Some(("2001:db8:8000::/40", 64))).await;
    let (holder, _) = it.joining(1).await;
    let addr = "2001:db8:8100::1".parse().unwrap();
    let address = InterfaceAddress { addr, on_link: Prefix::containing(addr, 64).unwrap() };
    let uplinks = vec![Uplink { interface: "eth0".into(), addresses: vec![address] }];
    it.claims.announce(&holder, &Announcement { uplinks, ..set_up(&holder) }, None).await.unwrap();
    let error = it.pools.grow(&main(), prefix("2001:db8::/32")).await.unwrap_err().to_string();
    assert!(error.contains("which node host1 has") && !error.contains("e.g."), "{error}");
}

#[tokio::test]
async fn what_is_reserved_lies_in_a_pool_and_overlaps_no_other_reservation() {
    let it = plan().await;
    let reservations = reservations(&it);
    let reserve = async |at: &str, of: &ReservationRecord| reservations.reserve(prefix(at), of).await;
    let error = reserve("2001:db8:1::/127", &reserved_for(None)).await.unwrap_err();
    assert!(matches!(error, ReservationError::TooLong(_)), "{error}");
    for outside in ["2001:db8:2::/64", "2001:db8::/47"] {
        let error = reserve(outside, &reserved_for(None)).await.unwrap_err();
        assert!(matches!(error, ReservationError::NoPool { .. }), "{outside}: {error}");
    }
    let first = reserve("2001:db8:1:7::/64", &reserved_for(None)).await.unwrap();
    assert_eq!(reserve("2001:db8:1:7::/64", &reserved_for(None)).await.unwrap(), first, "the same again");
    let other_reason = ReservationRecord { reason: "other".into(), ..reserved_for(None) };
    for (at, of) in [
        ("2001:db8:1:7::/64", &other_reason),
        ("2001:db8:1:7::/64", &reserved_for(Some(1))),
        ("2001:db8:1:6::/63", &reserved_for(None)),
        ("2001:db8:1:7:8000::/65", &reserved_for(None)),
    ] {
        let error = reserve(at, of).await.unwrap_err();
        assert!(matches!(error, ReservationError::Reserved { .. }), "{at}: {error}");
    }
}

#[tokio::test]
async fn a_held_prefix_is_reserved_for_its_holder_only_and_just_as_it_is() {
    let it = plan().await;
    let claim = it.claim(&request(1)).await;
    let (held, around) = (claim.prefix, claim.prefix.ancestor(63).unwrap());
    let part = held.nth(65, 1).unwrap();
    for (at, node) in [(held, None), (held, Some(2)), (around, Some(1)), (part, Some(1)), (part, None)] {
        let error = reservations(&it).reserve(at, &reserved_for(node)).await.unwrap_err();
        assert!(matches!(error, ReservationError::Claimed { .. }), "{at} for {node:?}: {error}");
    }
    reservations(&it).reserve(held, &reserved_for(Some(1))).await.unwrap();
}

#[tokio::test]
async fn i1_nothing_is_reserved_that_is_claimed_or_reserved_meanwhile_or_whose_pool_is_gone() {
    let it = plan().await;
    let claims = it.claims.clone();
    let (_, all) = other(&it, async move { drop(claims.claim(&request(1)).await.unwrap()) });
    let error = all.reserve(prefix("2001:db8:1::/48"), &reserved_for(None)).await.unwrap_err();
    assert!(matches!(error, ReservationError::Claimed { .. }), "{error}");

    let it = plan().await;
    let first = reservations(&it);
    let (_, second) = other(&it, async move {
        first.reserve(prefix("2001:db8:1:7::/64"), &reserved_for(None)).await.unwrap();
    });
    let error = second.reserve(prefix("2001:db8:1::/56"), &reserved_for(None)).await.unwrap_err();
    assert!(matches!(error, ReservationError::Reserved { .. }), "{error}");

    let it = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
    let pools = it.pools.clone();
    let (_, late) = other(&it, async move {
        pools.remove(&main()).await.unwrap();
        // The name is another pool's by then.
        pools.add(&pool("main", "2001:db8:2::/48", 64)).await.unwrap();
    });
    let error = late.reserve(prefix("2001:db8:1:7::/64"), &reserved_for(None)).await.unwrap_err();
    assert!(matches!(error, ReservationError::NoPool { .. }), "{error}");
}
