use std::net::Ipv6Addr;

use super::*;

fn address(n: u128) -> Option<IpAddr> {
    Some(Ipv6Addr::from_bits(n).into())
}

#[tokio::test(start_paused = true)]
async fn a_member_has_its_share_and_costs_the_others_of_its_address_nothing() {
    let usage = Usage::new(Limits::default());
    let call = |member: &str| usage.admit(Some(member), address(1), false);
    let held: Vec<_> = (0..40).map(|_| call("node h1")).collect();
    assert_eq!(held.iter().filter(|it| it.is_ok()).count(), 32);
    let error = call("node h1").unwrap_err().to_string();
    assert!(error.starts_with("node h1: 32 calls are in progress") && error.contains("`calls`"), "{error}");
    // Behind one NAT address: each agent claims and opens its stream.
    let others: Vec<_> =
        (2..2002).map(|n| call(&format!("node h{n}")).and(call(&format!("node h{n}")))).collect();
    assert!(others.iter().all(Result::is_ok));
    drop(held);
    assert!(call("node h1").is_ok(), "its calls have ended");
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_refused_beyond_the_rate() {
    let usage = Usage::new(Limits::default());
    let call = |claims| usage.admit(Some("node h1"), address(1), claims).map(drop);
    assert_eq!((0..5000).filter(|_| call(false).is_ok()).count(), 500, "ten seconds at once");
    let error = call(false).unwrap_err().to_string();
    assert!(error.contains("more than 50 calls a second") && error.contains("`requests`"), "{error}");
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!((0..5000).filter(|_| call(true).is_ok()).count(), 240, "claims");
    assert!(usage.admit(Some("node h2"), address(1), true).is_ok());
    let plain = (0..300_000).filter(|_| usage.admit(None, address(2), true).is_ok()).count();
    assert_eq!(plain, 200_000, "an address");
}

#[tokio::test(start_paused = true)]
async fn the_number_of_accounts_is_bounded() {
    let usage = Usage::new(Limits::default());
    for n in 0..100_000 {
        drop(usage.admit(None, address(n), false));
    }
    assert!(lock(&usage.book).accounts.len() <= MOST + 1);
    tokio::time::advance(Duration::from_secs(60)).await;
    let before = lock(&usage.book).accounts.len();
    for n in 0..(2 * MANY as u128) {
        drop(usage.admit(None, address(200_000 + n), false));
    }
    assert!(lock(&usage.book).accounts.len() <= before, "idle ones are forgotten");
}
