use sextant_proto::{InterfaceAddress, Uplink};

use super::{
    super::{
        AnnouncedClaim, Announcement, Claim, ClaimRequest, Granted, Holder, Scope,
        tests::{Fixture, holder, pool, request, set_up},
    },
    *,
};
use crate::{
    audit,
    records::{NodeRecord, Observers, ReservationRecord, SessionRecord, VerdictRecord},
    reservations::Reservations,
};

const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(30);

fn name(n: usize) -> NodeName {
    format!("host{n}").parse().unwrap()
}

fn order(n: usize, prefix: Option<&str>) -> Reassignment {
    Reassignment { node: name(n), pool: None, prefix: prefix.map(|prefix| prefix.parse().unwrap()) }
}

async fn main_pool() -> Fixture {
    Fixture::new(Some(("2001:db8:1::/56", 64))).await
}

async fn connect(it: &Fixture, n: usize) {
    let session = SessionRecord { controller: "here".into(), instance: None, serial: String::new() };
    let ops = vec![Op::put(it.keys.session(&name(n)), session.encode())];
    it.registry.commit(Txn { guards: vec![], ops }).await.unwrap();
}

async fn drain(it: &Fixture, holder: &Holder) {
    it.claims.drain(&holder.node, TIMEOUT).await.unwrap();
    it.claims.drained(holder, vec![]).await.unwrap();
}

/// A connected node that has drained, and its request and claim.
async fn drained(it: &Fixture, n: usize) -> (ClaimRequest, Claim) {
    let request = request(n);
    let claim = it.claim(&request).await;
    let holder = holder(&request, &claim);
    it.claims.announce(&holder, &set_up(&holder), None).await.unwrap();
    connect(it, n).await;
    drain(it, &holder).await;
    (request, claim)
}

async fn record(it: &Fixture, n: usize) -> NodeRecord {
    it.claims.node_status(&name(n)).await.unwrap().node.unwrap().record
}

async fn revision(it: &Fixture) -> Revision {
    it.registry.list(&it.keys.all()).await.unwrap().revision
}

async fn reserve(it: &Fixture, prefix: &str, node: Option<usize>) {
    let reservations = Reservations::new(it.registry.clone(), it.keys.clone(), it.claims.index.clone());
    let record = ReservationRecord { node: node.map(name), reason: "test".into(), created_unix_ms: 1 };
    reservations.reserve(prefix.parse().unwrap(), &record).await.unwrap();
}

/// The error of an order, by a plan and by the move itself; neither changes anything.
async fn refused(it: &Fixture, order: &Reassignment) -> ReassignError {
    let before = revision(it).await;
    let planned = it.claims.plan_reassign(order).await.unwrap_err();
    let error = it.claims.reassign(order).await.unwrap_err();
    assert_eq!(planned.to_string(), error.to_string());
    assert_eq!(revision(it).await, before, "{error}");
    error
}

#[tokio::test]
async fn i1_i3_a_drained_node_is_moved_in_one_change_and_its_earlier_epoch_is_fenced() {
    let it = main_pool().await;
    let (asks, before) = drained(&it, 1).await;
    let planned = it.claims.plan_reassign(&order(1, None)).await.unwrap();
    assert_eq!((planned.from, planned.in_service, planned.connected), (before.prefix, false, true));
    let revision = revision(&it).await;
    let moved = it.claims.reassign(&order(1, None)).await.unwrap();
    assert_eq!((moved.from, moved.to), (before.prefix, planned.to), "as it was planned");
    assert!(moved.to != before.prefix && moved.revision > revision);

    let status = it.claims.node_status(&name(1)).await.unwrap();
    let node = status.node.as_ref().unwrap();
    assert_eq!((node.record.prefixes(), node.record.state), (vec![moved.to], NodeState::Joining));
    let epoch = status.epoch_of(status.holdings().next().unwrap());
    assert_eq!((node.modified, epoch.revision), (moved.revision, moved.revision), "one change");

    let fenced = it.claims.verify(&holder(&asks, &before)).await.unwrap_err();
    assert!(matches!(fenced, HolderError::Fenced(_)), "{fenced}");
    let holding = ClaimRequest { held: Some(before.clone()), ..asks.clone() };
    let fenced = it.claims.claim(&holding).await.unwrap();
    assert!(matches!(fenced, Granted::Fenced(_)), "{fenced:?}");
    let now = it.claim(&asks).await;
    assert_eq!((now.prefix, now.epoch), (moved.to, epoch));
    let holder = holder(&asks, &now);
    it.claims.announce(&holder, &set_up(&holder), None).await.unwrap();
    assert_eq!(record(&it, 1).await.state, NodeState::Ready);

    assert!(it.claims.index.read(|state| state.holdings().freed().contains_key(&before.prefix)));
    let (_, events) = audit::list(&it.registry, &it.keys).await.unwrap();
    let event = &events.iter().find(|event| event.record.what == "reassigned").unwrap().record;
    let expected = (Some(moved.to), format!("from {}", before.prefix));
    assert_eq!((event.prefix, event.detail.clone()), expected);
}

