//! What the cluster stands on is not handed out.

use sextant_proto::{InterfaceAddress, Uplink};

use super::{tests::*, *};
use crate::{
    pools::PoolsError,
    records::ReservationRecord,
    reservations::{ReservationError, Reservations},
};

/// A store with the pool `main` in which the hosts are.
async fn around_hosts() -> Fixture {
    Fixture::new(Some(("2001:db8::/60", 64))).await
}

/// Node `n`, which is at `address` on a /64.
async fn host(it: &Fixture, n: usize, address: &str) -> (Holder, Claim) {
    let (holder, claim) = it.joining(n).await;
    let addr = address.parse().unwrap();
    let address = InterfaceAddress { addr, on_link: Prefix::containing(addr, 64).unwrap() };
    let uplinks = vec![Uplink { interface: "eth0".into(), addresses: vec![address] }];
    it.claims.announce(&holder, &Announcement { uplinks, ..set_up(&holder) }, None).await.unwrap();
    (holder, claim)
}

fn reservations(it: &Fixture) -> Reservations {
    Reservations::new(it.registry.clone(), it.keys.clone(), it.claims.index.clone())
}

fn reserved_for(node: Option<usize>) -> ReservationRecord {
    let node = node.map(|n| format!("host{n}").parse().unwrap());
    ReservationRecord { node, reason: "test".into(), created_unix_ms: 1 }
}

#[tokio::test]
async fn no_new_prefix_contains_an_address_of_a_host_or_of_a_link() {
    let it = around_hosts().await;
    let (_, first) = host(&it, 1, "2001:db8::1").await;
    // One of the sixteen is the link's own, and one that of the first host.
    let mut granted = vec![first.prefix];
    for n in 2..=15 {
        granted.push(it.claim(&request(n)).await.prefix);
    }
    let link: Prefix = "2001:db8::/64".parse().unwrap();
    assert!(granted[0] == link || !granted.contains(&link), "{granted:?}");
    let error = it.claims.claim(&request(99)).await;
    assert!(granted[0] == link || matches!(error, Err(ClaimError::Exhausted { .. })), "{error:?}");
}

#[tokio::test]
async fn a_full_pool_tells_how_many_prefixes_the_network_stands_on() {
    let it = Fixture::new(Some(("2001:db8::/61", 64))).await;
    let (_, first) = host(&it, 1, "2001:db8:0:10::1").await;
    // Two hosts have addresses in others of the eight; what is claimed or reserved counts once.
    let others: Vec<_> = (0..8)
        .filter_map(|n| Prefix::nth("2001:db8::/61".parse().unwrap(), 64, n))
        .filter(|it| *it != first.prefix)
        .collect();
    let of = |n: usize| others[n].first_host();
    let (holder, second) = it.joining(2).await;
    let free: Vec<_> = others.iter().copied().filter(|it| *it != second.prefix).collect();
    let on_link = |prefix: Prefix| InterfaceAddress { addr: prefix.first_host(), on_link: prefix };
    let addresses = [first.prefix, free[0], free[1]].map(on_link).to_vec();
    let uplinks = vec![Uplink { interface: "eth0".into(), addresses }];
    it.claims.announce(&holder, &Announcement { uplinks, ..set_up(&holder) }, None).await.unwrap();
    reservations(&it).reserve(free[1], &reserved_for(None)).await.unwrap();
    for n in 3..=5 {
        it.claim(&request(n)).await;
    }
    // The last one has its own router in the only prefix that is left.
    let holds =
        |prefix: Prefix| it.claims.index.read(|state| state.holdings().claim_overlapping(prefix).is_some());
    let left = free[2..].iter().copied().find(|prefix| !holds(*prefix)).unwrap();
    let asked = ClaimRequest { infrastructure: vec![left.first_host(), of(0)], ..request(9) };
    let text = it.claims.claim(&asked).await.unwrap_err().to_string();
    let words = "is free beside 5 claims, 1 reservation and 2 prefixes with addresses of hosts, links, routers or controllers (";
    assert!(text.contains(words), "{text}");
    it.claim(&request(6)).await;
    let text = it.claims.claim(&request(7)).await.unwrap_err().to_string();
    assert!(text.contains("beside 6 claims, 1 reservation and 1 prefix with addresses"), "{text}");
}

#[tokio::test]
async fn a_host_gets_no_prefix_with_an_address_that_its_own_network_stands_on() {
    let it = around_hosts().await;
    let infrastructure: Vec<Ipv6Addr> =
        (0..15).map(|n| Prefix::nth("2001:db8::/60".parse().unwrap(), 64, n).unwrap().first_host()).collect();
    let request = ClaimRequest { infrastructure, ..request(1) };
    assert_eq!(it.claim(&request).await.prefix.to_string(), "2001:db8:0:f::/64");
    let all = vec!["2001:db8:0:f::7".parse().unwrap()];
    let other = ClaimRequest { infrastructure: all, ..super::tests::request(2) };
    assert_ne!(it.claim(&other).await.prefix.to_string(), "2001:db8:0:f::/64");
}

