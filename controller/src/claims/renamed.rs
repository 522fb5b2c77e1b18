//! Hosts with another name than before: renames, and their refusals.

use bytes::Bytes;

use super::{
    tests::{Fixture, request, set_up},
    *,
};
use crate::{
    records::{ReservationRecord, SessionRecord},
    refusals::Refusals,
    registry::KeyRange,
    reservations::Reservations,
};

const POOL: Option<(&str, u32)> = Some(("2001:db8:1::/48", 64));

/// The same host with another name.
fn as_named(request: &ClaimRequest, name: &str) -> ClaimRequest {
    ClaimRequest { node: name.parse().unwrap(), ..request.clone() }
}

impl Fixture {
    async fn claimed(&self) -> (ClaimRequest, Claim) {
        let request = request(1);
        let claim = self.claim(&request).await;
        let holder = Holder { node: request.node.clone(), node_id: request.node_id, epoch: claim.epoch };
        self.claims.announce(&holder, &set_up(&holder), None).await.unwrap();
        (request, claim)
    }

    async fn node(&self, request: &ClaimRequest) -> Option<NodeRecord> {
        self.claims.node_status(&request.node).await.unwrap().node.map(|node| node.record)
    }

    async fn keys_of(&self, name: &NodeName) -> Vec<String> {
        let entries = self.registry.list(&self.keys.all()).await.unwrap().entries;
        let named = |key: &String| !key.contains("/audit/") && key.ends_with(&format!("/{name}"));
        entries.into_iter().map(|entry| entry.key).filter(named).collect()
    }
}

/// Whether or not the host still knows its claim, and in whatever order the names sort.
#[tokio::test]
async fn i2_a_host_with_another_name_keeps_its_claims_and_back_again() {
    for (name, knows) in [("host1.example.org", true), ("a", true), ("zz", false)] {
        let it = Fixture::new(POOL).await;
        let (asked, claim) = it.claimed().await;
        let before = it.node(&asked).await.unwrap();
        let held = knows.then(|| claim.clone());
        let renamed = ClaimRequest { held, ..as_named(&asked, name) };
        assert_eq!(it.claim(&renamed).await, claim, "{name}: the same prefix and epoch");
        assert_eq!(it.node(&renamed).await, Some(before.clone()), "{name}: ready as before");
        assert_eq!(it.node(&asked).await, None);
        assert_eq!(it.keys_of(&asked.node).await, Vec::<String>::new());
        let back = ClaimRequest { held: Some(claim.clone()), ..asked.clone() };
        assert_eq!(it.claim(&back).await, claim);
        assert_eq!(it.node(&back).await, Some(before));
        assert_eq!(it.nodes().await, 1);
    }
}

#[tokio::test]
async fn i3_who_acts_under_a_former_name_is_not_fenced() {
    let it = Fixture::new(POOL).await;
    let (asked, claim) = it.claimed().await;
    it.claim(&as_named(&asked, "h9")).await;
    let former = Holder { node: asked.node.clone(), node_id: asked.node_id, epoch: claim.epoch };
    let error = it.claims.verify(&former).await.unwrap_err();
    assert!(
        matches!(error, HolderError::Registry(_)) && error.to_string().contains("is named h9"),
        "{error}"
    );
    let error = it.claims.announce(&former, &set_up(&former), None).await.unwrap_err();
    assert!(matches!(error, HolderError::Registry(_)), "{error}");
}

#[tokio::test]
async fn i2_all_claims_reservations_and_the_session_move_with_the_name() {
    let it = Fixture::new(POOL).await;
    it.pools.add(&super::tests::pool("ula", "fd00:1::/48", 64)).await.unwrap();
    let reservations = Reservations::new(it.registry.clone(), it.keys.clone(), it.claims.index.clone());
    let asked = ClaimRequest { beside: true, pool: Some("main".parse().unwrap()), ..request(1) };
    let ours: Prefix = "2001:db8:1:7::/64".parse().unwrap();
    let of = |name: &NodeName| ReservationRecord {
        node: Some(name.clone()),
        reason: "rack 7".into(),
        created_unix_ms: 1,
    };
    reservations.reserve(ours, &of(&asked.node)).await.unwrap();
    let main = it.claim(&asked).await;
    assert_eq!(main.prefix, ours);
    let in_ula = ClaimRequest { pool: Some("ula".parse().unwrap()), ..asked.clone() };
    let ula = it.claim(&in_ula).await;
    let session = SessionRecord { controller: "x".into(), instance: None, serial: String::new() };
    let (key, doubt) = (it.keys.session(&asked.node), it.keys.doubt(&asked.node));
    let ops = vec![Op::put(key, session.encode()), Op::put(doubt, Bytes::new())];
    it.registry.commit(Txn { guards: vec![], ops }).await.unwrap();

    let renamed = as_named(&asked, "h9");
    assert_eq!(it.claim(&renamed).await, main);
    assert_eq!(it.claim(&as_named(&in_ula, "h9")).await, ula);
    assert_eq!(it.keys_of(&asked.node).await, Vec::<String>::new());
    it.claims.index.read(|state| {
        assert_eq!(state.nodes().keys().collect::<Vec<_>>(), [&renamed.node]);
        assert_eq!(state.peers()[&renamed.node].claims.len(), 2);
        assert_eq!(state.holdings().reserved_for(&renamed.node), [ours]);
        assert!(state.holdings().reserved_for(&asked.node).is_empty());
    });
}

