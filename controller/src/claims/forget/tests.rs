use std::time::Duration;

use super::super::{
    AnnouncedClaim, Announcement, Claim, ClaimRequest, Holder,
    tests::{Fixture, holder, pool, request},
};
use super::*;
use crate::control;

fn name(n: usize) -> NodeName {
    format!("host{n}").parse().unwrap()
}

fn names(numbers: std::ops::Range<usize>) -> Vec<NodeName> {
    numbers.map(name).collect()
}

/// Nodes that are announced, and whose agents are gone.
async fn announced(count: usize) -> (Fixture, Vec<(Holder, Claim)>) {
    let it = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
    let mut holders = Vec::new();
    for n in 0..count {
        holders.push(it.announced(n).await);
    }
    (it, holders)
}

async fn forget(it: &Fixture, n: usize) -> Result<(), ForgetError> {
    it.claims.forget(&name(n), false).await.map(drop)
}

#[tokio::test]
async fn nodes_forgotten_one_by_one_are_refused_past_the_limit_until_a_resume() {
    let (it, _) = announced(62).await;
    for n in 0..12 {
        forget(&it, n).await.unwrap();
    }
    let error = forget(&it, 12).await.unwrap_err().to_string();
    for word in
        ["12 of 62", "within the last 10 minutes", "limit of 12", "--confirm 1 NAME", "`sextant resume`"]
    {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
    control::put(&it.registry, &it.keys, false, &crate::audit::Actor::controller()).await.unwrap();
    for n in 12..22 {
        forget(&it, n).await.unwrap();
    }
    assert!(matches!(forget(&it, 22).await, Err(ForgetError::Brake { .. })));
    assert_eq!(it.removals().await.confirmed, 0);
}

#[tokio::test]
async fn sixteen_at_once_over_two_controllers_do_not_pass_the_limit() {
    let (it, _) = announced(62).await;
    let other = it.another_controller().await;
    let ends = (0..60).map(|n| {
        let claims = if n % 2 == 0 { it.claims.clone() } else { other.clone() };
        async move { claims.forget(&name(n), false).await }
    });
    let ended: Vec<_> = futures::stream::iter(ends).buffer_unordered(16).collect().await;
    let refused = ended.iter().filter(|end| matches!(end, Err(ForgetError::Brake { .. }))).count();
    assert_eq!((ended.iter().filter(|end| end.is_ok()).count(), refused), (12, 48), "{ended:?}");
}

#[tokio::test]
async fn one_command_past_the_limit_is_one_decision() {
    let (it, holders) = announced(62).await;
    let refused = it.claims.forget_all(&names(0..50), Scope::Node, false, None).await.unwrap_err();
    assert!(matches!(refused, ForgetError::Brake { more: 50, .. }), "{refused}");
    let miscounted = it.claims.forget_all(&names(0..50), Scope::Node, false, Some(49)).await.unwrap_err();
    assert!(matches!(miscounted, ForgetError::Miscounted { .. }), "{miscounted}");
    let mut unknown = names(0..50);
    unknown.push(name(1000));
    let unknown = it.claims.forget_all(&unknown, Scope::Node, false, Some(51)).await.unwrap_err();
    assert!(matches!(unknown, ForgetError::Unknown(_)), "{unknown}");
    assert_eq!(it.nodes().await, 62, "none was ended");
    let done = it.claims.forget_all(&names(0..50), Scope::Node, false, Some(50)).await.unwrap();
    let expected: Vec<_> = holders[..50].iter().map(|(_, claim)| claim.prefix).collect();
    let ended: Vec<_> = done.ended.into_iter().flat_map(|(_, prefixes)| prefixes).collect();
    assert_eq!(ended, expected);
    assert_eq!(it.nodes().await, 12);
    let removals = it.removals().await;
    assert_eq!((removals.recent.len(), removals.confirmed), (0, 50));
    it.claims.forget_all(&names(50..60), Scope::Node, false, None).await.unwrap();
    assert_eq!(it.removals().await.recent.len(), 10, "ten that nobody had to confirm count");
}

#[tokio::test]
async fn nodes_that_peers_do_not_route_to_do_not_count() {
    let (it, holders) = announced(40).await;
    for (holder, _) in &holders[..20] {
        it.claims.drain(&holder.node, Duration::from_secs(1)).await.unwrap();
        it.claims.drained(holder, vec![]).await.unwrap();
    }
    for n in 0..20 {
        forget(&it, n).await.unwrap();
    }
    for n in 100..120 {
        it.joining(n).await;
        forget(&it, n).await.unwrap();
    }
    assert_eq!(it.removals().await, RemovalsRecord::default());
}

#[tokio::test]
async fn nodes_that_are_back_do_not_count() {
    let (it, _) = announced(20).await;
    for n in 0..20 {
        forget(&it, n).await.unwrap();
        it.announced(n).await;
    }
}

#[tokio::test]
async fn the_hold_down_ends_no_more_than_the_limit() {
    let (it, _) = announced(30).await;
    for n in 0..10 {
        it.claims.hold_down(&name(n)).await.unwrap();
    }
    assert!(matches!(it.claims.hold_down(&name(10)).await, Err(ForgetError::Brake { .. })));
}

/// Announced nodes with two claims each.
async fn announced_with_two(count: usize) -> Fixture {
    let it = Fixture::new(Some(("2001:db8:1::/48", 64))).await;
    it.pools.add(&pool("ula", "fd00:1::/48", 64)).await.unwrap();
    for n in 0..count {
        let mut request = ClaimRequest { beside: true, ..request(n) };
        let mut claims = Vec::new();
        for pool in ["main", "ula"] {
            request.pool = Some(pool.parse().unwrap());
            claims.push(it.claim(&request).await);
        }
        let set_up = |claim: &Claim| AnnouncedClaim { epoch: claim.epoch, container_prefixes: vec![] };
        let announcement =
            Announcement { uplinks: vec![], claims: claims.iter().map(set_up).collect(), pool_order: vec![] };
        it.claims.announce(&holder(&request, &claims[0]), &announcement, None).await.unwrap();
    }
    it
}

#[tokio::test]
async fn each_claim_of_a_node_counts_and_its_other_claims_are_no_return() {
    let it = announced_with_two(20).await;
    let main = "main".parse().unwrap();
    for n in 0..10 {
        it.claims.forget_all(&names(n..n + 1), Scope::Pool(&main), false, None).await.unwrap();
    }
    let error = it.claims.forget_all(&names(10..11), Scope::Pool(&main), false, None).await.unwrap_err();
    assert!(matches!(error, ForgetError::Brake { more: 1, nodes: 1, .. }), "{error}");
    assert_eq!(it.removals().await.recent.len(), 10);
    assert_eq!(it.nodes().await, 20);
}

#[tokio::test]
async fn the_number_to_confirm_is_that_of_the_nodes() {
    let it = announced_with_two(20).await;
    let error = it.claims.forget_all(&names(0..6), Scope::Node, false, None).await.unwrap_err();
    assert!(matches!(error, ForgetError::Brake { more: 12, nodes: 6, .. }), "{error}");
    assert!(error.to_string().contains("12 more would exceed the limit of 10"), "{error}");
    assert!(error.to_string().contains("--confirm 6 NAME"), "{error}");
    it.claims.forget_all(&names(0..6), Scope::Node, false, Some(6)).await.unwrap();
    assert_eq!((it.nodes().await, it.removals().await.confirmed), (14, 12));
    it.claims.forget_all(&names(6..11), Scope::Node, false, None).await.unwrap();
    assert_eq!(it.removals().await.recent.len(), 10, "each claim is one");
}