#[tokio::test]
async fn the_prefix_before_is_kept_from_others() {
    let it = Fixture::new(Some(("2001:db8:1::/62", 64))).await;
    let (_, before) = drained(&it, 1).await;
    it.claims.reassign(&order(1, None)).await.unwrap();
    for n in 2..=3 {
        assert_ne!(it.claim(&request(n)).await.prefix, before.prefix, "quarantined while others are free");
    }
    // The node itself may have it back.
    it.claims.reassign(&order(1, Some(&before.prefix.to_string()))).await.unwrap();
    assert_eq!(record(&it, 1).await.prefixes(), [before.prefix]);
}

#[tokio::test]
async fn no_node_is_moved_while_peers_route_to_it() {
    let it = main_pool().await;
    let (holder, claim) = it.announced(1).await;
    connect(&it, 1).await;
    for state in ["ready", "draining"] {
        let planned = it.claims.plan_reassign(&order(1, None)).await.unwrap();
        assert!(planned.in_service && planned.connected && planned.from == claim.prefix, "{planned:?}");
        let error = it.claims.reassign(&order(1, None)).await.unwrap_err().to_string();
        let fix = "drain it first: sextant node drain host1";
        assert!(error.contains(&format!("host1 is {state}")) && error.contains(fix), "{error}");
        it.claims.drain(&name(1), TIMEOUT).await.unwrap();
    }
    assert_eq!(record(&it, 1).await.prefixes(), [claim.prefix]);
    it.claims.drained(&holder, vec![]).await.unwrap();
    it.claims.reassign(&order(1, None)).await.unwrap();
}

#[tokio::test]
async fn a_node_without_an_agent_is_moved_unless_its_host_forwards() {
    let it = main_pool().await;
    let (_, claim) = it.announced(1).await;
    let verdict = VerdictRecord::of(Observers { forwarding: 1, dead: 0 }, 1);
    let seen = it.keys.verdict(&name(1), "c1");
    let ops = vec![Op::put(seen.clone(), verdict.encode())];
    it.registry.commit(Txn { guards: vec![], ops }).await.unwrap();
    let error = it.claims.plan_reassign(&order(1, None)).await.unwrap_err();
    assert!(matches!(error, ReassignError::Forwarding(_)), "{error}");
    assert!(error.to_string().contains("start sextant-agent there"), "{error}");

    it.registry.commit(Txn { guards: vec![], ops: vec![Op::Delete(seen)] }).await.unwrap();
    let planned = it.claims.plan_reassign(&order(1, None)).await.unwrap();
    assert!(planned.in_service && !planned.connected, "{planned:?}");
    it.claims.drain(&name(1), TIMEOUT).await.unwrap();
    let moved = it.claims.reassign(&order(1, None)).await.unwrap();
    let record = record(&it, 1).await;
    assert_eq!((record.prefixes(), record.state), (vec![moved.to], NodeState::Joining));
    assert_ne!(moved.to, claim.prefix);
}

#[tokio::test]
async fn a_node_that_is_not_announced_yet_is_moved_at_once() {
    let it = main_pool().await;
    let (_, claim) = it.joining(1).await;
    let moved = it.claims.reassign(&order(1, None)).await.unwrap();
    assert!(!moved.in_service && moved.from == claim.prefix && moved.to != claim.prefix, "{moved:?}");
}

#[tokio::test]
async fn a_named_prefix_of_another_length_is_refused_unless_it_is_reserved_for_the_node() {
    let it = main_pool().await;
    let (_, before) = drained(&it, 1).await;
    for prefix in ["2001:db8:1:f2::/80", "2001:db8:1:f0::/60", "2001:db8:1:f2::/65"] {
        let error = refused(&it, &order(1, Some(prefix))).await.to_string();
        let words = [prefix, "pool main (/64)", &before.prefix.to_string(), "name a prefix of /64"];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert!(error.ends_with(&format!("sextant reserve {prefix} --node host1")), "{error}");
    }
    reserve(&it, "2001:db8:1:f0::/60", Some(1)).await;
    it.claims.reassign(&order(1, Some("2001:db8:1:f0::/60"))).await.unwrap();
    // A node whose agent asked for that length may have another prefix of it.
    it.claim(&ClaimRequest { host_len: Some(62), ..request(2) }).await;
    for prefix in ["2001:db8:1:e0::/62", "2001:db8:1:e8::/64"] {
        it.claims.reassign(&order(2, Some(prefix))).await.unwrap();
    }
}