#[tokio::test]
async fn a_reservation_for_the_new_name_stays_the_only_one_in_its_pool() {
    let it = Fixture::new(POOL).await;
    let reservations = Reservations::new(it.registry.clone(), it.keys.clone(), it.claims.index.clone());
    let (asked, claim) = it.claimed().await;
    let [old, new] = ["2001:db8:1:7::/64", "2001:db8:1:9::/64"].map(|prefix| prefix.parse().unwrap());
    for (prefix, name) in [(old, "host1"), (new, "h9")] {
        let node = Some(name.parse().unwrap());
        let record = ReservationRecord { node, reason: String::new(), created_unix_ms: 1 };
        reservations.reserve(prefix, &record).await.unwrap();
    }
    let renamed = as_named(&asked, "h9");
    assert_eq!(it.claim(&renamed).await, claim);
    it.claims.index.read(|state| assert_eq!(state.holdings().reserved_for(&renamed.node), [new]));
}

#[tokio::test]
async fn a_name_of_another_host_is_refused_and_nothing_ends() {
    let it = Fixture::new(POOL).await;
    let (asked, claim) = it.claimed().await;
    let other = request(2);
    it.claim(&other).await;
    for held in [None, Some(claim.clone())] {
        let renamed = ClaimRequest { held, ..as_named(&asked, "host2") };
        let error = it.claims.claim(&renamed).await.unwrap_err();
        let text = error.to_string();
        assert!(error.is_refusal() && text.contains("--node host1"), "{text}");
        assert!(text.contains("\"host2\"") && text.contains(&claim.prefix.to_string()), "{text}");
    }
    assert_eq!(it.claim(&ClaimRequest { held: Some(claim.clone()), ..asked }).await, claim, "back at once");
    assert_eq!(it.nodes().await, 2);
}

/// A controller whose view of the store is behind.
#[tokio::test]
async fn i2_each_controller_renames_and_none_grants_a_second_prefix() {
    let it = Fixture::new(POOL).await;
    let (asked, claim) = it.claimed().await;
    let second = it.another_controller().await;
    for (claims, name) in [(&second, "h9"), (&it.claims, "host1"), (&second, "h8"), (&it.claims, "h7")] {
        let renamed = ClaimRequest { held: Some(claim.clone()), ..as_named(&asked, name) };
        let mut granted = claims.claim(&renamed).await;
        for _ in 0..5 {
            if matches!(granted, Err(ClaimError::Registry(_))) {
                granted = claims.claim(&renamed).await;
            }
        }
        assert_eq!(granted.unwrap(), Granted::Claim(claim.clone()), "{name}");
    }
    assert_eq!(it.nodes().await, 1);
    let claims = it.registry.list(&KeyRange::prefix(&it.keys.claim(claim.prefix))).await.unwrap();
    assert_eq!(claims.entries.len(), 1);
}

/// The node with the name that it asks for works.
#[tokio::test]
async fn a_refused_rename_is_reported_of_the_node_that_asks_until_it_is_back_or_silent() {
    let it = Fixture::new(POOL).await;
    let (asked, _) = it.claimed().await;
    let namesake = request(2);
    let of_namesake = it.claim(&namesake).await;
    assert!(it.claims.index.reaches(of_namesake.epoch.revision, CATCH_UP).await);
    let refusals = Refusals::new(it.claims.index.clone());
    let note = |request: &ClaimRequest| refusals.note(&request.node, request.node_id, "x".into());
    let end = |request: &ClaimRequest| refusals.end(&request.node, request.node_id);
    let list = || -> Vec<_> {
        let text = |name: Option<NodeName>| name.map(|name| name.to_string()).unwrap_or_default();
        refusals.list().into_iter().map(|it| (it.node.to_string(), text(it.asks_as))).collect()
    };
    let of_host1 = [("host1".to_owned(), "host2".to_owned())];
    let renamed = as_named(&asked, "host2");
    assert!(it.claims.claim(&renamed).await.is_err());
    note(&renamed);
    assert_eq!(list(), of_host1);
    end(&namesake);
    assert_eq!(list(), of_host1, "host2 claims, as it may");
    // Back under its own name: its agent connects, here or elsewhere.
    let session = SessionRecord { controller: "c2".into(), instance: None, serial: String::new() };
    let put = Op::put(it.keys.session(&asked.node), session.encode());
    let outcome = it.registry.commit(Txn { guards: vec![], ops: vec![put] }).await.unwrap();
    let Outcome::Committed(revision) = outcome else { panic!("refused") };
    assert!(it.claims.index.reaches(revision, CATCH_UP).await);
    assert_eq!(list(), []);

    note(&renamed);
    end(&asked);
    assert_eq!(list(), [], "it was granted its own claim");
    let stranger = as_named(&request(3), "host2");
    note(&stranger);
    assert_eq!(list(), [("host2".to_owned(), "host2".to_owned())], "its node id belongs to no node");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(9)).await;
    assert_eq!(list().len(), 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(list(), [], "it has given up");
}
