//! The pools that held claims come back in.

use super::*;

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
            assert_eq!(it.claim(request).await.prefix, super::held(request), "{small_first}");
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
        it.add_pools([("xmain", "2001:db8::/32"), ("xula", "fd00:1::/48")]).await;
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
        it.add_pools([("ula", "2001:db8::/32"), ("main", "fd00:1::/48")]).await;
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
    it.add_pools([("ula", "2001:db8::/32"), ("main", "fd00:1::/48")]).await;
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