#[tokio::test]
async fn a_named_prefix_is_had_or_refused_with_the_reason() {
    let it = main_pool().await;
    let (_, before) = drained(&it, 1).await;
    let (_, other) = it.announced(2).await;
    reserve(&it, "2001:db8:1:f0::/64", Some(7)).await;
    reserve(&it, "2001:db8:1:f1::/64", None).await;
    reserve(&it, "2001:db8:1:f2::/64", Some(1)).await;
    let uplinks = vec![Uplink {
        interface: "eth0".into(),
        addresses: vec![InterfaceAddress {
            addr: "2001:db8:1:e0::5".parse().unwrap(),
            on_link: "2001:db8:1:e0::/64".parse().unwrap(),
        }],
    }];
    let (third, _) = it.joining(3).await;
    it.claims.announce(&third, &Announcement { uplinks, ..set_up(&third) }, None).await.unwrap();
    let around = format!("{}", other.prefix.ancestor(60).unwrap());
    let inside = format!("{}", other.prefix.nth(80, 3).unwrap());
    let own = format!("{}", before.prefix.nth(80, 3).unwrap());
    for (prefix, what) in [
        (other.prefix.to_string().as_str(), "which node host2 holds"),
        (around.as_str(), "which node host"),
        (inside.as_str(), "which node host2 holds"),
        (own.as_str(), "which node host1 holds"),
        ("2001:db8:2::/64", "is not in pool main 2001:db8:1::/56"),
        ("2001:db8::/32", "is not in pool main 2001:db8:1::/56"),
        ("2001:db8:1:d0::/127", "at most 126 bits"),
        ("2001:db8:1:f0::/64", "reservation of 2001:db8:1:f0::/64 for node host7"),
        ("2001:db8:1:f1:8000::/65", "for no node"),
        ("2001:db8:1:f2::/63", "reservation of 2001:db8:1:f2::/64 for node host1"),
        ("2001:db8:1:e0::/64", "contains 2001:db8:1:e0::, which node host3 has"),
    ] {
        let error = refused(&it, &order(1, Some(prefix))).await.to_string();
        assert!(error.contains(what) && error.contains(prefix), "{prefix}: {error}");
    }
    for prefix in ["2001:db8:1:f2::/64", "2001:db8:1:d0::/64", "2001:db8:1:c0::/64"] {
        it.claims.reassign(&order(1, Some(prefix))).await.unwrap();
        assert_eq!(record(&it, 1).await.prefixes(), [prefix.parse().unwrap()]);
    }
    let before = revision(&it).await;
    let again = it.claims.reassign(&order(1, Some("2001:db8:1:c0::/64"))).await.unwrap();
    assert_eq!((again.from, revision(&it).await), (again.to, before), "it holds that already");
}

#[tokio::test]
async fn what_is_reserved_for_the_node_comes_first() {
    let it = main_pool().await;
    drained(&it, 1).await;
    reserve(&it, "2001:db8:1:f2::/64", Some(1)).await;
    assert_eq!(it.claims.reassign(&order(1, None)).await.unwrap().to.to_string(), "2001:db8:1:f2::/64");
    let next = it.claims.reassign(&order(1, None)).await.unwrap();
    assert_eq!(next.from.to_string(), "2001:db8:1:f2::/64", "away from it, too");
    reserve(&it, "2001:db8:1:f3::/64", Some(2)).await;
    drained(&it, 2).await;
    it.claims.reassign(&order(2, Some("2001:db8:1:aa::/64"))).await.unwrap();
    // A host of a link in it was announced after the reservation.
    let (third, _) = it.joining(3).await;
    let on_link = "2001:db8:1:f3::/64".parse().unwrap();
    let addresses = vec![InterfaceAddress { addr: "2001:db8:1:f3::9".parse().unwrap(), on_link }];
    let uplinks = vec![Uplink { interface: "eth0".into(), addresses }];
    it.claims.announce(&third, &Announcement { uplinks, ..set_up(&third) }, None).await.unwrap();
    let error = refused(&it, &order(2, None)).await.to_string();
    assert!(error.contains("sextant unreserve 2001:db8:1:f3::/64"), "{error}");
}