#[tokio::test]
async fn nothing_that_the_cluster_stands_on_is_reserved_for_a_node() {
    let it = around_hosts().await;
    let (_, claim) = host(&it, 1, "2001:db8:0:10::1").await;
    let other = (0..16).map(|n| Prefix::nth("2001:db8::/60".parse().unwrap(), 64, n).unwrap());
    let free = other.into_iter().find(|it| *it != claim.prefix).unwrap();
    let (second, _) = it.joining(2).await;
    let addresses =
        [InterfaceAddress { addr: free.nth(128, 77).unwrap().addr(), on_link: free.ancestor(60).unwrap() }];
    let uplinks = vec![Uplink { interface: "eth1".into(), addresses: addresses.to_vec() }];
    it.claims.announce(&second, &Announcement { uplinks, ..set_up(&second) }, None).await.unwrap();

    let reservations = reservations(&it);
    let error = reservations.reserve(free, &reserved_for(Some(7))).await.unwrap_err();
    assert!(matches!(error, ReservationError::Infrastructure { .. }), "{error}");
    assert!(error.to_string().contains("which node host2 has"), "{error}");
    reservations.reserve(free, &reserved_for(None)).await.expect("kept out for all");
}

/// The address of its router is known to the host alone.
#[tokio::test]
async fn a_reservation_that_would_take_the_hosts_own_router_is_refused_with_its_fix() {
    let it = around_hosts().await;
    let prefix: Prefix = "2001:db8:0:7::/64".parse().unwrap();
    reservations(&it).reserve(prefix, &reserved_for(Some(1))).await.unwrap();
    let router = "2001:db8:0:7::fe".parse().unwrap();
    let error =
        it.claims.claim(&ClaimRequest { infrastructure: vec![router], ..request(1) }).await.unwrap_err();
    assert!(
        error.is_refusal() && error.to_string().contains("sextant unreserve 2001:db8:0:7::/64"),
        "{error}"
    );
    assert_eq!(it.claim(&request(1)).await.prefix, prefix);
}

#[tokio::test]
async fn no_pool_is_added_or_grown_over_what_the_cluster_stands_on() {
    let it = Fixture::new(Some(("2001:db8:8000::/40", 64))).await;
    host(&it, 1, "2001:db8::1").await;
    let main = "main".parse().unwrap();
    let error = it.pools.grow(&main, "2001:db8::/32".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, PoolsError::Infrastructure(_)), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("2001:db8::, which node host1 has") && text.contains("e.g. 2001:db8:8000::/33"),
        "{text}"
    );
    it.pools.grow(&main, "2001:db8:8000::/33".parse().unwrap()).await.unwrap();
    let error = it.pools.add(&pool("other", "2001:db8::/48", 64)).await.unwrap_err().to_string();
    assert!(error.contains("give it a prefix without them, e.g. 2001:db8:0:8000::/49"), "{error}");
    it.pools.add(&pool("other", "2001:db8:0:8000::/49", 64)).await.unwrap();
    it.pools.add(&pool("other", "2001:db8:0:8000::/49", 64)).await.expect("the same again");
}

/// Its nodes hold prefixes of it: each claim is checked for itself.
#[tokio::test]
async fn the_pool_of_a_lost_store_comes_back_whatever_the_cluster_stands_on_by_then() {
    let it = Fixture::new(Some(("2001:db8:8000::/40", 64))).await;
    let (holder, _) = host(&it, 1, "2001:db8::1").await;
    let lost = pool("lost", "2001:db8::/48", 64);
    assert!(matches!(it.pools.add(&lost).await.unwrap_err(), PoolsError::Infrastructure(_)));
    it.pools.restore(&lost, &holder.node).await.unwrap();
}

/// DESIGN I14: a node that announces an address in another's prefix takes nothing from it.
#[tokio::test]
async fn an_announced_address_takes_no_prefix_from_its_holder() {
    let it = around_hosts().await;
    let (_, claim) = it.announced(1).await;
    host(&it, 2, &claim.prefix.nth(128, 5).unwrap().addr().to_string()).await;
    let mut again = super::tests::request(1);
    again.node_id = it.claims.index.read(|state| state.nodes()[&again.node].record.node_id);
    again.held = Some(claim.clone());
    assert_eq!(it.claim(&again).await, claim);
    it.pools
        .grow(&"main".parse().unwrap(), "2001:db8::/59".parse().unwrap())
        .await
        .expect("its own part is as it was");
}