#[tokio::test]
async fn a_full_or_closed_pool_and_an_unknown_node_are_named() {
    let it = Fixture::new(Some(("2001:db8:1::/64", 64))).await;
    let error = refused(&it, &order(1, None)).await.to_string();
    assert!(error.contains("node \"host1\" does not exist"), "{error}");
    drained(&it, 1).await;
    let error = refused(&it, &order(1, None)).await.to_string();
    assert!(error.contains("no other /64 is free") && error.contains("sextant pool grow main"), "{error}");
    it.pools.drain(&"main".parse().unwrap(), true).await.unwrap();
    let error = refused(&it, &order(1, None)).await.to_string();
    assert!(error.contains("sextant pool undrain main"), "{error}");
}

#[tokio::test]
async fn a_node_with_two_claims_keeps_the_other_one_and_their_order() {
    let it = main_pool().await;
    it.pools.add(&pool("ula", "fd00:1::/56", 64)).await.unwrap();
    it.pools.add(&pool("spare", "fd00:2::/56", 64)).await.unwrap();
    let asks = request(1);
    let in_pool =
        |pool: &str| ClaimRequest { pool: Some(pool.parse().unwrap()), beside: true, ..asks.clone() };
    let (main, ula) = (it.claim(&in_pool("main")).await, it.claim(&in_pool("ula")).await);
    let holder = holder(&asks, &main);
    let announced =
        |claim: &Claim| AnnouncedClaim { epoch: claim.epoch, container_prefixes: vec![claim.prefix] };
    let both =
        Announcement { uplinks: vec![], claims: vec![announced(&main), announced(&ula)], pool_order: vec![] };
    it.claims.announce(&holder, &both, None).await.unwrap();
    drain(&it, &holder).await;

    let error = refused(&it, &order(1, None)).await.to_string();
    assert!(error.contains("pools main, ula; select one with --pool"), "{error}");
    let error = refused(&it, &order(1, Some("2001:db9::/64"))).await.to_string();
    assert!(
        error.contains("2001:db9::/64 is in no pool; node host1 has prefixes of the pools main, ula"),
        "{error}"
    );
    let of = |pool: &str| Reassignment { pool: Some(pool.parse().unwrap()), ..order(1, None) };
    let error = refused(&it, &of("spare")).await.to_string();
    assert!(error.contains("holds no claim in pool spare; it holds 2001:db8:1:"), "{error}");
    let error = refused(&it, &order(1, Some("fd00:2::/64"))).await.to_string();
    let held = format!("it holds {} of pool main, {} of pool ula: name one", main.prefix, ula.prefix);
    let expected = format!("node host1 holds no claim in pool spare, which contains fd00:2::/64; {held}");
    assert!(error.starts_with(&expected) && error.contains("add spare to --pool"), "{error}");
    let of_another = Reassignment { pool: of("main").pool, ..order(1, Some("fd00:1::/64")) };
    let error = refused(&it, &of_another).await.to_string();
    assert!(error.contains("is not in pool main"), "{error}");

    let moved = it.claims.reassign(&of("main")).await.unwrap();
    assert_eq!(record(&it, 1).await.prefixes(), [moved.to, ula.prefix]);
    assert_eq!(it.claim(&in_pool("ula")).await, ula, "untouched");
    let free = it.claims.reassign(&order(1, Some("fd00:1:0:7a::/64"))).await.unwrap();
    assert_eq!((free.from, record(&it, 1).await.prefixes()), (ula.prefix, vec![moved.to, free.to]));
    let name = [name(1)];
    it.claims.forget_all(&name, Scope::Node, true, None).await.unwrap();
}

#[tokio::test]
async fn a_prefix_of_a_pool_in_which_the_only_claim_does_not_lie_names_that_pool() {
    let it = main_pool().await;
    let (_, claim) = drained(&it, 1).await;
    it.pools.add(&pool("ula", "fd00:1::/56", 64)).await.unwrap();
    let error = refused(&it, &order(1, Some("fd00:1:0:7::/64"))).await.to_string();
    let expected = format!(
        "node host1 holds no claim in pool ula, which contains fd00:1:0:7::/64; it holds {} of pool main: ",
        claim.prefix
    );
    assert!(error.starts_with(&expected), "{error}");
}

#[tokio::test]
async fn i1_two_nodes_moved_to_one_prefix_by_two_controllers_do_not_both_get_it() {
    let it = main_pool().await;
    let other = it.another_controller().await;
    for n in 1..=2 {
        drained(&it, n).await;
    }
    let to = Some("2001:db8:1:aa::/64");
    let orders = (order(1, to), order(2, to));
    let (one, two) = tokio::join!(it.claims.reassign(&orders.0), other.reassign(&orders.1));
    assert!(one.is_ok() != two.is_ok(), "{one:?}, {two:?}");
    let claims = [record(&it, 1).await.prefixes(), record(&it, 2).await.prefixes()];
    assert!(claims.iter().all(|held| held.len() == 1) && claims[0] != claims[1], "{claims:?}");
}
